"""A snapshot as a picture: one page with a treemap, the size against the limit, and what is left out in grey."""

from __future__ import annotations

import html
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from .. import charts, files
from .report import Report
from .rules import SDK
from .words import mib, of_limit, printable

INCLUDED, OFFENDING, IGNORED = "#3d7ea6", "#c8553d", "#b8bcc2"
FOLDERS = {INCLUDED: "#d8e6ee", OFFENDING: "#f3d6cf", IGNORED: "#e7e8ea"}  # behind what lies in them
STATES = {INCLUDED: "goes up", OFFENDING: "goes up, and does not belong", IGNORED: "left out"}
FILES = 40  # of a folder that have a box of their own; the others share one
MEASURING = 2.0  # seconds for the sizes of what is left out, all together


@dataclass(kw_only=True)
class _Box:
    """A file, a folder (path with a / at its end) or the rest of one.

    size, count: bytes and files in it; exact: not "at least". sent, sent_count: those of them that go up.
    """

    path: str
    label: str
    color: str
    size: int = 0
    count: int = 0
    exact: bool = True
    sent: int = 0
    sent_count: int = 0
    children: list[_Box] = field(default_factory=list)


def write(report: Report, ignored: Iterable[str], file: Path, *, cache: Path) -> None:
    """Writes the page whole.

    ignored: what the rules leave out, folders with a / at their end. Their sizes are taken here, for MEASURING seconds.
    cache: keeps the chart library. Errors: FetchError, HashMismatchError if that cannot be had.
    """
    script = charts.library(cache)
    root = _boxes(report, ignored)
    text = Template(_PAGE).substitute(
        title=html.escape(f"Snapshot of {printable(report.source.name)}"),
        verdict=html.escape(_verdict(report)),
        state=report.verdict,
        used=f"{min(100.0, 100 * report.tree.size / max(report.tree.size, report.limits.size)):.2f}",
        limit=f"{min(100.0, 100 * report.limits.size / max(report.tree.size, report.limits.size)):.2f}",
        limit_text=html.escape(f"{mib(report.limits.size)} MiB"),
        included=INCLUDED,
        offending=OFFENDING,
        ignored=IGNORED,
        offenders=_table(report),
        data=_script(_trace(root, report.limits.size)),
        library=script,
    )
    files.write_text(file, text)


def _verdict(report: Report) -> str:
    seen = "at least " if report.tree.partial else ""
    number = f"{seen}{len(report.tree.files):,} files, {seen}{of_limit(report.tree.size, report.limits.size)}"
    words = {"over": "over the limit", "near": "near the limit", "within": "within the limit"}
    return f"{number}: {words[report.verdict]} of {SDK[report.dialect]}"


def _boxes(report: Report, ignored: Iterable[str]) -> _Box:
    offending = {each.path for each in report.offenders}
    root = _Box(path="", label=f"{report.source.name}/", color=INCLUDED)
    folders = {"": root}
    for path in report.tree.folders:
        above = folders[_above(path)]
        color = OFFENDING if path in offending or above.color == OFFENDING else INCLUDED
        folders[path] = _Box(path=path, label=path[len(above.path) :], color=color)
        above.children.append(folders[path])
    for file in report.tree.files:
        above = folders[_above(file.path)]
        name = file.path[len(above.path) :]
        bad = above.color == OFFENDING or file.path in offending or f"*{name[name.rfind('.') :]}" in offending
        color = OFFENDING if bad else INCLUDED
        box = _Box(path=file.path, label=name, color=color, size=file.size, count=1)
        box.sent, box.sent_count = file.size, 1
        above.children.append(box)
    deadline = time.monotonic() + MEASURING
    for path in ignored:
        if _above(path) in folders:
            size, count, exact = _measure(report.source / path, deadline)
            label = path[len(_above(path)) :]
            box = _Box(path=path, label=label, color=IGNORED, size=size, count=count, exact=exact)
            folders[_above(path)].children.append(box)
    for path in reversed(folders):  # each before the one that it lies in
        folders[path].children = _bundled(folders[path])
        _sum(folders[path])
    return root


def _above(path: str) -> str:
    return path[: path.rstrip("/").rfind("/") + 1]


def _bundled(folder: _Box) -> list[_Box]:
    """A folder's boxes, the largest first; its smallest files share one for each colour."""
    boxes = sorted(folder.children, key=lambda box: (-box.size, box.path))
    files_ = [box for box in boxes if not box.path.endswith("/")]
    for color in STATES:
        rest = [box for box in files_[FILES:] if box.color == color]
        if len(rest) > 1:
            label = f"{len(rest):,} smaller files"
            bundle = _Box(path=f"{folder.path}{label} {color}", label=label, color=color, children=rest)
            _sum(bundle)
            bundle.children = []
            among = set(map(id, rest))
            boxes = [box for box in boxes if id(box) not in among] + [bundle]
    return boxes


def _sum(box: _Box) -> None:
    box.size, box.count = sum(each.size for each in box.children), sum(each.count for each in box.children)
    box.sent, box.sent_count = sum(each.sent for each in box.children), sum(each.sent_count for each in box.children)
    box.exact = all(each.exact for each in box.children)


def _measure(path: Path, deadline: float) -> tuple[int, int, bool]:
    """Bytes and files of something that is left out, without following links; and whether time was enough."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size, 1, True
    size = count = 0
    waiting = [os.fspath(path)]
    while waiting:
        try:
            for entry in os.scandir(waiting.pop()):
                if time.monotonic() > deadline:
                    return size, count, False
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    size, count = size + entry.stat(follow_symlinks=False).st_size, count + 1
        except OSError:
            continue  # it is only measured for the picture
    return size, count, True


def _trace(root: _Box, limit: int) -> dict[str, object]:
    """plotly.js's description of the treemap."""
    boxes = list(_walk(root))
    return {
        "type": "treemap",
        "branchvalues": "total",
        "ids": [box.path or "/" for box, _ in boxes],
        "parents": [around for _, around in boxes],
        "labels": [_label(box.label) + f"  {mib(box.sent)} MiB" * bool(box.children) for box, _ in boxes],
        "values": [box.size for box, _ in boxes],
        "marker": {
            "colors": [FOLDERS[box.color] if box.children else box.color for box, _ in boxes],
            "line": {"width": 1, "color": "#fff"},
        },
        "customdata": [[_label(box.path or root.label), *_said(box, limit)] for box, _ in boxes],
        "texttemplate": "%{label}<br>%{customdata[1]}",
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]}, %{customdata[2]}<br>%{customdata[3]}"
        "<extra></extra>",
        "tiling": {"pad": 2},
    }


def _walk(root: _Box) -> Iterator[tuple[_Box, str]]:
    """Each box that has an area, and the id of the one around it."""
    waiting = [(root, "")]
    while waiting:
        box, around = waiting.pop()
        if box.size or box is root:
            yield box, around
        waiting += ((child, box.path or "/") for child in box.children)


def _said(box: _Box, limit: int) -> tuple[str, str, str]:
    """Size, number of files and what becomes of them."""
    count = box.sent_count if box.children else box.count
    size = mib(box.sent if box.children else box.size)
    share = f", {100 * box.sent / limit:.1f} % of the limit" if box.sent else ""
    state = "go up" if box.children and box.color == INCLUDED else STATES[box.color]
    seen = "" if box.exact or box.children else "at least "
    return f"{seen}{size} MiB", f"{seen}{count:,} file{'s' * (count != 1)}", f"{state}{share}"


def _label(text: str) -> str:
    """A name as plotly.js shows it: it reads some HTML in labels."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _script(value: object) -> str:
    """JSON that is safe inside a <script> element."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c").replace("&", "\\u0026")


def _table(report: Report) -> str:
    if not report.offenders:
        return "<p>Nothing in it is known not to belong there.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(each.kind.title)}</td><td><code>{html.escape(printable(each.path))}</code></td>"
        f"<td class=number>{mib(each.size)} MiB</td><td class=number>{each.files:,}</td>"
        f"<td><code>{html.escape(each.line or each.command or '')}</code></td></tr>"
        for each in report.offenders
    )
    head = "<tr><th>What</th><th>Where</th><th>Size</th><th>Files</th><th>Line for .amlignore</th></tr>"
    return f"<h2>What does not belong in a snapshot</h2><table>{head}{rows}</table>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { margin: 0 auto; max-width: 1400px; padding: 24px; font: 15px/1.45 system-ui, sans-serif; color: #1c2329; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 24px 0 8px; } p { margin: 0 0 12px; }
.over #verdict { color: $offending; font-weight: 600; }
.bar { position: relative; height: 18px; margin: 8px 0 26px; background: #eef0f2; border-radius: 4px; }
.bar i { display: block; height: 100%; width: $used%; background: $included; border-radius: 4px; }
.over .bar i { background: $offending; }
.bar b { position: absolute; left: $limit%; top: -4px; height: 26px; border-left: 2px solid #1c2329; }
.bar span { position: absolute; right: calc(100% - $limit%); top: 20px; font-size: 12px; padding-right: 4px; }
.key span { display: inline-block; margin-right: 18px; } .key i { display: inline-block; width: 12px; height: 12px;
border-radius: 2px; margin-right: 6px; vertical-align: -1px; }
#map { height: 68vh; min-height: 420px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 4px 12px 4px 0; vertical-align: top; border-bottom: 1px solid #e3e6e8; }
.number { white-space: nowrap; } code { font-size: 13px; overflow-wrap: anywhere; }
</style>
</head>
<body class="$state">
<h1>$title</h1>
<p id="verdict">$verdict</p>
<div class="bar"><i></i><b></b><span>limit: $limit_text</span></div>
<p class="key"><span><i style="background:$included"></i>goes up</span>
<span><i style="background:$offending"></i>goes up, and does not belong</span>
<span><i style="background:$ignored"></i>left out by the rules</span>
<span>A click opens a folder; a click on its name closes it.</span></p>
<div id="map" role="img" aria-label="Treemap of the files by size"></div>
$offenders
<script>$library</script>
<script>
Plotly.newPlot("map", [$data], {margin: {l: 0, r: 0, t: 0, b: 0}, font: {family: "system-ui, sans-serif", size: 13}},
  {responsive: true, displayModeBar: false});
</script>
</body>
</html>
"""
