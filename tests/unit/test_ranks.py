"""What several processes print, told apart."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorded

from tools.runs import ranks
from tools.runs.record import Record

SEEN = (
    "E1128 00:47:{at} 7 site-packages/torch/distributed/elastic/multiprocessing/api.py:1002] "
    "failed (exitcode: {code}) local_rank: {local} (pid: 10) of binary: python\n"
)
FAILED = """\
[{number}]:
  time      : 2026-11-28_00:47:59
  host      : 138c367a490f
  rank      : {rank} (local_rank: {local})
  exitcode  : {code} (pid: 10)
  error_file: <N/A>
"""
LOST = "RuntimeError: [../gloo/transport/tcp/pair.cc:553] Connection closed by peer [172.18.0.2]:25814.\n"


def ended(at: str, *failed: tuple[int, int]) -> str:
    """What torchrun 2.13 says on a node of two processes, the cause last. failed: (rank, exit code) of each."""
    seen = SEEN.format(at=at, code=failed[-1][1], local=failed[-1][0] % 2)
    told = [FAILED.format(number=n, rank=rank, local=rank % 2, code=code) for n, (rank, code) in enumerate(failed)]
    return "".join([seen, "=====\npython FAILED\nFailures:\n", *told, "=====\n"])


@given(st.binary(), st.lists(st.integers(0, 40)))
def test_lines_are_whole_and_each_has_its_node_once(content: bytes, cuts: list[int]) -> None:
    lines, shown, rest = ranks.Lines(1), b"", content
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
        path = record.folder / (ranks.node_log(node) if len(nodes) > 1 else "stdout.log")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return record


def test_what_each_process_printed_is_kept_by_its_rank(tmp_path: Path) -> None:
    first = "[node 0 rank 0] one\nW1128 of torchrun\n[node 0 rank 1] two\n[node 0 rank 0] \n"
    record = run(tmp_path, first, "[node 1 rank 2] three\n[node 1 rank 3] cut")
    ranks.split(record.folder)
    found = [(record.folder / ranks.rank_log(rank)).read_text() for rank in range(4)]
    assert found == ["one\n\n", "two\n", "three\n", "cut"]


@pytest.mark.parametrize("name", ["std_log_process_{}.txt", "std_log_process_0{}.txt"])
def test_nodes_are_known_by_either_spelling_of_azure_ml(tmp_path: Path, name: str) -> None:
    (tmp_path / "user_logs").mkdir()
    (tmp_path / "user_logs" / name.format(1)).touch()
    found = {1: tmp_path / "user_logs" / name.format(1)}
    assert ranks.logs(tmp_path) == found  # a run that was killed before it began has no stdout.log
    (tmp_path / "stdout.log").touch()
    assert ranks.logs(tmp_path) == {0: tmp_path / "stdout.log", **found}


@pytest.mark.parametrize("seen_first", ["cause", "what follows"])
def test_the_first_that_failed_is_not_one_that_lost_its_peer(tmp_path: Path, seen_first: str) -> None:
    early, late = "33.787000", "34.080000"
    follows = f"[node 0 rank 1] {LOST}" + ended(late if seen_first == "cause" else early, (0, -15), (1, 1))
    cause = "[node 1 rank 3] dying\n" + ended(early if seen_first == "cause" else late, (2, -15), (3, 5))
    record = run(tmp_path, follows, cause)
    ranks.split(record.folder)
    found = ranks.failure(record.folder, 2)
    assert found == ranks.Failure(node=1, rank=3, code=5)
    said = "node 1, rank 3 exited with code 5; what it printed: user_logs/rank_3.txt"
    assert ranks.told(record.folder, found) == said
    silent = ranks.Failure(node=1, rank=2, code=137)
    assert ranks.told(record.folder, silent, "out of memory") == (
        "node 1, rank 2 exited with code 137 (out of memory); what it printed: user_logs/std_log_process_1.txt"
    )


def test_of_several_that_failed_by_themselves_the_one_that_was_seen_first_counts(tmp_path: Path) -> None:
    record = run(tmp_path, ended("34.080000", (0, 3)), ended("33.787000", (3, 4)))
    assert ranks.failure(record.folder, 2) == ranks.Failure(node=1, rank=3, code=4)


def test_a_signal_has_the_code_that_a_shell_gives_it(tmp_path: Path) -> None:
    record = run(tmp_path, ended("33.787000", (1, -9)))
    assert ranks.failure(record.folder, 2) == ranks.Failure(node=0, rank=1, code=137)


def test_of_a_command_that_starts_its_processes_itself_nothing_is_known(tmp_path: Path) -> None:
    record = run(tmp_path, "broken\n", "", processes=1)
    assert ranks.failure(record.folder, 1) is None
