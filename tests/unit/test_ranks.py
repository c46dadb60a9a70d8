"""What several processes print, told apart."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorded

from tools.runs import ranks
from tools.runs.record import Record

# as torchrun 2.13 says it
ENDED = (
    "E1128 00:47:{at} 7 site-packages/torch/distributed/elastic/multiprocessing/api.py:1002] "
    "failed (exitcode: {code}) local_rank: {local} (pid: 10) of binary: python\n"
)


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


def test_the_first_that_failed_is_the_one_whose_end_was_seen_first(tmp_path: Path) -> None:
    follows = ENDED.format(at="34.080000", code=1, local=1)
    cause = "[node 1 rank 3] dying\n" + ENDED.format(at="33.787000", code=5, local=1)
    record = run(tmp_path, follows, cause)
    ranks.split(record.folder)
    found = ranks.failure(record.folder, 2)
    assert found == ranks.Failure(node=1, rank=3, code=5)
    assert (
        ranks.told(record.folder, found) == "node 1, rank 3 exited with code 5; what it printed: user_logs/rank_3.txt"
    )
    silent = ranks.Failure(node=1, rank=2, code=137)
    assert ranks.told(record.folder, silent, "out of memory") == (
        "node 1, rank 2 exited with code 137 (out of memory); what it printed: user_logs/std_log_process_1.txt"
    )


def test_a_signal_has_the_code_that_a_shell_gives_it(tmp_path: Path) -> None:
    record = run(tmp_path, ENDED.format(at="33.787000", code=-9, local=1))
    found = ranks.failure(record.folder, 2)
    assert found == ranks.Failure(node=0, rank=1, code=137)


def test_of_a_command_that_starts_its_processes_itself_nothing_is_known(tmp_path: Path) -> None:
    record = run(tmp_path, "broken\n", "", processes=1)
    assert ranks.failure(record.folder, 1) is None
