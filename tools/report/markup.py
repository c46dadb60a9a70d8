"""Text, tables and data as HTML. Whatever comes from a run goes through `text`, `code` or `data`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence

from ..snapshot.words import printable


class Markup(str):
    """HTML that needs no escaping any more."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as text on one line."""
    return value if isinstance(value, Markup) else Markup(html.escape(printable(str(value))))


def code(value: object) -> Markup:
    """A value as a machine has it: a path, a digest, a command."""
    return Markup(f"<code>{text(value)}</code>")


def data(value: object) -> Markup:
    """JSON that is safe inside a <script> element; NaN is not JSON and must not be in it."""
    dumped = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(dumped.replace("<", "\\u003c").replace("&", "\\u0026"))


def table(
    head: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str, kinds: Sequence[str] = ()
) -> Markup:
    """A table; where the screen is narrow each row becomes a list. Each row begins with its own heading.

    caption: for those who cannot see it. kinds: a class for each row.
    """
    lines = []
    for number, row in enumerate(rows):
        kind = f' class="{kinds[number]}"' if kinds else ""
        first, *others = (text(cell) for cell in row)
        cells = (f'<td data-head="{_bare(of)}">{cell}</td>' for of, cell in zip(head[1:], others, strict=True))
        lines.append(f'<tr{kind}><th scope="row">{first}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{text(each)}</th>' for each in head)
    return Markup(
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _bare(value: object) -> str:
    """A heading without its marks, for an attribute."""
    return re.sub(r"<[^>]*>", "", text(value))


def folded(summary: object, content: Markup, *, open_: bool = False, kind: str = "") -> Markup:
    """What is told when asked for."""
    attributes = f' class="{kind}"' * bool(kind) + " open" * open_
    return Markup(f"<details{attributes}><summary>{text(summary)}</summary>{content}</details>")


def joined(parts: Iterable[Markup]) -> Markup:
    """One after the other."""
    return Markup("".join(parts))
