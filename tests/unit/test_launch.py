"""How a command becomes several processes, and what their output tells."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorded

from tools.errors import SettingsError
from tools.runs import launch
from tools.runs.contract import Contract
from tools.runs.record import Record

# as torchrun 2.13 says it
ENDED = (
    "E1128 00:47:{at} 7 site-packages/torch/distributed/elastic/multiprocessing/api.py:1002] "
    "failed (exitcode: {code}) local_rank: {local} (pid: 10) of binary: python\n"
)


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
    script = 'torchrun() { printf "%s\\n" "$@"; echo "$TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE $OMP_NUM_THREADS"; }; '
    done = subprocess.run(
        ["bash", "-c", f"{script}{line}"], env={"PATH": "/usr/bin:/bin", **nodes}, capture_output=True, text=True
    )
    *words, last = done.stdout.splitlines()
    assert words == [*shlex.split(found), "--tee=3", "--no-python", "python", "train.py", "--note", "it's"]
    assert last == f"[node {nodes.get('NODE_RANK', 0)} rank ${{rank}}]  1"


@pytest.mark.parametrize("command", ["sh launch.sh", "torchrun --nproc-per-node=4 train.py", "pythonic train.py"])
def test_a_command_that_starts_processes_itself_is_left_as_it_is(command: str) -> None:
    assert launch.line(command, 4, 1) == command
    with pytest.raises(SettingsError, match="begins with python") as caught:
        launch.line(command, 1, 2)
    assert command in str(caught.value)


@given(st.binary(), st.lists(st.integers(0, 40)))
def test_lines_are_whole_and_each_has_its_node_once(content: bytes, cuts: list[int]) -> None:
    lines, shown, rest = launch.Lines(1), b"", content
    for cut in cuts:
        shown += lines(rest[:cut])
        rest = rest[cut:]
    shown += lines(rest) + lines.end()
    named = content.split(b"\n")
    if not named[-1]:
        named.pop()
    expected = [text if re.match(rb"\[node \d+ rank \d+\] ", text) else b"[node 1] " + text for text in named]
    assert shown == b"".join(text + b"\n" for text in expected)


def run(folder: Path, *nodes: str, processes: int = 2) -> Record:
    """A run of several processes that printed this."""
    made = Recorded()
    made.ingredients["resources"] |= {"nodes": len(nodes), "processes": processes}
    record = made.write(folder)
    for node, text in enumerate(nodes):
        path = record.folder / (launch.node_log(node) if len(nodes) > 1 else "stdout.log")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return record


def test_what_each_process_printed_is_kept_by_its_rank(tmp_path: Path) -> None:
    first = "[node 0 rank 0] one\nW1128 of torchrun\n[node 0 rank 1] two\n[node 0 rank 0] \n"
    record = run(tmp_path, first, "[node 1 rank 2] three\n[node 1 rank 3] cut")
    launch.split(record.folder)
    found = [(record.folder / launch.rank_log(rank)).read_text() for rank in range(4)]
    assert found == ["one\n\n", "two\n", "three\n", "cut"]


@pytest.mark.parametrize("name", ["std_log_process_{}.txt", "std_log_process_0{}.txt"])
def test_nodes_are_known_by_either_spelling_of_azure_ml(tmp_path: Path, name: str) -> None:
    (tmp_path / "user_logs").mkdir()
    (tmp_path / "user_logs" / name.format(1)).touch()
    assert launch.logs(tmp_path) == {0: tmp_path / "stdout.log", 1: tmp_path / "user_logs" / name.format(1)}


def test_the_first_that_failed_is_the_one_whose_end_was_seen_first(tmp_path: Path) -> None:
    follows = ENDED.format(at="34.080000", code=1, local=1)
    cause = "[node 1 rank 3] dying\n" + ENDED.format(at="33.787000", code=5, local=1)
    record = run(tmp_path, follows, cause)
    launch.split(record.folder)
    found = launch.failure(record)
    assert found == launch.Failure(node=1, rank=3, code=5)
    assert launch.told(record, found) == "node 1, rank 3 exited with code 5; what it printed: user_logs/rank_3.txt"
    silent = launch.Failure(node=1, rank=2, code=137)
    assert launch.told(record, silent, "out of memory") == (
        "node 1, rank 2 exited with code 137 (out of memory); what it printed: user_logs/std_log_process_1.txt"
    )


def test_a_signal_has_the_code_that_a_shell_gives_it(tmp_path: Path) -> None:
    found = launch.failure(run(tmp_path, ENDED.format(at="33.787000", code=-9, local=1)))
    assert found == launch.Failure(node=0, rank=1, code=137)


def test_of_a_command_that_starts_its_processes_itself_nothing_is_known(tmp_path: Path) -> None:
    assert launch.failure(run(tmp_path, "broken\n", "", processes=1)) is None


@pytest.mark.parametrize(
    ("nodes", "processes", "said"),
    [(1, 1, None), (2, 1, "2 nodes"), (1, 4, "4 processes"), (2, 4, "2 nodes, 4 processes on each")],
)
def test_the_shape_of_a_run_in_words(nodes: int, processes: int, said: str | None) -> None:
    assert launch.shape({"nodes": nodes, "processes": processes}) == said
    assert launch.shape({}) is None
