"""The parts of the page that put two runs side by side: their packages and the files of their snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import files
from . import environment, treemap
from .markup import Markup, code, folded, joined, table, text
from .subject import Subject
from .treemap import State

LARGEST = 30  # files of a snapshot that a table names
STATES: dict[State, str] = {
    "same": "the same in both",
    "changed": "changed",
    "first": "only in A",
    "second": "only in B",
}


def packages(subjects: Sequence[Subject], root: Path) -> Markup:
    """Which packages were added, removed or changed from the first run to the second; then all of the first."""
    known = environment.of(subjects, root)
    if not known:
        names = " and ".join(subject.letter for subject in subjects)
        return Markup(f"<p class=quiet>No witness and no lock tells what packages {text(names)} had.</p>")
    parts = [
        Markup(f"<p class=quiet>{text(f'{subject.letter}: {len(each.versions):,} packages, {each.source}')}</p>")
        for subject, each in zip(subjects, known, strict=True)
    ]
    if len(known) > 1:
        found = environment.changes(known[0], known[1])
        parts.append(Markup(f"<p>{text(environment.counted(found).capitalize())}.</p>"))
        if found:
            rows = [[each.name, _version(each.before), _version(each.after), _mark(each.kind)] for each in found]
            kinds = [each.kind for each in found]
            parts.append(table(["Package", "A", "B", ""], rows, caption="Packages that differ", kinds=kinds))
    rows = [[name, code(version)] for name, version in sorted(known[0].versions.items())]
    return joined([*parts, folded("All packages of A", table(["Package", "Version"], rows, caption="All packages"))])


def _version(version: str | None) -> Markup:
    return Markup('<span class="quiet">none</span>') if version is None else code(version)


def _mark(kind: str) -> Markup:
    return Markup(f'<span class="mark">{text(kind)}</span>')


def snapshot(first: Subject, second: Subject | None) -> Markup:
    """The treemap of what the command found in its working directory, and the files that differ or are large."""
    if not first.files or (second and not second.files):
        return Markup("<p class=quiet>No witness tells which files the command found.</p>")
    seen = treemap.files(first.files, second.files if second else None)
    counted = f"{len(seen):,} files, {files.human(sum(file.size for file in seen))}"
    places = treemap.boxes(seen)
    parts = [Markup(f"<p>{text(counted)}{'' if second is None else text(_counted(seen))}.</p>")]
    if places:
        boxes = joined(_box(place, several=second is not None) for place in places)
        parts.append(Markup(f'<div class="map" role="img" aria-label="Treemap: {text(counted)}">{boxes}</div>'))
    if second is not None:
        keys = (f'<span><i class="{state}"></i>{text(words)}</span>' for state, words in STATES.items())
        parts.append(Markup(f'<p class="key">{"".join(keys)}</p>'))
        if differing := [file for file in seen if file.state != "same"]:
            parts.append(_files(differing, several=True))
    largest = sorted(seen, key=lambda file: (-file.size, file.path))
    said = f"The largest {LARGEST} files" if len(seen) > LARGEST else "All files"
    return joined([*parts, folded(said, _files(largest, several=second is not None))])


def _counted(seen: Sequence[treemap.File]) -> str:
    states = [file.state for file in seen]
    said = [f"{states.count(state):,} {words}" for state, words in STATES.items() if state in states]
    return ": " + ", ".join(said)


def _files(seen: Sequence[treemap.File], *, several: bool) -> Markup:
    shown = seen[: 10 * LARGEST] if several and seen[0].state != "same" else seen[:LARGEST]
    rows = [[code(file.path), files.human(file.size), *[STATES[file.state]] * several] for file in shown]
    rest = Markup(f"<p class=quiet>and {len(seen) - len(shown):,} more</p>") if len(seen) > len(shown) else Markup()
    return joined([table(["File", "Size", *[""] * several], rows, caption="Files of the snapshot"), rest])


def _box(box: treemap.Box, *, several: bool) -> Markup:
    place = ";".join(
        f"{side}:{100 * part:.3f}%"
        for side, part in (("left", box.left), ("top", box.top), ("width", box.width), ("height", box.height))
    )
    if box.path.endswith("/"):
        return Markup(f'<div class="folder" style="{place}"></div>')
    name = f"{box.files:,} smaller files" if box.files > 1 else box.path
    state = f", {STATES[box.state]}" if several else ""
    title = f"{box.path} {files.human(box.size)}{state}"
    return Markup(
        f'<div class="{box.state}" style="{place}" title="{text(title)}">{text(name)}<br>{files.human(box.size)}</div>'
    )
