"""The metrics of two runs, point by point.

A point is known by its metric's name and its step; of several at one step the first goes with the first. Times are not
compared. NaN equals NaN: both stand as null in metrics.jsonl.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .. import processes
from ..runs.record import METRICS

Value = float | None
Points = Mapping[str, tuple[list[int], list[Value]]]  # by name: the steps, and the value at each

Outcome = Literal["identical", "within the tolerance", "different"]


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where two runs part. one, two: the values there; None for NaN, and where a run has no such point."""

    step: int
    one: Value
    two: Value
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """One metric of two runs. points: of each run; first: where they part; missing: points that one run has alone.

    absolute, relative: the largest difference of two values, and of two values by the larger of them; infinite where
    one is NaN. absolute_at, relative_at: the steps of these.
    """

    name: str
    points: tuple[int, int]
    outcome: Outcome
    first: Parting | None = None
    missing: int = 0
    absolute: float = 0.0
    absolute_at: int | None = None
    relative: float = 0.0
    relative_at: int | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs; an infinite difference is null, since JSON has no such number."""
        table = asdict(self)
        return {**table, **{name: _finite(table[name]) for name in ("absolute", "relative")}}


def read(folder: Path) -> Points:
    """The metrics of a run, in the order of the file; empty where it wrote none. Errors: ValueError, OSError."""
    found: dict[str, tuple[list[int], list[Value]]] = defaultdict(lambda: ([], []))
    with processes.uncollected():
        for point in lines(folder):
            steps, values = found[point["name"]]
            step, value = point["step"], point["value"]
            steps.append(len(steps) if step is None else step)
            values.append(None if value != value else value)  # NaN, of a writer that knows it
    return dict(found)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none where there is no such file. A last line that was cut off is left out.

    Errors: ValueError, OSError.
    """
    try:
        content = (folder / METRICS).read_bytes()
    except FileNotFoundError:
        return []
    if not content.endswith(b"\n"):
        content = content[: content.rfind(b"\n") + 1]
    document = b"[" + content.strip().replace(b"\n", b",") + b"]"  # reads four times faster than its lines
    found: list[dict[str, Any]] = json.loads(document)
    return found


def compare(one: Points, two: Points, tolerance: float, *, whole: bool = True) -> tuple[Series, ...]:
    """Every metric of the two runs, in the order of the first.

    tolerance: two values agree if they differ by at most this times the larger of 1 and their absolute values.
    whole: both runs came to their end, so that a point that one has alone is a difference.
    """
    nothing: tuple[list[int], list[Value]] = ([], [])
    return tuple(
        _series(name, one.get(name, nothing), two.get(name, nothing), tolerance, whole)
        for name in dict.fromkeys([*one, *two])
    )


def _series(
    name: str, one: tuple[list[int], list[Value]], two: tuple[list[int], list[Value]], tolerance: float, whole: bool
) -> Series:
    points = (len(one[0]), len(two[0]))
    if one == two:
        return Series(name=name, points=points, outcome="identical")
    if one[0] == two[0]:
        pairs: Iterable[tuple[int, Value, Value]] = zip(*one, two[1], strict=True)
        missing: list[Parting] = []
    else:
        pairs, alone = _paired(one, two)
        missing = alone if whole else []
    first: Parting | None = None
    within = not missing
    absolute = relative = 0.0
    absolute_at = relative_at = None
    for step, a, b in pairs:
        if a == b:
            continue
        if first is None:
            first = Parting(step=step, one=a, two=b)
        if not isinstance(a, int | float) or not isinstance(b, int | float):  # NaN, or no number at all
            distance, larger, share = math.inf, math.inf, math.inf
        else:
            distance, larger = abs(a - b), max(abs(a), abs(b))
            share = distance / larger if math.isfinite(larger) else math.inf
        if distance > absolute:
            absolute, absolute_at = distance, step
        if share > relative:
            relative, relative_at = share, step
        if not distance <= tolerance * max(1.0, larger) or distance == math.inf:
            within = False
    parting = min((each for each in (first, *missing) if each is not None), key=lambda each: each.step, default=None)
    return Series(
        name=name,
        points=points,
        outcome="identical" if parting is None else "within the tolerance" if within else "different",
        first=parting,
        missing=len(missing),
        absolute=absolute,
        absolute_at=absolute_at,
        relative=relative,
        relative_at=relative_at,
    )


def _paired(
    one: tuple[list[int], list[Value]], two: tuple[list[int], list[Value]]
) -> tuple[list[tuple[int, Value, Value]], list[Parting]]:
    """The points that both have, by step and its occurrence, and those that one has alone."""
    a, b = _numbered(one), _numbered(two)
    pairs = [(key[0], value, b[key]) for key, value in a.items() if key in b]
    alone = [Parting(step=key[0], one=value, two=None, missing=True) for key, value in a.items() if key not in b]
    alone += [Parting(step=key[0], one=None, two=value, missing=True) for key, value in b.items() if key not in a]
    return sorted(pairs, key=lambda pair: pair[0]), alone


def _numbered(series: tuple[list[int], list[Value]]) -> dict[tuple[int, int], Value]:
    """The values by step and by how many of that step were before."""
    seen: dict[int, int] = defaultdict(int)
    found = {}
    for step, value in zip(*series, strict=True):
        found[step, seen[step]] = value
        seen[step] += 1
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
