"""The filters of queries: as much of OData as azureml-core sends (its _odata/runs.py), and what it sends is not OData.

Values stand without quotes, spaces in them included, up to a parenthesis or the next `and`/`or`; or between quotes,
with quotes inside them as they are. So do the names of tags and properties, up to the operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from . import times

DEPTH = 50  # of parentheses

COMPARISON = re.compile(r"([A-Za-z].*?)\s+(eq|ne|gt|ge|lt|le)\s+", re.IGNORECASE | re.DOTALL)
WORD = re.compile(r"\s*(and|or)\b", re.IGNORECASE)
NOT = re.compile(r"not\b\s*(?=\()", re.IGNORECASE)
END = r"(?=\s*\)|\s*$|\s+(?:and|or)(?:[\s(]|$))"
BARE = re.compile(rf"[^\s\"'()].*?{END}", re.IGNORECASE | re.DOTALL)
QUOTED = re.compile(rf"(?:\"(.*?)\"|'(.*?)'){END}", re.IGNORECASE | re.DOTALL)


class FilterError(ValueError):
    """A filter that cannot be read, or compares what cannot be compared."""


class Missing:
    """No value, not even null: an entry that is not in its table."""


MISSING = Missing()
Lookup = Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """path OPERATOR value; value: None for null."""

    path: str
    operator: str
    value: str | None

    def matches(self, lookup: Lookup) -> bool:
        """Whether it is true. An entry that is not there is neither null nor anything else: so the SDK asks for it."""
        found = lookup(self.path)
        if found is MISSING:
            return False
        if self.value is None or found is None:
            same = self.value is None and found is None
            return same if self.operator == "eq" else not same if self.operator == "ne" else False
        left, right = found, _like(found, self.value, self.path)
        return bool(
            {
                "eq": lambda: left == right,
                "ne": lambda: left != right,
                "gt": lambda: left > right,
                "ge": lambda: left >= right,
                "lt": lambda: left < right,
                "le": lambda: left <= right,
            }[self.operator]()
        )


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Several filters joined by one word."""

    word: Literal["and", "or"]
    parts: tuple[Filter, ...]

    def matches(self, lookup: Lookup) -> bool:
        """Whether all, or any, are true."""
        return (all if self.word == "and" else any)(part.matches(lookup) for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Not:
    """A filter turned round."""

    part: Filter

    def matches(self, lookup: Lookup) -> bool:
        """Whether it is false."""
        return not self.part.matches(lookup)


Filter = Comparison | Joined | Not


def parse(text: str) -> Filter:
    """The filter that the text says. FilterError, with the place, if it says none."""
    parser = _Parser(text)
    found = parser.either(0)
    if parser.rest().strip():
        raise parser.error("the end")
    return found


class _Parser:
    """either := both (or both)*; both := one (and one)*; one := not (either) | (either) | comparison."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def rest(self) -> str:
        return self.text[self.at :]

    def error(self, expected: str) -> FilterError:
        return FilterError(f"the filter has {self.rest()[:40]!r} at {self.at}, where {expected} is expected")

    def either(self, depth: int) -> Filter:
        return self.joined("or", lambda: self.joined("and", lambda: self.one(depth)))

    def joined(self, word: Literal["and", "or"], part: Callable[[], Filter]) -> Filter:
        parts = [part()]
        while (match := WORD.match(self.text, self.at)) and match[1].lower() == word:
            self.at = match.end()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(word=word, parts=tuple(parts))

    def one(self, depth: int) -> Filter:
        self.skip()
        if depth > DEPTH:
            raise self.error(f"no more than {DEPTH} parentheses")
        if match := NOT.match(self.text, self.at):
            self.at = match.end()
            return Not(part=self.one(depth + 1))
        if self.text.startswith("(", self.at):
            self.at += 1
            found = self.either(depth + 1)
            self.skip()
            if not self.text.startswith(")", self.at):
                raise self.error("a closing parenthesis")
            self.at += 1
            return found
        match = COMPARISON.match(self.text, self.at)
        if match is None:
            raise self.error("a comparison")
        self.at = match.end()
        return Comparison(path=match[1], operator=match[2].lower(), value=self.value())

    def value(self) -> str | None:
        if match := QUOTED.match(self.text, self.at):
            self.at = match.end()
            return match[1] if match[1] is not None else match[2]
        match = BARE.match(self.text, self.at)
        if match is None:
            raise self.error("a value")
        self.at = match.end()
        return None if match[0].lower() == "null" else match[0]

    def skip(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1


def _like(found: Any, text: str, path: str) -> Any:
    """The text as a value of the kind of what was found."""
    if isinstance(found, bool):
        converted: Any = {"true": True, "false": False}.get(text.lower())
    elif isinstance(found, datetime):
        converted = times.parse(text)
    elif isinstance(found, int):
        converted = int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else None
    else:
        return text
    if converted is None:
        raise FilterError(f"{path} is compared with {text!r}, which is no {type(found).__name__}")
    return converted
