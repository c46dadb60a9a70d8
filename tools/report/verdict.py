"""The parts of the page that tell of two runs together: the verdict, what differs and why it matters, the metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..comparison import Comparison
from ..comparison.difference import Difference
from ..comparison.facts import MISSING, UNKNOWN, Key
from ..comparison.metrics import Series
from ..comparison.values import plain, short
from ..comparison.weights import HARMLESS, WEIGHTS, Weight
from .markup import Markup, code, folded, joined, table, text
from .subject import Subject

CLASSES = dict(zip(WEIGHTS, ("breaks", "may-change", "harmless"), strict=True))  # of report.css
VERDICTS = {"parity": "parity", "no parity": "different", "cannot tell": "unknown"}
LONGEST = 300  # characters of a value, such as a build's description


def banner(comparison: Comparison) -> Markup:
    """The verdict in one sentence."""
    word, _, why = comparison.sentence.partition(":")
    kind = VERDICTS[comparison.verdict]
    return Markup(f'<p class="verdict {kind}"><strong>{text(word)}:</strong>{text(why)}</p>')


def facts(comparison: Comparison) -> Markup:
    """What differs, the gravest first; what nobody saw; and all that is equal."""
    parts = [Markup(f"<p>{text(_counted(comparison))}</p>")]
    seen = tuple(each for each in comparison.differences if each.known)
    for differences, caption in ((seen, "Differences"), (comparison.unknown, "Not seen on both sides")):
        if differences:
            rows = [_row(each) for each in differences]
            kinds = [CLASSES[each.weight] for each in differences]
            told = table(["", "A", "B", "What it means"], rows, caption=caption, kinds=kinds)
            parts.append(
                told if differences[0].known else folded(f"{len(rows):,} facts were not seen on both sides", told)
            )
    if comparison.equal:
        rows = [[str(key), _value(key, value, value)] for key, value in comparison.equal.items()]
        equal = table(["", "A and B"], rows, caption="Equal facts")
        parts.append(folded(f"{len(rows):,} facts are equal", equal))
    return joined(parts)


def _counted(comparison: Comparison) -> str:
    """How many facts differ, by what they mean, and what was not seen."""
    found = {weight: len(comparison.of(weight)) for weight in WEIGHTS}
    said = ", ".join(f"{count:,} of the kind that {_kind(weight)}" for weight, count in found.items() if count)
    differing = f"Facts that differ: {said}." if said else "No fact that was seen on both sides differs."
    return " ".join([differing, *(f"{gap}." for gap in comparison.gaps)])


def _kind(weight: Weight) -> str:
    return f"is {weight}" if weight == HARMLESS else weight


def _row(difference: Difference) -> list[object]:
    how = Markup(f'<span class="how">To remove it: {text(difference.how)}</span>') if difference.how else Markup()
    means = joined([Markup(f'<span class="mark">{text(difference.weight)}</span> '), text(difference.reason), how])
    one, two = difference.one, difference.two
    return [str(difference.key), _value(difference.key, one, two), _value(difference.key, two, one), means]


def _value(key: Key, value: object, other: object) -> Markup:
    """A value beside the other run's."""
    if value is MISSING or value is UNKNOWN:
        return Markup(f'<span class="quiet">{text(value)}</span>')
    if key.group.startswith("variable"):
        return text("set")  # the hash of a short value tells the value
    said = short(value, other)
    return code(said if len(said) <= LONGEST else f"{said[:LONGEST]} …")


def metrics(comparison: Comparison | None, subjects: Sequence[Subject]) -> Markup:
    """Each metric's last value in every run, and how far two runs are apart."""
    names = dict.fromkeys(name for subject in subjects for name in subject.metrics)
    if not names:
        return Markup("<p class=quiet>No run logged a metric.</p>")
    compared = {each.name: each for each in comparison.series} if comparison else {}
    rows, kinds = list[list[object]](), list[str]()
    for name in names:
        cells: list[object] = [name]
        for subject in subjects:
            found = subject.metrics.get(name)
            cells.append(_last(found.last) if found else Markup('<span class="quiet">none</span>'))
        rows.append(cells + (_apart(compared.get(name)) if comparison else []))
        outcome = compared[name].outcome if name in compared else ""
        kinds.append({"identical": "equal", "different": "breaks"}.get(outcome, "may-change"))
    letters = [f"Last of {subject.letter}" for subject in subjects]
    head = ["Metric", *letters, *["Outcome", "Points", "They part", "Largest difference"] * bool(comparison)]
    return table(head, rows, caption="Metrics", kinds=kinds)


def _apart(series: Series | None) -> list[object]:
    if series is None:
        return [Markup('<span class="quiet">not compared</span>'), "", "", ""]
    one, two = series.points
    points = f"{one:,}" if one == two else f"{one:,} and {two:,}"
    first = series.first
    where = "nowhere"
    if first is not None:
        one_, two_ = (
            "absent" if first.missing and value is None else _number(value) for value in (first.one, first.two)
        )
        where = f"at step {first.step:,}: {one_} and {two_}"
    missing = f"; {series.missing:,} points in one run only" * bool(series.missing)
    return [Markup(f'<span class="mark">{text(series.outcome)}</span>'), points + missing, where, _largest(series)]


def _largest(series: Series) -> str:
    if not series.absolute:
        return "0"
    if math.isinf(series.absolute):
        return f"NaN in one run only, at step {series.absolute_at:,}"
    return (
        f"{plain(series.absolute)} at step {series.absolute_at:,}; "
        f"relative {plain(series.relative)} at step {series.relative_at:,}"
    )


def _number(value: float | None) -> str:
    return "NaN" if value is None else repr(value) if abs(value) < 1e15 else f"{value:.6g}"


def _last(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.8g}"
