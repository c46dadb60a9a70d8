"""The parts of the page that tell of the runs one by one: ingredients, curves, layers and logs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .. import files
from ..image.overview import Overview
from ..runs import launch
from .curves import Curve
from .markup import Markup, code, folded, joined, table, text
from .subject import Subject

MISSING = Markup('<span class="quiet">not known</span>')
COLORS = 8  # as in report.css
DIGEST, SHORT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b"), r"\1…"
HOST = ("system", "release", "machine", "cpus", "engine")  # what a person asks of it


def run(number: int, label: str) -> Markup:
    """A run's name with the line that its curves have."""
    dashed = " dashed" if number else ""
    color = f"color:var(--run-{number % COLORS})"
    return Markup(f'<span class="run{dashed}"><i style="{color}"></i>{text(label)}</span>')


def runs(subjects: Sequence[Subject]) -> Markup:
    """A line for each run: what the page calls it, where it ran and how it ended."""
    lines = []
    for number, subject in enumerate(subjects):
        record = subject.record
        said = [record.target, _status(subject), _moment(record.started or record.created), _duration(subject.seconds)]
        words = ", ".join(each for each in said if each)
        lines.append(f"<li>{run(number, f'{subject.letter} {record.id}')} <span class=quiet>{text(words)}</span></li>")
    return Markup(f'<ul class="runs">{"".join(lines)}</ul>')


def _status(subject: Subject) -> str:
    code_ = subject.record.exit_code
    return subject.record.status + (f", exit code {code_}" if code_ is not None else "")


def ingredients(subjects: Sequence[Subject]) -> Markup:
    """What each run was made of and what became of it, a column a run."""
    columns = [_facts(subject) | variables for subject, variables in zip(subjects, _variables(subjects), strict=True)]
    names = dict.fromkeys(name for column in columns for name in column)
    several = len(subjects) > 1
    rows, kinds = list[list[object]](), list[str]()
    for name in names:
        cells = [column.get(name, MISSING) for column in columns]
        same = len(set(cells)) == 1
        kinds.append("equal" if same else "changed")
        rows.append([name, *cells, *[_mark("equal" if same else "differs")] * several])
    heads = [run(number, f"{subject.letter} {subject.record.id}") for number, subject in enumerate(subjects)]
    return table(["", *heads, *[""] * several], rows, caption="Ingredients of each run", kinds=kinds)


def _facts(subject: Subject) -> dict[str, Markup]:
    record, image = subject.record, subject.image
    said = record.ingredients
    snapshot, resources = said.get("snapshot") or {}, said.get("resources") or {}
    facts: dict[str, object] = {
        "target": record.target,
        "status": _status(subject),
        "error": record.error,
        "begun": _moment(record.started or record.created),
        "ran for": _duration(subject.seconds),
        "command": code(" ".join([str(said.get("command", "")), *map(str, said.get("arguments") or ())])),
        "image": _codes(image.get("reference"), image.get("id")),
        "environment": _codes(image.get("fingerprint")),
        "lock": _codes(image.get("lock_sha256")),
        "snapshot": _codes(snapshot.get("digest")),
        "its files": _counted(snapshot),
    }
    for each in said.get("inputs") or ():
        facts[f"input {each.get('name')}"] = _codes(each.get("digest"))
    facts |= {
        "shared memory": _bytes(resources.get("shm_bytes")),
        "GPU": None if "gpu" not in resources else "all of the machine's" if resources["gpu"] else "none",
        "processes": launch.shape(resources),
        "stand-ins": joined(
            Markup(f"{text(each.get('replacement'))}<br>") for each in said.get("stand_ins") or () if each
        ),
        "host": ", ".join(f"{name} {record.host[name]}" for name in HOST if record.host.get(name)),
    }
    facts |= _remote(record.remote or {})
    return {name: text(value) for name, value in facts.items() if value}


def _remote(remote: Mapping[str, Any]) -> dict[str, object]:
    """Where a run is in a workspace."""
    compute, portal = remote.get("compute") or {}, str(remote.get("portal") or "")
    link = Markup(f'<a href="{text(portal)}" rel="noreferrer">its page</a>')
    places = ("workspace", "experiment")
    return {
        "workspace": ", ".join(f"{name} {remote[name]}" for name in places if remote.get(name)),
        "compute": " ".join(str(compute[name]) for name in ("name", "vm_size") if compute.get(name)),
        "studio": link if portal.startswith("https://") else None,
        "note": remote.get("note"),
    }


def _variables(subjects: Sequence[Subject]) -> list[dict[str, Markup]]:
    """The variables of each run; of their values only which are the same: the hash of a short value would tell it."""
    hashes = [subject.record.ingredients.get("environment_variables") or {} for subject in subjects]
    columns: list[dict[str, Markup]] = [{} for _ in subjects]
    for name in dict.fromkeys(name for each in hashes for name in each):
        distinct = list(dict.fromkeys(each[name] for each in hashes if name in each))
        for column, each in zip(columns, hashes, strict=True):
            number = f", value {distinct.index(each[name]) + 1}" if name in each and len(distinct) > 1 else ""
            column[f"variable {name}"] = text(f"set{number}" if name in each else "not set")
    return columns


def _codes(*values: object) -> Markup | None:
    """Names and digests, the latter by their beginning; the whole one is told where a mouse rests on it."""
    found = [str(value) for value in values if value]
    return (
        Markup("<br>".join(f'<span title="{text(each)}">{code(DIGEST.sub(SHORT, each))}</span>' for each in found))
        or None
    )


def _counted(snapshot: Mapping[str, Any]) -> str | None:
    if not isinstance(snapshot.get("files"), int) or not isinstance(snapshot.get("bytes"), int):
        return None
    return f"{snapshot['files']:,}, {files.human(snapshot['bytes'])}"


def _bytes(size: object) -> str | None:
    return f"{size / 2**20:,.0f} MiB" if isinstance(size, int) else None


def _moment(text_: str) -> str:
    return text_[:19].replace("T", " ") + " UTC"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def charts(drawn: Mapping[str, Mapping[int, Curve]], subjects: Sequence[Subject]) -> Markup:
    """A place for each chart, with what is said below it, and what moves them all."""
    unreadable = joined(
        Markup(f"<p>{text(f'The metrics of {each.record.id} cannot be read: {each.unreadable}')}</p>")
        for each in subjects
        if each.unreadable
    )
    if not drawn:
        return Markup(f'{unreadable}<p class="quiet">No run logged a metric at two steps or more.</p>')
    figures = []
    for number, (name, curves) in enumerate(drawn.items()):
        label = f"Curve of {name}; + and - zoom, arrows move the cursor, 0 shows all"
        figures.append(
            f'<figure><h3>{text(name)}</h3><div class="chart" id="chart-{number}" tabindex="0" role="group"'
            f' aria-label="{text(label)}"></div><figcaption>{_thinned(curves, subjects)}</figcaption></figure>'
        )
    return Markup(f'{unreadable}{_CONTROLS}<div class="charts">{"".join(figures)}</div>')


def _thinned(curves: Mapping[int, Curve], subjects: Sequence[Subject]) -> Markup:
    """What was left out of a chart, in words."""
    said: dict[str, list[str]] = {}
    for number, curve in curves.items():
        if curve.thinned:
            wide = (curve.steps[-1] - curve.steps[0]) / max(1, len(curve.means))
            drawn = f"{len(curve.steps):,} of {curve.points:,} points are drawn: the lowest and the highest"
            said.setdefault(f"{drawn} of every {wide:,.0f} steps", []).append(subjects[number].letter)
        if gaps := sum(value is None for value in curve.values):
            gap = f"{gaps:,} gap{'s' * (gaps > 1)}, where the value is NaN or infinite"
            said.setdefault(gap, []).append(subjects[number].letter)
    return Markup("<br>".join(text(f"{' and '.join(runs)}: {words}.") for words, runs in said.items()))


_CONTROLS = """<div class="controls">
<label for="smoothing">Smoothing <input type="range" id="smoothing" min="0" max="0.99" step="0.01" value="0"
autocomplete="off"> <output id="weight" for="smoothing">off</output></label>
<label><input type="checkbox" id="log" autocomplete="off"> Logarithmic</label>
<button type="button" id="reset">Show all</button>
<span class="quiet">Drag to zoom, double click to show all. With the keyboard: + - ← → 0.</span></div>
<noscript><p>The curves need JavaScript; all else on this page does not.</p></noscript>"""


def layers(subjects: Sequence[Subject], found: Mapping[str, Overview]) -> Markup:
    """The layers of the images, as this machine's engine has them, the largest first; and which image has each."""
    parts = []
    for image in dict.fromkeys(subject.image_id for subject in subjects):
        runs = ", ".join(subject.record.id for subject in subjects if subject.image_id == image)
        seen = found.get(image)
        said = f"{files.human(seen.size)} in {len(seen.rows)} layers" if seen else "no engine that has it answers here"
        parts.append(Markup(f"<p>{code(image or 'no image')}<br>{text(said)}, image of {text(runs)}</p>"))
    rows = {row.diff_id: row for seen in found.values() for row in seen.rows}
    if not rows:
        return joined(parts)
    ordered = sorted(rows.values(), key=lambda row: (-row.size, row.content))
    having = {image: {row.diff_id for row in seen.rows} for image, seen in found.items()}
    several = len(having) > 1
    lines, kinds = [], []
    for row in ordered:
        marks = [_mark("yes" if row.diff_id in ids else "no") for ids in having.values()]
        bar = Markup(f'<span class="bar"><i style="width:{100 * row.size / max(1, ordered[0].size):.1f}%"></i></span>')
        lines.append([row.content, files.human(row.size), bar, *marks * several])
        kinds.append("equal" if len(set(marks)) == 1 else "changed")
    head = ["Layer", "Unpacked", "", *[code(image.removeprefix("sha256:")[:12]) for image in having] * several]
    return joined([*parts, table(head, lines, caption="Layers of the images", kinds=kinds)])


def _mark(word: str) -> Markup:
    return Markup(f'<span class="mark">{text(word)}</span>')


def logs(subjects: Sequence[Subject]) -> Markup:
    """The end of each run's log."""
    parts = []
    for number, subject in enumerate(subjects):
        name = run(number, subject.label)
        if subject.log is None:
            parts.append(Markup(f"<p>{name}: <span class=quiet>no log</span></p>"))
            continue
        log = subject.log
        cut = f"the last {files.human(log.size - log.left_out)} of {files.human(log.size)}"
        said = cut if log.left_out else files.human(log.size)
        body = Markup(f'<pre tabindex="0">{_lines(log.text)}</pre>')
        parts.append(
            folded(Markup(f"{name} <span class=quiet>stdout.log, {said}</span>"), body, open_=number == 0, kind="log")
        )
    return joined(parts)


def _lines(content: str) -> Markup:
    return Markup("\n".join(text(line.replace("\t", "    ")) for line in content.split("\n")))
