"""A saved image (`docker save`) -> the tars of its layers, each checked against the image's config.

Knows the layout of engines up to 24 (ID/layer.tar) and the OCI one since (blobs/sha256/DIGEST, where layers may be
compressed). No name in the archive ever becomes the name of a file here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from .. import files
from ..errors import HashMismatchError, ImageError

MTIME = 315_532_800  # 1980-01-01
MAX_JSON = 4 << 20  # bytes; a config of 125 layers has 100 kB
_BROKEN = (
    tarfile.TarError,
    zlib.error,
    zstandard.ZstdError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Tar:
    """An uncompressed layer, the file <sha256>.tar of a folder. size: in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An image on disk. config: its JSON; layers: bottom first."""

    config: dict[str, Any]
    layers: tuple[Tar, ...]


def unpack(archive: Path, folder: Path, *, architecture: str | None = None) -> Saved:
    """Writes the layers of an image in the archive to `folder`. architecture: "amd64"; None: that of the first image.

    Errors: ImageError for an archive that is none, or of another architecture; HashMismatchError for a layer that is
    not the one that the config names.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            return _unpack(tar, folder, architecture)
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own trouble, not the archive's
        raise ImageError(
            f"the archive of an image cannot be read: {error}",
            expected="an archive as of docker save",
            command="make doctor, then try again",
        ) from error


def _unpack(archive: tarfile.TarFile, folder: Path, architecture: str | None) -> Saved:
    for entry in _json(archive, "manifest.json"):
        config = _json(archive, entry["Config"])
        if architecture in (None, config["architecture"]):
            break
    else:
        raise ValueError(f"it has no image for {architecture}")
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(entry["Layers"]):
        raise ValueError(f"{len(entry['Layers'])} layers, and {len(diff_ids)} in the config")
    pairs = zip(entry["Layers"], diff_ids, strict=True)
    layers = tuple(_layer(_member(archive, name), diff_id, folder) for name, diff_id in pairs)
    return Saved(config=config, layers=layers)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file of the archive; engines up to 24 write a layer that comes twice as a link to the first."""
    member = archive.getmember(name)
    if member.issym():
        member = archive.getmember(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)))
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise ValueError(f"{name} is not a file")
    return file


def _json(archive: tarfile.TarFile, name: str) -> Any:
    with _member(archive, name) as file:
        return json.loads(file.read(MAX_JSON))


def _layer(packed: IO[bytes], diff_id: str, folder: Path) -> Tar:
    algorithm, _, expected = diff_id.partition(":")
    if algorithm != "sha256":
        raise ValueError(f"{diff_id} is not a sha256")
    with files.written_whole(folder / "layer") as file:
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(_uncompressed(packed)):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        found = digest.hexdigest()
        if found != expected:
            raise HashMismatchError("a layer of the image", expected=expected, found=found, where="the engine")
    (folder / "layer").rename(folder / f"{found}.tar")
    return Tar(sha256=found, size=size)


def _uncompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if magic == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(files.CHUNK):
        yield chunk


def normalise(tar: Tar, folder: Path) -> Tar:
    """The same files with a fixed time: the same packages give the same layer whenever they were installed."""
    target = folder / "normalised"
    with (
        tarfile.open(folder / f"{tar.sha256}.tar", "r:") as old,
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as new,
    ):
        for entry in old:
            entry.mtime = MTIME
            entry.uname = entry.gname = ""
            entry.pax_headers = {
                name: value for name, value in entry.pax_headers.items() if name.startswith("SCHILY.xattr.")
            }
            new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
    found = files.sha256(target)
    target.rename(folder / f"{found}.tar")
    return Tar(sha256=found, size=(folder / f"{found}.tar").stat().st_size)
