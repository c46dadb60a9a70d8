"""The files below a source directory that its rules let through: found by `os.scandir`, without reading any."""

from __future__ import annotations

import logging
import os
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from ..errors import SnapshotError
from .patterns import escape
from .rules import AMLIGNORE, SDK, Rules

LOOK_AT_CLOCK = 512  # entries between two looks
EXECUTABLE = stat.S_IXUSR
READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH

log = logging.getLogger(__name__)


class SnapshotFile(NamedTuple):
    """One file. path: relative, with /. size: bytes. executable: whether it was, which Azure ML does not keep.

    identity: changes when the file does. content: its sha256, 32 bytes; empty until it is read. A tuple, since there
    may be hundreds of thousands.
    """

    path: str
    size: int
    executable: bool
    identity: bytes
    content: bytes = b""

    @property
    def sha256(self) -> str:
        """The hash of its content, 64 hex digits."""
        return self.content.hex()


class Link(NamedTuple):
    """A symbolic link. folder: to a folder. target: where it leads, absolute. inside: to something in the source."""

    path: str
    folder: bool
    target: str
    inside: bool


@dataclass(kw_only=True)
class Tree:
    """What lies below a source directory.

    files: by path. folders: those that were entered or are still to be, each with a / at its end.
    size: bytes of all files. skipped: files that cannot be read, which the SDK leaves out. partial: whether the walk
    was stopped before its end.
    """

    files: list[SnapshotFile] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    size: int = 0
    partial: bool = False


class _Folder(NamedTuple):
    """A folder to enter.

    prefix: of the paths in it. real: where it is, without links. above: the real paths of it and of all folders through
    which it was reached. tested: the prefix that the rules see. emptied: they leave out all in it that is no link.
    """

    prefix: str
    real: str
    above: tuple[str, ...]
    tested: str
    emptied: bool


_IDENTITY = struct.Struct("<QQQqq")
made = tuple.__new__  # half the time of SnapshotFile(...), which counts at 20,000 files


def identity(status: os.stat_result) -> bytes:
    """Device, inode, size and the times of the last change of content and of inode, in 40 bytes.

    The time of the inode is there because no program can set it back, as `touch -r` and `cp -p` do with the other.
    """
    return _IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def survey(
    source: Path,
    rules: Rules,
    *,
    enough: Callable[[Tree], bool] = lambda tree: False,
    ignored: Callable[[str], None] | None = None,
) -> Tree:
    """All files of a snapshot, breadth first.

    enough: asked now and then; True ends the walk, and the tree is partial. ignored: told each path that is left out,
    a folder with a / at its end. Errors: SnapshotError where the SDK fails: links to nothing or in a circle, sockets
    and devices, folders that cannot be listed, names that are not UTF-8.
    """
    walk = _Walk(source=source, rules=rules, enough=enough, ignored=ignored or (lambda path: None))
    walk.run()
    walk.tree.files.sort(key=itemgetter(0))
    return walk.tree


@dataclass(kw_only=True)
class _Walk:
    source: Path
    rules: Rules
    enough: Callable[[Tree], bool]
    ignored: Callable[[str], None]
    tree: Tree = field(default_factory=Tree)

    def run(self) -> None:
        self.root = os.path.realpath(self.source)
        # azure-ai-ml tests real paths, as seen from the folder in which the ignore file really is.
        self.base = os.path.realpath(self.rules.file.resolve().parent) if self.rules.file else self.root
        enter = self._enter_v1 if self.rules.dialect == "v1" else self._enter_v2
        queue = deque([_Folder("", self.root, (self.root,), self._seen_from_base(self.root), False)])
        while queue and not self.tree.partial:
            folder = queue.popleft()
            entered = enter(folder)
            self.tree.folders.extend(each.prefix for each in entered if not each.emptied)
            queue.extend(entered)
            if self.enough(self.tree):
                self.tree.partial = bool(queue) or self.tree.partial

    def _enter_v1(self, folder: _Folder) -> list[_Folder]:
        """create_merkletree of azureml-core: what is excluded is not entered; `d/` excludes what is in d, not d."""
        any_rules, excludes, prefix = bool(self.rules.groups), self.rules.excludes, folder.prefix
        inside = []
        for count, entry in enumerate(self._list(folder), start=1):
            path = prefix + entry.name
            if any_rules and excludes(path):
                self.ignored(path + "/" * _is(entry.is_dir))
            elif entry.is_file(follow_symlinks=False):
                self._add(path, entry)
            elif _is(entry.is_dir):
                if self.rules.empties(path):
                    self.ignored(f"{path}/")
                else:
                    inside.append(self._inside(folder, entry, path, emptied=False))
            else:
                self._add_link(path, entry)
            if count % LOOK_AT_CLOCK == 0 and self.enough(self.tree):
                self.tree.partial = True
                break
        return inside

    def _enter_v2(self, folder: _Folder) -> list[_Folder]:
        """get_upload_files_from_folder of azure-ai-ml: each file is tested, where it really is.

        Links to folders are followed from excluded folders too, so those are looked through for links alone.
        """
        any_rules, rules, prefix = bool(self.rules.groups), self.rules, folder.prefix
        inside = []
        for count, entry in enumerate(self._list(folder), start=1):
            path, tested = prefix + entry.name, folder.tested + entry.name
            plain = entry.is_file(follow_symlinks=False)
            if not plain and _is(entry.is_dir):
                emptied = folder.emptied or rules.empties(tested)
                if emptied and not folder.emptied:
                    self.ignored(f"{path}/")
                inside.append(self._inside(folder, entry, path, emptied=emptied))
            elif any_rules and ((folder.emptied and "\n" not in tested) or rules.excludes(tested)):
                if not folder.emptied:
                    self.ignored(path)
            elif plain:
                self._add(path, entry)
            else:
                self._add_link(path, entry)
            if count % LOOK_AT_CLOCK == 0 and self.enough(self.tree):
                self.tree.partial = True
                break
        return inside

    def _list(self, folder: _Folder) -> Iterator[os.DirEntry[str]]:
        """What is in a folder; by its descriptor, from which the kernel finds each file sooner than by a long path."""
        try:
            descriptor = os.open(folder.real, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if self.rules.dialect == "v2" and self.rules.excludes(folder.tested[:-1]):
                return  # azure-ai-ml looks for files in it and finds none, but does not hash it
            path = folder.prefix.rstrip("/")
            raise self._error(path, f"cannot be listed: {error.strerror}", "give yourself access") from error
        try:
            yield from os.scandir(descriptor)
        finally:
            os.close(descriptor)

    def _inside(self, folder: _Folder, entry: os.DirEntry[str], path: str, *, emptied: bool) -> _Folder:
        if not entry.is_symlink():
            real = f"{folder.real.rstrip('/')}/{entry.name}"
            return _Folder(f"{path}/", real, (*folder.above, real), f"{folder.tested}{entry.name}/", emptied)
        real = self._real(path)
        if real in folder.above:
            raise self._error(path, f"is a link in a circle, to {real}", f"remove the link: rm {self.source / path}")
        self._note(path, real, folder=True)
        tested = self._seen_from_base(real) if self.rules.dialect == "v2" else f"{path}/"
        return _Folder(f"{path}/", real, (*folder.above, real), tested, emptied and self.rules.dialect == "v1")

    def _seen_from_base(self, real: str) -> str:
        if self.rules.dialect == "v1" or real == self.base:
            return ""
        return os.path.relpath(real, self.base) + "/"

    def _add(self, path: str, entry: os.DirEntry[str]) -> None:
        status = entry.stat()
        mode, size = status.st_mode, status.st_size
        if (mode & READABLE != READABLE or not path.isascii()) and not self._may_go(path, mode):
            return
        tree = self.tree
        tree.size += size
        tree.files.append(made(SnapshotFile, (path, size, mode & EXECUTABLE != 0, identity(status), b"")))

    def _may_go(self, path: str, mode: int) -> bool:
        """False for a file that azureml-core skips since it cannot read it."""
        if mode & READABLE != READABLE and not os.access(f"{self.root}/{path}", os.R_OK):
            if self.rules.dialect == "v2":
                raise self._error(path, "cannot be read: permission denied", "give yourself access")
            self.tree.skipped.append(path)
            return False
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise self._error(ascii(path)[1:-1], "has a name that is not UTF-8", "give it another name") from error
        return True

    def _add_link(self, path: str, entry: os.DirEntry[str]) -> None:
        """Something that is neither file nor folder by itself: at best it is a link to a file."""
        if not _is(entry.is_file):
            raise self._refusal(path, entry)
        self._note(path, self._real(path), folder=False)
        self._add(path, entry)

    def _real(self, path: str) -> str:
        return os.path.realpath(f"{self.root}/{path}")

    def _note(self, path: str, real: str, *, folder: bool) -> None:
        inside = real.startswith(self.root.rstrip("/") + "/")
        self.tree.links.append(Link(path, folder, real, inside))

    def _refusal(self, path: str, entry: os.DirEntry[str]) -> SnapshotError:
        try:
            mode = entry.stat().st_mode
        except OSError:
            return self._error(path, "is a link to nothing", f"remove the link: rm {self.source / path}")
        kind = "a socket" if stat.S_ISSOCK(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
        return self._error(path, f"is {kind}", f"remove it: rm {self.source / path}")

    def _error(self, path: str, what: str, command: str) -> SnapshotError:
        return SnapshotError(
            f"{self.source / path} {what}; {SDK[self.rules.dialect]} fails on it",
            expected="files and folders that can be read",
            command=f"{command}; or leave it out by a line in {self.source / AMLIGNORE}: {escape(path)}",
        )


def _is(kind: Callable[[], bool]) -> bool:
    """The answer of an entry's is_file or is_dir, which a link that leads to itself does not give."""
    try:
        return kind()
    except OSError:
        return False


class Patience:
    """Says "enough" once `over` holds and `seconds` have passed since it was made."""

    def __init__(self, over: Callable[[Tree], bool], seconds: float) -> None:
        self.over, self.deadline = over, time.monotonic() + seconds

    def __call__(self, tree: Tree) -> bool:
        """Whether the walk may end here."""
        return time.monotonic() > self.deadline and self.over(tree)
