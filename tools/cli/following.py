"""What a person sees of a run in a workspace until it ends, and their Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from ..errors import RunError
from . import shared
from .runs import INTERRUPTED, pass_on, say_where

if TYPE_CHECKING:
    from azureml.core import Run

    from ..runs.record import Record


def follow(run: Run, record: Record, *, cancel: bool = False) -> Record | None:
    """The record of the run once it has ended; None if the person went away from it. cancel: ends it first.

    Ctrl-C or SIGTERM asks once, on a terminal, whether to cancel the run, and cancels it anywhere else; the second one
    goes away at once.
    """
    from ..targets import azureml

    with Interrupts() as interrupts:
        showing = azureml.follower(run, record, pass_on, interrupts)
        asked = cancel
        while True:
            try:
                if cancel:
                    azureml.cancel(run)
                    cancel = False
                return azureml.collect(run, showing.to_end(), record)
            except KeyboardInterrupt:
                if asked or not _cancels():
                    return None
                asked = cancel = True
                interrupts.noted = False
                shared.say("Canceling the run (Ctrl-C again leaves it at once)")


class Interrupts:
    """Notes the first Ctrl-C or SIGTERM, and raises KeyboardInterrupt at the next one.

    The first is not raised where it happens: Python drops what is raised while it cleans up after the SDK's objects.
    """

    def __init__(self) -> None:
        self.noted = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether there was one."""
        return self.noted

    def __enter__(self) -> Interrupts:
        def note(number: int, frame: FrameType | None) -> None:
            if self.noted:
                raise KeyboardInterrupt
            self.noted = True

        self._before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def end(record: Record | None, run_id: str, *, as_json: bool, answer: str | None = None) -> None:
    """Says how a followed run ended, and exits: with the command's own code, 130 if it was canceled or left."""
    if record is None:
        shared.say(f"Run {run_id} goes on; next: python -m tools runs attach {run_id}")
        raise typer.Exit(INTERRUPTED)
    say_where(record)
    if as_json:
        shared.answer(record.to_json())
    elif answer is not None:
        shared.answer(answer)
    if record.status == "failed" and record.exit_code is None:
        raise RunError(f"the run failed: {record.error}", command=f"cat {os.path.relpath(record.log)}")
    raise typer.Exit(INTERRUPTED if record.status == "canceled" else record.exit_code or 0)


def _cancels() -> bool:
    """Whether the person wants the run canceled; without a terminal nobody can be asked, and it is."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    try:
        chosen = typer.prompt("\nCancel the run, or detach and let it go on? [c/d]", default="d", err=True)
    except typer.Abort:
        return False
    return str(chosen).strip().lower().startswith("c")
