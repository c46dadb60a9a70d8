"""Runs of several nodes and processes on this machine's engine."""

import json
import platform
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from projects import ROOT, Project

from tools.runs import container as containers
from tools.runs import record as records
from tools.targets import local

Make = Callable[..., Project]


@pytest.fixture
def nodes(project: Make) -> Callable[[str], Project]:
    """A project whose script runs as it is, once on each of two nodes."""

    def make(script: str) -> Project:
        made = project({"train.py": script})
        text = (made.root / "parity.toml").read_text().replace('"python train', '"exec python train')
        (made.root / "parity.toml").write_text(f"{text}[resources]\nnodes = 2\n")
        return made

    return make


def left(client: docker.DockerClient, made: Project) -> list[str]:
    """What the engine still has of the project's runs."""
    ids = [folder.name for folder in (made.root / "runs").iterdir()]
    found = [each.name for each in client.containers.list(all=True) if each.labels.get("parity.run") in ids]
    return [*found, *(each.name for each in client.networks.list() if each.attrs["Labels"].get("parity.run") in ids)]


def until(process: subprocess.Popen[str], *lines: str) -> list[str]:
    """Reads what the tool says until it has said these; all that it said."""
    said = []
    while not set(lines) <= set(said):
        said.append(process.stderr.readline())
        assert said[-1], "".join(said)
    return said


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


MEETS = """
import json, os, socket, time
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
node = int(os.environ["NODE_RANK"])
if node == 0:
    with socket.create_server(("", address[1])) as listener:
        print("met node", listener.accept()[0].recv(1)[0], flush=True)
else:
    while True:
        try:
            socket.create_connection(address).send(bytes([node]))
            break
        except OSError:
            time.sleep(0.05)
names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")
open(f"outputs/{node}.json", "w").write(json.dumps([os.environ[name] for name in names]))
print("cut", end="")
"""


def test_two_nodes_meet_by_azure_mls_variables_and_each_has_its_log_and_outputs(
    nodes: Callable[[str], Project], client: docker.DockerClient
) -> None:
    made = nodes(MEETS)
    done = made.parity("run-local")
    assert done.returncode == 0, done.stderr
    folder = made.folder(done.stdout)
    lines = (folder / "stdout.log").read_text().splitlines()
    assert sorted(lines) == ["[node 0] cut", "[node 0] met node 1", "[node 1] cut"]
    assert [line for line in done.stderr.splitlines() if line in lines] == lines
    kept = [(folder / "user_logs" / f"std_log_process_{node}.txt").read_text() for node in range(2)]
    assert kept == ["met node 1\ncut", "cut"]
    found = [json.loads((folder / "outputs" / f"{node}.json").read_text()) for node in range(2)]
    assert found == [["2", "0", "0", "6105"], ["2", "1", "0", "6105"]]
    assert (folder / "witness.json").exists()
    assert (folder / "witness-1.json").exists()
    assert record(folder)["ingredients"]["resources"]["nodes"] == 2
    assert left(client, made) == []


FAILS = """
import os, signal, sys, time
def told(*_):
    open("outputs/told", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
time.sleep(1)
if os.environ["NODE_RANK"] == "1":
    print("broken")
    sys.exit(5)
time.sleep(600)
"""


def test_the_first_node_that_fails_ends_the_others_and_is_named(
    nodes: Callable[[str], Project], client: docker.DockerClient
) -> None:
    made = nodes(FAILS)
    start = time.monotonic()
    done = made.parity("run-local")
    assert time.monotonic() - start < 30
    folder = made.folder(done.stdout)
    assert (done.returncode, record(folder)["status"], record(folder)["exit_code"]) == (5, "failed", 5)
    said = "node 1, rank 1 exited with code 5; what it printed: user_logs/std_log_process_1.txt"
    assert record(folder)["error"] == said
    assert done.stderr.splitlines()[-1] == f"error: {said}"
    assert (folder / "outputs" / "told").exists()
    assert left(client, made) == []


WAITS = "import time\nprint('waiting', flush=True)\ntime.sleep(600)\n"


def test_an_interrupt_ends_all_nodes(nodes: Callable[[str], Project], client: docker.DockerClient) -> None:
    made = nodes(WAITS)
    process = made.start("run-local")
    until(process, "[node 0] waiting\n", "[node 1] waiting\n")
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    run_id, _ = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert (process.returncode, record(made.folder(run_id))["status"]) == (130, "canceled")
    assert left(client, made) == []


def test_an_interrupt_while_the_nodes_are_started_ends_those_that_run(
    nodes: Callable[[str], Project], client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = nodes(WAITS)
    spec = made.spec(client, nodes=2)
    start = Container.start

    def interrupted(container: Container) -> None:
        if container.name.endswith("-1"):
            raise KeyboardInterrupt
        start(container)

    monkeypatch.setattr(Container, "start", interrupted)
    begun = time.monotonic()
    ended = local.run(client, spec, made.root / "runs", show=lambda output: None)
    assert time.monotonic() - begun < 20
    assert ended.status == "canceled"
    assert left(client, made) == []


def test_an_interrupt_while_the_nodes_are_made_leaves_nothing(
    nodes: Callable[[str], Project],
    client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = nodes(WAITS)
    spec = made.spec(client, nodes=2)
    create = containers.create

    def interrupted(client: docker.DockerClient, plan: containers.Plan) -> Container:
        if plan.name.endswith("-1"):
            raise KeyboardInterrupt
        return create(client, plan)

    monkeypatch.setattr(containers, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        local.run(client, spec, made.root / "runs", show=lambda output: None)
    assert left(client, made) == []
    assert "the next run" not in caplog.text


def test_all_nodes_of_a_killed_tool_are_ended_by_the_next_run(
    nodes: Callable[[str], Project], client: docker.DockerClient
) -> None:
    made = nodes(WAITS)
    process = made.start("run-local")
    until(process, "[node 0] waiting\n", "[node 1] waiting\n")
    process.kill()
    process.communicate()
    (folder,) = (made.root / "runs").iterdir()
    assert len(left(client, made)) == 3
    (made.root / "trainer" / "train.py").write_text("")
    assert made.parity("run-local", "--nodes", "1").returncode == 0
    assert record(folder)["status"] == "interrupted"
    assert left(client, made) == []


def test_a_tool_that_was_killed_before_its_nodes_were_made_leaves_nothing(
    nodes: Callable[[str], Project], client: docker.DockerClient
) -> None:
    made = nodes("")
    lost = records.create(made.root / "runs", made.spec(client, nodes=2), target="local", host={})
    labels = {local.RUN: lost.id, local.OWNER: f"{platform.node()}/999999999/0"}
    client.networks.create(f"parity-{lost.id}", labels=labels)
    local.recover(client, made.root / "runs")
    assert record(lost.folder)["status"] == "interrupted"
    assert left(client, made) == []


def test_a_second_interrupt_leaves_at_once_and_the_next_run_collects_what_was_written(
    nodes: Callable[[str], Project], client: docker.DockerClient
) -> None:
    made = nodes("open('outputs/checkpoint', 'w').write('1')\n" + WAITS)
    process = made.start("run-local")
    until(process, "[node 0] waiting\n", "[node 1] waiting\n")
    process.send_signal(signal.SIGINT)
    until(process, "warning: Stopping the run (its outputs are kept)\n")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the next run ends it and collects its outputs" in said
    (folder,) = (made.root / "runs").iterdir()
    local.recover(client, made.root / "runs")
    assert (folder / "outputs" / "checkpoint").read_text() == "1"
    assert left(client, made) == []


def test_a_command_that_torchrun_cannot_start_is_told_before_any_work(nodes: Callable[[str], Project]) -> None:
    done = nodes("").parity("run-local", "--processes", "2")
    assert done.returncode == 11
    assert "begins with python" in done.stderr
    assert "next:" in done.stderr


TORCH = """
import os, time
import torch.distributed as dist
import torch
dist.init_process_group("gloo")
rank = dist.get_rank()
total = torch.ones(1) * (rank + 1)
dist.all_reduce(total)
print("rank", rank, "of", dist.get_world_size(), "sums", int(total), flush=True)
dist.barrier()
if rank == 3:
    time.sleep(3)
    os._exit(5)
dist.all_reduce(total)
"""


def test_torchrun_starts_the_processes_and_the_first_that_fails_is_named(tmp_path: Path) -> None:
    for name in ("environments", "docker", ".parity"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "train.py").write_text(TORCH)
    (tmp_path / "parity.toml").write_text(
        'data = { path = "", dataset = "none" }\nrun = { command = "python train.py" }\n'
    )
    made = Project(root=tmp_path)
    process = made.start("run-local", "--nodes", "2", "--processes", "2")
    said = until(process, *(f"[node {rank // 2} rank {rank}] rank {rank} of 4 sums 10\n" for rank in range(4)))
    begun = time.monotonic()
    run_id, rest = process.communicate()
    assert time.monotonic() - begun > 2  # what they print comes while they run
    folder = made.folder(run_id)
    assert (process.returncode, record(folder)["exit_code"]) == (5, 5), "".join([*said, rest])
    assert rest.splitlines()[-1] == ("error: node 1, rank 3 exited with code 5; what it printed: user_logs/rank_3.txt")
    logs = [(folder / "user_logs" / f"rank_{rank}.txt").read_text().splitlines() for rank in range(4)]
    for rank, lines in enumerate(logs):
        assert f"rank {rank} of 4 sums 10" in lines, (rank, lines)
