"""Experiments, interactive runs, metrics, files and snapshots, as azureml-core's scripts use them; no job runs here."""

import json
import os
import signal
import ssl
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from workspaces import Rehearsal

OPENING = """
import math, os, time
from azureml.core import Experiment, Run

def refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    raise AssertionError("not refused")
"""


def answer(rehearsal: Rehearsal, text: str, **options: Any) -> Any:
    return rehearsal.answer(OPENING + text, **options)


@pytest.fixture(scope="module")
def http(rehearsal: Rehearsal) -> httpx.Client:
    """A client of the data plane, with a person's token."""
    trust = ssl.create_default_context(cafile=rehearsal.variables()["REQUESTS_CA_BUNDLE"])
    headers = {"Authorization": f"Bearer {rehearsal.token()}"}
    return httpx.Client(base_url=rehearsal.url, verify=trust, trust_env=False, headers=headers)


@pytest.fixture(scope="module")
def scope(rehearsal: Rehearsal) -> str:
    rehearsal.variables()
    config = json.loads((rehearsal.root / ".azureml" / "config.json").read_text())
    return (
        f"/subscriptions/{config['subscription_id']}/resourceGroups/{config['resource_group']}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{config['workspace_name']}"
    )


def test_what_a_run_logs_it_gives_back_in_order(rehearsal: Rehearsal) -> None:
    found = answer(
        rehearsal,
        """
run = Experiment(ws, "metrics").start_logging(snapshot_directory=None)
for i in range(1000):
    run.log("loss", 1 / (i + 1), step=i)
for value in (float("nan"), float("inf"), -float("inf")):
    run.log("odd", value)
run.log("once", 3)
run.log("word", "yes")
run.log_list("list", [1, 2, 3.5])
run.log_row("row", x=1, y=0.5)
run.log_row("row", x=2, z="q")
run.log_table("table", {"a": [1, 2], "b": ["x", "y"]})
run.log_confusion_matrix("matrix", {"schema_type": "confusion_matrix", "schema_version": "1.0.0",
    "data": {"class_labels": ["0", "1"], "matrix": [[1, 2], [3, 4]]}})
run.log_accuracy_table("accuracy", {"schema_type": "accuracy_table", "schema_version": "1.0.1", "data": {
    "probability_tables": [[[1, 0, 0, 1]]], "percentile_tables": [[[1, 0, 0, 1]]], "class_labels": ["0"],
    "probability_thresholds": [0.5], "percentile_thresholds": [0.5]}})
open("picture.png", "wb").write(bytes.fromhex("89504e470d0a1a0a") + b"x" * 100)
run.log_image("image", path="picture.png")
run.complete()
metrics = run.get_metrics()
steps = [value.step for value in run._client.metrics.get_metric_dto_for_run_v2("loss").value]
odd = metrics.pop("odd")
print(json.dumps({
    "loss": metrics.pop("loss") == [1 / (i + 1) for i in range(1000)], "steps": steps == list(range(1000)),
    "odd": [str(value) for value in odd], "rest": {name: str(value) for name, value in metrics.items()},
    "one": run.get_metrics("once"), "none": run.get_metrics("none"), "matrix":
    run.get_metrics("matrix", populate=True)["matrix"].convert_to_object()["data"]["matrix"],
}))
""",
    )
    rest = found.pop("rest")
    assert found == {
        "loss": True,
        "steps": True,
        "odd": ["nan", "inf", "-inf"],
        "one": {"once": 3},
        "none": {},
        "matrix": [[1, 2], [3, 4]],
    }
    assert rest["once"] == "3"
    assert rest["word"] == "yes"
    assert rest["list"] == "[1.0, 2.0, 3.5]"
    assert rest["row"] == "{'x': [1, 2], 'y': [0.5, nan], 'z': [None, 'q']}"
    assert rest["table"] == "{'a': [1, 2], 'b': ['x', 'y']}"
    assert rest["image"].startswith("aml://artifactId/ExperimentRun/dcid.")
    assert set(rest) == {"once", "word", "list", "row", "table", "matrix", "accuracy", "image"}


def test_children_and_their_metrics(rehearsal: Rehearsal) -> None:
    found = answer(
        rehearsal,
        """
experiment = Experiment(ws, "children")
top = experiment.start_logging(snapshot_directory=None)
other = experiment.start_logging(snapshot_directory=None)
other.log("m", 0)
other.complete()
top.log("m", 1)
one, two = top.create_children(tag_key="number", tag_values=["1", "2"])
one.log("m", 2)
leaf = one.child_run("leaf")
leaf.log("m", 3)
leaf.complete()
one.fail(error_details="it broke", error_code="Mine")
with two:
    two.log("m", 4)
top.complete()
names = {top.id: "top", one.id: "one", two.id: "two", leaf.id: "leaf", other.id: "other"}
def named(runs): return sorted(names[run.id] for run in runs)
print(json.dumps({
    "children": named(top.get_children()), "all": named(top.get_children(recursive=True)),
    "of one": named(one.get_children(recursive=True)), "tagged": named(top.get_children(tags={"number": "2"})),
    "failed": named(top.get_children(recursive=True, status="Failed")),
    "metrics": {names[id]: values["m"] for id, values in top.get_metrics(recursive=True).items()},
    "of one's": {names[id]: values["m"] for id, values in one.get_metrics(recursive=True).items()},
    "parent": names[leaf.parent.id], "statuses": [each.get_status() for each in (top, one, two, leaf)],
    "error": one.get_details()["error"]["error"],
}))
""",
    )
    assert found.pop("error") == {"code": "Mine", "message": "it broke", "details": []}
    assert found == {
        "children": ["one", "two"],
        "all": ["leaf", "one", "two"],
        "of one": ["leaf"],
        "tagged": ["two"],
        "failed": ["one"],
        "metrics": {"top": 1, "one": 2, "leaf": 3, "two": 4},
        "of one's": {"one": 2, "leaf": 3},
        "parent": "one",
        "statuses": ["Completed", "Failed", "Completed", "Completed"],
    }


def test_runs_are_found_by_what_they_have(rehearsal: Rehearsal) -> None:
    found = answer(
        rehearsal,
        """
from datetime import datetime, timedelta, timezone
experiment = Experiment(ws, "queries")
runs = [experiment.start_logging(snapshot_directory=None) for _ in range(3)]
a, b, c = runs
a.tag("kind", 'with "quotes" (and more)')
b.set_tags({"kind": "plain", "two words": "x y"})
c.tag("only")
b.add_properties({"p": "q"})
child = a.child_run()
child.tag("kind", "plain")
child.complete()
a.complete(); b.cancel(); c.fail()
names = {a.id: "a", b.id: "b", c.id: "c", child.id: "child"}
def named(**options): return [names[run.id] for run in experiment.get_runs(**options)]
def listed(**options): return [names[run.id] for run in Run.list(experiment, **options)]
c.remove_tags(["only", "none"])
d = Run.get(ws, a.id)
d.display_name, d.description = "shown", "said"
again = ws.get_run(a.id)
before = datetime.now(timezone.utc) - timedelta(hours=1)
from azureml._run_impl.run_history_facade import RunHistoryFacade
def got(**options): return [names[run.run_id] for run in RunHistoryFacade.get_runs(experiment, **options)]
print(json.dumps({
    "all": named(), "with children": len(named(include_children=True)), "tag": named(tags="kind"),
    "value": named(tags={"kind": 'with "quotes" (and more)'}), "words": named(tags={"two words": "x y"}),
    "both": named(tags={"kind": "plain"}, properties={"p": "q"}), "property": named(properties="p"),
    "not": named(tags={"kind": "other"}), "removed": named(tags="only"), "status": listed(status="Canceled"),
    "after": got(include_children=False, created_after=before), "later": got(created_after=before + timedelta(hours=2)),
    "pages": got(page_size=1, order_by=("CreatedUtc", "asc")), "target": got(target_name="local"),
    "type": listed(type="azureml.scriptrun"),
    "properties": {k: v for k, v in b.get_properties().items()}, "said": [again.display_name, again.description],
}))
""",
    )
    assert found == {
        "all": ["c", "b", "a"],
        "with children": 4,
        "tag": ["b", "a"],
        "value": ["a"],
        "words": ["b"],
        "both": ["b"],
        "property": ["b"],
        "not": [],
        "removed": [],
        "status": ["b"],
        "after": ["c", "b", "a"],
        "pages": ["a", "b", "c", "child"],
        "later": [],
        "target": ["child", "c", "b", "a"],
        "type": [],
        "properties": {"p": "q"},
        "said": ["shown", "said"],
    }


def test_the_files_of_a_run(rehearsal: Rehearsal) -> None:
    folder = rehearsal.folder({"a b.txt": "one", "sub/ü+%41.bin": b"\0" * 70_000_000, "sub/empty": ""})
    found = answer(
        rehearsal,
        f"""
import filecmp
folder = {str(folder)!r}
run = Experiment(ws, "files").start_logging(snapshot_directory=None)
run.upload_file("outputs/ü x.txt", f"{{folder}}/a b.txt")
run.upload_folder("outputs/folder", folder)
again = refused(run.upload_file, "outputs/ü x.txt", f"{{folder}}/sub/empty")
os.makedirs("down", exist_ok=True)
run.download_file("outputs/ü x.txt", "down/", _validate_checksum=True)
run.download_files(prefix="outputs/folder", output_directory="down/folder", append_prefix=False)
run.complete()
print(json.dumps({{
    "names": run.get_file_names(), "again": again, "missing": refused(run.download_file, "outputs/none"),
    "text": open("down/ü x.txt").read(),
    "same": filecmp.cmpfiles(folder, "down/folder", ["a b.txt", "sub/ü+%41.bin", "sub/empty"], shallow=False),
    "bad": refused(run.upload_file, "../outside", f"{{folder}}/a b.txt"),
}}))
""",
    )
    assert found["names"] == [
        "outputs/folder/a b.txt",
        "outputs/folder/sub/empty",
        "outputs/folder/sub/ü+%41.bin",
        "outputs/ü x.txt",
    ]
    assert "Resource Conflict: ArtifactId ExperimentRun/dcid." in found["again"]
    assert "outputs/none was not found,\navailable files include: outputs/folder/a b.txt" in found["missing"]
    assert found["text"] == "one"
    assert found["same"] == [["a b.txt", "sub/ü+%41.bin", "sub/empty"], [], []]
    assert "cannot be the name of a file" in found["bad"]


def test_snapshots_are_kept_and_given_back(rehearsal: Rehearsal) -> None:
    sources = {f"many/{number}.py": f"print({number})\n" for number in range(60)}
    folder = rehearsal.folder({"a b.txt": "one", "ü#%25+.txt": "two", "empty": "", **sources})
    found = answer(
        rehearsal,
        f"""
import zipfile
folder = {str(folder)!r}
experiment = Experiment(ws, "snapshots")
first = experiment.start_logging(snapshot_directory=folder)
open(f"{{folder}}/a b.txt", "w").write("changed")
os.remove(f"{{folder}}/many/7.py")
second = experiment.start_logging(snapshot_directory=folder)
third = experiment.start_logging(snapshot_directory=folder)
def read(run):
    with zipfile.ZipFile(run.restore_snapshot(path=".")) as archive:
        return {{name: archive.read(name).decode() for name in archive.namelist()}}
print(json.dumps([read(first), read(second), third.get_snapshot_id() == second.get_snapshot_id()]))
for run in (first, second, third):
    run.cancel()
""",
    )
    first, second, same = found
    assert first == {"a b.txt": "one", "ü#%25+.txt": "two", "empty": "", **sources}
    del sources["many/7.py"]
    assert second == {"a b.txt": "changed", "ü#%25+.txt": "two", "empty": "", **sources}
    assert same


def test_a_snapshot_that_the_workspace_lost_is_sent_again(another: Callable[..., Rehearsal]) -> None:
    rehearsal = another()
    folder = rehearsal.folder({"a": "1", "b": "2"})
    script = f"""
run = Experiment(ws, "snapshots").start_logging(snapshot_directory=None)
open({str(folder / "a")!r}, "a").write("more")
run.take_snapshot({str(folder)!r})
run.complete()
print(json.dumps(run.get_snapshot_id()))
"""
    lost = answer(rehearsal, script)
    rehearsal.stop()
    (rehearsal.state / "workspace.sqlite").unlink()  # and its identity is kept, so that the SDK remembers the snapshot
    for path in rehearsal.state.glob("workspace.sqlite-*"):
        path.unlink()
    assert answer(rehearsal, script) != lost


def test_experiments_are_archived_and_deleted(rehearsal: Rehearsal) -> None:
    found = answer(
        rehearsal,
        """
old = Experiment(ws, "archive")
old.start_logging(snapshot_directory=None).complete()
old.set_tags({"k": "v", "empty": ""})
def names(**options): return [each.name for each in Experiment.list(ws, **options) if each.name.startswith("arch")]
before = names(), names(tags={"k": "v"}), names(tags="empty"), names(experiment_name="archive"), names(tags="none")
old.remove_tags(["empty"])
old.archive()
archived = names(), names(view_type="ArchivedOnly"), names(view_type="All"), len(list(old.get_runs()))
new = Experiment(ws, "archive")
taken = refused(old.reactivate)
Experiment.delete(ws, new.id)
old.reactivate()
print(json.dumps([before, archived, new.id != old.id, taken, names(), Experiment(ws, "archive").tags,
    refused(Experiment.delete, ws, old.id), refused(ws.get_run, "none")]))
""",
    )
    before, archived, is_new, taken, after, tags, with_runs, missing = found
    assert before == [["archive"], ["archive"], ["archive"], ["archive"], []]
    assert archived == [[], ["archive"], ["archive"], 1]
    assert is_new
    assert "There is an active experiment archive already" in taken
    assert after == ["archive"]
    assert tags == {"k": "v"}
    assert "Only empty experiments can be deleted" in with_runs
    assert "Run none was not found" in missing


def test_a_job_logs_to_its_own_run_and_its_log_is_watched(rehearsal: Rehearsal, tmp_path: Path) -> None:
    made = answer(
        rehearsal,
        """
experiment = Experiment(ws, "watched")
run = experiment.start_logging(snapshot_directory=None)
token = run._client.run.get_token()
print(json.dumps({"run": run.id, "token": token.token, "experiment": experiment.id,
    "endpoint": ws.service_context._get_run_history_url(), "discovery": ws.discovery_url,
    "scope": [ws.subscription_id, ws.resource_group, ws.name]}))
""",
    )
    subscription, group, name = made["scope"]
    job = {
        "AZUREML_ARM_SUBSCRIPTION": subscription,
        "AZUREML_ARM_RESOURCEGROUP": group,
        "AZUREML_ARM_WORKSPACE_NAME": name,
        "AZUREML_ARM_PROJECT_NAME": "watched",
        "AZUREML_RUN_ID": made["run"],
        "AZUREML_RUN_TOKEN": made["token"],
        "AZUREML_EXPERIMENT_ID": made["experiment"],
        "AZUREML_SERVICE_ENDPOINT": made["endpoint"],
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": made["discovery"],
        "HOME": str(tmp_path),
    }
    script = """
        import os, time
        from azureml.core import Run
        from azureml.history._tracking import get_history_context_manager
        os.makedirs("logs", exist_ok=True)
        with get_history_context_manager(DirectoriesToWatch=["logs"]):
            run = Run.get_context(allow_offline=False)
            for i in range(20):
                with open("logs/mine.txt", "a") as log:
                    log.write(f"line {i}\\n")
                run.log("m", i)
                time.sleep(0.1)
    """
    done = rehearsal.script(script, cwd=tmp_path, **job)
    assert done.returncode == 0, done.stderr
    found = answer(
        rehearsal,
        f"""
run = ws.get_run({made["run"]!r})
logs = run.get_details_with_logs()["logFiles"]
print(json.dumps([run.get_metrics(), logs["logs/mine.txt"], max(len(text) for text in logs.values())]))
""",
    )
    metrics, log, longest = found
    assert metrics == {"m": list(range(20))}
    assert log == "".join(f"line {number}\n" for number in range(20))
    assert longest < 1_000_000


def test_what_was_acknowledged_outlives_kill_9(another: Callable[..., Rehearsal]) -> None:
    rehearsal = another()
    folder = rehearsal.folder({"train.py": "pass\n"})
    script = f"""
run = Experiment(ws, "killed").start_logging(snapshot_directory={str(folder)!r})
for i in range(100):
    run.log("m", i)
run.upload_file("outputs/a.txt", {str(folder / "train.py")!r})
run.tag("t", "v")
run.flush()
print(json.dumps(run.id))
os._exit(0)
"""
    run = answer(rehearsal, script.replace("os._exit", "import sys; sys.stdout.flush(); os._exit"))
    os.kill(rehearsal.pid(), signal.SIGKILL)
    rehearsal.forget()
    found = answer(
        rehearsal,
        f"""
run = ws.get_run({run!r})
run.download_file("outputs/a.txt", "back.txt")
print(json.dumps([run.get_metrics()["m"], run.get_tags(), open("back.txt").read(), run.get_status(),
    os.path.getsize(run.restore_snapshot(path=".")) > 0]))
run.complete()
""",
    )
    assert found == [list(range(100)), {"t": "v"}, "pass\n", "Running", True]


def test_a_run_has_three_addresses_and_answers_the_same(rehearsal: Rehearsal, http: httpx.Client, scope: str) -> None:
    name = str(uuid.uuid4())
    history = f"/history/v1.0{scope}"
    made = http.patch(f"{history}/experiments/roots/runs/{name}", json={"runId": name, "displayName": "d"})
    assert made.status_code == 200
    experiment = made.json()["experimentId"]
    roots = ["", "/experiments/roots", f"/experimentids/{experiment}"]
    assert len({http.get(f"{history}{root}/runs/{name}").text for root in roots}) == 1
    for root in roots:
        for tail in ("details", "children", "token", "metricsingest/wait"):
            assert http.get(f"{history}{root}/runs/{name}/{tail}").status_code == 200
    wrong = http.get(f"{history}/experiments/other/runs/{name}")
    assert wrong.status_code == 404
    assert set(wrong.json()) == {"error", "correlation", "environment", "location", "time", "componentName"}
    assert wrong.json()["error"]["details"] == []
    keys = list(http.get(f"{history}/runs/{name}/details").json())
    assert [key for key in keys if key not in ("error", "warnings")] == [
        *("runId", "target", "status", "startTimeUtc", "endTimeUtc", "services", "properties"),
        *("inputDatasets", "outputDatasets", "runDefinition", "logFiles"),
    ]
    warned = {"name": "Microsoft.MachineLearning.Run.Warning", "data": {"Source": "s", "Message": "m"}}
    http.post(f"{history}/runs/{name}/events", json=warned)
    assert http.get(f"{history}/runs/{name}").json()["warnings"] == [{"source": "s", "message": "m"}]
    tags = {"valuesToModify": {"a": "1", "b": "2"}}
    http.patch(f"{history}/runs/{name}/tags", json=tags)
    assert http.request("DELETE", f"{history}/runs/{name}/tags", json=["a"]).json()["tags"] == {"b": "2"}
    assert http.post(f"{history}/runs/{name}/cancel").json()["status"] == "Canceled"


def test_artifacts_have_their_path_in_the_route_or_in_the_query(http: httpx.Client, scope: str) -> None:
    name = str(uuid.uuid4())
    http.patch(f"/history/v1.0{scope}/experiments/forms/runs/{name}", json={"runId": name})
    base, container = f"/artifact/v2.0{scope}/artifacts", f"ExperimentRun/dcid.{name}"
    query = {"path": "logs/a b.txt"}
    assert http.post(f"{base}/{container}/content", params=query, content=b"one").status_code == 200
    more = {**query, "append": "true"}
    assert http.post(f"{base}/{container}/content", params=more, content=b"two").status_code == 200
    forms = [
        http.get(f"{base}/contentinfo/{container}/logs/a b.txt"),
        http.get(f"{base}/{container}/contentinfo", params=query),
    ]
    assert [http.get(form.json()["contentUri"]).text for form in forms] == ["onetwo", "onetwo"]
    listed = http.get(f"{base}/{container}", params={"path": "logs"}).json()["value"]
    assert [entry["artifactId"] for entry in listed] == [f"{container}/logs/a b.txt"]
    assert http.get(f"{base}/ExperimentRun/dcid.none").status_code == 404
    for bad in ("../a", "/etc/passwd", "a\0b"):
        assert http.get(f"{base}/{container}/contentinfo", params={"path": bad}).status_code == 400
        made = http.post(f"{base}/batch/metadata/{container}", json={"paths": [{"path": bad}]})
        assert made.status_code == 400


def test_who_has_no_token_learns_nothing(http: httpx.Client, scope: str) -> None:
    for junk in ("", "Bearer", "Bearer x", "Bearer a.b.c", "Basic x", "Bearer " + "ä" * 5):
        headers = {"Authorization": junk.encode("latin-1")}
        answered = http.get(f"/history/v1.0{scope}/runs/any", headers=headers)
        assert answered.status_code == 401
        assert answered.json()["error"]["details"] == []
