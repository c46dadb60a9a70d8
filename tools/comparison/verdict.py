"""The verdict on two runs, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from .difference import Difference
from .metrics import Series
from .values import plain, short
from .weights import BREAKS, NUMBERS

Verdict = Literal["parity", "no parity", "cannot tell"]
NAMED = 3  # differences that a sentence names
TWICE = "run it twice in one place: if those part too, the script draws on the clock or on a seed that is not set"


def of(differences: Sequence[Difference], series: Sequence[Series], gaps: Sequence[str]) -> tuple[Verdict, str]:
    """What the differences, the metrics, and the gaps in what was seen come to.

    One known break, or metrics that part by more than the tolerance, is enough for no parity, whatever was not seen.
    """
    breaks = [each for each in differences if each.weight == BREAKS and each.known]
    numbers = [each for each in differences if each.weight == NUMBERS and each.known]
    unknown = [each for each in differences if each.weight == BREAKS and not each.known]
    parted = [each for each in series if each.outcome == "different"]
    if breaks:
        rest = f"; {_parting(parted)}" if parted else f"; {_agreement(series)} all the same" if series else ""
        return "no parity", f"No parity: the runs differ in {_subjects(breaks)}{rest}."
    if parted:
        return "no parity", f"No parity: {_parting(parted)}; {_reason(numbers, gaps)}."
    if gaps:
        return "cannot tell", f"Cannot tell: {_joined(gaps)}; nothing that was seen breaks parity."
    if not series and numbers:
        return (
            "cannot tell",
            f"Cannot tell: {_subjects(numbers)} may change numbers, and neither run wrote metrics to see it by.",
        )
    if not series and unknown:
        return "cannot tell", f"Cannot tell: nobody saw {_subjects(unknown)}, and neither run wrote metrics."
    proof = f"and {_agreement(series)}" if series else "and neither run wrote metrics"
    but = f", although {_subjects(numbers)} may change numbers" if numbers else ""
    open_ = f" (not known: {_subjects(unknown)})" if unknown else ""
    return "parity", f"Parity: all that decides it is equal{open_}, {proof}{but}."


def _reason(numbers: Sequence[Difference], gaps: Sequence[str]) -> str:
    if numbers:
        return f"what may have done it: {_subjects(numbers)}; or {TWICE}"
    if gaps:
        return f"why is not known: {_joined(gaps)}"
    return f"nothing that was seen differs, so the script is not the same each time; {TWICE}"


def _parting(parted: Sequence[Series]) -> str:
    """The metric that parts first, and by how much it goes."""
    first = min(parted, key=lambda each: each.first.step if each.first else 0)
    more = f", and {len(parted) - 1} more metrics part" if len(parted) > 2 else ", and 1 more metric parts"
    where = f"{first.name} parts at step {first.first.step if first.first else 0:,}"
    if first.missing and not first.absolute:
        how = f" ({first.missing:,} points are in one run only)"
    else:
        how = f" (by up to {plain(first.absolute)})" if first.absolute < float("inf") else " (one is not a number)"
    return f"{where}{how}{more if len(parted) > 1 else ''}"


def _agreement(series: Sequence[Series]) -> str:
    count = sum(each.points[0] for each in series)
    alike = all(each.outcome == "identical" for each in series)
    return f"{count:,} metric points are {'identical' if alike else 'within the tolerance'}"


def _subjects(differences: Sequence[Difference]) -> str:
    """The first of them by name, with their values where these are short; and how many more there are."""
    named: dict[str, str] = {}
    for each in differences:
        if each.subject and each.subject not in named:
            values = (short(each.one, each.two), short(each.two, each.one))
            digests = any(
                str(value).startswith("sha256:") or each.key.name == "digest" for value in (each.one, each.two)
            )
            brief = all(len(value) <= 24 for value in values) and each.known and not digests
            named[each.subject] = f" ({values[0]} / {values[1]})" if brief else ""
    shown = [f"{name}{values}" for name, values in list(named.items())[:NAMED]]
    more = len(named) - len(shown)
    return _joined([*shown, f"{more} more"] if more else shown)


def _joined(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
