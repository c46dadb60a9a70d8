"""The report as one file of HTML that asks for nothing else: style, chart library and data are in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template, ascii_uppercase

from .. import charts, comparison, files
from ..comparison import Comparison
from ..errors import RunError
from ..runs.record import Record
from . import curves, differences, sections, subject, verdict
from .markup import Markup, data, text

ASSETS = Path(__file__).with_name("assets")


def write(records: Sequence[Record], file: Path, *, root: Path, cache: Path, tolerance: float = 0.0) -> None:
    """Writes the report of one run or more, whole. The first two are compared; the curves are of all of them.

    root: the project's folder; cache: keeps the chart library; tolerance: of metrics, as a comparison has it.
    Errors: FetchError or HashMismatchError if the library cannot be had, DiskError.
    """
    library, style = charts.texts(charts.UPLOT, cache)
    subjects = [subject.read(letter, record) for letter, record in zip(ascii_uppercase, records, strict=False)]
    drawn = curves.drawn([each.metrics for each in subjects])
    first, second = subjects[0], subjects[1] if len(subjects) > 1 else None
    compared, refused = _compared(records, tolerance)
    title = f"Report of {' and '.join(each.record.id for each in subjects)}"
    parts = {
        **({"comparison": ("Comparison", verdict.facts(compared))} if compared else {}),
        "metrics": ("Metrics", verdict.metrics(compared, subjects)),
        "curves": ("Curves", sections.charts(drawn, subjects)),
        "ingredients": ("Ingredients", sections.ingredients(subjects)),
        "environment": ("Environment", differences.packages(subjects[:2], root)),
        "snapshot": ("Snapshot", differences.snapshot(first, second)),
        "layers": ("Layers", sections.layers(subjects, subject.layers(each.image_id for each in subjects))),
        "logs": ("Logs", sections.logs(subjects)),
    }
    page = Template(_PAGE).substitute(
        title=text(title),
        verdict=verdict.banner(compared) if compared else Markup(f"<p>{text(refused)}</p>"),
        style=Markup(style + _asset("report.css")),
        runs=sections.runs(subjects),
        links=Markup("".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in parts.items())),
        sections=Markup(
            "".join(
                f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{heading}</h2>{content}</section>\n'
                for name, (heading, content) in parts.items()
            )
        ),
        data=data(
            {"runs": [f"{each.letter} {each.record.target}" for each in subjects], "metrics": curves.to_json(drawn)}
        ),
        library=library,
        script=_asset("report.js"),
    )
    with files.disk_errors(file, "make room, or name another file: --output FILE"):
        files.write_text(file, page)


def _compared(records: Sequence[Record], tolerance: float) -> tuple[Comparison | None, str]:
    """The comparison of the first two runs, or why there is none."""
    if len(records) < 2:
        return None, "One run, compared with none."
    try:
        return comparison.compare(*records[:2], tolerance=tolerance), ""
    except RunError as error:
        return None, f"The two runs cannot be compared: {error.found}"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header>
<h1>$title</h1>
$verdict
$runs
<nav aria-label="Parts of this page">$links</nav>
</header>
<main id="main">
$sections</main>
<script type="application/json" id="data">$data</script>
<script>$library</script>
<script>$script</script>
</body>
</html>
"""
