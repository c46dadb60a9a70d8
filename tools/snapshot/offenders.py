"""What of a snapshot does not belong in it, how large it is, and the line or command that mends it."""

from __future__ import annotations

import shlex
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import kinds
from .kinds import Kind
from .patterns import Dialect, escape
from .tree import SnapshotFile, Tree
from .words import shown

EACH = 3  # files with one extension that are named one by one; more go by their extension


@dataclass(frozen=True, kw_only=True)
class Offender:
    """Something that does not belong.

    path: relative, a folder with a / at its end; or *.EXTENSION. size: bytes; files: how many. line: for the ignore
    file, None where none helps. command: what to type instead. note: what gave it away, if not its name.
    """

    kind: Kind
    path: str
    size: int
    files: int
    line: str | None
    command: str | None = None
    note: str | None = None


@dataclass
class _Sum:
    size: int = 0
    files: int = 0
    examples: list[SnapshotFile] = field(default_factory=list)

    def add(self, file: SnapshotFile) -> None:
        self.size += file.size
        self.files += 1
        if self.files <= EACH:
            self.examples.append(file)


def find(source: Path, tree: Tree, dialect: Dialect, tokens: Iterable[tuple[SnapshotFile, str]] = ()) -> list[Offender]:
    """All offenders: by kind in the order of `kinds.ORDER`, then the largest first.

    tokens: files in whose content a secret was seen, and which, with its line.
    """
    owners = _Owners(tree)
    extensions: dict[str, _Sum] = {}
    credentials: dict[str, tuple[SnapshotFile, str | None]] = {}
    for file in tree.files:
        if file.path.endswith(kinds.HARMLESS):
            continue
        extension = file.path[file.path.rfind(".") :]
        if extension.lower() in kinds.EXTENSIONS and not owners.of(_folder_of(file)):
            extensions.setdefault(extension, _Sum()).add(file)
        if kinds.names_credentials(file.path):
            credentials[file.path] = (file, None)
    credentials.update((file.path, (file, what)) for file, what in tokens)
    found = [_folder(source, path, kind, _below(tree.files, path)) for path, kind in owners.roots.items()]
    found = [each for each in found if each.files or tree.partial]  # an empty folder is no part of a snapshot
    found += (each for extension, total in extensions.items() for each in _files(source, extension, total))
    found += (each for each in _links(source, tree) if not owners.of(each.path.rstrip("/")))
    found += (
        Offender(kind=kinds.CREDENTIALS, path=path, size=file.size, files=1, line=escape(path), note=what)
        for path, (file, what) in credentials.items()
        if (owner := owners.of(_folder_of(file))) is None or owners.roots[owner].inside
    )
    if dialect == "v2":
        found = [_behind_link(source, each, tree) for each in found]
    return sorted(found, key=lambda each: (kinds.ORDER.index(each.kind), -each.size, each.path))


class _Owners:
    """Folders that do not belong, as a whole. roots: the outermost ones, with a / at the end."""

    def __init__(self, tree: Tree) -> None:
        self.files, self.folders = tree.files, set(tree.folders)
        self.roots: dict[str, Kind] = {}
        self.known: dict[str, str | None] = {"": None}
        for folder in tree.folders:  # each after the one that it lies in
            self.known[folder[:-1]] = self._owner(folder[:-1])

    def of(self, folder: str) -> str | None:
        """The outermost offending folder that is `folder` or holds it."""
        return self.known.get(folder)

    def _owner(self, folder: str) -> str | None:
        parent, _, name = folder.rpartition("/")
        if self.known.get(parent):
            return self.known[parent]
        kind = kinds.FOLDERS.get(name)
        if kind is None and self._is_environment(folder):
            kind = kinds.ENVIRONMENT
        if kind is None:
            kind = kinds.UNLESS_CODE.get(name.lower()) or (None if parent else kinds.UNLESS_CODE_AT_THE_TOP.get(name))
            kind = None if kind and self._holds_code(folder) else kind
        if kind is None:
            return None
        self.roots[f"{folder}/"] = kind
        return f"{folder}/"

    def _is_environment(self, folder: str) -> bool:
        marker = f"{folder}/pyvenv.cfg"
        at = bisect_left(self.files, marker, key=_path)
        return f"{folder}/conda-meta/" in self.folders or [each.path for each in self.files[at : at + 1]] == [marker]

    def _holds_code(self, folder: str) -> bool:
        """Whether a file of code lies right in it."""
        for file in _below(self.files, f"{folder}/"):
            if file.path.endswith(kinds.CODE) and "/" not in file.path[len(folder) + 1 :]:
                return True
        return False


def _folder(source: Path, path: str, kind: Kind, inside: list[SnapshotFile]) -> Offender:
    command = _move(source, path[:-1]) if kind == kinds.DATA else None
    size = sum(file.size for file in inside)
    line = escape(path[:-1])
    return Offender(kind=kind, path=path, size=size, files=len(inside), line=line, command=command)


def _files(source: Path, extension: str, total: _Sum) -> Iterator[Offender]:
    kind = kinds.EXTENSIONS[extension.lower()]
    if kind == kinds.DATA_FILES and total.size < kinds.LARGE:
        return
    if total.files > EACH:
        glob = f"*{escape(extension)[1:]}"
        yield Offender(kind=kind, path=f"*{extension}", size=total.size, files=total.files, line=glob)
        return
    for file in total.examples:
        command = _move(source, file.path) if kind == kinds.DATA_FILES else None
        yield Offender(kind=kind, path=file.path, size=file.size, files=1, line=escape(file.path), command=command)


def _move(source: Path, path: str) -> str | None:
    """The command that moves something beside the source directory, unless something is there."""
    target = source.parent / path.rpartition("/")[2]
    return None if target.exists() else f"mv {shlex.quote(shown(source / path))} {shlex.quote(shown(target))}"


def _links(source: Path, tree: Tree) -> Iterator[Offender]:
    for link in tree.links:
        if link.inside:
            continue
        path = f"{link.path}/" if link.folder else link.path
        behind = _below(tree.files, path)
        yield Offender(
            kind=kinds.LINKS,
            path=path,
            size=sum(file.size for file in behind),
            files=len(behind),
            line=escape(link.path),
            command=f"rm {shlex.quote(shown(source / link.path))}",
            note=f"to {link.target}",
        )


def _below(files: list[SnapshotFile], path: str) -> list[SnapshotFile]:
    """The files in a folder, whose path ends with /; or the one file of this path."""
    first = bisect_left(files, path, key=_path)
    last = bisect_left(files, f"{path[:-1]}0", key=_path) if path.endswith("/") else first + 1  # 0 comes next to /
    return files[first:last]


def _path(file: SnapshotFile) -> str:
    return file.path


def _folder_of(file: SnapshotFile) -> str:
    return file.path.rpartition("/")[0]


def _behind_link(source: Path, offender: Offender, tree: Tree) -> Offender:
    """azure-ai-ml does not apply rules to what lies behind a link to a folder: only removing the link helps."""
    for link in tree.links:
        if link.folder and offender.path.startswith(f"{link.path}/"):
            return replace(offender, line=None, command=f"rm {shlex.quote(shown(source / link.path))}")
    return offender
