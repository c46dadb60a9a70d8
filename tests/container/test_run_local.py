import json
import os
import signal
import time
from collections.abc import Callable

import docker
import pytest
from projects import Project

Make = Callable[..., Project]

REPORT = """
import json, os, pathlib, sys
inputs = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
try:
    (inputs / "new").touch()
    writable = True
except OSError:
    writable = False
statvfs = os.statvfs("/dev/shm")
pathlib.Path("outputs/report.json").write_text(json.dumps({
    "arguments": sys.argv[1:], "cwd": os.getcwd(), "uid": os.getuid(), "home": os.path.expanduser("~"),
    "files": sorted(str(path) for path in pathlib.Path().rglob("*")), "variables": dict(os.environ),
    "shm": statvfs.f_blocks * statvfs.f_frsize, "data": (inputs / "numbers").read_text(), "data_writable": writable,
    "executable": os.access("run.sh", os.X_OK),
}))
pathlib.Path("logs/note").write_text("kept")
pathlib.Path("outputs/metrics.jsonl").write_text('{"name": "loss", "step": 1, "value": 2.5}\\n')
"""


def test_the_container_is_what_azure_ml_gives(project: Make) -> None:
    made = project(
        {"train.py": REPORT, "lib/part.py": "", "run.sh": "", "secret.key": "", ".amlignore": "*.key\n"},
        settings='[run.environment_variables]\nGREETING = "hello world"\n[resources]\nshm_size = "512m"\n',
    )
    (made.root / "trainer" / "run.sh").chmod(0o755)
    done = made.parity("run-local", "--", "--note", "it's $HOME; here", LEAKED="yes")
    assert done.returncode == 0, done.stderr
    folder = made.folder(done.stdout)
    record = json.loads((folder / "run.json").read_text())
    report = json.loads((folder / "outputs" / "report.json").read_text())
    root = f"/mnt/azureml/cr/j/{record['uuid']}"
    assert report["cwd"] == f"{root}/exe/wd"
    assert report["arguments"] == ["--data", f"{root}/cap/data-capability/wd/data", "--note", "it's $HOME; here"]
    snapshot = [".amlignore", "lib", "lib/part.py", "run.sh", "train.py"]
    witnessed = ["outputs/parity", "outputs/parity/witness.json"]
    assert report["files"] == sorted([*snapshot, "logs", "outputs", *witnessed])
    assert (report["uid"], report["home"], report["shm"]) == (0, "/root", 512 * 2**20)
    assert (report["data"], report["data_writable"], report["executable"]) == ("1 2 3\n", False, False)
    assert report["variables"]["GREETING"] == "hello world"
    assert report["variables"]["AZUREML_RUN_ID"] == folder.name
    assert report["variables"]["PATH"].startswith("/opt/env/bin:")
    assert "LEAKED" not in report["variables"]


def test_the_record_holds_every_ingredient_and_the_outputs_are_the_callers(project: Make, image: str) -> None:
    made = project({"train.py": REPORT}, settings='[run.environment_variables]\nKEY = "hunter2"\n')
    done = made.parity("run-local", "--json")
    record = json.loads(done.stdout)
    folder = made.folder(record["id"])
    assert json.loads((folder / "run.json").read_text()) == record
    assert (record["status"], record["exit_code"], record["target"]) == ("completed", 0, "local")
    assert record["created"] <= record["started"] <= record["ended"]
    ingredients = record["ingredients"]
    assert ingredients["image"]["reference"] == image
    assert ingredients["image"]["id"].startswith("sha256:")
    assert len(ingredients["snapshot"]["digest"]) == len(ingredients["image"]["lock_sha256"]) == 64
    assert ingredients["command"] == "python train.py --data {data}"
    assert ingredients["inputs"][0]["name"] == "data"
    assert ingredients["inputs"][0]["digest"]
    assert "hunter2" not in (folder / "run.json").read_text()
    assert (folder / "logs" / "note").read_text() == "kept"
    assert json.loads((folder / "metrics.jsonl").read_text())["value"] == 2.5
    assert {path.stat().st_uid for path in folder.rglob("*")} == {os.getuid()}


def test_a_failing_script_gives_its_exit_code_and_keeps_what_it_wrote(project: Make) -> None:
    made = project({"train.py": "import sys\nopen('outputs/half', 'w').write('x')\nprint('broken')\nsys.exit(7)"})
    done = made.parity("run-local")
    folder = made.folder(done.stdout)
    record = json.loads((folder / "run.json").read_text())
    assert (done.returncode, record["status"], record["exit_code"]) == (7, "failed", 7)
    assert (folder / "outputs" / "half").read_text() == "x"
    assert (folder / "stdout.log").read_text() == "broken\n"
    assert "broken\n" in done.stderr


def test_output_arrives_line_by_line_and_both_streams_are_kept(project: Make) -> None:
    script = "import sys, time\nprint('first', flush=True)\ntime.sleep(3)\nprint('last', file=sys.stderr)\n"
    made = project({"train.py": script})
    process = made.start("run-local")
    while process.stderr.readline() != "first\n":
        pass
    first = time.monotonic()
    while process.stderr.readline() != "last\n":
        pass
    assert time.monotonic() - first > 2
    run_id, _ = process.communicate()
    assert (made.folder(run_id) / "stdout.log").read_text() == "first\nlast\n"


WAITS = """
import pathlib, time
pathlib.Path("outputs/checkpoint").write_text("step 1")
print("waiting", flush=True)
time.sleep(600)
"""


def containers(client: docker.DockerClient, made: Project) -> list[str]:
    ids = [folder.name for folder in (made.root / "runs").iterdir()]
    return [each.name for each in client.containers.list(all=True) if each.labels.get("parity.run") in ids]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_run_within_ten_seconds(
    project: Make, client: docker.DockerClient, number: signal.Signals
) -> None:
    made = project({"train.py": WAITS})
    process = made.start("run-local")
    while process.stderr.readline() != "waiting\n":
        pass
    start = time.monotonic()
    process.send_signal(number)
    run_id, _ = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    record = json.loads((made.folder(run_id) / "run.json").read_text())
    assert record["status"] == "canceled"
    assert (made.folder(run_id) / "outputs" / "checkpoint").read_text() == "step 1"
    assert containers(client, made) == []


def test_what_a_killed_tool_left_is_ended_and_recorded_by_the_next_run(
    project: Make, client: docker.DockerClient
) -> None:
    made = project({"train.py": WAITS})
    process = made.start("run-local")
    while process.stderr.readline() != "waiting\n":
        pass
    process.kill()
    process.communicate()
    (folder,) = (made.root / "runs").iterdir()
    assert len(containers(client, made)) == 1
    (made.root / "trainer" / "train.py").write_text("print('next')")
    assert made.parity("run-local").returncode == 0
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert (folder / "outputs" / "checkpoint").read_text() == "step 1"
    assert containers(client, made) == []


def test_the_source_directory_is_not_touched(project: Make) -> None:
    made = project({"train.py": "open('train.py', 'w').write('')\nopen('new', 'w')"})
    assert made.parity("run-local").returncode == 0
    assert [path.name for path in (made.root / "trainer").iterdir()] == ["train.py"]
    assert (made.root / "trainer" / "train.py").read_text()


def test_missing_data_is_one_line_with_the_next_command(project: Make) -> None:
    made = project({"train.py": ""}, settings='path = "nowhere"\n')
    done = made.parity("run-local")
    assert done.returncode == 20
    assert "nowhere" in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_source_directory_is_told_before_any_work(project: Make) -> None:
    made = project({})
    done = made.parity("run-local")
    assert done.returncode == 21
    assert "trainer does not exist" in done.stderr
    assert not (made.root / "runs").exists()


GOES_ON = """
import pathlib
count = pathlib.Path("outputs/deep/count")
count.parent.mkdir(exist_ok=True)
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
print("count", number)
"""


def test_a_run_can_begin_with_what_another_one_left(project: Make) -> None:
    made = project({"train.py": GOES_ON})
    first = made.parity("run-local")
    second = made.parity("run-local", "--resume", "last")
    again = made.parity("run-local", "--resume", first.stdout.strip())
    assert [line for done in (first, second, again) for line in done.stderr.splitlines() if "count" in line] == [
        "count 1",
        "count 2",
        "count 2",
    ]
    records = [json.loads((made.folder(done.stdout) / "run.json").read_text()) for done in (first, second, again)]
    starts = [each["ingredients"]["start"] for each in records]
    assert starts[0] is None
    assert starts[1]["run"] == first.stdout.strip()
    assert starts[1] == starts[2]
    assert made.parity("compare", second.stdout.strip(), again.stdout.strip()).returncode == 0
    told = made.parity("compare", first.stdout.strip(), second.stdout.strip())
    assert told.returncode == 1
    assert "what lay in outputs at the start" in told.stdout


def test_a_run_whose_tool_was_killed_can_be_gone_on_from(project: Make) -> None:
    made = project({"train.py": GOES_ON + "import time\nprint('waiting', flush=True)\ntime.sleep(600)\n"})
    process = made.start("run-local")
    while process.stderr.readline() != "waiting\n":
        assert process.poll() is None
    process.kill()
    process.communicate()
    (made.root / "trainer" / "train.py").write_text(GOES_ON)
    done = made.parity("run-local", "--resume", "last")
    assert "count 2" in done.stderr.splitlines(), done.stderr


def test_a_run_that_left_nothing_cannot_be_gone_on_from(project: Make) -> None:
    made = project({"train.py": ""})
    run_id = made.parity("run-local").stdout.strip()
    done = made.parity("run-local", "--resume", "last")
    assert done.returncode == 24
    assert f"run {run_id} left nothing in" in done.stderr
    assert made.parity("run-local", "--resume", "nowhere").returncode == 24
    assert len(list((made.root / "runs").iterdir())) == 1


GROWS = """
import os, time
print("waiting", flush=True)
while not os.path.exists("outputs/go"):
    time.sleep(0.05)
bytearray(300_000_000)
"""


def test_a_process_that_the_system_ended_for_its_memory_is_told(project: Make, client: docker.DockerClient) -> None:
    made = project({"train.py": GROWS})
    process = made.start("run-local")
    while process.stderr.readline() != "waiting\n":
        pass
    (folder,) = (made.root / "runs").iterdir()
    (container,) = client.containers.list(filters={"label": f"parity.run={folder.name}"})
    container.update(mem_limit="64m", memswap_limit="64m")
    container.exec_run(["touch", "outputs/go"])
    _, said = process.communicate(timeout=60)
    record = json.loads((folder / "run.json").read_text())
    assert (process.returncode, record["exit_code"], record["status"]) == (137, 137, "failed")
    assert record["error"].startswith("out of memory")
    assert f"error: {record['error']}\n" in said
