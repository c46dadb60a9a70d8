"""Files written whole, hashed and measured: what every other room does to a disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import DiskError

CHUNK = 1 << 20  # bytes read at a time

log = logging.getLogger(__name__)


@contextlib.contextmanager
def written_whole(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` complete, or not at all; private: for its owner's eyes alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        if not private:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)  # noqa: PTH101 - mkstemp gives 600
        os.replace(name, path)  # noqa: PTH105 - names a string
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with written_whole(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def directory_written_whole(path: Path) -> Iterator[Path]:
    """A directory that appears at `path` complete, or not at all; an older one there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        yield work
        work.chmod(0o755)
        if path.exists():
            old = work.with_suffix(".old")
            path.rename(old)
            work.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """One process at a time; `waiting` is said once where another one is at work."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s", waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """The sha256 of a file's content, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def extract(archive: tarfile.TarFile, folder: Path) -> list[str]:
    """Unpacks plain files and folders, and links that stay inside; returns the names of what was left out.

    Whatever the archive says, nothing is written outside of `folder`, and all of it belongs to the caller.
    """
    left_out = []
    root = folder.resolve()
    for member in archive:
        target = root / member.name.lstrip("/")
        parent = target.parent.resolve()
        if ".." in Path(member.name).parts or not (parent == root or root in parent.parents):
            left_out.append(member.name)
        elif member.isdir():
            target.mkdir(parents=True, exist_ok=True)
        elif member.isreg():
            parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            target.unlink(missing_ok=True)  # never write through a link
            with target.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)  # type: ignore[arg-type]
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
        elif member.issym() and root in (parent / member.linkname).resolve().parents:
            parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(member.linkname)
        else:
            left_out.append(member.name)
    return left_out


def human(size: int) -> str:
    """A number of bytes for people, in MB (10^6 bytes) as package tools print it."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


@contextlib.contextmanager
def disk_errors(where: Path, command: str) -> Iterator[None]:
    """Turns a full or read-only disk into one line; `command` is what makes room."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(where).free
                raise DiskError(f"the disk of {where} is full: {human(free)} left", command=command) from error
            raise DiskError(f"the disk of {where} is full", command=command) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DiskError(
                f"{error.filename or where} cannot be written: {error.strerror}", command=command
            ) from error
        raise
