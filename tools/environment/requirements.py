"""pip requirements files: `-r`, comments, continued lines and `--hash`; what a lock cannot hold is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..errors import SpecError

_HASH = re.compile(r"\s+--hash[=\s](?P<algorithm>\w+):(?P<digest>[0-9a-fA-F]+)")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_NESTED = re.compile(r"^(?:-r\s*|--requirement[\s=]\s*)(?P<file>.+)$")
_DIRECT = re.compile(r"https://[^#@]+#sha256=[0-9a-f]{64}")

_INSTEAD = {  # options of pip's that have a counterpart elsewhere
    ("-c", "--constraint"): "versions written into the requirements themselves: a lock has no constraints",
    ("-e", "--editable"): "a released version: a folder of this machine is not in the image",
    ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host"): (
        "the index in pip's own configuration: pip config set global.index-url URL"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """requirements: PEP 508 texts. hashes: (canonical name, sha256) that are allowed; a name without any is free."""

    requirements: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...]


def read(path: Path) -> Requirements:
    """All requirements of a file and of the files it names by `-r`, in their order.

    Errors: SpecError with file, line, what was found and what is possible instead.
    """
    return _joined(_entry(text, where, path, ()) for where, text in _lines(path))


def entry(text: str, where: str, path: Path) -> Requirements:
    """One line: a requirement with its hashes, or `-r FILE` relative to `path`. where: "file:line", for errors."""
    return _entry(text, where, path, ())


def name(text: str) -> str:
    """The canonical name in a requirement: "NumPy>=2" -> "numpy"."""
    return canonicalize_name(Requirement(text).name)


def normalised(text: str) -> str:
    """The same text for requirements that mean the same: `NumPy >= 2` and `numpy>=2`."""
    requirement = Requirement(text)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def _joined(parts: Iterator[Requirements]) -> Requirements:
    every = list(parts)
    return Requirements(
        requirements=tuple(text for part in every for text in part.requirements),
        hashes=tuple(sorted({pair for part in every for pair in part.hashes})),
    )


def _entry(text: str, where: str, path: Path, parents: tuple[Path, ...]) -> Requirements:
    if nested := _NESTED.match(text):
        return _nested(nested["file"].strip(), where, path, (*parents, path.resolve()))
    if text.startswith("-"):
        raise _refused(re.split(r"[\s=]", text, maxsplit=1)[0], where)
    found = list(_HASH.finditer(text))
    requirement = _HASH.sub("", text).strip()
    if option := re.search(r"\s(--[a-z-]+)", requirement):
        raise _refused(option[1], where)
    if wrong := next((match for match in found if match["algorithm"] != "sha256"), None):
        raise SpecError(f"{where}: --hash={wrong['algorithm']}:...", expected="--hash=sha256:<64 hex digits>")
    _check(requirement, where)
    allowed = tuple((name(requirement), match["digest"].lower()) for match in found)
    return Requirements(requirements=(requirement,), hashes=allowed)


def _nested(named: str, where: str, path: Path, parents: tuple[Path, ...]) -> Requirements:
    file = path.parent / named
    if "://" in named or not file.is_file():
        raise SpecError(f"{where}: -r {named}: no such file", expected=f"a file, relative to {path.parent}/")
    if file.resolve() in parents:
        raise SpecError(f"{where}: -r {named}: the files name each other in a circle")
    return _joined(_entry(text, inner, file, parents) for inner, text in _lines(file))


def _check(text: str, where: str) -> None:
    """Refuses what is no requirement, and what no lock could name by hash: a folder, a repository, a bare URL."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        expected = "a name with versions, e.g. numpy>=2"
        raise SpecError(f"{where}: {text!r} is no requirement: {reason}", expected=expected) from error
    if requirement.url and not _DIRECT.fullmatch(requirement.url):
        raise SpecError(
            f"{where}: {requirement.name} comes from a repository, a folder, or a URL without sha256",
            expected=f"{requirement.name} @ https://HOST/FILE.whl#sha256=<64 hex digits>, or a version from the index",
        )


def _refused(option: str, where: str) -> SpecError:
    for options, instead in _INSTEAD.items():
        if option in options or (option[:2] in options and not option.startswith("--")):
            return SpecError(f"{where}: {option} cannot go into a lock", expected=instead)
    return SpecError(f"{where}: {option} cannot go into a lock", expected="requirements, -r FILE and --hash=sha256:...")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """("file:line", text) of every logical line that is not empty."""
    try:
        physical = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}", expected="a pip requirements file in UTF-8") from error
    logical, start = "", 1
    for number, line in enumerate([*physical, ""], start=1):
        start = start if logical else number
        if line.endswith("\\"):
            logical += line[:-1] + " "
            continue
        text = _COMMENT.sub("", logical + line).strip()
        logical = ""
        if text:
            yield f"{path}:{start}", text
