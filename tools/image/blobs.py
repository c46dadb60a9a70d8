"""Layers as registries keep them: tars compressed by gzip, the same bytes each time, kept beside the tar.

A tar is compressed in blocks of its own, one gzip member each: members may follow each other (RFC 1952, 2.2; image
layers of the eStargz format are made so), and all processors work on one large layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .. import files
from ..errors import ImageError
from .archive import Layer

FORMAT = 1  # of the bytes: raise it when the same tar must give another blob
LEVEL = 5  # engines' own, 6, takes 1.7 times as long for 1.5 % fewer bytes (PyTorch's layer of 776 MB)
BLOCK = 4 << 20  # bytes of the tar in one gzip member; larger ones save less than 0.1 %
# No name, no time, and an unknown system, where zlib would write its own (RFC 1952, 2.3)
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@dataclass(frozen=True, kw_only=True)
class Blob:
    """What a registry keeps under a digest. source: its bytes, or the file that holds them; name: for people."""

    digest: str
    size: int
    source: Path | bytes
    name: str

    def pieces(self) -> Iterator[bytes]:
        """The content, checked against the digest before its end is handed out; DamagedError if it is another."""
        if isinstance(self.source, bytes):
            yield self.source
            return
        digest = hashlib.sha256()
        last = b""
        with self.source.open("rb") as file:
            while piece := file.read(files.CHUNK):
                digest.update(piece)
                if last:
                    yield last
                last = piece
        if f"sha256:{digest.hexdigest()}" != self.digest:
            raise DamagedError(self.source, entry=self.source)
        yield last


class DamagedError(ImageError):
    """A file in the cache is not what was put there. entry: what to remove of the cache, so that it is made again."""

    def __init__(self, path: Path, *, entry: Path) -> None:
        super().__init__(f"{path} in the cache is damaged", command="make clean-cache, then try again")
        self.entry = entry


def of(content: bytes, name: str) -> Blob:
    """The blob of these bytes."""
    return Blob(digest=f"sha256:{hashlib.sha256(content).hexdigest()}", size=len(content), source=content, name=name)


def compressed(layer: Layer) -> Blob:
    """The layer's blob; compressed now, if it is not there yet.

    Errors: DamagedError if the tar is not the one that the layer names.
    """
    ready = _read(layer)
    if ready is None:
        lock = layer.path.with_name(f"{layer.path.name}.gz.lock")
        with (
            files.disk_errors(layer.path.parent, "make clean-cache, or make room"),
            files.locked(lock, f"Waiting: another push compresses {layer.comment}"),
        ):
            for left in lock.parent.glob(f".{_file(layer).name}.*.part"):
                left.unlink()  # of a killed push
            if _read(layer) is None:
                _write(layer)
        ready = _read(layer)
    if ready is None:
        raise ImageError(f"{_note(layer)} cannot be read back", command="try again")
    return ready


def _file(layer: Layer) -> Path:
    return layer.path.with_name(f"{layer.path.name}.gz")


def _note(layer: Layer) -> Path:
    return layer.path.with_name(f"{layer.path.name}.gz.json")


def _read(layer: Layer) -> Blob | None:
    """A finished blob: its note is written last, so a file without one is not believed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(_note(layer).read_text(encoding="utf-8"))
        same = (note["format"], note["diff_id"], note["size"]) == (FORMAT, layer.diff_id, _file(layer).stat().st_size)
        if same:
            return Blob(digest=note["digest"], size=note["size"], source=_file(layer), name=layer.comment)
    return None


def _write(layer: Layer) -> None:
    tar_digest, digest, size = hashlib.sha256(), hashlib.sha256(), 0
    try:
        tar = layer.path.open("rb")
    except FileNotFoundError as error:  # another build made room in the cache
        raise DamagedError(layer.path, entry=layer.path.parent) from error
    with tar, files.written_whole(_file(layer)) as out:
        for member in _members(tar, tar_digest.update):
            digest.update(member)
            size += len(member)
            out.write(member)
        if f"sha256:{tar_digest.hexdigest()}" != layer.diff_id:
            raise DamagedError(layer.path, entry=layer.path.parent)
    note = {"format": FORMAT, "diff_id": layer.diff_id, "digest": f"sha256:{digest.hexdigest()}", "size": size}
    files.write_text(_note(layer), json.dumps(note, sort_keys=True))


def _members(tar: IO[bytes], seen: Callable[[bytes], None]) -> Iterator[bytes]:
    """The gzip members of a tar, in its order; `seen` gets each block of the tar."""
    processors = os.cpu_count() or 1
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(processors) as pool:
        while block := tar.read(BLOCK):
            seen(block)
            pending.append(pool.submit(_member, block))
            if len(pending) > 2 * processors:  # what waits is bounded, and so is memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _member(block: bytes) -> bytes:
    """One gzip member (RFC 1952, 2.3.1)."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(block) + deflate.flush()
    return _HEADER + body + struct.pack("<II", zlib.crc32(block), len(block))
