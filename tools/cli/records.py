"""`compare`, and of `runs` what works on the records here: list, show, rm and export."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import shared

if TYPE_CHECKING:
    from ..comparison.text import Style
    from ..runs.index import Entry
    from ..runs.record import Record
    from ..settings import Settings

Name = Annotated[str, typer.Argument(metavar="RUN", help="An id, the beginning of one, last, last-local, last-remote.")]
SHOWN = 20  # runs that a list has, if not asked for more


def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A run: an id, the beginning of one, last.")] = "last-local",
    two: Annotated[str, typer.Argument(metavar="B", help="The other one.")] = "last-remote",
    tolerance: Annotated[
        float | None, typer.Option(help="Numbers agree if they differ by this times the larger of 1 and them.", min=0)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Name also what is equal.")] = False,
    as_json: shared.Json = False,
) -> None:
    """What two runs had in common, and the verdict.

    Differences come first: those that break parity, those that may change numbers, harmless ones; then the metrics,
    point by point. The exit code is 0 for parity, 1 for none, 2 if it cannot be told.
    """
    settings, records = _found(one, two)
    allowed = settings.compare.tolerance if tolerance is None else tolerance
    tell(records, allowed, everything=everything, as_json=as_json)


def tell(records: Sequence[Record], tolerance: float, *, everything: bool = False, as_json: bool = False) -> NoReturn:
    """Prints the comparison of two records, and exits with its verdict."""
    from .. import comparison
    from ..comparison import text

    told = comparison.compare(*records, tolerance=tolerance)
    if as_json:
        shared.answer(told.to_json())
    else:
        shared.answer("\n".join(text.lines(told, paint=_paint if _colours() else _plain, everything=everything)))
    raise typer.Exit(told.exit_code)


def list_runs(
    target: Annotated[str | None, typer.Option(help="local, azureml, rehearsal; remote is both of these.")] = None,
    status: Annotated[str | None, typer.Option(help="completed, failed, canceled, interrupted, running.")] = None,
    image: Annotated[str | None, typer.Option(help="A part of the image's reference, id or fingerprint.")] = None,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-23, or an age: 30m, 12h, 7d.")] = None,
    command: Annotated[str | None, typer.Option(help="A part of the command and its arguments.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="KEY[=VALUE]", help="A tag in the workspace.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, help="The newest ones; 0 lists all.")] = SHOWN,
    as_json: shared.Json = False,
) -> None:
    """List the runs, the newest last.

    Each line: id, status with the exit code, target, time it took, image, command.
    """
    from .. import project
    from ..runs import history

    try:
        moment = history.moment(since) if since else None
    except ValueError as error:
        raise typer.BadParameter(f"{since!r} is neither a date nor an age such as 12h", param_hint="--since") from error
    wanted = history.Filter(target=target, status=status, image=image, since=moment, command=command, tag=tag)
    root = project.find()  # the settings say nothing that a list needs, and take as long as the list
    found = history.entries(root / project.RUNS, root / project.STATE, wanted)
    shown = found[-limit:] if limit else found
    if as_json:
        shared.answer([entry._asdict() for entry in shown])
    elif shown:
        shared.answer("\n".join(_lines(shown)))
    if len(shown) < len(found):
        shared.say(f"{len(found) - len(shown):,} older ones: --limit 0 lists all")


def show(name: Name = "last", as_json: shared.Json = False) -> None:
    """Show a run's record."""
    from ..runs import launch

    _, (record,) = _found(name)
    if as_json:
        shared.answer(record.to_json())
        return
    table = record.ingredients
    image, snapshot = table["image"], table["snapshot"]
    rows = {
        "run": record.id,
        "status": _ended(record.status, record.exit_code),
        "error": record.error,
        "target": record.target,
        "created": record.created,
        "started": record.started,
        "ended": record.ended,
        "image": f"{image['reference']}  {image['id'].removeprefix('sha256:')[:12]}  {image['platform']}",
        "snapshot": f"{snapshot['digest'][:12]}  {snapshot['bytes']:,} bytes in {snapshot['files']:,} files",
        "command": " ".join([table["command"], *table["arguments"]]),
        **{
            f"input {each['name']}": f"{(each['digest'] or 'not known')[:12]}  {each['path']}"
            for each in table["inputs"]
        },
        "variables": ", ".join(table["environment_variables"]),
        "shared memory": f"{table['resources']['shm_bytes']:,} bytes",
        "gpu": "asked for" if table["resources"]["gpu"] else None,
        "processes": launch.shape(table["resources"]),
        **{f"stand-in {each['kind']}": each["replacement"] for each in table["stand_ins"]},
        **{name: str(value) for name, value in (record.remote or {}).items() if isinstance(value, str)},
        "files": f"{os.path.relpath(record.folder)}/",
    }
    width = max(len(key) for key in rows) + 2
    shared.answer("\n".join(f"{key:<{width}}{value}" for key, value in rows.items() if value))


def rm(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids, beginnings of ids, or last.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs' records, with their outputs.

    A run that is not over stays; one in a workspace is deleted here only.
    """
    from ..runs import history

    _, records = _found(*names)
    chosen = {each.id: each for each in records}
    for each in chosen.values():
        history.removable(each)  # before the question
    what = f"{each.id} with all that it wrote" if len(chosen) == 1 else f"{len(chosen)} runs with all that they wrote"
    if yes or typer.confirm(f"Delete {what}?", err=True):
        for each in chosen.values():
            history.remove(each)
            shared.answer(each.id)


def export(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Which; default: last.")] = None,
    mlflow: Annotated[str, typer.Option(metavar="URI", help="An MLflow server: http://HOST:PORT.")] = "",
    experiment: Annotated[str | None, typer.Option(help="Its experiment; default: [azureml] experiment.")] = None,
) -> None:
    """Write runs into an MLflow store, where its page compares them.

    A run that is there already is not written again. Prints each one's address.
    """
    from .. import tracking

    if not mlflow:
        raise typer.BadParameter("where to? e.g. http://127.0.0.1:5000", param_hint="--mlflow")
    settings, records = _found(*(names or ["last"]))
    for each in tracking.export(records, mlflow, experiment=experiment or settings.azureml.experiment):
        shared.answer(each.address)
        if not each.new:
            shared.say("It was there already")


def _found(*names: str) -> tuple[Settings, list[Record]]:
    """The settings, and the records of those names."""
    from .. import settings
    from ..runs import history

    loaded = settings.load()
    return loaded, [history.find(loaded.runs, name) for name in names]


def _lines(entries: list[Entry]) -> list[str]:
    """A table of runs, each column as wide as it must be."""
    width = 0 if not sys.stdout.isatty() else os.get_terminal_size(sys.stdout.fileno()).columns
    rows = [
        (each.id, _ended(each.status, each.exit_code), each.target, _took(each), each.image, each.command)
        for each in entries
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    form = f"{{:<{widths[0]}}}  {{:<{widths[1]}}}  {{:<{widths[2]}}}  {{:>{widths[3]}}}  {{:<{widths[4]}}}  {{}}"
    return [form.format(*row)[: width or None] for row in rows]


def _ended(status: str, code: int | None) -> str:
    return f"{status} ({code})" if code else status


def _took(entry: Entry) -> str:
    from datetime import datetime

    if not entry.started or not entry.ended:
        return "-"
    started, ended = (datetime.fromisoformat(each[:19]) for each in (entry.started, entry.ended))  # to the second
    return str(ended - started)


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _paint(text: str, style: Style) -> str:
    codes = {"good": {"fg": "green"}, "bad": {"fg": "red"}, "doubtful": {"fg": "yellow"}}
    more = {"strong": {"bold": True}, "weak": {"dim": True}}
    return typer.style(text, **{**codes, **more}[style])  # type: ignore[arg-type]


def _plain(text: str, style: Style) -> str:
    return text
