import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reported
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.errors import RunError
from tools.report import curves, environment, logs, page, selection, treemap
from tools.runs.record import Record
from tools.settings import Settings

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".parity" / "cache"
SECRET = "github_pat_" + "x" * 50


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")


def written(tmp_path: Path, *runs: Record) -> str:
    file = tmp_path / "report.html"
    page.write(runs, file, root=tmp_path, cache=CACHE)
    return file.read_text()


def body(content: str) -> str:
    """The page without its scripts and style."""
    return re.sub(r"<(script|style).*?</\1>", "", content, flags=re.DOTALL)


def embedded(content: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', content)[1])


def test_two_runs_are_told_apart_in_every_part_of_the_page(tmp_path: Path) -> None:
    seen = json.loads(json.dumps(reported.WITNESS))
    seen["packages"]["python"] |= {"numpy": "2.5.0", "humanize": "4.1"}
    del seen["packages"]["python"]["six"]
    seen["files"]["model.py"]["sha256"] = "e" * 64
    one = reported.run(tmp_path / "runs", metrics=[("loss", 1, 2.0), ("loss", 2, 1.0)])
    two = reported.run(
        tmp_path / "runs",
        "20261123-160000-001-beef",
        metrics=[("loss", 1, 2.0), ("loss", 2, 1.25)],
        witness=seen,
        target="azureml",
    )
    content = body(written(tmp_path, one, two))
    assert "No parity:" in content
    assert "1 added, 1 removed, 1 changed." in content
    assert re.search(r'class="removed"><th scope="row">six</th>', content)
    assert re.search(r'class="changed"[^>]* title="model.py 1.5 kB, changed"', content)
    assert "3 the same in both, 1 changed." in content
    assert "at step 2: 1.0 and 1.25" in content
    assert "0.25 at step 2; relative 0.2 at step 2" in content
    assert content.count("Finished Training") == 2


def test_one_run_alone_makes_a_page_too(tmp_path: Path) -> None:
    content = body(written(tmp_path, reported.run(tmp_path / "runs", witness=None)))
    assert "One run, compared with none." in content
    assert "No witness and no lock tells what packages A had." in content
    assert "No run logged a metric." in content
    assert "1 min 31 s" in content


def test_whatever_a_run_is_called_and_says_is_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\"'$title\u2028"
    seen = {**reported.WITNESS, "files": {evil: {"bytes": 10, "sha256": evil}}}
    seen["packages"] = {"python": {evil: evil}, "conda": {}}
    first = reported.run(
        tmp_path / "runs",
        metrics=[(evil, 1, 1.0), (evil, 2, 2.0)],
        log=evil.encode(),
        witness=seen,
        target=evil,
        error=evil,
        host={"system": evil},
        variables={evil: evil},
    )
    second = reported.run(tmp_path / "runs", "20261123-160000-001-beef", image=evil)
    content = written(tmp_path, first, second)
    assert "<script>alert" not in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;$title\\u2028" in body(content)
    assert [metric["name"] for metric in embedded(content)["metrics"]] == [evil]


def test_no_secret_and_no_hash_of_a_variable_is_on_the_page(tmp_path: Path) -> None:
    runs = [
        reported.run(
            tmp_path / "runs", f"run-{number}", log=SECRET.encode(), variables={"PIN": f"sha256:{number}{'9' * 63}"}
        )
        for number in (1, 2)
    ]
    content = written(tmp_path, *runs)
    assert SECRET not in content
    assert "[a GitHub token, left out]" in content
    assert "9999" not in body(content)
    assert "set, value 2" in content


def test_a_metric_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    one = reported.run(tmp_path / "runs")
    (one.folder / "metrics.jsonl").write_text('{"name": "loss", "step": 1, "value": "high"}\n[]\n')
    content = body(written(tmp_path, one, reported.run(tmp_path / "runs", "20261123-160000-001-beef")))
    assert f"The metrics of {one.id} cannot be read" in content
    assert "The two runs cannot be compared" in content


def test_a_page_of_200_000_points_is_small_and_soon_made(tmp_path: Path) -> None:
    points = [("loss", step, math.exp(-step / 2e4) + math.sin(step * 12.9898) / 50) for step in range(100_000)]
    runs = [reported.run(tmp_path / "runs", str(number), metrics=points) for number in (1, 2)]
    written(tmp_path, *runs)  # the first one fetches the chart library
    begun = time.process_time()
    content = written(tmp_path, *runs)
    assert time.process_time() - begun < 3
    assert len(content) < 1_000_000
    assert "of 100,000 points are drawn: the lowest and the highest of every 50 steps" in content


finite = st.floats(-1e6, 1e6)
values = st.lists(st.one_of(finite, finite, finite, st.none()), min_size=30, max_size=400)


@settings(deadline=None)
@given(values, st.integers(1, 9), st.integers(2, 12))
def test_thinning_keeps_what_can_be_seen(values: list[float | None], stride: int, intervals: int) -> None:
    series = curves.series([step * stride for step in range(len(values))], values)
    (curve,) = curves.thin([series], intervals)
    logged = dict(zip(series.steps, series.values, strict=True))
    drawn = dict(zip(curve.steps, curve.values, strict=True))
    assert drawn.items() <= logged.items(), "every drawn point was logged"
    assert list(curve.steps) == sorted(drawn)
    assert (curve.steps[0], curve.steps[-1]) == (series.steps[0], series.steps[-1])
    known = [value for value in values if value is not None]
    seen = [value for value in curve.values if value is not None]
    assert (None in seen) == (None in known)
    assert not known or (min(seen), max(seen)) == (min(known), max(known))
    assert (None in drawn.values()) == (None in values), "a gap stays a gap"
    assert len(curve.steps) <= max(3 * intervals + 2, 2 * intervals)


def test_the_mean_of_an_interval_is_of_all_its_points() -> None:
    series = curves.series(range(100), [float(step % 10) for step in range(100)])
    (curve,) = curves.thin([series], 10)
    assert curve.means == pytest.approx([4.5] * 10)
    assert list(curve.mean_steps) == list(range(9, 100, 10))


def test_points_out_of_order_are_sorted_and_the_later_of_two_counts() -> None:
    series = curves.series([3, 1, 2, 1], [3.0, 1.0, math.inf, 1.5])
    assert (list(series.steps), list(series.values)) == ([1, 2, 3], [1.5, None, 3.0])


def test_hundreds_of_metrics_share_what_is_drawn() -> None:
    run = {str(number): curves.series(range(9000), [1.0] * 9000) for number in range(300)}
    drawn = curves.drawn([run, run])
    assert len(drawn) == curves.CHARTS
    points = sum(len(curve.steps) for each in drawn.values() for curve in each.values())
    assert points <= 2 * curves.DRAWN + 200


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x1b(Bplain", "red link plain"),
        (b" 10%\r 50%\r100%\ndone\r\n", "100%\ndone\n"),
        (b"\xff\x00\x08x\ty", "\ufffdx\ty"),
        (b"https://a/b?sv=1&sig=" + b"A" * 43 + b"%3D", "https://a/b?sv=1[an Azure SAS token, left out]"),
    ],
)
def test_a_log_is_shown_as_a_terminal_would(written: bytes, shown: str) -> None:
    assert logs.plain(written) == shown


def test_of_a_long_log_the_end_is_shown_from_the_beginning_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"line {number:04}\n" for number in range(100)))
    tail = logs.tail(tmp_path / "log", limit=105)
    assert tail == logs.Tail(text="".join(f"line {n:04}\n" for n in range(90, 100)), size=1000, left_out=900)
    assert logs.tail(tmp_path / "none") is None


def test_packages_come_from_the_lock_where_no_witness_saw_them(tmp_path: Path) -> None:
    lock = tmp_path / "environments" / "pytorch.conda-lock.yml"
    lock.parent.mkdir()
    package = {
        "name": "numpy",
        "version": "2.4.6",
        "manager": "conda",
        "platform": "linux-64",
        "dependencies": {},
        "url": "https://channel/numpy-2.4.6-py311_0.conda",
        "hash": {"sha256": "0" * 64},
    }
    lock.write_text(json.dumps({"version": 1, "metadata": {"platforms": ["linux-64"]}, "package": [package]}))
    from tools import files

    found = environment.locked(tmp_path, files.sha256(lock), "linux-64")
    assert found is not None
    assert found.versions == {"numpy": "2.4.6 py311_0"}
    assert environment.locked(tmp_path, "0" * 64, "linux-64") is None


@given(st.dictionaries(st.from_regex(r"[ab](/[abc]){0,3}", fullmatch=True), st.integers(0, 10_000), max_size=20))
def test_each_box_has_the_area_of_its_size_and_lies_within_the_map(sizes: dict[str, int]) -> None:
    # a name is a file or a folder, not both
    sizes = {path: size for path, size in sizes.items() if not any(each.startswith(f"{path}/") for each in sizes)}
    boxes = treemap.boxes(treemap.files({path: f"{size} bytes" for path, size in sizes.items()}))
    total = sum(sizes.values())
    leaves = {box.path: box for box in boxes if not box.path.endswith("/")}
    assert set(leaves) == {path for path, size in sizes.items() if size}
    for path, box in leaves.items():
        assert box.width * box.height == pytest.approx(sizes[path] / total)
        assert -1e-9 <= box.left <= box.left + box.width <= 1 + 1e-9
        assert -1e-9 <= box.top <= box.top + box.height <= 1 + 1e-9


def test_many_files_share_boxes() -> None:
    seen = treemap.files({f"images/{number:05}.png": "10 bytes" for number in range(5000)})
    boxes = treemap.boxes(seen)
    assert len(boxes) <= treemap.BOXES + 2
    assert sum(box.files for box in boxes if not box.path.endswith("/")) == 5000


def test_without_names_it_is_the_last_run_of_each_side(tmp_path: Path) -> None:
    project = Settings(root=tmp_path)
    with pytest.raises(RunError, match="there is no remote run"):
        selection.chosen(project, ())
    for number, target in enumerate(("local", "local", "azureml", "local")):
        reported.run(tmp_path / "runs", f"2026112{number}-000000-000-aaaa", target=target)
    assert [run.id[:8] for run in selection.chosen(project, ())] == ["20261123", "20261122"]
    assert [run.id[:8] for run in selection.chosen(project, ("20261121", "last", "last-local"))] == [
        "20261121",
        "20261123",
    ]


def test_the_verb_prints_the_page_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text("")
    (tmp_path / ".parity").mkdir()
    (tmp_path / ".parity" / "cache").symlink_to(CACHE)
    reported.run(tmp_path / "runs")
    verb = [sys.executable, "-m", "tools", "report"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "DOCKER_HOST": "unix:///nowhere.sock"}
    done = subprocess.run(verb, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'runs' / 'report.html'}\n"), done.stderr
    done = subprocess.run(
        [*verb, "nowhere"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (24, "")
    assert "Traceback" not in done.stderr
