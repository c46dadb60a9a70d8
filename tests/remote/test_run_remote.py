"""run-remote, rehearse and the verbs around them, as a person types them, against a rehearsal workspace."""

import functools
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import pytest
import services
from workspaces import SETTINGS, Rehearsal

ARGUMENTS = ["--note", 'it\'s $HOME; "here"', "--empty", ""]
REPORT = """
import hashlib, json, os, pathlib, random, sys
inputs = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
try:
    (inputs / "new").touch()
    writable = True
except OSError:
    writable = False
statvfs = os.statvfs("/dev/shm")
written = ("outputs", "user_logs")
files = [path for path in sorted(pathlib.Path().rglob("*")) if path.is_file() and path.parts[0] not in written]
seen = {
    "arguments": [each.replace(str(inputs), "DATA") for each in sys.argv[1:]],
    "data": {path.name: path.read_text() for path in inputs.iterdir()}, "data_writable": writable,
    "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    "uid": os.getuid(), "home": os.path.expanduser("~"), "shm": statvfs.f_blocks * statvfs.f_frsize,
    "greeting": os.environ.get("GREETING"), "example": os.environ.get("EXAMPLE_ENV_VAR"),
    "leaked": os.environ.get("LEAKED"), "python": sys.executable,
}
random.seed(0)
loss = 2.5
with open("outputs/metrics.jsonl", "w") as file:
    for step in range(1, 6):
        loss *= random.random()
        print(f"step={step}: loss {loss!r}", flush=True)
        file.write(json.dumps({"name": "loss", "step": step, "value": loss}) + "\\n")
os.makedirs("outputs/deep")
pathlib.Path("outputs/deep/report.json").write_text(json.dumps(seen))
pathlib.Path("logs/note").write_text("kept")
"""
WAITS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
pathlib.Path("outputs/checkpoint").write_text("step 1")
print("waiting", flush=True)
time.sleep(600)
"""
SECTIONS = """
[run.environment_variables]
GREETING = "hello world"
[resources]
shm_size = "512m"
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with services.registry(tmp_path_factory.mktemp("registry") / "registry") as address:
        yield address


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, registry: str, image: str) -> Iterator[Rehearsal]:
    """A project whose workspace runs all the time, and whose image is in a registry."""
    settings = SETTINGS.replace("train.py", "train.py --data {data}")
    made = Rehearsal(
        tmp_path_factory.mktemp("remote") / "project",
        settings=f'{settings}{SECTIONS}[image]\nregistry = "{registry}"\n',
    )
    (made.root / "data").mkdir()
    (made.root / "data" / "numbers").write_text("1 2 3\n")
    assert made.parity("push").returncode == 0
    assert parity(made, "data-push").returncode == 0
    yield made
    made.stop()


def parity(place: Rehearsal, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A verb in a shell that `rehearsal env` pointed to the workspace."""
    return place.parity(*arguments, **{**place.variables(), "HOME": str(place.home), **variables})


def start(place: Rehearsal, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tools", *arguments],
        cwd=place.root,
        env={**os.environ, **place.variables(), "HOME": str(place.home), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stderr
    said = []
    while (found := process.stderr.readline()) != line:
        said.append(found)
        assert found, "".join(said)


def sources(place: Rehearsal, **files: str) -> None:
    """The source directory with these files alone; train="..." is train.py."""
    folder = place.root / "trainer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.py").write_text(content)


def newest(place: Rehearsal) -> Path:
    return max((place.root / "runs").iterdir())


def record(place: Rehearsal) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((newest(place) / "run.json").read_text())
    return table


@functools.cache
def token(place: Rehearsal) -> str:
    return place.token()


def history(place: Rehearsal, path: str, body: Any = None) -> dict[str, Any]:
    """What the run history answers; it needs no SDK."""
    config = json.loads((place.root / ".azureml" / "config.json").read_text())
    scope = (
        f"subscriptions/{config['subscription_id']}/resourceGroups/{config['resource_group']}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{config['workspace_name']}"
    )
    request = urllib.request.Request(
        f"{place.url}/history/v1.0/{scope}/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Authorization": f"Bearer {token(place)}", "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cafile=place.variables()["REQUESTS_CA_BUNDLE"])
    with urllib.request.urlopen(request, context=trust) as answer:
        table: dict[str, Any] = json.load(answer)
    return table


def status(place: Rehearsal, run_id: str) -> str:
    return str(history(place, f"runs/{run_id}")["status"])


# --- one RunSpec, both targets


def test_run_local_and_rehearse_run_the_same(another: Callable[..., Rehearsal]) -> None:
    made = another(settings=SETTINGS.replace("train.py", "train.py --data {data}") + SECTIONS)
    sources(made, train=REPORT, part="x = 1")
    (made.root / "trainer" / ".amlignore").write_text("*.key\n")
    (made.root / "trainer" / "secret.key").write_text("no")
    (made.root / "data").mkdir()
    (made.root / "data" / "numbers").write_text("1 2 3\n")
    records, seen, losses, metrics = [], [], [], []
    around = {"LEAKED": "yes", "HOME": str(made.home), "HTTPS_PROXY": "http://127.0.0.1:9"}  # the loopback needs none
    for verb in ("run-local", "rehearse"):
        done = made.parity(verb, "--json", "--", *ARGUMENTS, **around)
        assert done.returncode == 0, done.stderr
        table = json.loads(done.stdout)
        folder = made.root / "runs" / table["id"]
        records.append(table)
        seen.append(json.loads((folder / "outputs" / "deep" / "report.json").read_text()))
        losses.append((folder / "stdout.log").read_text())
        metrics.append((folder / "metrics.jsonl").read_text())
        assert (folder / "logs" / "note").read_text() == "kept"
        assert "step=5: loss" in done.stderr
    local, rehearsed = records
    assert local["ingredients"] == rehearsed["ingredients"]
    assert seen[0] == seen[1]
    assert seen[1]["arguments"] == ["--data", "DATA", *ARGUMENTS]
    assert (seen[1]["greeting"], seen[1]["example"], seen[1]["leaked"]) == ("hello world", None, None)
    assert (seen[1]["data"], seen[1]["data_writable"]) == ({"numbers": "1 2 3\n"}, False)
    assert sorted(seen[1]["files"]) == [".amlignore", "part.py", "train.py"]
    assert losses[0] == losses[1]
    assert losses[0].count("loss") == 5
    assert metrics[0] == metrics[1]
    assert (rehearsed["target"], rehearsed["status"], rehearsed["exit_code"]) == ("rehearsal", "completed", 0)
    assert rehearsed["created"] <= rehearsed["started"] <= rehearsed["ended"]
    assert "cannot show" in rehearsed["remote"]["note"]
    assert rehearsed["remote"]["portal"] is None, "it holds the word that opens the pages"
    assert not (made.state / "endpoint.json").exists(), "it was started for this alone"


# --- run-remote


@pytest.fixture(scope="module")
def finished(place: Rehearsal) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What run-remote said, and the folder of its record."""
    sources(place, train=REPORT, part="y = 2")
    done = parity(place, "run-remote", "--", *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    return done, newest(place)


Finished = tuple[subprocess.CompletedProcess[str], Path]


def test_stdout_is_the_runs_page_and_the_log_goes_to_stderr(finished: Finished) -> None:
    done, folder = finished
    assert re.fullmatch(r"http\S+/runs/\S+\?wsid=\S+\n", done.stdout)
    assert re.findall(r"step=(\d)", done.stderr) == list("12345")
    table = json.loads((folder / "run.json").read_text())
    assert (table["target"], table["status"]) == ("azureml", "completed")
    assert table["remote"]["workspace"] == "rehearsal"
    assert table["remote"]["compute"]["vm_size"] == "STANDARD_D2_V2"
    assert table["remote"]["image"].startswith("127.0.0.1:")
    assert table["id"] in table["remote"]["portal"]


def test_a_run_says_what_it_is_made_of_in_its_tags(place: Rehearsal, finished: Finished) -> None:
    table = json.loads((finished[1] / "run.json").read_text())
    tags = history(place, f"runs/{table['id']}")["tags"]
    ingredients = table["ingredients"]
    assert tags["parity.project"] == "parity"
    assert tags["parity.fingerprint"] == ingredients["image"]["fingerprint"]
    assert tags["parity.lock"] == ingredients["image"]["lock_sha256"]
    assert tags["parity.snapshot"] == ingredients["snapshot"]["digest"]
    assert table["remote"]["image"].endswith(tags["parity.image"])


def test_what_was_sent_is_the_snapshot_that_was_recorded(finished: Finished) -> None:
    folder = finished[1]
    report = json.loads((folder / "outputs" / "deep" / "report.json").read_text())
    sizes = {"train.py": len(REPORT), "part.py": len("y = 2")}
    assert report["files"].keys() == sizes.keys()
    lines = "".join(f"{path}\0{sizes[path]}\0{sha256}\n" for path, sha256 in sorted(report["files"].items()))
    recorded = json.loads((folder / "run.json").read_text())["ingredients"]["snapshot"]["digest"]
    assert hashlib.sha256(lines.encode()).hexdigest() == recorded


def test_a_failing_script_gives_its_exit_code_and_keeps_what_it_wrote(place: Rehearsal) -> None:
    sources(place, train="import sys\nopen('outputs/half', 'w').write('x')\nprint('broken')\nsys.exit(7)")
    done = parity(place, "run-remote")
    table = record(place)
    assert (done.returncode, table["status"], table["exit_code"]) == (7, "failed", 7), done.stderr
    assert "status code 7" in table["error"]
    assert (newest(place) / "outputs" / "half").read_text() == "x"
    assert (newest(place) / "stdout.log").read_text() == "broken\n"
    assert "broken\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_several_nodes_the_first_is_shown_and_all_logs_are_kept(place: Rehearsal) -> None:
    sources(place, train="import os; print('rank', os.environ['NODE_RANK'], 'of', os.environ['WORLD_SIZE'])")
    text = (place.root / "parity.toml").read_text()
    two = text.replace("[resources]", "[resources]\nnodes = 2").replace('"python train', '"exec python train')
    (place.root / "parity.toml").write_text(two)  # not begun with python: it runs as it is, once on each node
    try:
        done = parity(place, "run-remote")
    finally:
        (place.root / "parity.toml").write_text(text)
    assert done.returncode == 0, done.stderr
    assert (newest(place) / "stdout.log").read_text() == "rank 0 of 2\n"
    others = [path.read_text() for path in (newest(place) / "user_logs").glob("std_log*1.txt")]
    assert others == ["rank 1 of 2\n"]


def test_metrics_that_only_the_workspace_has_are_kept(place: Rehearsal) -> None:
    sources(place, train="print('no file of metrics')")
    run_id = detached(place)
    place.answer(f"run = ws.get_run({run_id!r})\nrun.log('loss', 2.5)\nrun.log('loss', 1.5)\nrun.flush()\nprint(1)")
    assert parity(place, "runs", "attach", run_id).returncode == 0
    lines = [json.loads(line) for line in (newest(place) / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["value"]) for line in lines] == [(0, 2.5), (1, 1.5)]


# --- detach, attach, cancel, Ctrl-C


def detached(place: Rehearsal) -> str:
    done = parity(place, "run-remote", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def test_a_run_that_ended_before_the_first_look_is_shown_whole(place: Rehearsal) -> None:
    sources(place, train="for number in range(2000): print('line', number)")
    run_id = detached(place)
    while status(place, run_id) != "Completed":
        time.sleep(0.5)
    done = parity(place, "runs", "attach", "last")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("line")] == [
        f"line {number}" for number in range(2000)
    ]
    assert record(place)["status"] == "completed"
    again = parity(place, "runs", "attach", run_id)  # now it is known here
    assert (again.returncode, again.stdout) == (0, "")


def test_of_a_killed_tool_nothing_is_lost(place: Rehearsal) -> None:
    script = "import time\nfor number in range(8):\n    print('line', number, flush=True)\n    time.sleep(0.5)\n"
    sources(place, train=script)
    process = start(place, "run-remote")
    until(process, "line 2\n")
    process.kill()
    process.communicate()
    assert record(place)["status"] == "running"
    done = parity(place, "runs", "attach", "last")
    assert done.returncode == 0, done.stderr
    assert (newest(place) / "stdout.log").read_text() == "".join(f"line {number}\n" for number in range(8))


def test_a_run_can_be_canceled_later(place: Rehearsal) -> None:
    sources(place, train=WAITS)
    run_id = detached(place)
    done = parity(place, "runs", "cancel", run_id)
    assert done.returncode == 130, done.stderr
    assert record(place)["status"] == "canceled"
    assert status(place, run_id) == "Canceled"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_an_interrupt_cancels_and_keeps_what_was_written(
    place: Rehearsal, number: signal.Signals
) -> None:
    sources(place, train=WAITS)
    process = start(place, "run-remote")
    until(process, "waiting\n")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert record(place)["status"] == "canceled"
    assert (newest(place) / "outputs" / "checkpoint").read_text() == "step 1"
    assert "Traceback" not in said


def test_a_second_interrupt_leaves_the_run_at_once(place: Rehearsal) -> None:
    script = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('waiting', flush=True)\n"
    sources(place, train=f"{script}time.sleep(600)\n")
    process = start(place, "run-remote")
    until(process, "waiting\n")
    process.send_signal(signal.SIGINT)
    until(process, "Canceling the run (Ctrl-C again leaves it at once)\n")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=4)  # the container is given 5 s
    assert process.returncode == 130
    assert f"runs attach {newest(place).name}" in said
    assert parity(place, "runs", "attach", "last").returncode == 130
    assert record(place)["status"] == "canceled"


@pytest.mark.parametrize(("answer", "ended"), [("d\n", False), ("c\n", True), ("\x03", False)])
def test_on_a_terminal_ctrl_c_asks_once(place: Rehearsal, answer: str, ended: bool) -> None:
    sources(place, train=WAITS)
    pid, terminal = pty.fork()
    if not pid:  # the child: it has a terminal of its own
        os.chdir(place.root)
        variables = {**os.environ, **place.variables(), "HOME": str(place.home)}
        os.execve(sys.executable, [sys.executable, "-m", "tools", "run-remote"], variables)
    said = b""

    def read_until(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += os.read(terminal, 4096)

    read_until(b"waiting")
    os.write(terminal, b"\x03")
    read_until(b"[c/d]")
    time.sleep(0.3)  # Python has lost a signal that came between the question and the reading of its answer
    os.write(terminal, answer.encode())
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # the terminal's end
        pass
    _, code = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(code) == 130, said
    assert said.count(b"[c/d]") == 1
    run_id = newest(place).name
    if ended:
        assert record(place)["status"] == "canceled"
    else:
        assert f"runs attach {run_id}".encode() in said
        assert status(place, run_id) == "Running"
        assert parity(place, "runs", "cancel", run_id).returncode == 130


def test_runs_are_listed_with_where_they_ran(place: Rehearsal) -> None:
    done = place.parity("runs", "list")
    assert done.returncode == 0
    assert newest(place).name in done.stdout
    assert "azureml" in done.stdout


@pytest.mark.parametrize(("run_id", "said"), [("nothing", "there is no run 'nothing'"), ("../../x", "there is no run")])
def test_a_run_that_is_not_there_is_told(place: Rehearsal, run_id: str, said: str) -> None:
    done = place.parity("runs", "attach", run_id)
    assert (done.returncode, done.stdout) == (24, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# --- what cannot be run


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[azureml]\ncompute = "cpu-clustr"', ["no compute target 'cpu-clustr'", "did you mean cpu-cluster?"]),
        ("[resources]\nnodes = 9", ["resources.nodes = 9", "has 4 at most"]),
        ('[data]\nremote = "workspaceblobstor/x"', ["no datastore 'workspaceblobstor'", "did you mean"]),
        ('[data]\nremote = "workspaceblobstore/elsewhere"', ["lacks 1 of the 1 files", "make data-push"]),
        ('[image]\nname = "absent"', ["is not in the registry", "make push"]),
        ('[azureml]\nsubscription = "s"\nresource_group = "g"\nworkspace = "elsewhere"', ["elsewhere"]),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_sent(place: Rehearsal, section: str, said: list[str]) -> None:
    sources(place, train="print('never')")
    before = set((place.root / "runs").iterdir())
    name, _, _ = section.partition("\n")
    text = (place.root / "parity.toml").read_text()
    kept = text.replace('shm_size = "512m"\n', "") if name == "[resources]" else text
    changed = kept.replace(name, section) if name in kept else f"{kept}{section}\n"
    (place.root / "parity.toml").write_text(changed)
    try:
        done = parity(place, "run-remote")
    finally:
        (place.root / "parity.toml").write_text(text)
    assert done.returncode > 10
    assert done.stdout == ""
    for each in said:
        assert each in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr
    assert set((place.root / "runs").iterdir()) == before


def test_a_file_that_changes_while_it_is_sent_ends_the_run(place: Rehearsal, tmp_path: Path) -> None:
    sources(place, train=(script := "import time; time.sleep(20)"))

    def change(method: str, path: str) -> None:
        if path.endswith("/getblob"):
            (place.root / "trainer" / "train.py").write_text(f"{script}  # changed")

    with faults.proxy(place, tmp_path) as before:
        before.seen = change
        done = parity(place, "run-remote", **before.variables)
    assert done.returncode == 24
    assert "train.py changed while" in done.stderr
    table = record(place)
    assert table["status"] == "failed"
    assert status(place, table["id"]) in ("CancelRequested", "Canceled")


# --- a service with faults


def test_a_service_that_fails_and_drops_connections_loses_nothing(place: Rehearsal, tmp_path: Path) -> None:
    script = "import time\nfor number in range(8):\n    print('line', number, flush=True)\n    time.sleep(0.5)\n"
    sources(place, train=script)
    failed = {"details": 0, "blobs": 0}

    def fault(method: str, path: str) -> str | None:
        if path.endswith("/details"):
            failed["details"] += 1
            return ("500", "drop")[failed["details"] % 2] if failed["details"] % 5 in (2, 3) else None
        if "/blobs/" in path and method == "GET":
            failed["blobs"] += 1
            return "drop" if failed["blobs"] == 2 else None
        return None

    with faults.proxy(place, tmp_path) as before:
        before.fault = fault
        done = parity(place, "run-remote", **before.variables)
    assert done.returncode == 0, done.stderr
    assert failed["details"] > 4
    assert (newest(place) / "stdout.log").read_text() == "".join(f"line {number}\n" for number in range(8))
    shown = [line for line in done.stderr.splitlines() if line.startswith("line")]
    assert shown == [f"line {number}" for number in range(8)]


def test_a_submission_that_is_refused_is_one_line(place: Rehearsal, tmp_path: Path) -> None:
    sources(place, train="print('never')")
    with faults.proxy(place, tmp_path) as before:
        before.fault = lambda method, path: "403" if "/snapshotrun" in path else None
        done = parity(place, "run-remote", **before.variables)
    assert done.returncode == 27
    assert "submitting the run" in done.stderr
    assert "AzureML Data Scientist" in done.stderr
    assert "Traceback" not in done.stderr
    assert record(place)["status"] == "failed"


# --- signing in


def az(folder: Path, token: str) -> str:
    """A PATH with an Azure CLI that gives out that token."""
    program = folder / "az"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'accessToken': token})}'\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_azure_clis_login_is_enough(place: Rehearsal, tmp_path: Path) -> None:
    login = token(place)
    variables = {name: value for name, value in place.variables().items() if name != "MSI_ENDPOINT"}
    done = place.parity("data-push", **variables, HOME=str(place.home), PATH=az(tmp_path, login))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "workspaceblobstore/parity/data\n"
    assert login not in done.stderr


def test_a_login_that_the_workspace_does_not_take_says_how_to_get_one(place: Rehearsal, tmp_path: Path) -> None:
    claims = "eyJ0aWQiOiAidCIsICJleHAiOiA0MTAyNDQ0ODAwfQ"  # tid t, exp 2100
    variables = {name: value for name, value in place.variables().items() if name != "MSI_ENDPOINT"}
    path = az(tmp_path, f"eyJhbGciOiAibm9uZSJ9.{claims}.eA")
    done = place.parity("data-push", **variables, HOME=str(place.home), PATH=path)
    assert done.returncode == 27
    assert "az login" in done.stderr
    assert "Traceback" not in done.stderr


# --- the data set, and the end


def test_data_is_sent_once(place: Rehearsal) -> None:
    assert json.loads(parity(place, "data-push", "--json").stdout)["sent_files"] == 0
    (place.root / "data" / "more").write_text("4")
    try:
        said = json.loads(parity(place, "data-push", "--json").stdout)
    finally:
        (place.root / "data" / "more").unlink()
    assert (said["sent_files"], said["files"]) == (1, 2)


def test_cleaning_ends_only_what_this_project_made(place: Rehearsal) -> None:
    sources(place, train=WAITS)
    run_id = detached(place)
    place.answer("""
        from azureml.core import Experiment
        run = Experiment(ws, "somebody-elses").start_logging(snapshot_directory=None)
        run.complete()
        print(1)
    """)
    listed = parity(place, "clean-remote")
    assert listed.returncode == 0, listed.stderr
    assert f"cancel  run {run_id}" in listed.stdout
    assert "archive experiment parity" in listed.stdout
    assert "somebody-elses" not in listed.stdout
    assert status(place, run_id) != "Canceled"
    done = parity(place, "clean-remote", "--yes")
    assert done.returncode == 0, done.stderr
    assert parity(place, "runs", "cancel", run_id).returncode == 130
    active = history(place, "experiments:query", {"viewType": "ActiveOnly"})["value"]
    names = [each["name"] for each in active]
    assert "parity" not in names
    assert "somebody-elses" in names
