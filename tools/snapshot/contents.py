"""What is in the files of a snapshot: their sha256, and whether one holds a secret. Known files are not read again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO

from .. import files, progress
from ..errors import SnapshotError
from . import secrets
from .tree import SnapshotFile, identity, made

# A file that changed less than this before it was read may change again without a new time: filesystems count time in
# steps, of up to 2 s (FAT). It is not remembered.
RACY_NS = 2_000_000_000
TRIES = 3  # readings of a file that changes meanwhile

# A note: what follows, then sha256 and secret of each file, then for each file a record and its path.
_HEAD = struct.Struct("<24s32s32sI")  # magic; of all its files: key, digest as a snapshot, number
_MAGIC = (b"parity snapshot 1 " + secrets.VERSION).ljust(24, b"\0")
_CONTENT = struct.Struct("<32sB")
_RECORD = struct.Struct("<H40s32sB")  # length of the path, identity, sha256, secret
_TIMES = struct.Struct("<24xqq")  # of an identity


@dataclass(frozen=True, kw_only=True)
class Contents:
    """files: with their contents, as they were when they were read. secrets: path and kind, as `secrets.find` has it.

    digest: of the snapshot, sha256 over path, size and content hash of every file, in order of path.
    """

    files: list[SnapshotFile]
    secrets: dict[str, int]
    digest: str


def read(source: Path, found: list[SnapshotFile], memory: Path | None) -> Contents:
    """What is in these files.

    found: in the order of paths; it is emptied, to hold no file twice in memory. memory: the folder in which contents
    are remembered by path, device, inode, size and times; None remembers nothing.
    Errors: SnapshotError if a file cannot be read, or changes whenever it is.
    """
    note = memory / hashlib.sha256(os.fsencode(source.absolute())).hexdigest()[:16] if memory else None
    if note and (known := _unchanged(note, found)):
        found.clear()
        return known
    done, seen = _read(source, found, note)
    return Contents(files=done, secrets=seen, digest=_digest(done).hex())


def _digest(read_: list[SnapshotFile]) -> bytes:
    digest = hashlib.sha256()
    for start in range(0, len(read_), 1000):
        lines = (f"{file.path}\0{file.size}\0{file.content.hex()}\n" for file in read_[start : start + 1000])
        digest.update("".join(lines).encode())
    return digest.digest()


def _read(source: Path, found: list[SnapshotFile], note: Path | None) -> tuple[list[SnapshotFile], dict[str, int]]:
    began = time.time_ns()
    recall = _Recall(note)
    done: list[SnapshotFile] = []
    seen: dict[str, int] = {}
    with progress.task("Hashing files", total=sum(file.size for file in found), unit="bytes") as task:
        found.reverse()
        while found:
            file = found.pop()
            look = _to_look_through(len(done), file)
            known = recall(file.path, file.identity)
            if known and not (look and known[1] == secrets.UNSEEN):
                content, secret = known
            else:
                length, content, secret = _hashed(f"{source}/{file.path}", file.size, look, task)
                if length != file.size:
                    file, content, secret = _again(source, file, look, task)
            done.append(SnapshotFile(file.path, file.size, file.executable, file.identity, content))
            if look and secret:
                seen[file.path] = secret
    if note:
        _remember(note, done, seen, began)
    return done, seen


def _key(found: list[SnapshotFile]) -> bytes:
    """A hash that changes with any path and identity: while it stands, all is as it was."""
    key = hashlib.sha256("\0".join(map(itemgetter(0), found)).encode())
    key.update(b"".join([file.identity for file in found]))
    return key.digest()


def _unchanged(note: Path, found: list[SnapshotFile]) -> Contents | None:
    """All that the note holds, if it is of these very files, and none has changed."""
    with _opened(note) as stream:
        _, key, digest, count = _HEAD.unpack(stream.read(_HEAD.size))
        if count != len(found) or key != _key(found):
            return None
        noted = stream.read(count * _CONTENT.size)
    if len(noted) < count * _CONTENT.size:
        return None
    done = [
        made(SnapshotFile, (path, size, executable, known, noted[at : at + 32]))
        for (path, size, executable, known, _), at in zip(found, range(0, len(noted), _CONTENT.size), strict=True)
    ]
    kinds = noted[_CONTENT.size - 1 : secrets.FILES * _CONTENT.size : _CONTENT.size]
    seen = {done[at].path: kind for at, kind in enumerate(kinds) if kind not in (0, secrets.UNSEEN)}
    return Contents(files=done, secrets=seen, digest=digest.hex())


def _to_look_through(number: int, file: SnapshotFile) -> bool:
    return number < secrets.FILES and file.size < secrets.LARGEST


class _Recall:
    """What a note knows, gone through alongside the files: both are in the order of paths."""

    def __init__(self, note: Path | None) -> None:
        self.records = _records(note) if note else iter(())
        self.next = next(self.records, None)

    def __call__(self, path: str, known: bytes) -> tuple[bytes, int] | None:
        """sha256 and secret of a file that is what it was when it was noted."""
        while self.next and self.next[0] < path:
            self.next = next(self.records, None)
        if self.next and self.next[:2] == (path, known):
            return self.next[2:]
        return None


def _hashed(path: str, size: int, look: bool, task: progress.Task) -> tuple[int, bytes, int]:
    """Length of a file as it was read, its sha256 and secret. size: bytes expected; look: for secrets too.

    No time is looked at: a file that changed since it was found has other times the next time, and is read again.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            data = os.read(descriptor, min(size + 1, files.CHUNK))
            length, digest = len(data), hashlib.sha256(data)
            secret = secrets.find(data) if look else secrets.UNSEEN
            while len(data) == files.CHUNK:
                task.advance(len(data))
                data = os.read(descriptor, files.CHUNK)
                length += len(data)
                digest.update(data)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}", command="give yourself access") from error
    return length, digest.digest(), secret


def _again(source: Path, file: SnapshotFile, look: bool, task: progress.Task) -> tuple[SnapshotFile, bytes, int]:
    """A file that has grown or shrunk since it was found, as it is now, with its sha256 and secret."""
    path = source / file.path
    for _ in range(TRIES):
        status = path.stat()
        length, content, secret = _hashed(str(path), status.st_size, look, task)
        if length == status.st_size:
            executable = bool(status.st_mode & stat.S_IXUSR)
            return SnapshotFile(file.path, length, executable, identity(status)), content, secret
    raise SnapshotError(
        f"{path} changes while it is read", expected="a source directory at rest", command="end what writes there"
    )


def _remember(note: Path, done: list[SnapshotFile], seen: dict[str, int], began: int) -> None:
    kept = [
        (file, seen.get(file.path, 0) if _to_look_through(number, file) else secrets.UNSEEN)
        for number, file in enumerate(done)
        if began - max(_TIMES.unpack(file.identity)) > RACY_NS
    ]
    files_ = [file for file, _ in kept]
    with files.written_whole(note) as stream:
        stream.write(_HEAD.pack(_MAGIC, _key(files_), _digest(files_), len(kept)))
        for file, secret in kept:
            stream.write(_CONTENT.pack(file.content, secret))
        for file, secret in kept:
            path = file.path.encode()
            stream.write(_RECORD.pack(len(path), file.identity, file.content, secret) + path)


def _opened(note: Path) -> IO[bytes]:
    """A note at its beginning; one without files where it is missing, of another version or cut off."""
    with contextlib.suppress(OSError):
        stream = note.open("rb", buffering=files.CHUNK)
        head = stream.read(_HEAD.size)
        if len(head) == _HEAD.size and head.startswith(_MAGIC):
            stream.seek(0)
            return stream
        stream.close()
    return io.BytesIO(_HEAD.pack(_MAGIC, bytes(32), bytes(32), 0))


def _records(note: Path) -> Iterator[tuple[str, bytes, bytes, int]]:
    """Path, identity, sha256 and secret of each file of a note."""
    with _opened(note) as stream:
        _, _, _, count = _HEAD.unpack(stream.read(_HEAD.size))
        stream.seek(count * _CONTENT.size, os.SEEK_CUR)
        while len(head := stream.read(_RECORD.size)) == _RECORD.size:
            length, known, sha256, secret = _RECORD.unpack(head)
            yield os.fsdecode(stream.read(length)), known, sha256, secret
