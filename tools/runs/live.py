"""A line at the foot of the terminal while a run goes on: step, last values, rate, time left."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

SECONDS = 1.0  # between two looks at the metrics
SHARE = 0.05  # of a processor that looking may take: long files are looked at less often
ERASE = "\r\x1b[K"  # ECMA-48: to the line's beginning, erase it


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the metrics say so far. step: the last one; of: how many there will be, if the script says so.

    values: the last of each name; rate: steps a second between the first and the last line, None while there is one.
    """

    step: int
    of: int | None
    values: dict[str, float | None]
    rate: float | None

    def __str__(self) -> str:
        """The line."""
        step = f"step {self.step:,}" + (f" of {self.of:,}" if self.of else "")
        parts = [step, *(f"{name} {'nan' if value is None else f'{value:.4g}'}" for name, value in self.values.items())]
        if self.rate:
            parts.append(f"{self.rate:,.0f} steps/s" if self.rate >= 10 else f"{self.rate:.2g} steps/s")
            if self.of and self.of > self.step:
                left = int((self.of - self.step) / self.rate)
                parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return "  ".join(parts)


def reading(content: bytes) -> Reading | None:
    """The reading of a metrics.jsonl that is being written; None where it says nothing yet."""
    lines = [line for line in (_line(text) for text in content.splitlines()) if line]
    if not lines:
        return None
    first, last = lines[0], lines[-1]
    seconds, steps = last["time"] - first["time"], last["step"] - first["step"]
    return Reading(
        step=last["step"],
        of=last.get("of"),
        values={line["name"]: line["value"] for line in lines},
        rate=steps / seconds if seconds > 0 and steps > 0 else None,
    )


class Terminal:
    """What a run prints, above the line."""

    def __init__(self, stream: IO[bytes], *, columns: int) -> None:
        """stream: where both go; columns: the terminal's width."""
        self.stream, self.columns = stream, columns
        self.lock = threading.Lock()
        self.text, self.drawn = "", False  # the line, and whether it stands there
        self.whole = True  # whether the run is at a line's beginning

    def show(self, output: bytes) -> None:
        """Shows a piece of what the run prints."""
        with self.lock:
            self._erase()
            self.stream.write(output)
            self.whole = output.endswith(b"\n") if output else self.whole
            self._draw()

    def line(self, text: str) -> None:
        """Puts another text into the line; "" takes it away."""
        with self.lock:
            self._erase()
            self.text = text[: self.columns - 1]
            self._draw()

    def _erase(self) -> None:
        if self.drawn:
            self.stream.write(ERASE.encode())
        self.drawn = False

    def _draw(self) -> None:
        if self.text and self.whole:
            self.stream.write(self.text.encode(errors="replace"))
            self.drawn = True
        self.stream.flush()

    @contextlib.contextmanager
    def watching(self, read: Callable[[], bytes]) -> Iterator[None]:
        """Keeps the line up to date for the length of the block. read: the metrics so far; b"" where there are none."""
        ended = threading.Event()

        def look() -> None:
            pause = SECONDS
            while not ended.wait(pause):
                begun = time.monotonic()
                with contextlib.suppress(Exception):  # a line is never worth a run
                    if seen := reading(read()):
                        self.line(str(seen))
                pause = max(SECONDS, (time.monotonic() - begun) / SHARE)

        thread = threading.Thread(target=look, name="live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.line("")


def _line(text: bytes) -> dict[str, Any] | None:
    """A line of the metrics; None for one that is not whole yet, or none of ours."""
    try:
        line = json.loads(text)
        return line if {"name", "step", "value", "time"} <= line.keys() else None
    except (ValueError, AttributeError):
        return None


def terminal() -> Terminal | None:
    """The terminal on stderr; None where there is none."""
    if not sys.stderr.isatty():
        return None
    return Terminal(sys.stderr.buffer, columns=os.get_terminal_size(sys.stderr.fileno()).columns or 80)
