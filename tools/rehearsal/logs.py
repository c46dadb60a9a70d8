"""What a job's processes print, kept as the run's logs while it comes: bounded, and gone on with after a restart."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import IO

from ..runs.contract import USER_LOG

LIMIT = 100_000_000  # bytes that are kept of one process's output
TAIL_LINES, TAIL_BYTES = 20, 4000  # of a failed process's output, in the run's error


class Log:
    """One process's output in a file that others read while it grows.

    The engine gives the whole output again to whoever asks; what the file has already is skipped. So nothing is lost
    or doubled, whatever became of the last writer.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file: IO[bytes] = path.open("ab", buffering=0)
        self.restart()

    def restart(self) -> None:
        """The output comes again from its beginning."""
        self.kept = min(self.path.stat().st_size, LIMIT)
        if self.kept == LIMIT:  # a note stands behind it, perhaps
            self.file.truncate(LIMIT)
        self.seen = 0

    def write(self, output: bytes) -> None:
        """The next piece of the output."""
        start = max(self.kept - self.seen, 0)
        self.seen += len(output)
        new = output[start : start + LIMIT - self.kept]
        if new:
            self.file.write(new)
            self.kept += len(new)

    def close(self) -> None:
        """Says how much was left out, if anything was."""
        if self.seen > LIMIT:
            left_out = self.seen - LIMIT
            self.file.write(f"\nThe rehearsal keeps {LIMIT:,} bytes of a log; {left_out:,} more came.\n".encode())
        self.file.close()


class Output:
    """What a container prints, on the log of each of its processes."""

    def __init__(self, logs: list[Log]) -> None:
        """logs: of the container's processes. With several, every line begins with its process's number and a space,
        and the line "= NUMBER CODE" says that one has ended, which then stands in `ended`.
        """
        self.logs, self.rest = logs, b""
        self.ended: deque[tuple[int, int]] = deque()

    def restart(self) -> None:
        """The output comes again from its beginning."""
        self.rest = b""
        for log in self.logs:
            log.restart()

    def write(self, output: bytes) -> None:
        """The next piece of the output."""
        if len(self.logs) == 1:
            self.logs[0].write(output)
            return
        *lines, self.rest = (self.rest + output).split(b"\n")
        for line in lines:
            number, _, text = line.partition(b" ")
            if number.isdigit() and int(number) < len(self.logs):
                self.logs[int(number)].write(text + b"\n")
            elif number == b"=":
                process, code = map(int, text.split())
                self.ended.append((process, code))

    def close(self) -> None:
        """Nothing more comes."""
        for log in self.logs:
            log.close()


def names(processes: int) -> list[str]:
    """The names of the logs of all processes of a job, as the service has them."""
    if processes == 1:
        return [USER_LOG]
    width = len(str(processes - 1))
    return [f"user_logs/std_log_process_{rank:0{width}d}.txt" for rank in range(processes)]


def tail(path: Path) -> str:
    """The last lines of a log; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-TAIL_LINES:])
