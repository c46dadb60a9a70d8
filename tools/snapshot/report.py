"""The verdict on a snapshot: its size against the limits, where the size lies, and what does not belong in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from .limits import NEAR, Limits
from .offenders import Offender
from .patterns import Dialect
from .rules import SDK
from .tree import Tree
from .words import mib, of_limit, printable, shown

LEVELS, CHILDREN = 3, 5  # of the tree of the biggest: how deep, and how many of a folder
SHARE = 0.05  # of the whole, from which on something is named in it
SHOWN = 8  # offenders of a kind


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is known of a source directory.

    ignore_file: None where there is none. changed: files that are new since the last snapshot, of which azureml-core
    made a note at the time `since`; all of them where there is none. digest: None where the files were not read.
    """

    source: Path
    dialect: Dialect
    ignore_file: Path | None
    limits: Limits
    tree: Tree
    changed: int
    since: float | None
    offenders: tuple[Offender, ...]
    digest: str | None

    @property
    def exceeded(self) -> tuple[str, ...]:
        """Which limits are exceeded: "size", "files"."""
        return self._beyond(1)

    @property
    def verdict(self) -> Literal["over", "near", "within"]:
        """Where the snapshot stands; "over" only where the SDK refuses it."""
        if self.exceeded and self.limits.refuses:
            return "over"
        return "near" if self._beyond(NEAR) else "within"

    def _beyond(self, part: float) -> tuple[str, ...]:
        size = ("size",) if self.tree.size > part * self.limits.size else ()
        files = self.limits.files
        return (*size, "files") if files is not None and self.changed > part * files else size

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs. Sizes in bytes."""
        return {
            "source": str(self.source),
            "rules": self.dialect,
            "ignore_file": str(self.ignore_file) if self.ignore_file else None,
            "verdict": self.verdict,
            "exceeded": list(self.exceeded),
            "partial": self.tree.partial,
            "bytes": self.tree.size,
            "files": len(self.tree.files),
            "changed_files": self.changed,
            "limits": {"bytes": self.limits.size, "files": self.limits.files, "refuses": self.limits.refuses},
            "digest": self.digest,
            "offenders": [
                {
                    "kind": each.kind.title,
                    "path": each.path,
                    "bytes": each.size,
                    "files": each.files,
                    "advice": each.kind.advice,
                    "note": each.note,
                    "line": each.line,
                    "command": each.command,
                }
                for each in self.offenders
            ],
            "skipped": self.tree.skipped,
        }

    def text(self) -> str:
        """All of it, for people, in MiB throughout."""
        lines = [*self._head()]
        if self.verdict != "within" or self.offenders:
            lines += ["", *self._biggest()]
        lines += self._offenders()
        lines += (f"  not readable, so left out: {printable(path)}" for path in self.tree.skipped)
        return "\n".join(lines)

    def _head(self) -> Iterator[str]:
        rules = f"{SDK[self.dialect]}'s rules" + (f" and {self.ignore_file.name}" if self.ignore_file else "")
        yield f"Snapshot of {printable(shown(self.source))}, by {rules}:"
        seen = "at least " if self.tree.partial else ""
        yield f"  size    {seen}{of_limit(self.tree.size, self.limits.size)}{self._mark('size')}"
        count = f"  files   {seen}{len(self.tree.files):,}"
        if self.limits.files is None:
            yield f"{count}, of any number"
        elif self.since is None:
            yield f"{count}, of {self.limits.files:,} that may be new to the workspace{self._mark('files')}"
        else:
            when = datetime.fromtimestamp(self.since).strftime("%Y-%m-%d %H:%M")
            new = f"{self.changed:,} of {self.limits.files:,} that may be new since the last snapshot, of {when}"
            yield f"{count} in all; {new}{self._mark('files')}"
        if self.digest:
            yield f"  sha256  {self.digest}"
        if self.tree.partial:
            yield "  Counting ended when the limit was passed: what follows is what was seen until then."

    def _mark(self, what: str) -> str:
        if what in self.exceeded:
            return ": OVER THE LIMIT" if self.limits.refuses else f": {SDK[self.dialect]} warns, and sends it"
        return ": near the limit" if what in self._beyond(NEAR) else ""

    def _biggest(self) -> Iterator[str]:
        """The folders and files that the size, or the number of files, comes from."""
        by_files = self.exceeded == ("files",)
        children, sums = _children(self.tree)
        width = 46

        def below(folder: str, indent: str) -> Iterator[str]:
            ordered = sorted(children.get(folder, ()), key=lambda path: (-sums[path][by_files], -sums[path][0], path))
            if indent.count("  ") == LEVELS:
                return
            large = [path for path in ordered[:CHILDREN] if sums[path][by_files] >= SHARE * sums[""][by_files]]
            for path in large:
                yield row(indent + printable(path[len(folder) :]), sums[path], path.endswith("/"))
                if path.endswith("/"):
                    yield from below(path, indent + "  ")
            if rest := ordered[len(large) :]:
                total = (sum(sums[path][0] for path in rest), sum(sums[path][1] for path in rest))
                yield row(f"{indent}and {len(rest):,} more", total, True)

        def row(name: str, amount: tuple[int, int], folder: bool) -> str:
            number = f"  {amount[1]:>9,} file{'s' * (amount[1] != 1)}" if folder else ""
            return f"  {name:<{width}} {mib(amount[0]):>10} MiB{number}".rstrip()

        yield row(f"{self.source.name}/", sums[""], True)
        yield from below("", "  ")

    def _offenders(self) -> Iterator[str]:
        if not self.offenders:
            return
        yield "\nWhat does not belong in a snapshot:"
        for kind in dict.fromkeys(each.kind for each in self.offenders):
            of_kind = [each for each in self.offenders if each.kind == kind]
            yield f"  {kind.title}: {kind.advice}"
            for each in of_kind[:SHOWN]:
                number = f", {each.files:,} files" if each.files != 1 else ""
                note = f" ({printable(each.note)})" if each.note else ""
                yield f"    {printable(each.path)}  {mib(each.size)} MiB{number}{note}"
                if each.command:
                    yield f"      type:               {printable(each.command)}"
                if each.line:
                    yield f"      add to .amlignore:  {each.line}"
            if len(of_kind) > SHOWN:
                yield f"    and {len(of_kind) - SHOWN:,} more (--json names all)"


def _children(tree: Tree) -> tuple[dict[str, list[str]], dict[str, tuple[int, int]]]:
    """What lies directly in each folder, and bytes and number of files of each path; the root is ''."""
    children: dict[str, list[str]] = {}
    sums: dict[str, tuple[int, int]] = {"": (0, 0)}
    for path in tree.folders:
        sums[path] = (0, 0)
        children.setdefault(path[: path.rstrip("/").rfind("/") + 1], []).append(path)
    for file in tree.files:
        folder = file.path[: file.path.rfind("/") + 1]
        sums[file.path] = (file.size, 1)
        children.setdefault(folder, []).append(file.path)
        size, number = sums[folder]
        sums[folder] = (size + file.size, number + 1)
    for path in reversed(tree.folders):  # each before the one that it lies in
        above = path[: path.rstrip("/").rfind("/") + 1]
        sums[above] = (sums[above][0] + sums[path][0], sums[above][1] + sums[path][1])
    return children, sums
