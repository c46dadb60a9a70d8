import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from recorded import Recorded, digest

from tools import processes
from tools.errors import RunError
from tools.runs import history, index
from tools.runs import record as records
from tools.runs.history import Filter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with five runs: two local ones, two remote ones, a failed one."""
    (tmp_path / "parity.toml").touch()
    runs = tmp_path / "runs"
    Recorded().write(runs, 1)
    Recorded(target="azureml", remote={"tags": {"team": "vision"}}).write(runs, 2)
    Recorded(target="rehearsal", remote={"tags": {}}, status="running").write(runs, 3)
    Recorded(status="failed").write(runs, 4)
    other = Recorded()
    other.ingredients["image"] |= {"reference": "other:env-ba9876543210", "fingerprint": digest("other")}
    other.ingredients["arguments"] = ["--epochs", "7"]
    other.write(runs, 5)
    return tmp_path


def parity(project: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def numbers(project: Path, wanted: Filter | None = None) -> list[int]:
    return [int(entry.id[-4:], 16) for entry in history.entries(project / "runs", project / ".parity", wanted)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [1, 2, 3, 4, 5]),
        (Filter(target="local"), [1, 4, 5]),
        (Filter(target="remote"), [2, 3]),
        (Filter(target="rehearsal"), [3]),
        (Filter(status="failed"), [4]),
        (Filter(image="other:"), [5]),
        (Filter(image=digest("other")[:8]), [5]),
        (Filter(command="--epochs 7"), [5]),
        (Filter(tag="team"), [2]),
        (Filter(tag="team=vision"), [2]),
        (Filter(tag="team=sound"), []),
        (Filter(since=datetime(2026, 11, 23, 15, 41, tzinfo=timezone.utc)), [1, 2, 3, 4, 5]),
        (Filter(since=datetime(2026, 11, 23, 15, 42, tzinfo=timezone.utc)), []),
        (Filter(target="local", status="completed", command="epochs 1"), [1]),
    ],
)
def test_a_list_has_what_fits_every_part_of_the_filter(project: Path, wanted: Filter, found: list[int]) -> None:
    assert numbers(project, wanted) == found


def test_a_list_never_depends_on_its_memory(project: Path) -> None:
    memory = project / ".parity" / index.FILE
    old = time.time() - 60
    for folder in (project / "runs").iterdir():
        os.utime(folder / "run.json", (old, old))
    assert numbers(project) == [1, 2, 3, 4, 5]
    assert len(json.loads(memory.read_text())["runs"]) == 5
    first, second = (history.find(project / "runs", f"20261123-154100-00{number}") for number in (1, 2))
    first.write(status="failed", exit_code=9)
    history.remove(second)
    Recorded().write(project / "runs", 6)
    assert numbers(project) == [1, 3, 4, 5, 6]
    assert numbers(project, Filter(status="failed")) == [1, 4]
    for damage in ("", "{", "[]", '{"version": 1, "runs": {"x": [1]}}', '{"version": 99}'):
        memory.write_text(damage)
        assert numbers(project) == [1, 3, 4, 5, 6]


def test_what_was_just_written_is_not_remembered(project: Path) -> None:
    assert numbers(project) == [1, 2, 3, 4, 5]
    memory = project / ".parity" / index.FILE
    assert not memory.exists() or json.loads(memory.read_text())["runs"] == {}


def test_a_damaged_record_hides_no_other(project: Path) -> None:
    folder = project / "runs" / "20261123-154100-001-0001"
    for content in ("", "[]", '{"schema": 1}'):
        (folder / "run.json").write_text(content)
        assert numbers(project) == [2, 3, 4, 5]
    (project / "runs" / "report.html").touch()
    (project / "runs" / "20261124-000000-000-ffff").mkdir()
    assert numbers(project) == [2, 3, 4, 5]
    assert history.find(project / "runs", "last").id.endswith("0005")


@pytest.mark.parametrize(
    ("name", "number"),
    [("last", 5), ("last-local", 5), ("last-remote", 3), ("20261123-154100-002-0002", 2), ("20261123-154100-004", 4)],
)
def test_a_run_is_found_by_its_name(project: Path, name: str, number: int) -> None:
    assert int(history.find(project / "runs", name).id[-4:], 16) == number


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("2026", "begins 5 runs"),
        ("last-locl", "did you mean last-local?"),
        ("20261123-154100-002-0003", "did you mean 20261123-154100-00"),
        ("", "there is no run ''"),
        ("../runs", "there is no run"),
    ],
)
def test_a_name_that_is_none_is_told(project: Path, name: str, said: str) -> None:
    with pytest.raises(RunError) as error:
        history.find(project / "runs", name)
    assert said in str(error.value)


def test_without_any_run_the_verb_that_makes_one_is_told(tmp_path: Path) -> None:
    for name, verb in (("last", "make run-local"), ("last-remote", "make run-remote")):
        with pytest.raises(RunError, match="there is no") as error:
            history.find(tmp_path / "runs", name)
        assert verb in str(error.value)


def killed() -> str:
    """The name of a process that is gone."""
    code = "from tools import processes; print(processes.this())"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(("status", "by"), [("preparing", "list"), ("running", "name")])
def test_a_record_of_a_killed_tool_is_marked(project: Path, status: str, by: str) -> None:
    record = Recorded(status=status, host={"process": killed()}).write(project / "runs", 9)
    if by == "list":
        assert history.entries(project / "runs", project / ".parity")[-1].status == "interrupted"
    else:
        assert history.find(project / "runs", "last").status == "interrupted"
    marked = records.read(record.folder)
    assert (marked.status, marked.error) == ("interrupted", "the process that followed it is gone")
    assert marked.ended


def test_what_still_runs_is_not_marked(project: Path) -> None:
    runs = project / "runs"
    Recorded(status="running", host={"process": processes.this()}).write(runs, 7)
    Recorded(status="running", host={"process": "elsewhere/1/2"}).write(runs, 8)  # another machine's, on a shared disk
    Recorded(status="running", host={"process": killed()}, remote={"run_id": "x"}).write(runs, 9)
    assert numbers(project, Filter(status="running")) == [3, 7, 8, 9]


def test_a_run_is_removed_after_a_yes_and_never_while_it_runs(project: Path) -> None:
    runs = project / "runs"
    done = parity(project, "runs", "rm", "last", stdin="n\n")
    assert done.returncode != 0 or numbers(project) == [1, 2, 3, 4, 5]
    assert numbers(project) == [1, 2, 3, 4, 5]
    done = parity(project, "runs", "rm", "last", "20261123-154100-001", stdin="y\n")
    assert done.stdout.split() == ["20261123-154100-005-0005", "20261123-154100-001-0001"]
    assert sorted(each.name[-1] for each in runs.iterdir()) == ["2", "3", "4"]
    done = parity(project, "runs", "rm", "--yes", "20261123-154100-004", "last-remote")
    assert done.returncode == 24
    assert "python -m tools runs cancel" in done.stderr
    assert sorted(each.name[-1] for each in runs.iterdir()) == ["2", "3", "4"]


def test_the_list_is_a_table_of_the_newest(project: Path) -> None:
    done = parity(project, "runs", "list", "--limit", "2")
    lines = done.stdout.splitlines()
    assert [line.split()[0][-1] for line in lines] == ["4", "5"]
    assert "failed (3)" in lines[0]
    assert "0:01:31" in lines[1]
    assert lines[0].index("local") == lines[1].index("local")
    assert "3 older ones" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_is_json_for_programs(project: Path) -> None:
    found = json.loads(parity(project, "runs", "list", "--json", "--target", "remote").stdout)
    assert [(each["target"], each["status"]) for each in found] == [("azureml", "completed"), ("rehearsal", "running")]


def test_a_time_is_a_date_or_an_age(project: Path) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
    assert history.moment("12h", now=now) == datetime(2026, 11, 23, tzinfo=timezone.utc)
    assert history.moment("2026-11-23") == datetime(2026, 11, 23, tzinfo=timezone.utc)
    done = parity(project, "runs", "list", "--since", "yesterday")
    assert done.returncode == 2
    assert "neither a date nor an age" in done.stderr


def test_a_run_is_shown_with_all_that_it_was(project: Path) -> None:
    shown = parity(project, "runs", "show", "20261123-154100-004").stdout
    for text in (
        "failed (3)",
        "parity:env-0123456789ab",
        "python train.py --data {data} --epochs 1",
        "OMP_NUM_THREADS",
    ):
        assert text in shown
    table = json.loads(parity(project, "runs", "show", "--json").stdout)
    assert (table["id"], table["schema"]) == ("20261123-154100-005-0005", 1)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["last-local", "last-local"], 0),
        (["20261123-154100-001", "20261123-154100-005"], 1),
        ([], 2),  # the remote one still runs
    ],
)
def test_compare_answers_by_its_exit_code(project: Path, arguments: list[str], code: int) -> None:
    same = history.find(project / "runs", "last-local")
    if code == 2:
        records.read(same.folder).write(ingredients=Recorded().ingredients)
    done = parity(project, "compare", *arguments)
    assert done.returncode == code, done.stdout
    assert done.stdout.splitlines()[-1].endswith(".")
    assert "\x1b" not in done.stdout
    told = json.loads(parity(project, "compare", "--json", *arguments).stdout)
    assert told["verdict"] == ["parity", "no parity", "cannot tell"][code]


def test_the_tolerance_is_a_setting_and_an_option(project: Path) -> None:
    near = Recorded(points=[("loss", step, 1 / step + 1e-7) for step in range(1, 101)]).write(project / "runs", 6)
    first = "20261123-154100-001"
    assert parity(project, "compare", first, near.id).returncode == 1
    assert parity(project, "compare", first, near.id, "--tolerance", "1e-6").returncode == 0
    (project / "parity.toml").write_text("[compare]\ntolerance = 1e-6\n")
    assert parity(project, "compare", first, near.id).returncode == 0
    assert parity(project, "compare", first, near.id, "--tolerance", "0").returncode == 1
    (project / "parity.toml").write_text("[compare]\ntolerance = -1.0\n")
    done = parity(project, "compare", first, near.id)
    assert done.returncode == 11
    assert "compare.tolerance = -1.0: must be" in done.stderr
