"""The snapshot: the files of the source directory that Azure ML would upload, and their one content hash.

Rules (azureml-core 1.61): the root's .amlignore, else its .gitignore, never both; gitwildmatch on paths without a
trailing slash; an excluded folder is not entered; symbolic links are followed; nothing is excluded by itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files
from .errors import SnapshotError

if TYPE_CHECKING:
    from pathspec import PathSpec

IGNORE_FILES = (".amlignore", ".gitignore")


@dataclass(frozen=True, kw_only=True)
class SnapshotFile:
    """One file. path: relative, with /; size: bytes; executable: whether it was, which Azure ML does not keep."""

    path: str
    size: int
    sha256: str
    executable: bool


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run's working directory holds at its start. Files are sorted by path."""

    source: Path
    files: tuple[SnapshotFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """sha256 over path, size and content hash of every file, in order of path: 64 hex digits."""
        lines = (f"{file.path}\0{file.size}\0{file.sha256}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def take(source: Path) -> Snapshot:
    """The snapshot of a source directory, as it is now; SnapshotError if there is none, or nothing in it."""
    if not source.is_dir():
        raise SnapshotError(
            f"the source directory {source} does not exist",
            expected="the folder of your training script",
            command="set [run] source in parity.toml",
        )
    found = []
    for path, relative in sorted(_walk(source), key=lambda pair: pair[1]):
        try:
            status = path.stat()
            content = files.sha256(path)
        except OSError as error:
            raise SnapshotError(
                f"{path} cannot be read: {error.strerror}",
                command=f"mend it, or leave it out: echo {relative} >> {source / IGNORE_FILES[0]}",
            ) from error
        executable = bool(status.st_mode & stat.S_IXUSR)
        found.append(SnapshotFile(path=relative, size=status.st_size, sha256=content, executable=executable))
    if not found:
        raise SnapshotError(f"the source directory {source} has no files to run", command="check its .amlignore")
    return Snapshot(source=source, files=tuple(found))


def _walk(source: Path) -> Iterator[tuple[Path, str]]:
    rules = _rules(source)
    seen: set[tuple[int, int]] = set()

    def enter(folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
        status = folder.stat()
        if (here := (status.st_dev, status.st_ino)) in seen:
            return  # a link to a folder above: once is enough
        seen.add(here)
        for entry in os.scandir(folder):
            relative = prefix + entry.name
            if rules and rules.match_file(relative):
                continue
            if entry.is_dir():
                yield from enter(Path(entry.path), f"{relative}/")
            elif entry.is_file() or entry.is_symlink():
                yield Path(entry.path), relative
        seen.discard(here)

    return enter(source, "")


def _rules(source: Path) -> PathSpec[Any] | None:
    from pathspec import PathSpec
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # what the SDK calls gitwildmatch

    for name in IGNORE_FILES:
        path = source / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            return PathSpec.from_lines(GitIgnoreSpecPattern, lines)
    return None
