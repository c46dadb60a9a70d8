"""The end of a run's log, as text: what a terminal would show of it, without what must not be passed on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..snapshot.secrets import KINDS

BYTES = 64_000  # of a log that are shown, counted from its end

# ECMA-48: control sequences, the strings of operating system commands and the like, and other escapes
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\)|[ -/]*[0-~])", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, kw_only=True)
class Tail:
    """text: the shown part; size: bytes of the whole log; left_out: bytes before that part."""

    text: str
    size: int
    left_out: int


def tail(file: Path, limit: int = BYTES) -> Tail | None:
    """The last `limit` bytes of a log, from the beginning of a line; None where there is no log."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - limit))
            content = stream.read()
    except FileNotFoundError:
        return None
    if size > limit:
        content = content[content.find(b"\n") + 1 :]
    return Tail(text=plain(content), size=size, left_out=size - len(content))


def plain(content: bytes) -> str:
    """Bytes for a terminal as plain text: no colours, of a line that was written over its last form, no secrets."""
    for kind in KINDS:
        content = kind.form.sub(f"[{kind.name}, left out]".encode(), content)
    text = _ESCAPE.sub("", content.decode(errors="replace")).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(_CONTROL.sub("", line) for line in lines)
