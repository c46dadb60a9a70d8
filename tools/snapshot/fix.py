"""The lines that keep out of a snapshot what does not belong in it: as a diff, then in the ignore file."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import SnapshotError
from .report import Report
from .rules import AMLIGNORE, GITIGNORE


@dataclass(frozen=True, kw_only=True)
class Fix:
    """A new text for an ignore file. before: "" where there is no file yet."""

    file: Path
    before: str
    after: str

    def diff(self) -> str:
        """What changes, as `diff -u` shows it; empty if nothing does."""
        old, new = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        name = str(self.file)
        return "".join(difflib.unified_diff(old, new, name if self.before else os.devnull, name))

    def write(self) -> None:
        """Writes the new text whole; a link stays a link. Errors: SnapshotError if the file changed meanwhile."""
        file = self.file.resolve()
        now = _text(file) if file.exists() else ""
        if now != self.before:
            raise SnapshotError(f"{self.file} changed while you were asked", command="try again")
        mode = file.stat().st_mode & 0o777 if file.exists() else None
        files.write_text(file, self.after)
        if mode is not None:
            file.chmod(mode)


def of(report: Report) -> Fix:
    """The fix for a report's offenders. A new .amlignore begins with the .gitignore that it replaces."""
    file = report.source / AMLIGNORE
    before = _text(file) if file.exists() else ""
    after = before
    if not file.exists() and (report.source / GITIGNORE).exists():
        after = f"# from {GITIGNORE}, which counts no more beside this file\n{_text(report.source / GITIGNORE)}"
    lines = _lines(report)
    if not lines:
        return Fix(file=file, before=before, after=before)
    if after and not after.endswith("\n"):
        after += "\n"
    after += "# does not belong in a snapshot\n" + "".join(f"{line}\n" for line in lines)
    return Fix(file=file, before=before, after=after)


def _lines(report: Report) -> list[str]:
    """One line for each offender that no line before covers."""
    covered: list[str] = []
    lines = []
    for each in report.offenders:
        if each.line and not each.path.startswith(tuple(covered)):
            lines.append(each.line)
            covered += [each.path] if each.path.endswith("/") else []
    return list(dict.fromkeys(lines))


def _text(file: Path) -> str:
    with file.open(encoding="utf-8", newline="") as stream:  # line breaks stay as they are
        return stream.read()
