"""gitwildmatch: one line of an ignore file, read as the SDKs' own copies of pathspec read it.

azureml-core 1.61 asks for pathspec < 1 (0.12.1), azure-ai-ml 1.35 carries an older copy inside. pathspec 1.x gives
other answers: it keeps leading blanks, drops a line with an unclosed [ or a reversed range, and matches names with
line breaks. So the old rules stand here; the tests compare them with both SDKs, line by line.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["v1", "v2"]

# What follows the name of a folder in a pattern without a slash at its end. `.` and `$` are as in the SDKs: a name with
# a line break below an excluded folder is not matched.
_BELOW = "(?:/.*)?"
_ANYWHERE = "(?:.+/)?"


class PatternError(ValueError):
    """A line on which the SDK fails; its text says why."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One line. excludes: False for a negation, `!`.

    path: a regular expression for the paths that it decides. within: one for folders: with an excluding line, those
    below which it matches everything; with a negation, those below which it may match something.
    """

    excludes: bool
    path: str
    within: str


def parse(line: str, dialect: Dialect) -> Pattern | None:
    """What one line of an ignore file says, with its line break; None for a blank line or a comment.

    Errors: PatternError.
    """
    text = line.lstrip() if dialect == "v1" and line.endswith("\\ ") else line.strip()
    if not text or text == "/" or text.startswith("#"):
        return None
    excludes = not text.startswith("!")
    text = text if excludes else text[1:]
    if _collapsed(text.split("/")) == ["**", ""]:
        return Pattern(excludes=excludes, path=".+/.*", within=".+")
    segments = _segments(text)
    path = _regex(segments, dialect)
    within = _regex(_holder(segments), dialect) if excludes else _reach(segments, dialect)
    if "[" in text:
        _compile(path)  # nothing else can be an invalid expression
    return Pattern(excludes=excludes, path=path, within=within)


def union(expressions: list[str]) -> re.Pattern[str]:
    """One expression for all; what they have in common at their beginning is tried once."""
    anywhere = [expression[len(_ANYWHERE) :] for expression in expressions if expression.startswith(_ANYWHERE)]
    choices = [expression for expression in expressions if not expression.startswith(_ANYWHERE)]
    if anywhere:
        choices.append(f"{_ANYWHERE}(?:{'|'.join(anywhere)})")
    return _compile("|".join(choices))


def escape(path: str) -> str:
    """The line that excludes exactly this path of the snapshot, and all below it, in both dialects."""
    escaped = re.sub(r"([\\*?\[])", r"\\\1", path)
    # No line can hold a line break or a byte that is not UTF-8, and blanks at its end are lost: `?` stands for each.
    escaped = re.sub("[\r\n\udc80-\udcff]|\\s+$", lambda lost: "?" * len(lost[0]), escaped)
    return f"/{escaped}"


def _segments(text: str) -> list[str]:
    """The parts between slashes; `**` at the beginning means any folder, at the end all that is below."""
    segments = _collapsed(text.split("/"))
    if not segments[0]:
        del segments[0]
    elif (len(segments) == 1 or segments[1:] == [""]) and segments[0] != "**":
        segments.insert(0, "**")
    if not segments:
        raise PatternError("it is empty behind its !")
    if not segments[-1] and len(segments) > 1:
        segments[-1] = "**"
    return segments


def _collapsed(segments: list[str]) -> list[str]:
    return [each for at, each in enumerate(segments) if not (at and each == segments[at - 1] == "**")]


def _regex(segments: list[str], dialect: Dialect) -> str:
    if segments == ["**"]:
        return ".+" if dialect == "v2" else "[^/]+(?:/.*)?"
    parts, slash, last = [], "", len(segments) - 1
    for at, segment in enumerate(segments):
        if segment == "**":
            parts.append(_ANYWHERE if at == 0 else "/.*" if at == last else "(?:/.+)?")
            slash = "/" if at else ""
        else:
            parts.append(slash + _glob(segment, dialect))
            parts.append(_BELOW if at == last else "")
            slash = "/"
    return "".join(parts)


def _holder(segments: list[str]) -> list[str]:
    """The pattern of the folders that an excluding pattern empties: `d` for d, d/, d/* and d/**/*."""
    if segments[-1] not in ("*", "**"):
        return segments
    holder = segments[:-1]
    if segments[-1] == "*" and holder[-1:] == ["**"]:
        holder = holder[:-1]
    return holder if holder and holder != ["**"] else segments


def _reach(segments: list[str], dialect: Dialect) -> str:
    """Folders whose path may begin something that the pattern matches, part by part up to the first `**`."""
    rest = "(?:/(?s:.*))?"
    for segment in reversed(segments[1:]):
        rest = "(?:/(?s:.*))?" if segment == "**" else f"(?:/{_glob(segment, dialect)}{rest})?"
    return "(?s:.*)" if segments[0] == "**" else _glob(segments[0], dialect) + rest


def _glob(segment: str, dialect: Dialect) -> str:
    if segment == "*":
        return "[^/]+"
    parts, at = [], 0
    while at < len(segment):
        char = segment[at]
        at += 1
        if char == "\\":
            if at == len(segment):
                raise PatternError("the \\ at the end of a name has nothing to escape")
            parts.append(re.escape(segment[at]))
            at += 1
        elif char == "[" and (end := _class_end(segment, at, dialect)) > 0:
            parts.append(_class(segment[at:end], dialect))
            at = end + 1
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
    return "".join(parts)


def _class_end(segment: str, start: int, dialect: Dialect) -> int:
    """Where the ] is that closes a class of characters; -1 if none does, and the [ stands for itself."""
    at = start + segment.startswith(("!", "^") if dialect == "v1" else "!", start)
    return segment.find("]", at + segment.startswith("]", at))


def _class(members: str, dialect: Dialect) -> str:
    negated = ""
    if members[0] == "!":
        negated, members = "^", members[1:]
    elif members[0] == "^":
        negated, members = ("^" if dialect == "v1" else "\\^"), members[1:]
    return "[" + negated + members.replace("\\", "\\\\") + "]"


def _compile(expression: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about [[ and the like, which may mean more one day
            return re.compile(f"(?:{expression})$")
    except re.error as error:
        raise PatternError(f"{error.msg} in its [ ]") from error
