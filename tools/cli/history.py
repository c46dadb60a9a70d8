"""`runs`: what ran, and going on with a run that was left."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import RunError
from . import following, records, remote, shared

history = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="ID", help="A run's id, or: last.", show_default=True)]


@history.callback()
def about() -> None:
    """Runs: their records here, and going on with one that a workspace runs."""


@history.command(epilog="Example: python -m tools runs attach last")
def attach(run_id: RunId = "last", as_json: shared.Json = False) -> None:
    """Follow a run of a workspace to its end.

    Shows its log from the beginning and brings what it wrote into runs/ID, also if it has ended meanwhile. The exit
    code is the command's own.
    """
    _follow(run_id, cancel=False, as_json=as_json)


@history.command(epilog="Example: python -m tools runs cancel last")
def cancel(run_id: RunId = "last", as_json: shared.Json = False) -> None:
    """Cancel a run of a workspace.

    Waits for its end and brings what it wrote into runs/ID. The exit code is 130, or what a run that has ended before
    left.
    """
    _follow(run_id, cancel=True, as_json=as_json)


history.command("list", epilog="Example: python -m tools runs list --status failed --since 7d")(records.list_runs)
history.command(epilog="Example: python -m tools runs show last")(records.show)
history.command(epilog="Example: python -m tools runs rm 20261123-154105-733-8e1f")(records.rm)
history.command(epilog="Example: python -m tools runs export --mlflow http://127.0.0.1:5000 last")(records.export)


def _follow(run_id: str, *, cancel: bool, as_json: bool) -> None:
    from ..runs import history
    from ..settings import load
    from ..targets import azureml

    settings = load()
    record = history.find(settings.runs, history.LAST_REMOTE if run_id == history.LAST else run_id)
    if record.remote is None:
        raise RunError(f"run {record.id} ran on this machine, not in a workspace", command="python -m tools runs list")
    if record.ended:
        following.end(record, record.id, as_json=as_json)
    with remote.place_of(record.target, settings) as place:
        run = azureml.find(place.workspace, record)
        shared.say(azureml.portal(run))
        done = following.follow(run, record, cancel=cancel)
        place.keep = done is None
    following.end(done, record.id, as_json=as_json)
