import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools.errors import RehearsalError
from tools.rehearsal import times
from tools.rehearsal.artifacts import Artifacts
from tools.rehearsal.blobs import Blobs
from tools.rehearsal.identity import Identity
from tools.rehearsal.routes.history import History
from tools.rehearsal.runs import ENDED, ORDER, Run, Runs
from tools.rehearsal.store import Store, now
from tools.rehearsal.tokens import Tokens


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(Store(tmp_path / "workspace.sqlite"))


def test_a_status_never_goes_back_and_an_end_is_an_end(runs: Runs) -> None:
    runs.create("a", "first", status="Starting")
    for status in ("Running", "Queued", "CancelRequested", "Running"):
        runs.move("a", status)
    assert (run := runs.get("a"))
    assert run.status == "CancelRequested"
    assert run.started
    assert not run.ended
    for status in (*ENDED, *ORDER):
        runs.move("a", status)
    assert (run := runs.get("a"))
    assert run.status == ENDED[0]
    assert run.ended


def test_a_run_id_is_given_once(runs: Runs) -> None:
    assert runs.create("a", "first", status="Starting")
    assert runs.create("a", "second", status="Starting") is None


def test_children_know_their_root(runs: Runs) -> None:
    runs.create("top", "first", status="Running")
    runs.create("middle", "first", status="Running", parent="top")
    runs.create("leaf", "first", status="Running", parent="middle")
    assert [run.id for run in runs.all(root="top")] == ["leaf", "middle"]
    assert [run.id for run in runs.all(parent="top")] == ["middle"]


def test_the_name_of_an_archived_experiment_may_be_used_anew(runs: Runs) -> None:
    old = runs.ensure_experiment("first")
    runs.create("old", "first", status="Running")
    assert runs.change_experiment(replace(old, archived=now()))
    new = runs.ensure_experiment("first")
    runs.create("new", "first", status="Running")
    assert new.id != old.id
    assert [run.id for run in runs.all(experiment="first")] == ["new"]
    assert [run.id for run in runs.all(experiment=old)] == ["old"]
    assert not runs.change_experiment(replace(old, archived=None)), "two active ones would have the same name"
    assert not runs.remove_experiment(new)
    assert runs.remove_experiment(runs.ensure_experiment("empty"))


def test_tags_are_added_and_taken_away(runs: Runs) -> None:
    runs.create("a", "first", status="Running")
    runs.update("a", tags={"one": "1", "two": "2"}, properties={"p": "q"})
    runs.update("a", tags={"two": "3"})
    runs.remove_tags("a", ["one", "none"])
    assert (run := runs.get("a"))
    assert (run.tags, run.properties) == ({"two": "3"}, {"p": "q"})


def test_what_was_committed_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace.sqlite")
    Runs(store).create("a", "first", status="Running", definition={"script": "train.py"})
    run = Runs(Store(tmp_path / "workspace.sqlite")).get("a")  # the first was never closed
    assert run
    assert run.definition == {"script": "train.py"}


def test_the_end_of_a_job_that_nobody_has_seen_is_told_with_the_second_poll(runs: Runs, tmp_path: Path) -> None:
    store = runs.store
    workspace: Any = SimpleNamespace(
        runs=runs,
        artifacts=Artifacts(runs, folder=tmp_path / "artifacts"),
        blobs=Blobs(store, folder=tmp_path, tokens=Tokens(key=b"k", start="s", tenant="t"), url="https://127.0.0.1:1"),
        identity=Identity(workspace_id="w", tenant="t"),
        address=SimpleNamespace(url="https://127.0.0.1:1"),
    )
    history = History(workspace)
    call: Any = None

    def ended(name: str, definition: dict[str, Any]) -> Run:
        runs.create(name, "first", status="Running", definition=definition)
        run = runs.move(name, "Completed")
        assert run
        log = workspace.artifacts.path(run, "azureml-logs/70_driver_log.txt")
        log.parent.mkdir(parents=True)
        log.write_text("said")
        return run

    job = ended("job", {"configuration": {"script": "train.py"}})
    polls = [history.details(call, job) for _ in range(2)]
    assert [poll["status"] for poll in polls] == ["Finalizing", "Completed"]
    assert all(poll["logFiles"] for poll in polls)
    seen = ended("seen", {"configuration": {"script": "train.py"}})
    assert history.get(call, seen)["status"] == "Completed"
    assert history.details(call, seen)["status"] == "Completed"
    assert history.details(call, ended("interactive", {}))["status"] == "Completed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00.1234567+00:00", "2026-01-31T12:00:00.1234560+00:00"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.0000000+00:00"),
        ("2026-01-31 14:00:00+02:00", "2026-01-31T12:00:00.0000000+00:00"),
        ("2026-01-31 12:00:00.5", "2026-01-31T12:00:00.5000000+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00.0000000+00:00"),
    ],
)
def test_moments_are_read_as_clients_write_them(text: str, expected: str) -> None:
    moment = times.parse(text)
    assert moment
    assert times.written(moment) == expected


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "2026-01-31T25:00:00Z", "12:00"])
def test_what_is_no_moment_is_none(text: str) -> None:
    assert times.parse(text) is None


def test_a_state_of_another_version_is_refused_with_what_to_do_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "workspace.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE runs (id TEXT)")
        database.execute("PRAGMA user_version = 999")
    with pytest.raises(RehearsalError, match="format 999") as refused:
        Store(path)
    assert refused.value.command.startswith(f"rm -r {tmp_path}")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
