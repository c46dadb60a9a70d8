from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.rehearsal import filters, queries
from tools.rehearsal.answers import Refusal


@dataclass(frozen=True)
class Row:
    """What is filtered: fields that may be null, and a table of tags."""

    id: str
    parent: str | None = None
    created: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    tags: dict[str, str | None] = field(default_factory=dict)


def value_of(row: Row, path: str) -> Any:
    if path.startswith("Tags/"):
        return row.tags.get(path[5:], filters.MISSING)
    return {"RunId": row.id, "ParentRunId": row.parent, "CreatedUtc": row.created}[path]


def matches(text: str, row: Row) -> bool:
    return filters.parse(text).matches(lambda path: value_of(row, path))


words = st.text("abcxyzäE0_-.", min_size=1, max_size=4).filter(
    lambda word: word.lower() not in ("and", "or", "null", "not")
)
# What stands between quotes is not escaped: a quote before a parenthesis ends it, and cannot be told from one that does
texts = st.text('abä "()=\n', max_size=6).filter(lambda text: '"' not in text)
keys = st.sampled_from(["a", "b", "two words", "with(parenthesis"])
moments = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(timezone.utc))
rows = st.builds(
    Row,
    id=words,
    parent=st.none() | words,
    created=moments,
    tags=st.dictionaries(keys, st.none() | texts, max_size=3),
)
Plain = Callable[[Row], bool]


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, Plain]:
    """A comparison as azureml-core writes it, and what it means."""
    kind = draw(st.sampled_from(["id", "parent", "null", "tag", "has", "after"]))
    if kind == "id":
        word, negated = draw(words), draw(st.booleans())
        return f"RunId {'ne' if negated else 'eq'} {word}", lambda row: (row.id == word) != negated
    if kind == "parent":
        word = draw(words)
        return f"ParentRunId eq {word}", lambda row: row.parent == word
    if kind == "null":
        return "(ParentRunId eq null)", lambda row: row.parent is None
    key = draw(keys)
    if kind == "tag":
        text = draw(st.none() | texts)
        shown = "null" if text is None else f'"{text}"'
        return f"(Tags/{key} eq {shown})", lambda row: key in row.tags and row.tags[key] == text
    if kind == "has":
        return f"(Tags/{key} ne null or Tags/{key} eq null)", lambda row: key in row.tags
    moment = draw(moments)
    return f"(CreatedUtc ge {moment})", lambda row: row.created >= moment


def joined(parts: st.SearchStrategy[tuple[str, Plain]]) -> st.SearchStrategy[tuple[str, Plain]]:
    def join(word: str, of: list[tuple[str, Plain]], space: str) -> tuple[str, Plain]:
        text = "(" + f"{space}{word}{space}".join(f"({each})" for each, _ in of) + ")"
        return text, lambda row: (all if word == "and" else any)(plain(row) for _, plain in of)

    return st.builds(
        join,
        st.sampled_from(["and", "or"]),
        st.lists(parts, min_size=1, max_size=3),
        st.sampled_from([" ", "  ", "\n"]),
    ) | st.builds(lambda part: (f"not ({part[0]})", lambda row: not part[1](row)), parts)


@settings(deadline=None)
@given(st.recursive(comparisons(), joined, max_leaves=6), st.lists(rows, max_size=5))
def test_a_filter_means_what_the_same_words_mean_in_python(written: tuple[str, Plain], given_rows: list[Row]) -> None:
    text, plain = written
    assert [matches(text, row) for row in given_rows] == [plain(row) for row in given_rows]


@settings(deadline=None)
@given(st.text("RunIdTags/ eqandornot()\"'null123", max_size=40) | st.text(max_size=20))
def test_what_is_no_filter_is_refused_in_words_and_never_otherwise(text: str) -> None:
    try:
        filters.parse(text)
    except filters.FilterError:
        return


@pytest.mark.parametrize(
    "text", ["", "RunId", "RunId eq", "RunId is a", "(RunId eq a", "RunId eq a)", "RunId eq a and"]
)
def test_half_a_filter_is_refused(text: str) -> None:
    with pytest.raises(filters.FilterError):
        filters.parse(text)


def test_and_binds_closer_than_or_and_names_count_without_their_case() -> None:
    text = "RunId EQ a Or RunId eq b AND ParentRunId eq c"
    assert matches(text, Row(id="a")) is True
    assert matches(text, Row(id="b")) is False


def test_thousands_of_parentheses_are_refused() -> None:
    with pytest.raises(filters.FilterError):
        filters.parse("(" * 10_000)


def test_a_quote_inside_a_value_is_part_of_it() -> None:
    assert matches('(Tags/a eq "say "yes" twice") and RunId eq a', Row(id="a", tags={"a": 'say "yes" twice'}))


def page(rows: list[Row], **options: Any) -> queries.Page[Row]:
    return queries.page(rows, queries.Query(**options), key=lambda row: row.id, lookup=value_of, order=value_of)


def pages(rows: list[Row], **options: Any) -> list[Row]:
    found: list[Row] = []
    token = None
    while True:
        one = page(rows, token=token, **options)
        found += one.items
        assert len(found) <= len(rows), "something was given twice"
        if (token := one.token) is None:
            return found


@settings(deadline=None)
@given(st.lists(rows, max_size=12, unique_by=lambda row: row.id), st.integers(1, 5))
def test_pages_give_everything_once_and_in_order(given_rows: list[Row], top: int) -> None:
    found = pages(given_rows, top=top, orderby="CreatedUtc desc, RunId asc")
    assert found == sorted(sorted(given_rows, key=lambda row: row.id), key=lambda row: row.created, reverse=True)


def test_a_row_that_comes_between_two_pages_moves_nothing() -> None:
    old = [Row(id=str(number)) for number in range(4)]

    first = page(old, top=2)
    second = page([Row(id="new"), *old], top=2, token=first.token)
    assert [row.id for row in [*first.items, *second.items]] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("options", [{"orderby": "RunId up"}, {"token": "x"}, {"token": "b3RoZXI="}, {"filter": "("}])
def test_a_query_that_says_nothing_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refused:
        page([Row(id="a")], **options)
    assert refused.value.status == 400
