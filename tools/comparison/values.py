"""Values of facts as people read them."""

from __future__ import annotations

import re
from typing import Any

from .facts import MISSING, UNKNOWN

DIGEST = re.compile(r"\b(?:sha256:)?([0-9a-f]{12})[0-9a-f]{52}\b")


def short(value: Any, other: Any) -> str:
    """A value in few words, beside another one: of two lists only what the other one has not; a digest's beginning."""
    if isinstance(value, list) and isinstance(other, list) and value != other:
        return " ".join(str(each) for each in value if each not in other) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if value is MISSING or value is UNKNOWN:
        return repr(value)
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    if isinstance(value, int):
        return str(value) if abs(value) < 10_000 else _amount(value)
    return DIGEST.sub(r"\1", str(value)) or '""'


def plain(number: float) -> str:
    """A difference, in three digits."""
    return f"{number:.3g}"


def json_value(value: Any) -> Any:
    """A value for programs: null where the run has none or nobody saw it."""
    return None if value is MISSING or value is UNKNOWN else value


def _amount(number: int) -> str:
    """A large number, with the power of 1024 that it is, if it is one."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if number > 0 and number % (1 << power) == 0:
            return f"{number >> power} {unit}"
    return f"{number:,}"
