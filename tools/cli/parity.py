"""`parity`: the same run here and in a rehearsal, compared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from . import records, remote, runs, shared

if TYPE_CHECKING:
    from ..runs.record import Record

CANNOT_TELL = 2


def parity(
    context: typer.Context,
    env: shared.Env = None,
    nodes: shared.Nodes = None,
    processes: shared.Processes = None,
    as_json: shared.Json = False,
) -> None:
    """Run it here and in a rehearsal, and compare.

    What follows -- is put behind the command of both. Prints what the two runs had in common and the verdict; both are
    on a page, runs/report.html. The exit code is 0 for parity, 1 for none, 2 if it cannot be told, such as where the
    command fails.
    """
    from ..report import page
    from ..targets import azureml
    from ..targets.azureml import submission

    asked = shared.Asked(env=env, arguments=tuple(context.args), nodes=nodes, processes=processes)
    settings = asked.settings()
    submission.check(settings)  # before the first run
    here = _whole(runs.run_here(asked))
    shared.say("Now the same as a rehearsal")
    there, ended = remote.run_there(asked, target=azureml.REHEARSAL, announce=shared.say)
    if not ended:
        raise typer.Exit(runs.INTERRUPTED)
    runs.say_where(there)
    file = settings.runs / "report.html"
    page.write((here, there), file, root=settings.root, cache=settings.cache, tolerance=settings.compare.tolerance)
    shared.say(f"On one page: {os.path.relpath(file)}")
    records.tell((here, there), settings.compare.tolerance, as_json=as_json)


def _whole(record: Record) -> Record:
    """The record, if its command did what it should; else there is nothing to compare a rehearsal with."""
    if record.status == "canceled":
        raise typer.Exit(runs.INTERRUPTED)
    if record.exit_code:
        shared.say(
            f"error: the run here failed with exit code {record.exit_code}, so there is nothing to rehearse\n"
            f"  next:     mend it: cat {os.path.relpath(record.log)}"
        )
        raise typer.Exit(CANNOT_TELL)
    return record
