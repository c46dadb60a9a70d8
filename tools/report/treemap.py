"""The files of one or two runs' snapshots as a treemap: boxes of HTML, which need no script and no chart library.

The files lie in squares as near as can be (Bruls, Huizing and van Wijk, "Squarified Treemaps", 2000), each folder's
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

BOXES = 400  # on a page; the smallest files of a folder share one box beyond that
ASPECT = 2.4  # of the map: width to height

State = Literal["same", "changed", "first", "second"]


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a snapshot. size: bytes; state: whether both runs have it alike, or which one has it."""

    path: str
    size: int
    state: State


@dataclass(frozen=True, kw_only=True)
class Box:
    """A place on the map, in parts of its width and height. path: ends with / for a folder."""

    path: str
    size: int
    state: State
    files: int
    left: float
    top: float
    width: float
    height: float


@dataclass(kw_only=True)
class _Node:
    path: str
    size: int = 0
    files: int = 1
    state: State = "same"
    children: list[_Node] = field(default_factory=list)


def files(first: Mapping[str, str], second: Mapping[str, str] | None = None) -> tuple[File, ...]:
    """The files of one run, or of two with what tells them apart. By path.

    first, second: what a witness saw of each file, by path: "N bytes", and its digest.
    """
    if second is None:
        return tuple(File(path=path, size=_size(seen), state="same") for path, seen in sorted(first.items()))
    found = []
    for path in sorted({*first, *second}):
        one, two = first.get(path), second.get(path)
        state: State = "first" if two is None else "second" if one is None else "same" if one == two else "changed"
        found.append(File(path=path, size=_size(two or one or ""), state=state))
    return tuple(found)


def _size(seen: str) -> int:
    return int(seen.partition(" ")[0])


def boxes(seen: Sequence[File]) -> list[Box]:
    """The map: folders before what lies in them. Empty files have no area, and so no box."""
    root = _tree(seen)
    return list(_placed(root, 0.0, 0.0, 1.0, 1.0)) if root.size else []


def _tree(seen: Sequence[File]) -> _Node:
    large = {file.path for file in sorted(seen, key=lambda file: (file.state == "same", -file.size))[:BOXES]}
    root = _Node(path="", files=0)
    folders = {"": root}
    rest: dict[tuple[str, State], _Node] = {}
    for file in seen:
        parts = file.path.split("/")[:-1]
        above = root
        for depth in range(len(parts)):
            path = "/".join(parts[: depth + 1]) + "/"
            if path not in folders:
                folders[path] = _Node(path=path, files=0)
                above.children.append(folders[path])
            above = folders[path]
        if file.path in large:
            above.children.append(_Node(path=file.path, size=file.size, state=file.state))
        elif (above.path, file.state) in rest:
            rest[above.path, file.state].size += file.size
            rest[above.path, file.state].files += 1
        else:
            bundle = rest[above.path, file.state] = _Node(path=f"{above.path}…", size=file.size, state=file.state)
            above.children.append(bundle)
    for folder in reversed(folders.values()):  # each before the one that it lies in
        folder.size = sum(child.size for child in folder.children)
        folder.files = sum(child.files for child in folder.children)
    return root


def _placed(node: _Node, left: float, top: float, width: float, height: float) -> Iterator[Box]:
    if node.path:
        place = {"left": left, "top": top, "width": width, "height": height}
        yield Box(path=node.path, size=node.size, state=node.state, files=node.files, **place)
    waiting = sorted((child for child in node.children if child.size), key=lambda child: (-child.size, child.path))
    area = width * height / node.size
    while waiting:
        across = width * ASPECT >= height  # the row is put along the shorter side
        row = _row(waiting, (height if across else width * ASPECT), area * ASPECT)
        waiting = waiting[len(row) :]
        thick = sum(child.size for child in row) * area / (height if across else width)
        offset = 0.0
        for child in row:
            long = child.size * area / thick
            if across:
                yield from _placed(child, left, top + offset, thick, long)
            else:
                yield from _placed(child, left + offset, top, long, thick)
            offset += long
        if across:
            left, width = left + thick, max(0.0, width - thick)
        else:
            top, height = top + thick, max(0.0, height - thick)


def _row(nodes: Sequence[_Node], side: float, area: float) -> list[_Node]:
    """As many of the nodes as make the row's worst box the nearest to a square. side, area: in one unit."""
    row = [nodes[0]]
    total = nodes[0].size * area
    worst = max(side**2 / total, total / side**2)
    for node in nodes[1:]:
        more = total + node.size * area
        largest, smallest = nodes[0].size * area, node.size * area
        now = max(side**2 * largest / more**2, more**2 / (side**2 * smallest))
        if now > worst:
            break
        row, total, worst = [*row, node], more, now
    return row
