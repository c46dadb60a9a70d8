"""Which paths an ignore file leaves out of a snapshot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..errors import SnapshotError
from .patterns import Dialect, Pattern, PatternError, parse, union

AMLIGNORE, GITIGNORE = ".amlignore", ".gitignore"
SDK = {"v1": "azureml-core", "v2": "azure-ai-ml"}


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Lines beside each other that all exclude, or all negate."""

    excludes: bool
    path: re.Pattern[str]
    within: re.Pattern[str]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """An ignore file. file: None where there is none; groups: the last line first, since the last that matches wins."""

    dialect: Dialect
    file: Path | None
    groups: tuple[_Group, ...]

    def excludes(self, path: str) -> bool:
        """Whether a path is left out. path: from the ignore file's folder, without a slash at its end."""
        for group in self.groups:
            if group.path.match(path):
                return group.excludes
        return False

    def empties(self, folder: str) -> bool:
        """Whether all below a folder is left out for sure: no negation could reach inside."""
        for group in self.groups:
            if group.within.match(folder):
                return group.excludes
        return False


def load(source: Path, dialect: Dialect) -> Rules:
    """The rules of a source directory: its .amlignore, else its .gitignore, never both; no file, no rules.

    Sources: azureml/_project/ignore_file.py of azureml-core 1.61, IgnoreFile of azure-ai-ml 1.35.
    Errors: SnapshotError with the line on which the SDK fails.
    """
    for file in (source / AMLIGNORE, source / GITIGNORE):
        if file.exists():
            return read(file, lines(file, dialect), dialect)
    return Rules(dialect=dialect, file=None, groups=())


def lines(file: Path, dialect: Dialect) -> list[str]:
    """The lines of an ignore file, each with its line break. Errors: SnapshotError."""
    try:
        with file.open(encoding="utf-8" if dialect == "v1" else "utf-8-sig") as stream:
            found = list(stream)
    except (OSError, UnicodeDecodeError) as error:
        raise SnapshotError(
            f"{file} cannot be read: {error}", expected="a text file in UTF-8", command=f"mend it: edit {file}"
        ) from error
    return found if dialect == "v1" else [line.rstrip() for line in found]


def read(file: Path, found: list[str], dialect: Dialect) -> Rules:
    """The rules that these lines of an ignore file make. Errors: SnapshotError."""
    patterns: list[Pattern] = []
    for number, line in enumerate(found, start=1):
        try:
            pattern = parse(line, dialect)
        except PatternError as error:
            raise SnapshotError(
                f"{file}, line {number}: {line.strip()!r} is no pattern: {error}; {SDK[dialect]} fails on it",
                expected="a pattern as in .gitignore",
                command=f"mend it: edit {file}",
            ) from error
        if pattern:
            patterns.append(pattern)
    groups = [(excludes, list(group)) for excludes, group in groupby(patterns, key=lambda each: each.excludes)]
    return Rules(
        dialect=dialect,
        file=file,
        groups=tuple(
            _Group(
                excludes=excludes,
                path=union([each.path for each in group]),
                within=union([each.within for each in group]),
            )
            for excludes, group in reversed(groups)
        ),
    )
