"""Queries of lists: a filter, an order, and page after page."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import filters
from .answers import Refusal

TOP = 500  # on a page, where nothing is said: as many as the SDK asks for
MOST = 5000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for. filter, orderby: as in OData; token: of the page before."""

    filter: str | None = None
    orderby: str | None = None
    top: int | None = None
    token: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """Some of a list. token: for the next page, None on the last one."""

    items: Sequence[T]
    token: str | None


def page(
    items: Sequence[T],
    query: Query,
    *,
    key: Callable[[T], str],
    lookup: Callable[[T, str], Any],
    order: Callable[[T, str], Any],
) -> Page[T]:
    """A page of the items that pass the filter. key: names an item; lookup, order: the value at a path of an item.

    The token names the last item of the page before, so that nothing is given twice or left out when new ones come.
    """
    ordered = _ordered(items, query.orderby, order)
    if query.token:
        last = _decoded(query.token)
        at = next((i for i, item in enumerate(ordered) if key(item) == last), None)
        if at is None:
            raise Refusal(
                400, "the continuation token is of another query", code="ValidationError", component="history"
            )
        ordered = ordered[at + 1 :]
    try:
        wanted = filters.parse(query.filter) if query.filter else None
        found = [item for item in ordered if wanted is None or wanted.matches(functools.partial(lookup, item))]
    except filters.FilterError as problem:
        raise Refusal(400, str(problem), code="ValidationError", component="history") from problem
    top = max(1, min(query.top or TOP, MOST))
    more = len(found) > top
    return Page(items=found[:top], token=_encoded(key(found[top - 1])) if more else None)


def _ordered(items: Sequence[T], orderby: str | None, order: Callable[[T, str], Any]) -> list[T]:
    ordered = list(items)
    for part in reversed([each.strip() for each in (orderby or "").split(",") if each.strip()]):
        match = re.fullmatch(r"(\S+)(?:\s+(asc|desc))?", part, re.IGNORECASE)
        if match is None:
            raise Refusal(400, f"orderby {part!r} is not NAME asc or NAME desc", code="ValidationError")
        path, descending = match[1], (match[2] or "asc").lower() == "desc"
        try:
            keys = {id(item): order(item, path) for item in ordered}
        except filters.FilterError as problem:
            raise Refusal(400, str(problem), code="ValidationError", component="history") from problem
        empty = (None, filters.MISSING)
        full = [item for item in ordered if keys[id(item)] not in empty]
        full.sort(key=lambda item: keys[id(item)], reverse=descending)
        ordered = full + [item for item in ordered if keys[id(item)] in empty]
    return ordered


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        return ""
