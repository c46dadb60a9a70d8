"""What people see while something lasts: a bar on a terminal, nothing anywhere else. Lines go through `logging`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 2.0  # seconds that pass before a bar is worth a person's attention


@dataclass(kw_only=True)
class Task:
    """One piece of work: `advance` as it goes on. It draws itself once it has lasted `PATIENCE` seconds."""

    title: str
    total: float | None
    unit: str
    done: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _bar: Progress | None = None

    def advance(self, amount: float = 1) -> None:
        """Says that `amount` more units are done; safe to call from several threads."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif sys.stderr.isatty() and time.monotonic() - self._started > PATIENCE:
            self._draw()

    def _draw(self) -> None:
        from rich import progress
        from rich.console import Console

        amount = progress.DownloadColumn() if self.unit == "bytes" else progress.MofNCompleteColumn()
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            amount,
            progress.TimeRemainingColumn(),
        )
        self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task(self.title, total=self.total, completed=int(self.done))
        self._bar.start()

    def close(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()


@contextlib.contextmanager
def task(title: str, total: float | None = None, unit: str = "items") -> Iterator[Task]:
    """A `Task` for the length of the block. unit: "bytes" or what is counted."""
    work = Task(title=title, total=total, unit=unit)
    try:
        yield work
    finally:
        work.close()
