"""What several processes print, told apart: each line begins with the node and rank of its process."""

from __future__ import annotations

import contextlib
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .. import files
from .contract import LOGS

PREFIX = "[node {node} rank {rank}] "
END = 1_000_000  # bytes of a log, in which torchrun's last words are looked for
_LINE = re.compile(re.escape(PREFIX).replace(r"\{node\}", r"(\d+)").replace(r"\{rank\}", r"(\d+)").encode())
# What torchrun 2.13 says once processes have ended. At first, to the microsecond, that it saw one:
# E1128 00:47:59.752000 7 .../api.py:1002] failed (exitcode: 5) local_rank: 1 (pid: 10)
_SEEN = re.compile(r"^[A-Z](\d{4} [\d:.]+) .*\] failed \(exitcode: -?\d+\) local_rank:", re.MULTILINE)
# and at last, of each of the node's that failed: rank      : 3 (local_rank: 1), exitcode  : 5 (pid: 10)
_FAILED = re.compile(r"^ *rank +: (\d+) \(local_rank: \d+\)\s+exitcode +: (-?\d+)", re.MULTILINE)
# What a process says that failed since another one was gone: gloo's words, and NCCL's
_FOLLOWS = re.compile("Connection (closed|reset) by peer|remote process exited|NCCL communicator was aborted")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The first process that failed. code: as a shell has it, 128 and more for a signal."""

    node: int
    rank: int
    code: int

    def __str__(self) -> str:
        """For people."""
        return f"node {self.node}, rank {self.rank} exited with code {self.code}"


class Lines:
    """What a node prints, whole lines at a time, each with its node."""

    def __init__(self, node: int) -> None:
        """node: its number."""
        self.prefix, self.rest = f"[node {node}] ".encode(), b""

    def __call__(self, piece: bytes) -> bytes:
        """The lines that the next piece completes."""
        *whole, self.rest = (self.rest + piece).split(b"\n")
        return b"".join(self._named(each) + b"\n" for each in whole)

    def end(self) -> bytes:
        """What is left once the node has ended, as a line."""
        rest, self.rest = self.rest, b""
        return self._named(rest) + b"\n" if rest else b""

    def _named(self, text: bytes) -> bytes:
        return text if _LINE.match(text) else self.prefix + text


def node_log(node: int) -> str:
    """Where in a run's folder the output of a node of several is kept, as Azure ML names it."""
    return f"{LOGS}/std_log_process_{node}.txt"


def rank_log(rank: int) -> str:
    """Where in a run's folder the output of one process of several is kept."""
    return f"{LOGS}/rank_{rank}.txt"


def logs(folder: Path) -> dict[int, Path]:
    """The output of each node in a run's folder, by node, as far as it is there.

    Azure ML writes the numbers of nodes with or without zeros.
    """
    found = {int(path.stem.rpartition("_")[2]): path for path in (folder / LOGS).glob("std_log_process_*.txt")}
    whole = folder / "stdout.log"
    return ({0: whole} if whole.is_file() else {}) | found


def split(folder: Path) -> None:
    """Writes what each process printed to a file of its own in a run's folder."""
    with contextlib.ExitStack() as stack:
        ranks: dict[bytes, IO[bytes]] = {}
        for log in logs(folder).values():
            with log.open("rb") as lines:
                for text in lines:
                    if match := _LINE.match(text):
                        rank = match[2]
                        if rank not in ranks:
                            ranks[rank] = stack.enter_context(files.written_whole(folder / rank_log(int(rank))))
                        ranks[rank].write(text[match.end() :])


def failure(folder: Path, processes: int) -> Failure | None:
    """The process of a run that failed first, by torchrun's word; None where it says nothing. processes: on each node.

    One that failed since another was gone, or that torchrun ended for it, is not it, even if its end was seen first.
    """
    found = []
    for log in logs(folder).values():
        said = _end(log)
        moments = _SEEN.findall(said)
        for rank, code in _FAILED.findall(said):
            own = folder / rank_log(int(rank))
            follows = int(code) == -signal.SIGTERM or (own.exists() and bool(_FOLLOWS.search(_end(own))))
            failed = Failure(node=int(rank) // processes, rank=int(rank), code=_shell_code(int(code)))
            found.append((follows, moments[-1] if moments else "", failed))
    return min(found, key=lambda each: each[:2])[2] if found else None


def told(folder: Path, failure: Failure, reason: str | None = None) -> str:
    """For people: which process failed, why, if that is known, and where in the run's folder is what it printed."""
    own = folder / rank_log(failure.rank)
    where = own if own.exists() else logs(folder).get(failure.node, folder / "stdout.log")
    why = f" ({reason})" if reason else ""
    return f"{failure}{why}; what it printed: {where.relative_to(folder)}"


def _end(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - END))
        return file.read().decode(errors="replace")


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code
