"""How a command becomes several processes, and what their output tells."""

import shlex
import subprocess

import pytest

from tools.errors import SettingsError
from tools.runs import launch
from tools.runs.contract import Contract


def test_one_process_is_started_plainly() -> None:
    assert launch.line("python train.py --data {data}", 1, 1) == "python train.py --data {data}"


@pytest.mark.parametrize(
    ("nodes", "processes", "found"),
    [
        ({}, 2, "--nnodes=1 --nproc-per-node=2 --node-rank=0 --master-addr=127.0.0.1 --master-port=29500"),
        (
            Contract.of_node(1, 2, "10.0.0.4"),
            3,
            "--nnodes=2 --nproc-per-node=3 --node-rank=1 --master-addr=10.0.0.4 --master-port=6105",
        ),
    ],
)
def test_torchrun_meets_where_the_variables_say(nodes: dict[str, str], processes: int, found: str) -> None:
    line = launch.line('python train.py --note "it\'s"', 2 if nodes else 1, processes)
    script = 'python() { printf "%s\\n" "$@"; echo "$TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE $OMP_NUM_THREADS"; }; '
    done = subprocess.run(
        ["bash", "-c", f"{script}{line}"], env={"PATH": "/usr/bin:/bin", **nodes}, capture_output=True, text=True
    )
    *words, last = done.stdout.splitlines()
    torchrun = ["-u", "-m", "torch.distributed.run", *shlex.split(found), "--tee=3", "--no-python"]
    assert words == [*torchrun, "python", "train.py", "--note", "it's"]
    assert last == f"[node {nodes.get('NODE_RANK', 0)} rank ${{rank}}]  1"


@pytest.mark.parametrize("command", ["sh launch.sh", "torchrun --nproc-per-node=4 train.py", "pythonic train.py"])
def test_a_command_that_starts_processes_itself_is_left_as_it_is(command: str) -> None:
    assert launch.line(command, 4, 1) == command
    with pytest.raises(SettingsError, match="begins with python") as caught:
        launch.line(command, 1, 2)
    assert command in str(caught.value)


@pytest.mark.parametrize(
    "joined", ["python a.py && python b.py", "python a.py; python b.py", "python a.py\npython b.py"]
)
def test_of_several_commands_torchrun_would_start_the_first_so_they_are_refused(joined: str) -> None:
    for nodes, processes in ((2, 1), (1, 2)):
        with pytest.raises(SettingsError, match="one command"):
            launch.line(joined, nodes, processes)
    assert launch.line(joined, 1, 1) == joined


@pytest.mark.parametrize(
    "one", ["python a.py --note 'x; y && z'", "python a.py 2>&1 | tee outputs/log", "python a.py '"]
)
def test_what_is_one_command_is_not_taken_for_several(one: str) -> None:
    assert launch.line(one, 2, 1).endswith(f"--no-python {one}")


@pytest.mark.parametrize(
    ("nodes", "processes", "said"),
    [(1, 1, None), (2, 1, "2 nodes"), (1, 4, "4 processes"), (2, 4, "2 nodes, 4 processes on each")],
)
def test_the_shape_of_a_run_in_words(nodes: int, processes: int, said: str | None) -> None:
    assert launch.shape({"nodes": nodes, "processes": processes}) == said
    assert launch.shape({}) is None
