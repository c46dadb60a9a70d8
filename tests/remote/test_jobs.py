"""Jobs: submitted by the real azureml-core, run by the real engine in the submitted image."""

import json
import os
import signal
import textwrap
import time
from collections.abc import Callable
from typing import Any

import docker
import pytest
from workspaces import ROOT, Rehearsal

from tools import engine

Make = Callable[..., Rehearsal]

# What the scripts below begin with. `submit` runs files that are given by name; polling is as fast as tests must be.
OPENING = """
import time, pathlib, tempfile
from azureml.core import Environment, Experiment, Run, ScriptRunConfig
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.runconfig import DockerConfiguration, MpiConfiguration, PyTorchConfiguration
SOURCES = pathlib.Path.cwd() / "sources"  # once: while it submits, the SDK is in the source directory, in all threads
Run._WAIT_COMPLETION_POLLING_INTERVAL_MIN = Run._WAIT_COMPLETION_POLLING_INTERVAL_MAX = 0.3

def image(reference):
    environment = Environment("by-image")
    environment.docker.base_image = reference
    environment.python.user_managed_dependencies = True
    return environment

def submit(text="", *, files=None, target="cpu-cluster", environment=None, experiment="jobs", data=(), **more):
    folder = pathlib.Path(tempfile.mkdtemp(dir=SOURCES))
    for name, content in {**({} if "command" in more else {"train.py": text}), **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    if "command" not in more:
        more["script"] = "train.py"
    config = ScriptRunConfig(str(folder), compute_target=target, environment=environment or image(IMAGE), **more)
    config.run_config.data_references = {each.data_reference_name: each.to_config() for each in data}
    return Experiment(ws, experiment).submit(config)

def until(done, seconds=90):
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, "too late"
        time.sleep(0.2)

def end(run):
    until(lambda: run.get_details()["status"] in ("Completed", "Failed", "Canceled"))
    return run.get_status()

def log(run, name="user_logs/std_log.txt"):
    path = pathlib.Path(tempfile.mkdtemp()) / "log"
    run.download_file(name, str(path))
    return path.read_text()

def message(run):
    return run.get_details()["error"]["error"]["message"]

def cluster(name, nodes):
    wanted = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=nodes)
    ComputeTarget.create(ws, name, wanted).wait_for_completion()
    return name
"""

METRICS_SPEC = "name: env\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip:\n      - azureml-core\n"


@pytest.fixture(scope="session")
def client() -> docker.DockerClient:
    return engine.ensure()


@pytest.fixture(scope="module")
def ask(rehearsal: Rehearsal, image: str) -> Callable[..., Any]:
    return asking(rehearsal, image)


def asking(rehearsal: Rehearsal, image: str) -> Callable[..., Any]:
    """Runs a script that ends by printing JSON, and gives that."""
    (rehearsal.root / "sources").mkdir(exist_ok=True)
    return lambda text, **options: rehearsal.answer(script(image, text), **options)


def script(image: str, text: str) -> str:
    return f"IMAGE = {image!r}\n{OPENING}\n{textwrap.dedent(text)}"


def ours(client: docker.DockerClient, rehearsal: Rehearsal) -> list[docker.models.containers.Container]:
    workspace = json.loads((rehearsal.state / "identity.json").read_text())["workspace_id"]
    return client.containers.list(all=True, filters={"label": f"parity.rehearsal.workspace={workspace}"})


REPORT = """
import json, os, pathlib, sys
statvfs = os.statvfs("/dev/shm")
pathlib.Path("outputs/report.json").write_text(json.dumps({
    "arguments": sys.argv[1:], "cwd": os.getcwd(), "uid": os.getuid(), "home": os.path.expanduser("~"),
    "files": sorted(str(path) for path in pathlib.Path().rglob("*")), "variables": dict(os.environ), "path": sys.path,
    "shm": statvfs.f_blocks * statvfs.f_frsize, "modules": [name for name in sys.modules if "parity" in name],
}))
pathlib.Path("logs/note").write_text("kept")
print("printed"); print("complained", file=sys.stderr)
"""


def test_a_script_finds_what_azure_ml_gives(ask: Callable[..., Any]) -> None:
    seen = ask(f"""
        run = submit({REPORT!r}, files={{"lib/part.py": ""}}, arguments=["--n", 2, 0.5, "it's $HOME", True],
                     docker_runtime_config=DockerConfiguration(use_docker=True, shm_size="512m"))
        status = end(run)
        print(json.dumps({{"id": run.id, "status": status, "report": json.loads(log(run, "outputs/report.json")),
            "uuid": run._run_dto["run_uuid"], "files": run.get_file_names(), "log": log(run),
            "note": log(run, "logs/note"), "properties": run.get_properties(),
            "experiment": run._run_dto["experiment_id"], "definition": run.get_details()["runDefinition"]}}))
    """)
    report, uuid, variables = seen["report"], seen["uuid"].replace("-", ""), seen["report"]["variables"]
    directory = f"/mnt/azureml/cr/j/{uuid}/exe/wd"
    assert (seen["status"], seen["note"]) == ("Completed", "kept")
    assert sorted(seen["log"].splitlines()) == ["complained", "printed"]
    assert {"outputs/report.json", "logs/note", "user_logs/std_log.txt"} <= set(seen["files"])
    assert report["arguments"] == ["--n", "2", "0.5", "it's $HOME", "True"]
    assert report["cwd"] == directory
    assert report["files"] == ["lib", "lib/part.py", "logs", "outputs", "train.py"]
    assert (report["uid"], report["home"], report["shm"]) == (0, "/root", 512 * 2**20)
    assert report["path"][0] == directory
    assert all(each.startswith("/opt/env/") for each in report["path"][1:])
    assert variables["AZUREML_RUN_ID"] == variables["AZUREML_ROOT_RUN_ID"] == seen["id"]
    assert variables["AZUREML_ARM_PROJECT_NAME"] == "jobs"
    assert variables["AZUREML_EXPERIMENT_ID"] == seen["experiment"]
    assert variables["AZUREML_EXPERIMENT_SCOPE"].endswith("/workspaces/rehearsal/experiments/jobs")
    assert variables["EXAMPLE_ENV_VAR"] == "EXAMPLE_VALUE"
    assert not {"PYTHONUNBUFFERED", "AZUREML_RUN_TOKEN_EXPIRY", "AZUREML_DATA_CONTAINER_ID"} & set(variables)
    assert not [name for name in variables if name.startswith("MLFLOW")]
    assert seen["properties"]["_azureml.ComputeTargetType"] == "amlctrain"
    assert seen["properties"]["ProcessInfoFile"] == "azureml-logs/process_info.json"
    assert seen["definition"]["pyTorch"]["communicationBackend"] == "nccl"


def test_a_command_goes_through_bash_and_an_image_may_be_named_by_its_id(
    ask: Callable[..., Any], client: docker.DockerClient, image: str
) -> None:
    image_id = client.images.get(image).id
    seen = ask(f"""
        environment = image("{image.partition(":")[0]}@{image_id}")
        environment.environment_variables = {{"FOO": "a b"}}
        run = submit(command=["echo", "$FOO", "&&", "ls", "|", "wc", "-l"], environment=environment)
        print(json.dumps([end(run), log(run), run.get_details()["runDefinition"]["command"]]))
    """)
    assert seen == ["Completed", "a b\n2\n", "echo $FOO && ls | wc -l"]


def test_a_failing_script_says_its_exit_code_and_its_last_words_and_keeps_what_it_wrote(
    ask: Callable[..., Any],
) -> None:
    seen = ask("""
        run = submit("import sys\\nopen('outputs/half', 'w').write('x')\\nprint('broken')\\nsys.exit(7)")
        try:
            run.wait_for_completion(show_output=True)
            raised = ""
        except Exception as error:
            raised = str(error)
        print(json.dumps([raised, run.get_status(), message(run), log(run), run.get_file_names()]))
    """)
    raised, status, message, log, names = seen
    assert status == "Failed"
    assert "User process 'python' exited with status code 7" in message
    assert message in raised.encode().decode("unicode_escape")
    assert "broken" in message
    assert log == "broken\n"
    assert "outputs/half" in names


def test_what_cannot_run_is_told_at_submit_or_by_the_run(ask: Callable[..., Any]) -> None:
    seen = ask("""
        def refused(**more):
            try:
                run = submit("print(1)", **more)
            except Exception as error:
                return str(error)
            return end(run) + ": " + message(run)
        versioned = image(IMAGE)
        versioned.version = "7"
        curated = image(IMAGE)
        curated.name = "AzureML-sklearn"
        told = {
            "compute": refused(target="cpu-clusterr"),
            "nodes": refused(distributed_job_config=PyTorchConfiguration(node_count=9)),
            "uneven": refused(distributed_job_config=PyTorchConfiguration(process_count=3, node_count=2)),
            "environment": refused(environment=versioned),
            "curated": refused(environment=curated),
            "image": refused(environment=image("parity@sha256:" + "0" * 64)),
            "local": refused(target="local"),
            "argument": refused(docker_runtime_config=DockerConfiguration(True, arguments=["--privileged"])),
        }
        print(json.dumps(told))
    """)
    assert seen["compute"] == "Failed: AzureMLCompute cluster cpu-clusterr does not exist; did you mean cpu-cluster?"
    assert "9 nodes, and cpu-cluster has at most 4" in seen["nodes"]
    assert "3, and 2 nodes" in seen["uneven"]
    assert "by-image with version 7 not found" in seen["environment"]
    assert "can not start with the prefix AzureML" in seen["curated"]
    assert seen["image"].startswith("Failed: Failed to pull Docker image parity@sha256:0000")
    assert "next:" in seen["image"]
    assert "cpu-cluster" in seen["local"]
    assert "--privileged" in seen["argument"]


def test_a_lost_snapshot_is_told_with_what_brings_it_back(ask: Callable[..., Any]) -> None:
    seen = ask("""
        run = submit("print(1)")
        end(run)
        import requests
        snapshot = "11111111-1111-4111-8111-111111111111"
        definition = {"snapshotId": snapshot, "configuration": run.get_details()["runDefinition"]}
        url = ws.service_context._get_execution_url() + "/execution/v1.0" + ws.service_context._get_workspace_scope()
        answer = requests.post(url + "/experiments/jobs/snapshotrun", json=definition,
                               headers=ws._auth.get_authentication_header())
        print(json.dumps([answer.status_code, answer.json()]))
    """)
    status, body = seen
    assert status == 400
    assert "Snapshot 11111111-1111-4111-8111-111111111111 not found" in body["error"]["message"]
    assert "submit again" in body["error"]["message"]


WAITS = """
import signal, sys, time
def stop(*_):
    open("outputs/stopped", "w").write("by SIGTERM")
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
print("waiting", flush=True)
time.sleep(600)
"""
SLEEPS = "trap exit TERM; echo begun; sleep 600 & wait"


def test_a_run_is_canceled_in_each_state(ask: Callable[..., Any]) -> None:
    seen = ask(f"""
        one = cluster("one-node", 1)
        running = submit({WAITS!r}, target=one)
        until(lambda: "user_logs/std_log.txt" in running.get_file_names() and log(running))
        queued = submit("", target=one)
        until(lambda: queued.get_status() == "Queued")
        queued.cancel()
        waited = [queued.get_status(), end(queued)]
        running.cancel()
        between = running.get_status()
        started = submit("")
        started.cancel()
        specification = pathlib.Path("spec.yml")
        specification.write_text("dependencies: [python=3.11, pip: [attrs==25.3.0]]")
        preparing = submit("", environment=Environment.from_conda_specification("slow", "spec.yml"))
        until(lambda: preparing.get_status() == "Preparing")
        preparing.cancel()
        over = submit("")
        completed = end(over)
        over.cancel()
        print(json.dumps({{"queued": waited, "between": between, "running": [end(running), running.get_file_names()],
            "starting": end(started), "preparing": end(preparing), "over": [completed, end(over)]}}))
    """)
    assert seen["queued"][-1] == "Canceled"
    assert seen["between"] in ("CancelRequested", "Canceled")
    assert seen["running"][0] == "Canceled"
    assert {"outputs/stopped", "user_logs/std_log.txt"} <= set(seen["running"][1])
    assert (seen["starting"], seen["preparing"]) == ("Canceled", "Canceled")
    assert seen["over"] == ["Completed", "Completed"]


def test_a_cluster_runs_as_many_nodes_as_it_has_and_the_rest_in_the_order_of_submission(
    ask: Callable[..., Any],
) -> None:
    spans = ask("""
        two = cluster("two-nodes", 2)
        slow = "import time\\ntime.sleep(1)"
        runs = [submit(slow, target=two, distributed_job_config=PyTorchConfiguration(node_count=nodes))
                for nodes in (1, 2, 1, 1)]
        details = [(end(run), run.get_details()) for run in runs]
        print(json.dumps([[status, told["startTimeUtc"], told["endTimeUtc"]] for status, told in details]))
    """)
    assert [status for status, _, _ in spans] == ["Completed"] * 4
    first, both, third, fourth = spans
    assert both[1] >= first[2]
    assert min(third[1], fourth[1]) >= both[2]
    assert third[1] < fourth[2]


def test_twenty_runs_at_once_all_end(ask: Callable[..., Any]) -> None:
    seen = ask("""
        from concurrent.futures import ThreadPoolExecutor
        submit("")  # the snapshot of the others
        with ThreadPoolExecutor(10) as pool:
            runs = list(pool.map(lambda number: submit(command=f"echo {number}"), range(20)))
        print(json.dumps([[end(run), log(run)] for run in runs]))
    """)
    assert seen == [["Completed", f"{number}\n"] for number in range(20)]


def test_an_output_of_a_gigabyte_is_kept(ask: Callable[..., Any], rehearsal: Rehearsal) -> None:
    size, uuid = ask("""
        run = submit(command="truncate -s 1G outputs/large && echo end >> outputs/large")
        assert end(run) == "Completed", message(run)
        print(json.dumps([2**30 + 4, run._run_dto["run_uuid"].replace("-", "")]))
    """)
    (kept,) = rehearsal.state.rglob(f"*{uuid}/outputs/large")
    assert kept.stat().st_size == size
    with kept.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"end\n"
    kept.unlink()


def test_a_run_that_lasts_too_long_is_canceled(ask: Callable[..., Any]) -> None:
    status, text = ask(f"""
        run = submit(command={SLEEPS!r}, max_run_duration_seconds=1)
        print(json.dumps([end(run), message(run)]))
    """)
    assert status == "Canceled"
    assert "maxRunDurationSeconds, 1 s" in text


READS = """
import os, pathlib, sys
print(pathlib.Path(sys.argv[2], "all").read_text(), os.environ["AZUREML_DATAREFERENCE_numbers"] == sys.argv[2])
try:
    pathlib.Path(sys.argv[2], "all").write_text("")
except OSError as error:
    print(error.strerror)
pathlib.Path(sys.argv[3], "file").write_text("new")
"""


def test_data_of_a_datastore_is_mounted_and_a_folder_is_uploaded_to_it(ask: Callable[..., Any]) -> None:
    seen = ask(f"""
        store = ws.get_default_datastore()
        source = pathlib.Path("numbers")
        source.mkdir(exist_ok=True)
        (source / "all").write_text("1 2 3")
        store.upload(str(source), target_path="in/numbers", overwrite=True, show_progress=False)
        data = store.path("in/numbers", data_reference_name="numbers").as_mount()
        made = store.path("out", data_reference_name="made").as_upload(path_on_compute="made")
        run = submit({READS!r}, files={{"made/before": ""}}, arguments=["--data", str(data), str(made)],
                     data=[data, made])
        missing = submit("", data=[store.path("nowhere").as_mount()])
        status, said = end(run), log(run)
        store.download("downloaded", prefix="out", overwrite=True, show_progress=False)
        uploaded = sorted(path.name for path in pathlib.Path("downloaded/out").rglob("*"))
        print(json.dumps([status, said, uploaded, end(missing), message(missing)]))
    """)
    status, said, uploaded, missing, why = seen
    assert (status, said) == ("Completed", "1 2 3 True\nRead-only file system\n")
    assert uploaded == ["before", "file"]
    assert missing == "Failed"
    assert "workspaceblobstore has no nowhere" in why


MEETS = """
import os, socket, sys, time
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
assert rank == 2 * int(os.environ["NODE_RANK"]) + int(os.environ["LOCAL_RANK"])
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    listener = socket.create_server(("", address[1]))
    print("met", sorted(listener.accept()[0].recv(1)[0] for _ in range(size - 1)), address[1])
else:
    while True:
        try:
            socket.create_connection(address).send(bytes([rank]))
            break
        except OSError:
            time.sleep(0.1)
    print("rank", rank, end="")
open(f"outputs/{rank}", "w").write("")
if len(sys.argv) > 1:
    import signal
    signal.signal(signal.SIGTERM, lambda *_: print("told to end", rank) or sys.exit(1))
    time.sleep(0 if rank == 3 else 600)
    sys.exit(5)
"""


def test_processes_on_two_nodes_meet_and_the_first_that_fails_ends_the_job(
    ask: Callable[..., Any], rehearsal: Rehearsal, client: docker.DockerClient
) -> None:
    seen = ask(f"""
        four = PyTorchConfiguration(process_count=4, node_count=2)
        run = submit({MEETS!r}, distributed_job_config=four)
        failing = submit({MEETS!r}, distributed_job_config=four, arguments=["fail"])
        names = [f"user_logs/std_log_process_{{rank}}.txt" for rank in range(4)]
        print(json.dumps([end(run), [log(run, name) for name in names], sorted(run.get_file_names()), names,
                          end(failing), message(failing), log(failing, names[1])]))
    """)
    status, logs, files, names, failed, why, told = seen
    assert status == "Completed"
    assert logs == ["met [1, 2, 3] 6105\n", "rank 1\n", "rank 2\n", "rank 3\n"]
    assert [name for name in files if name.startswith("outputs")] == [f"outputs/{rank}" for rank in range(4)]
    assert [name for name in files if name.startswith("user_logs")] == names
    assert failed == "Failed"
    assert "on node 1, rank 3 exited with status code 5" in why
    assert "std_log_process_3.txt" in why
    assert told == "rank 1told to end 1\n"
    assert not [each for each in client.networks.list() if each.name.startswith("parity-")]


def test_an_mpi_job_has_the_variables_of_open_mpi_and_no_node_rank(ask: Callable[..., Any]) -> None:
    seen = ask("""
        starts = ("OMPI", "AZ_BATCH", "NODE", "RANK")
        script = f"import os; print(sorted(name for name in os.environ if name.startswith({starts})))"
        one = submit(script, distributed_job_config=MpiConfiguration(process_count_per_node=2, node_count=1))
        two = submit(script, distributed_job_config=MpiConfiguration(process_count_per_node=1, node_count=2))
        print(json.dumps([end(one), end(two), *(log(run, "user_logs/std_log_process_1.txt") for run in (one, two))]))
    """)
    ompi = [f"OMPI_COMM_WORLD_{name}" for name in ("LOCAL_RANK", "LOCAL_SIZE", "RANK", "SIZE")]
    assert seen[:2] == ["Completed", "Completed"]
    assert seen[2] == f"{['AZ_BATCHAI_MPI_MASTER_NODE', *ompi]}\n"
    assert seen[3] == f"{['AZ_BATCH_HOST_LIST', 'AZ_BATCH_MASTER_NODE', *ompi]}\n"


COUNTS = """
import time
for number in range(150):
    print(number, flush=True)
    time.sleep(0.05)
open("outputs/last", "w").write("149")
"""
SLOWLY = """
import time
from azureml.core import Run
run = Run.get_context(allow_offline=False)
print("begun", flush=True)
for number in range(400):
    run.log("loss", number)
    time.sleep(0.01)
"""


def test_a_service_that_is_killed_goes_on_with_its_jobs_and_loses_nothing(
    another: Make, image: str, sdk: str, client: docker.DockerClient
) -> None:
    made = another()
    ask = asking(made, image)
    ids = ask(f"""
        one = cluster("one-node", 1)
        runs = {{
            "counting": submit({COUNTS!r}, target=one),
            "ended": submit(command="echo begun && sleep 1 && echo done > outputs/file && exit 4"),
            "gone": submit(command={SLEEPS!r}),
            "canceled": submit(command={SLEEPS!r}),
            "logging": submit({SLOWLY!r}, environment=image({sdk!r})),
            "queued": submit(command="sleep 5 && echo queued", target=one),
            "dequeued": submit(command="echo never", target=one),
        }}
        for name in ("counting", "ended", "gone", "canceled", "logging"):
            until(lambda: "user_logs/std_log.txt" in runs[name].get_file_names() and log(runs[name]))
        runs["starting"] = submit(command="echo started", target=cluster("another", 1))
        print(json.dumps({{name: run.id for name, run in runs.items()}}))
    """)
    os.kill(made.pid(), signal.SIGKILL)
    for container in ours(client, made):
        if container.labels["parity.rehearsal.run"] == ids["gone"]:
            container.remove(force=True)
    time.sleep(1.5)
    made.forget()
    seen = ask(f"""
        runs = {{name: ws.get_run(id) for name, id in {ids}.items()}}
        runs["canceled"].cancel()
        runs["dequeued"].cancel()
        seen = {{name: [end(run), (run.get_details().get("error") or {{}}).get("error", {{}}).get("message")]
                for name, run in runs.items()}}
        logs = {{name: log(runs[name]) for name in ("counting", "queued", "starting")}}
        files = [log(runs["counting"], "outputs/last"), log(runs["ended"], "outputs/file")]
        print(json.dumps([seen, logs, files, runs["logging"].get_metrics()["loss"]]))
    """)
    ends, logs, files, metrics = seen
    assert {name: status for name, (status, _) in ends.items()} == {
        **dict.fromkeys(("counting", "logging", "queued", "starting"), "Completed"),
        **dict.fromkeys(("ended", "gone"), "Failed"),
        **dict.fromkeys(("canceled", "dequeued"), "Canceled"),
    }
    assert "exited with status code 4" in ends["ended"][1]
    assert "gone from the engine" in ends["gone"][1]
    assert logs["counting"] == "".join(f"{number}\n" for number in range(150))
    assert (logs["queued"], logs["starting"]) == ("queued\n", "started\n")
    assert files == ["149", "done\n"]
    assert metrics == list(range(400))
    assert ours(client, made) == []


def test_a_service_that_is_stopped_cancels_its_jobs_and_leaves_nothing_in_the_engine(
    another: Make, image: str, client: docker.DockerClient
) -> None:
    made = another()
    ask = asking(made, image)
    ids = ask(f"""
        one = cluster("one-node", 1)
        running = submit({WAITS!r}, target=one)
        until(lambda: "user_logs/std_log.txt" in running.get_file_names() and log(running))
        queued = submit("", target=one)
        until(lambda: queued.get_status() == "Queued")
        print(json.dumps([running.id, queued.id]))
    """)
    assert len(ours(client, made)) == 2
    secrets = [name for each in ours(client, made) for name in (json.dumps([each.attrs["Args"], each.labels]),)]
    assert not any("eyJ" in text for text in secrets)
    made.stop()
    assert ours(client, made) == []
    seen = ask(f"""
        runs = [ws.get_run(id) for id in {ids}]
        print(json.dumps([[run.get_status() for run in runs], runs[0].get_file_names(), message(runs[0])]))
    """)
    assert seen[0] == ["Canceled", "Canceled"]
    assert "outputs/stopped" in seen[1]
    assert "was stopped" in seen[2]


@pytest.fixture(scope="module")
def sdk(ask: Callable[..., Any], rehearsal: Rehearsal) -> str:
    """The image that the workspace makes of a conda specification with azureml-core; two minutes, if all is cold."""
    return str(
        ask(
            f"""
            pathlib.Path("sdk.yml").write_text({METRICS_SPEC!r})
            run = submit("", environment=Environment.from_conda_specification("sdk", "sdk.yml"))
            until(lambda: run.get_status() in ("Completed", "Failed"), 600)
            assert end(run) == "Completed", message(run)
            print(json.dumps(run.get_properties()["AzureML.DerivedImageName"]))
            """,
            timeout=600,
        )
    )


def test_a_conda_specification_becomes_an_image_once(ask: Callable[..., Any], sdk: str) -> None:
    seen = ask(f"""
        pathlib.Path("sdk.yml").write_text({METRICS_SPEC!r}.replace("name: env", "name: other"))
        run = submit("import azureml.core", environment=Environment.from_conda_specification("again", "sdk.yml"))
        pathlib.Path("wrong.yml").write_text("dependencies: [python=3.11, no-such-package-at-all]")
        wrong = submit("", environment=Environment.from_conda_specification("wrong", "wrong.yml"))
        print(json.dumps([end(run), run.get_properties()["AzureML.DerivedImageName"], run.get_file_names(),
            end(wrong), message(wrong), log(wrong, "azureml-logs/20_image_build_log.txt")]))
    """)
    status, image, names, wrong, why, told = seen
    assert (status, image) == ("Completed", sdk)
    assert "azureml-logs/20_image_build_log.txt" not in names
    assert wrong == "Failed"
    assert "no-such-package-at-all" in why
    assert "no-such-package-at-all" in told
    assert "which is not used here" in told


LOGS = """
import sys
from azureml.core import Run
run = Run.get_context(allow_offline=False)
with run.child_run("child") as child:
    child.log("own", 1)
run.tag("seen", "inside")
for number in range(1000):
    run.log("loss", number / 8)
raise SystemExit(int(sys.argv[1]))
"""


def test_metrics_of_a_script_that_never_completes_its_run_are_all_there_in_order(
    ask: Callable[..., Any], sdk: str
) -> None:
    seen = ask(f"""
        runs = [submit({LOGS!r}, environment=image({sdk!r}), arguments=[code]) for code in (0, 3)]
        print(json.dumps([[end(run), run.get_metrics()["loss"], run.get_tags()["seen"],
            [[child.get_metrics(), child.get_status()] for child in run.get_children()]] for run in runs]))
    """)
    expected = [number / 8 for number in range(1000)]
    assert seen == [[status, expected, "inside", [[{"own": 1}, "Completed"]]] for status in ("Completed", "Failed")]


GLOO = """
import gc
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(total)
print(int(total), dist.get_world_size())
gc.collect()
dist.destroy_process_group()  # without it PyTorch's threads abort one process in twenty at its end
"""


def test_two_nodes_reduce_over_gloo(ask: Callable[..., Any]) -> None:
    built = Rehearsal.parity(_checkout(), "image")
    assert built.returncode == 0, built.stderr
    seen = ask(f"""
        run = submit({GLOO!r}, environment=image({built.stdout.strip()!r}),
                     distributed_job_config=PyTorchConfiguration("Gloo", node_count=2))
        print(json.dumps([end(run), [log(run, f"user_logs/std_log_process_{{rank}}.txt") for rank in range(2)]]))
    """)
    assert seen == ["Completed", ["3 2\n", "3 2\n"]]


def _checkout() -> Rehearsal:
    """This checkout itself, whose own environment has PyTorch."""
    checkout = Rehearsal.__new__(Rehearsal)
    checkout.root = ROOT
    return checkout
