"""A comparison for people: differences first, the gravest at the top, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal

from ..runs.record import Record
from . import Comparison
from .difference import Difference
from .facts import Key
from .metrics import Series
from .values import plain, short
from .weights import BREAKS, HARMLESS, NUMBERS, WEIGHTS, Weight

Style = Literal["good", "bad", "doubtful", "strong", "weak"]
Paint = Callable[[str, Style], str]  # a text in a style; where there are no colours, the text as it is

WIDTH = 100
NAME, VALUE = 30, 32  # columns
SHOWN = 8  # differences of one kind
TITLES: dict[Weight, tuple[str, Style]] = {
    BREAKS: ("Breaks parity", "bad"),
    NUMBERS: ("May change numbers", "doubtful"),
    HARMLESS: ("Harmless", "weak"),
}
STYLES: dict[str, Style] = {"parity": "good", "no parity": "bad", "cannot tell": "doubtful"}


def lines(comparison: Comparison, *, paint: Paint, everything: bool = False) -> Iterator[str]:
    """The comparison, line by line. everything: also all differences of a kind, and what is equal."""
    yield from _head(comparison, paint)
    for weight in WEIGHTS:
        if found := comparison.of(weight):
            title, style = TITLES[weight]
            yield ""
            yield paint(title, style)
            yield from _differences(found, paint, everything)
    if comparison.unknown:
        yield ""
        yield from _unknown(comparison, paint)
    yield ""
    if everything:
        yield paint("Equal", "good")
        yield from (_row(key, short(value, value)) for key, value in sorted(comparison.equal.items()))
    else:
        yield f"{paint('Equal', 'good')}  {len(comparison.equal):,} facts (--all names them)"
    if comparison.series:
        yield ""
        yield from _metrics(comparison.series, paint, comparison.tolerance)
    yield ""
    for line in textwrap.wrap(comparison.sentence, WIDTH, break_on_hyphens=False):
        yield paint(line, STYLES[comparison.verdict])


def _head(comparison: Comparison, paint: Paint) -> Iterator[str]:
    for side, record in (("A", comparison.one), ("B", comparison.two)):
        words = f"{record.id}  {record.target:<10} {record.status:<12} {_command(record)}"
        yield f"{paint(side, 'strong')}  {words}".rstrip()


def _command(record: Record) -> str:
    text = " ".join([record.ingredients["command"], *record.ingredients["arguments"]])
    return _cut(text, WIDTH - 54)


def _differences(found: Sequence[Difference], paint: Paint, everything: bool) -> Iterator[str]:
    """Those of one rule together, their reason and what removes them below."""
    for _, each in groupby(found, key=lambda difference: (difference.place, difference.reason)):
        group = list(each)
        shown = group if everything else group[:SHOWN]
        for difference in shown:
            yield _row(difference.key, short(difference.one, difference.two), short(difference.two, difference.one))
        if len(group) > len(shown):
            yield f"  and {len(group) - len(shown):,} more (--all names them)"
        yield from _note(group[0].reason, paint)
        if how := group[0].how:
            yield from _note(f"to remove it: {how}", paint)


def _note(text: str, paint: Paint) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH - 6, break_on_hyphens=False, break_long_words=False):
        yield paint(f"      {line}", "weak")


def _unknown(comparison: Comparison, paint: Paint) -> Iterator[str]:
    yield paint("Not known", "doubtful")
    yield from (f"  {gap}" for gap in comparison.gaps)
    unseen: dict[str, int] = {}
    for each in comparison.unknown:
        if each.key.group in ("input", "run"):
            yield _row(each.key, short(each.one, each.two), short(each.two, each.one))
        else:
            unseen[each.key.group] = unseen.get(each.key.group, 0) + 1
    if unseen:
        text = ", ".join(f"{group} ({count})" if count > 1 else group for group, count in sorted(unseen.items()))
        yield from (f"  {line}" for line in textwrap.wrap(f"seen on one side only: {text}", WIDTH - 2))


def _metrics(series: Sequence[Series], paint: Paint, tolerance: float) -> Iterator[str]:
    name = max(12, min(NAME, max(len(each.name) for each in series) + 2))
    title = "Metrics" if not tolerance else f"Metrics, tolerance {tolerance:g}"
    yield paint(title, "strong")
    yield paint(
        f"  {'name':<{name}}{'points':>17}  {'part at step':>14}{'largest difference':>22}{'relative':>12}", "weak"
    )
    ordered = sorted(series, key=lambda each: each.outcome != "different")
    for each in ordered:
        same = each.points[0] == each.points[1]
        points = f"{each.points[0]:,}" if same else f"{each.points[0]:,} / {each.points[1]:,}"
        row = f"  {_cut(each.name, name - 1):<{name}}{points:>17}  "
        if each.first is None:
            yield row + paint(f"{'identical':>14}", "good")
            continue
        alone = f"; {each.missing:,} points in one run only" if each.missing else ""
        mark = "" if each.outcome == "different" else "  within"
        numbers = f"{each.first.step:>14,}{_at(each.absolute, each.absolute_at):>22}{_share(each.relative):>12}"
        yield row + paint(f"{numbers}{mark}{alone}", "bad" if each.outcome == "different" else "doubtful")


def _at(difference: float, step: int | None) -> str:
    if step is None:
        return "-"
    return "not a number" if difference == float("inf") else f"{plain(difference)} at {step:,}"


def _share(relative: float) -> str:
    return "-" if relative in (0.0, float("inf")) else f"{relative:.2g}" if relative < 1e-3 else f"{relative:.1%}"


def _row(key: Key, *values: str) -> str:
    cells = [f"{_cut(value, VALUE):<{VALUE}}" for value in values]
    return f"  {_cut(str(key), NAME):<{NAME}}  {'  '.join(cells)}".rstrip()


def _cut(text: str, width: int) -> str:
    """A text in one line of at most that width."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 3]}..."
