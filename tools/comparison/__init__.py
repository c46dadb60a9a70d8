"""Two runs side by side: what they were made of, what was seen in their containers, and their metrics.

The verdict is parity where nothing differs that breaks it and the metrics agree. Where something that the verdict
hangs on was not seen, it is not guessed: the two cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import RunError
from ..runs.index import FINISHED
from ..runs.record import METRICS, Record
from . import difference, facts, metrics, verdict
from .difference import Difference
from .facts import Key
from .metrics import Points, Series
from .values import json_value
from .verdict import Verdict
from .weights import Weight

EXIT_CODES: Mapping[Verdict, int] = {"parity": 0, "no parity": 1, "cannot tell": 2}
WHOLE = frozenset({"completed", "failed"})  # a run that came to its own end
SCHEMA = 1  # of the JSON


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is known of two runs, which people call A and B.

    differences: the gravest first; equal: facts that both have alike; gaps: what was not seen, in words; series: the
    metrics, none where a run has none; tolerance: as metrics.compare has it.
    """

    one: Record
    two: Record
    differences: tuple[Difference, ...]
    equal: Mapping[Key, Any]
    series: tuple[Series, ...]
    gaps: tuple[str, ...]
    tolerance: float
    verdict: Verdict
    sentence: str

    @property
    def exit_code(self) -> int:
        """0 parity, 1 not, 2 cannot tell."""
        return EXIT_CODES[self.verdict]

    def of(self, weight: Weight) -> tuple[Difference, ...]:
        """The differences of that weight that were seen on both sides."""
        return tuple(each for each in self.differences if each.weight == weight and each.known)

    @property
    def unknown(self) -> tuple[Difference, ...]:
        """The facts that were not seen on both sides."""
        return tuple(each for each in self.differences if not each.known)

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "schema": SCHEMA,
            "runs": [self.one.id, self.two.id],
            "verdict": self.verdict,
            "sentence": self.sentence,
            "tolerance": self.tolerance,
            "gaps": list(self.gaps),
            "differences": [
                {
                    **each.key._asdict(),
                    "values": [json_value(each.one), json_value(each.two)],
                    "known": each.known,
                    "class": each.weight,
                    "reason": each.reason,
                    "how": each.how,
                }
                for each in self.differences
            ],
            "equal": [{**key._asdict(), "value": value} for key, value in self.equal.items()],
            "metrics": [each.to_json() for each in self.series],
        }


def compare(one: Record, two: Record, *, tolerance: float = 0.0) -> Comparison:
    """What the two runs had in common, and what not. Errors: RunError where a run's metrics cannot be read."""
    sides = {"A": one, "B": two}
    seen = {name: facts.of(record) for name, record in sides.items()}
    differences, equal = difference.between(seen["A"], seen["B"], (one, two))
    points = {name: _points(record) for name, record in sides.items()}
    gaps = [f"{name} has {gap}" for name in sides for gap in seen[name].gaps]
    gaps += [_cut(name, record) for name, record in sides.items() if record.status not in WHOLE]
    if any(points.values()):
        gaps += [f"{name} has no metrics" for name in sides if not points[name]]
    whole = all(record.status in WHOLE for record in sides.values())
    series = metrics.compare(points["A"], points["B"], tolerance, whole=whole) if all(points.values()) else ()
    decided, sentence = verdict.of(differences, series, gaps)
    return Comparison(
        one=one,
        two=two,
        differences=differences,
        equal=equal,
        series=series,
        gaps=tuple(gaps),
        tolerance=tolerance,
        verdict=decided,
        sentence=sentence,
    )


def _cut(name: str, record: Record) -> str:
    """What a run that came to no end of its own is."""
    return f"{name} was {record.status}" if record.status in FINISHED else f"{name} is not over"


def _points(record: Record) -> Points:
    try:
        return metrics.read(record.folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{record.folder / METRICS} cannot be read: {error}",
            expected='lines of JSON with "name", "step" and "value"',
        ) from error
