"""How a command becomes several processes, and what their output tells.

On each node torchrun starts the processes, with the same line everywhere: it reads where they meet from MASTER_ADDR,
MASTER_PORT and NODE_RANK, which Azure ML sets (its guide to distributed training), and the local target too. Each line
that a process prints begins with its node and rank.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .. import files
from ..errors import SettingsError
from .contract import LOGS

if TYPE_CHECKING:
    from .record import Record

END = 1_000_000  # bytes of a log, in which torchrun's last words are looked for
_PYTHON = re.compile(r"python[\d.]*\s")
_LINE = re.compile(rb"\[node (\d+) rank (\d+)\] ")
# torchrun 2.13, when it sees a process end: E1128 00:47:59.752000 7 .../api.py:1002] failed (exitcode: 5) local_rank: 1
_FAILED = re.compile(r"^[A-Z](\d{4} [\d:.]+) .*\] failed \(exitcode: (-?\d+)\) local_rank: (\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The first process that failed. code: as a shell has it, 128 and more for a signal."""

    node: int
    rank: int
    code: int

    def __str__(self) -> str:
        """For people."""
        return f"node {self.node}, rank {self.rank} exited with code {self.code}"


def line(command: str, nodes: int, processes: int) -> str:
    """The command of one node. nodes, processes: how many nodes, and how many processes on each.

    One process stays as it is, and so does a command that does not begin with python: it starts what it needs itself.
    Errors: SettingsError for such a command where a node is to have several processes.
    """
    if nodes * processes == 1:
        return command
    if not _PYTHON.match(command):
        if processes > 1:
            raise SettingsError(
                f"{processes} processes on a node: torchrun starts them, and only of a command that begins with python",
                expected=f'"python train.py ...", found {command!r}',
                command="change command under [run] of parity.toml; or processes = 1, if it starts them itself",
            )
        return command
    variables = ['TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE="[node ${NODE_RANK:-0} rank \\${rank}] "']
    if processes > 1:  # torchrun's own default, without its warning
        variables.append("OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}")
    torchrun = (
        f"torchrun --nnodes={nodes} --nproc-per-node={processes} --node-rank=${{NODE_RANK:-0}} "
        "--master-addr=${MASTER_ADDR:-127.0.0.1} --master-port=${MASTER_PORT:-29500} --tee=3 --no-python"
    )
    return " ".join([*variables, torchrun, command])


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


def shape(resources: Mapping[str, Any]) -> str | None:
    """For people, how many processes a run has and where; None of one. resources: as a record has them."""
    nodes, processes = resources.get("nodes", 1), resources.get("processes", 1)
    if nodes == 1:
        return f"{processes} processes" if processes > 1 else None
    return f"{nodes} nodes, {processes} processes on each" if processes > 1 else f"{nodes} nodes"


def node_log(node: int) -> str:
    """Where in a run's folder the output of a node of several is kept, as Azure ML names it."""
    return f"{LOGS}/std_log_process_{node}.txt"


def rank_log(rank: int) -> str:
    """Where in a run's folder the output of one process of several is kept."""
    return f"{LOGS}/rank_{rank}.txt"


def logs(folder: Path) -> dict[int, Path]:
    """The output of each node in a run's folder, by node; Azure ML writes their numbers with or without zeros."""
    found = {int(path.stem.rpartition("_")[2]): path for path in (folder / LOGS).glob("std_log_process_*.txt")}
    return {0: folder / "stdout.log"} | found


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


def failure(record: Record) -> Failure | None:
    """The process of a run that failed first, by torchrun's word; None where it says nothing.

    What fails because its peer is gone fails later: torchrun looks ten times a second, and tells to the microsecond.
    """
    processes = record.ingredients["resources"].get("processes", 1)
    found = [
        (match[1], Failure(node=node, rank=node * processes + int(match[3]), code=_shell_code(int(match[2]))))
        for node, log in logs(record.folder).items()
        for match in _FAILED.finditer(_end(log))
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def told(record: Record, failure: Failure, reason: str | None = None) -> str:
    """For people: which process failed, why, if that is known, and where in the run's folder is what it printed."""
    own = record.folder / rank_log(failure.rank)
    where = own if own.exists() else logs(record.folder)[failure.node]
    why = f" ({reason})" if reason else ""
    return f"{failure}{why}; what it printed: {where.relative_to(record.folder)}"


def _end(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - END))
        return file.read().decode(errors="replace")


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code
