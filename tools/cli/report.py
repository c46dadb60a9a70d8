"""`report`: runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import shared


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN ...]",
            show_default=False,
            help="Ids, or last, last-local, last-remote; default: the latter two.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", show_default=False, help="Default: runs/report.html.")
    ] = None,
) -> None:
    """Put runs on one page, to read in a browser.

    Compares the first two; the curves are of all of them. Prints the page's path; it is one file that needs nothing
    else.
    """
    from ..report import page, selection
    from ..settings import load

    settings = load()
    records = selection.chosen(settings, tuple(runs or ()))
    file = output or settings.runs / "report.html"
    page.write(records, file, root=settings.root, cache=settings.cache, tolerance=settings.compare.tolerance)
    shared.answer(str(file))
