"""The metrics of the chosen runs as curves: each run's points of a metric, thinned where nobody could see them all.

A metric with more points than are drawn is cut into equal intervals of steps, the same for all runs. Of each interval
the lowest and the highest value stay, with their own steps, and so do the very first and last point: no peak is lost,
and every drawn point was logged. The mean of each interval goes along for the smoothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..comparison import metrics

INTERVALS = 2000  # of a metric: more than a screen has columns
DRAWN = 100_000  # intervals of all curves together, to keep the page small
CHARTS = 40  # on a page


@dataclass(frozen=True, kw_only=True)
class Series:
    """A metric of a run, sorted by step. values: None where the value was NaN or infinite."""

    steps: Sequence[float]
    values: Sequence[float | None]

    @property
    def last(self) -> float | None:
        """The value of the last step."""
        return self.values[-1]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn of a series. points: how many it has; mean_steps, means: of each interval, where it was thinned."""

    points: int
    steps: Sequence[float]
    values: Sequence[float | None]
    mean_steps: Sequence[float]
    means: Sequence[float]

    @property
    def thinned(self) -> bool:
        """Whether points were left out."""
        return len(self.steps) < self.points


def series(steps: Sequence[float], values: Sequence[float | None]) -> Series:
    """A metric from its points in the order in which they were logged. Of two at one step, the later one counts."""
    points = dict(zip(steps, values, strict=True))
    ordered = sorted(points)
    finite = (points[step] for step in ordered)
    return Series(
        steps=ordered, values=[None if value is None or not math.isfinite(value) else value for value in finite]
    )


def read(folder: Path) -> dict[str, Series]:
    """The metrics of a run by name, in the order in which they were first logged.

    Errors: ValueError where a line of metrics.jsonl is no metric.
    """
    try:
        return {name: series(steps, values) for name, (steps, values) in metrics.read(folder).items()}
    except (TypeError, KeyError, OSError) as error:  # a step or a value that is no number, or no step at all
        raise ValueError(f"{type(error).__name__}: {error}") from error


def thin(series: Sequence[Series], intervals: int = INTERVALS) -> list[Curve]:
    """One metric's series of several runs, as curves of at most 2 points an interval, and the first and last one."""
    first = min(each.steps[0] for each in series)
    width = (max(each.steps[-1] for each in series) - first) / intervals
    edges = [first + width * number for number in range(1, intervals)]
    return [_curve(each, edges) if len(each.steps) > 2 * intervals else _whole(each) for each in series]


def _whole(series: Series) -> Curve:
    return Curve(points=len(series.steps), steps=series.steps, values=series.values, mean_steps=(), means=())


def _curve(series: Series, edges: Sequence[float]) -> Curve:
    steps, values = series.steps, series.values
    kept = {0, len(steps) - 1}
    mean_steps, means = list[float](), list[float]()
    begin = 0
    while begin < len(steps):
        at = bisect_right(edges, steps[begin])
        end = bisect_left(steps, edges[at], begin) if at < len(edges) else len(steps)
        some = [(value, index) for index, value in enumerate(values[begin:end], begin) if value is not None]
        if some:
            kept |= {min(some)[1], max(some)[1]}
            mean_steps.append(steps[some[-1][1]])
            means.append(float(f"{math.fsum(value for value, _ in some) / len(some):.7g}"))
        if len(some) < end - begin:
            kept.add(values.index(None, begin, end))  # a gap is seen as one
        begin = end
    chosen = sorted(kept)
    return Curve(
        points=len(steps),
        steps=[steps[index] for index in chosen],
        values=[values[index] for index in chosen],
        mean_steps=mean_steps,
        means=means,
    )


def drawn(runs: Sequence[Mapping[str, Series]]) -> dict[str, dict[int, Curve]]:
    """The curves by metric and number of the run, for each metric of which a run has at least two points."""
    names = dict.fromkeys(name for run in runs for name, series in run.items() if len(series.steps) > 1)
    chosen = list(names)[:CHARTS]
    count = sum(name in run for name in chosen for run in runs)
    intervals = max(50, min(INTERVALS, DRAWN // max(1, count)))
    found = {}
    for name in chosen:
        having = [number for number, run in enumerate(runs) if name in run]
        curves = thin([runs[number][name] for number in having], intervals)
        found[name] = dict(zip(having, curves, strict=True))
    return found


def to_json(curves: Mapping[str, Mapping[int, Curve]]) -> list[dict[str, Any]]:
    """The curves for report.js."""
    return [
        {
            "name": name,
            "curves": [
                {
                    "run": number,
                    "steps": curve.steps,
                    "values": curve.values,
                    **({"meanSteps": curve.mean_steps, "means": curve.means} if curve.thinned else {}),
                }
                for number, curve in by_run.items()
            ],
        }
        for name, by_run in curves.items()
    ]
