import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorded, digest, pair

from tools import comparison
from tools.comparison import metrics, text
from tools.comparison.weights import BREAKS, HARMLESS, NUMBERS
from tools.errors import RunError

Change = Callable[[Recorded], object]


def other_numbers(run: Recorded) -> None:
    run.points = [("loss", step, value * 1.01 if step > 40 else value) for _, step, value in run.points]


def dropped_file(run: Recorded) -> None:
    run.ingredients["snapshot"] |= {"digest": digest("fewer"), "files": 1, "bytes": 200}
    del run.witness["files"]["utils.py"]


def another_image(run: Recorded) -> None:
    run.ingredients["image"] |= {
        "id": f"sha256:{digest('other')}",
        "fingerprint": digest("print"),
        "reference": "parity:env-ba9876543210",
        "lock_sha256": digest("another"),
    }
    run.witness["packages"]["python"]["tqdm"] = "4.66.0"
    run.witness["packages"]["conda"]["tqdm"] = "4.66.0 py_0"


def changed_variable(run: Recorded) -> None:
    run.ingredients["environment_variables"]["SEED"] = f"sha256:{digest('7')}"
    run.witness["variables"]["set"]["SEED"] = digest("7")
    run.witness["variables"]["names"].append("SEED")


def smaller_shm(run: Recorded) -> None:
    run.witness["limits"]["shm_bytes"] = 64 << 20


def another_user(run: Recorded) -> None:
    run.witness["process"] |= {"uid": 1000, "gid": 1000, "home": "/home/user"}


def other_threads(run: Recorded) -> None:
    run.witness["limits"]["usable_processors"] = 1
    run.witness["machine"]["cpus"] = 1
    run.torch["threads"] = 1
    other_numbers(run)


def mutated_package(run: Recorded) -> None:
    run.ingredients["image"]["id"] = f"sha256:{digest('mutated')}"


def upgraded_package(run: Recorded) -> None:
    mutated_package(run)
    run.witness["packages"]["python"]["numpy"] = "2.4.7"  # pip's note; conda's is the old one


def another_command(run: Recorded) -> None:
    run.ingredients["arguments"] = ["--epochs", "2"]


def another_data_set(run: Recorded) -> None:
    run.ingredients["inputs"][0]["digest"] = digest("others")


def missing_input(run: Recorded) -> None:
    run.ingredients["inputs"] = []


def torch_threads(run: Recorded) -> None:
    run.torch["threads"] = 1
    other_numbers(run)


# What is planted; the fact that must be named and its class; what the verdict must say
PLANTED: list[tuple[Change, str, str, str]] = [
    (dropped_file, "file utils.py", BREAKS, "snapshot"),
    (another_image, "image id", BREAKS, "package tqdm (4.67.1 py_0 / 4.66.0 py_0)"),
    (changed_variable, "variable SEED", BREAKS, "variable SEED"),
    (smaller_shm, "limits shm_bytes", BREAKS, "shared memory as seen (2 GiB / 64 MiB)"),
    (another_user, "process uid", BREAKS, "uid (0 / 1000)"),
    (other_threads, "machine cpus", NUMBERS, "what may have done it: "),
    (mutated_package, "image id", BREAKS, "image"),
    (upgraded_package, "package numpy", BREAKS, "package numpy"),
    (another_command, "command arguments", BREAKS, "arguments (--epochs 1 / --epochs 2)"),
    (another_data_set, "input data", BREAKS, "input data"),
    (other_numbers, "", "", "loss parts at step 41 (by up to 0.000244); nothing that was seen differs"),
    (missing_input, "input data", BREAKS, "input data"),
    (torch_threads, "torch threads", NUMBERS, "what may have done it: torch threads (4 / 1)"),
]


@pytest.mark.parametrize(("change", "fact", "weight", "said"), PLANTED, ids=[change.__name__ for change, *_ in PLANTED])
def test_a_planted_break_is_named(tmp_path: Path, change: Change, fact: str, weight: str, said: str) -> None:
    found = comparison.compare(*pair(tmp_path, change))
    assert (found.verdict, found.exit_code) == ("no parity", 1)
    assert said in found.sentence
    named = {str(each.key): each for each in found.differences}
    if fact:
        assert named[fact].weight == weight
        assert named[fact].reason
    expected = {"run target", *([fact] if fact else [])}
    assert expected <= set(named)
    assert not any(each.weight != HARMLESS for each in found.differences if not fact)


@pytest.mark.parametrize("change", [change for change, *_ in PLANTED if change is not other_numbers])
def test_what_a_user_can_remove_comes_with_how(tmp_path: Path, change: Change) -> None:
    found = comparison.compare(*pair(tmp_path, change))
    gravest = found.differences[0]
    assert gravest.how
    assert gravest.how in " ".join(" ".join(text.lines(found, paint=plain)).split()) or len(gravest.how) > 90


def test_no_break_is_named_that_was_not_planted(tmp_path: Path) -> None:
    for number, (change, fact, *_) in enumerate(PLANTED):
        found = comparison.compare(*pair(tmp_path / str(number), change))
        others = {str(each.key) for each in found.of(BREAKS)}
        if "image" not in change.__name__ and "package" not in change.__name__:
            assert not any(name.startswith(("image", "package")) for name in others), fact
        if change is not dropped_file:
            assert not any(name.startswith(("file", "snapshot")) for name in others), fact


def test_two_runs_that_are_the_same_are_in_parity(tmp_path: Path) -> None:
    found = comparison.compare(*pair(tmp_path))
    assert (found.verdict, found.exit_code) == ("parity", 0)
    assert found.sentence == "Parity: all that decides it is equal, and 100 metric points are identical."
    assert {each.weight for each in found.differences} == {HARMLESS}


def test_another_processor_that_changed_no_number_is_parity_all_the_same(tmp_path: Path) -> None:
    def change(run: Recorded) -> None:
        run.witness["machine"] |= {"cpu": "Two", "cpu_flags": ["avx", "avx512f"], "kernel": "6.9"}

    found = comparison.compare(*pair(tmp_path, change))
    assert found.verdict == "parity"
    assert (
        "although machine cpu (One / Two) and machine cpu_flags (avx2 / avx512f) may change numbers" in found.sentence
    )


def test_what_azure_ml_sets_for_each_run_is_no_difference(tmp_path: Path) -> None:
    def change(run: Recorded) -> None:
        names = ["AZ_BATCH_MASTER_NODE", "AZUREML_RUN_TOKEN", "OBO_ENDPOINT", "OMPI_COMM_WORLD_RANK", "NODE_RANK"]
        run.witness["variables"]["names"] += names
        run.witness["python"]["path"] = [f"/mnt/azureml/cr/j/{2 + 1:032x}/exe/wd"]
        run.witness["files"]["azureml-setup/context.json"] = {"bytes": 3, "sha256": digest("context")}

    one = Recorded()
    one.witness["python"]["path"] = [f"/mnt/azureml/cr/j/{1 + 1:032x}/exe/wd"]
    _, two = pair(tmp_path / "other", change)
    assert comparison.compare(one.write(tmp_path, 1), two).verdict == "parity"


def test_a_variable_that_another_one_hides_is_seen(tmp_path: Path) -> None:
    def change(run: Recorded) -> None:
        run.witness["variables"]["set"]["OMP_NUM_THREADS"] = digest("1")

    found = comparison.compare(*pair(tmp_path, change))
    assert [str(each.key) for each in found.of(BREAKS)] == ["variable seen OMP_NUM_THREADS"]


def test_two_images_of_the_same_packages_are_told_apart_by_image_diff(tmp_path: Path) -> None:
    found = comparison.compare(*pair(tmp_path, mutated_package))
    assert "not the version of a package" in found.differences[0].reason
    one, two = (digest(name)[:12] for name in ("image", "mutated"))
    assert f"python -m tools image diff {one} {two}" in str(found.differences[0].how)


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        (lambda run: setattr(run, "witness", None), "B has no witness"),
        (lambda run: setattr(run, "status", "running"), "B is not over"),
        (lambda run: setattr(run, "status", "interrupted"), "B was interrupted"),
        (lambda run: setattr(run, "points", []), "B has no metrics"),
        (lambda run: run.witness.update(limits={"unknown": "OSError: no"}), "B has no witnessed limits (OSError: no)"),
        (lambda run: run.witness.update(schema=2), "B has a witness that cannot be read"),
        (lambda run: run.ingredients["resources"].update(nodes=2), None),
    ],
    ids=["no witness", "running", "interrupted", "no metrics", "a group unseen", "a later witness", "nodes"],
)
def test_what_was_not_seen_is_not_guessed(tmp_path: Path, change: Change, gap: str | None) -> None:
    found = comparison.compare(*pair(tmp_path, change))
    if gap is None:  # one known break is enough, whatever was not seen
        assert (found.verdict, found.gaps) == ("no parity", ("B has no witness of node 1",))
        return
    assert (found.verdict, found.exit_code) == ("cannot tell", 2)
    assert gap in found.sentence


def test_a_known_break_outweighs_what_was_not_seen(tmp_path: Path) -> None:
    def change(run: Recorded) -> None:
        another_command(run)
        run.witness = None

    assert comparison.compare(*pair(tmp_path, change)).verdict == "no parity"


def test_numbers_that_nobody_wrote_cannot_tell_whether_another_processor_matters(tmp_path: Path) -> None:
    one, two = Recorded(points=[]), Recorded(points=[])
    two.witness["machine"]["cpu"] = "Two"
    found = comparison.compare(one.write(tmp_path, 1), two.write(tmp_path, 2))
    assert found.verdict == "cannot tell"
    assert "machine cpu (One / Two) may change numbers" in found.sentence


def test_a_data_set_without_a_digest_is_proved_by_the_numbers_alone(tmp_path: Path) -> None:
    def unknown(run: Recorded) -> Recorded:
        run.ingredients["inputs"][0]["digest"] = None
        return run

    one, two = (unknown(Recorded()).write(tmp_path, number) for number in (1, 2))
    found = comparison.compare(one, two)
    assert found.verdict == "parity"
    assert "not known: input data" in found.sentence
    bare = [unknown(Recorded(points=[])).write(tmp_path, number) for number in (3, 4)]
    assert comparison.compare(*bare).verdict == "cannot tell"


def test_two_failures_of_one_kind_are_in_parity_and_another_exit_code_is_not(tmp_path: Path) -> None:
    one, two = (Recorded(status="failed").write(tmp_path, number) for number in (1, 2))
    assert comparison.compare(one, two).verdict == "parity"
    three = two.write(exit_code=4)
    assert "how the runs ended (3 / 4)" in comparison.compare(one, three).sentence


def series(tmp_path: Path, one: list[Any], two: list[Any], tolerance: float = 0.0) -> metrics.Series:
    sides = []
    for number, values in enumerate((one, two)):
        points = [("loss", 10 * step, value) for step, value in enumerate(values)]
        sides.append(metrics.read(Recorded(points=points).write(tmp_path, number).folder))
    (found,) = metrics.compare(sides[0], sides[1], tolerance)
    return found


def test_metrics_part_where_they_first_differ(tmp_path: Path) -> None:
    found = series(tmp_path, [4.0, 2.0, 1.0, 0.5], [4.0, 2.0, 1.5, 0.25])
    assert found.outcome == "different"
    assert found.first == metrics.Parting(step=20, one=1.0, two=1.5)
    assert (found.absolute, found.absolute_at, found.relative, found.relative_at) == (0.5, 20, 0.5, 30)


@pytest.mark.parametrize(
    ("one", "two", "tolerance", "outcome"),
    [
        ([1.0, None], [1.0, None], 0.0, "identical"),
        ([1.0, None], [1.0, 2.0], 9.0, "different"),
        ([1.0, 2.0], [1.0], 9.0, "different"),
        ([100.0], [100.1], 0.0, "different"),
        ([100.0], [100.1], 1e-3, "within the tolerance"),
        ([0.0], [1e-9], 1e-8, "within the tolerance"),
        ([math.inf], [math.inf], 0.0, "identical"),
        ([math.inf], [1.0], 9.0, "different"),
        (["text"], ["text"], 0.0, "identical"),
        (["text"], ["other"], 9.0, "different"),
        ([], [], 0.0, None),
    ],
)
def test_values_agree_within_the_tolerance(
    tmp_path: Path, one: list[Any], two: list[Any], tolerance: float, outcome: str | None
) -> None:
    if outcome is None:
        assert metrics.compare({}, {}, tolerance) == ()
    else:
        assert series(tmp_path, one, two, tolerance).outcome == outcome


@given(st.lists(st.tuples(st.integers(0, 5), st.floats() | st.none())), st.randoms())
def test_a_run_always_agrees_with_itself_in_any_order_of_steps(points: list[tuple[int, Any]], random: Any) -> None:
    steps, values = [step for step, _ in points], [None if value != value else value for _, value in points]
    (found,) = metrics.compare({"a": (steps, values)}, {"a": (steps, values)}, 0.0)
    assert found.outcome == "identical"
    order = sorted(range(len(steps)), key=lambda index: steps[index])  # stable: those of one step stay in order
    sorted_points = ([steps[index] for index in order], [values[index] for index in order])
    (found,) = metrics.compare({"a": (steps, values)}, {"a": sorted_points}, 0.0)
    assert found.outcome == "identical"


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    record = Recorded().write(tmp_path)
    path = record.folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"name": "loss", "st')
    assert len(metrics.read(record.folder)["loss"][0]) == 100


def test_metrics_that_are_none_are_an_error_in_words(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    (two.folder / "metrics.jsonl").write_text("loss=1\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read"):
        comparison.compare(one, two)


def plain(words: str, style: text.Style) -> str:
    return words


@pytest.mark.parametrize("everything", [False, True])
def test_the_text_is_narrow_and_puts_differences_first(tmp_path: Path, everything: bool) -> None:
    def change(run: Recorded) -> None:
        for _, planted in enumerate(change for change, *_ in PLANTED):
            planted(run)
        run.witness["machine"]["cpu_flags"] = [f"flag{number}" for number in range(80)]
        run.ingredients["command"] = "python train.py " + "--very-long-option " * 10
        run.witness["files"] |= {f"file{number}.py": {"bytes": 1, "sha256": digest("x")} for number in range(50)}

    found = comparison.compare(*pair(tmp_path, change))
    lines = list(text.lines(found, paint=plain, everything=everything))
    assert max(map(len, lines)) <= text.WIDTH
    titles = [line for line in lines if line in {title for title, _ in text.TITLES.values()}]
    assert titles == ["Breaks parity", "May change numbers", "Harmless"]
    assert lines[-1].endswith(".")
    assert any("file49.py" in line for line in lines) == everything


def test_the_json_has_every_fact_of_both_sides(tmp_path: Path) -> None:
    one, two = pair(tmp_path, dropped_file)
    found = json.loads(json.dumps(comparison.compare(one, two).to_json(), allow_nan=False))
    assert found["schema"] == 1
    assert found["runs"] == [one.id, two.id]
    names = {(each["group"], each["name"]) for each in [*found["differences"], *found["equal"]]}
    assert {("image", "id"), ("file", "utils.py"), ("package", "numpy"), ("torch", "threads")} <= names
    (dropped,) = [each for each in found["differences"] if each["name"] == "utils.py"]
    assert dropped["values"][1] is None
    assert dropped["class"] == "breaks parity"


def test_a_hundred_thousand_points_are_compared_in_a_moment(tmp_path: Path) -> None:
    points = [("loss" if step % 2 else "rate", step, 1 / (step + 1)) for step in range(100_000)]
    one, two = (Recorded(points=points).write(tmp_path, number) for number in (1, 2))
    begun = time.process_time()
    found = comparison.compare(one, two)
    assert found.verdict == "parity"
    assert time.process_time() - begun < 2, "it takes 0.3 s on an idle machine; benchmarks/records.py has the bar"
