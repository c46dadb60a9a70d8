"""What tells two images apart: first the layers, then their files, then the bytes of the first file that differs."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import engine, files
from . import saved

if TYPE_CHECKING:
    import docker

CONTEXT = 8  # bytes shown before and after the first one that differs


@dataclass(frozen=True, kw_only=True)
class Side:
    """An image as a person named it, unpacked in a folder."""

    name: str
    image: saved.Saved
    folder: Path


@dataclass(frozen=True, kw_only=True)
class _File:
    """What a layer says of one path, and a hash of its content."""

    kind: str
    mode: str
    owner: str
    time: int
    link: str
    size: int
    content: str


def between(one: str, two: str, *, client: Callable[[], docker.DockerClient]) -> Iterator[str]:
    """What tells two images apart, for people; nothing where they are the same.

    one, two: references of the engine that `client` gives, or files as of docker save. Errors: ImageError.
    """
    with tempfile.TemporaryDirectory(prefix="parity-diff-") as folder:
        sides = []
        for index, name in enumerate((one, two)):
            place = Path(folder) / str(index)
            place.mkdir()
            archive = Path(name)
            if not archive.is_file():
                archive = place / "image.tar"
                _save(client(), name, archive)
            sides.append(Side(name=name, folder=place, image=saved.unpack(archive, place)))
            (place / "image.tar").unlink(missing_ok=True)
        yield from _lines(*sides)


def _save(client: docker.DockerClient, reference: str, archive: Path) -> None:
    with engine.errors(f"taking {reference} out of the engine"), archive.open("wb") as file:
        for chunk in client.images.get(reference).save(chunk_size=files.CHUNK):
            file.write(chunk)


def _lines(one: Side, two: Side) -> Iterator[str]:
    """The differences, for people, the most telling first; nothing where the images are the same."""
    yield from _config(one.image.config, two.image.config)
    for index, (a, b) in enumerate(itertools.zip_longest(one.image.layers, two.image.layers)):
        if a is None or b is None:
            yield f"layer {index}: only in {one.name if b is None else two.name}"
        elif a.sha256 != b.sha256:
            yield f"layer {index}: {a.sha256[:12]} / {b.sha256[:12]}"
            yield from (f"  {line}" for line in _layer(one.folder / f"{a.sha256}.tar", two.folder / f"{b.sha256}.tar"))


def _config(one: dict[str, Any], two: dict[str, Any]) -> Iterator[str]:
    """What the configs say otherwise; the layers, which they name too, are told by themselves."""
    inner, other = one.get("config", {}), two.get("config", {})
    for key in sorted({*inner, *other}):
        if inner.get(key) != other.get(key):
            yield f"config.{key}: {json.dumps(inner.get(key))} / {json.dumps(other.get(key))}"
    for key in sorted({*one, *two} - {"config", "rootfs"}):
        if one.get(key) != two.get(key):
            yield f"{key}: {json.dumps(one.get(key))} / {json.dumps(two.get(key))}"


def _layer(one: Path, two: Path) -> Iterator[str]:
    before, after = _listing(one), _listing(two)
    bytes_shown = False
    for name in sorted({*before, *after}):
        a, b = before.get(name), after.get(name)
        if a is None or b is None:
            yield f"{name}: only in the {'first' if b is None else 'second'}"
        elif a != b:
            changed = [f"{key} {x} / {getattr(b, key)}" for key, x in vars(a).items() if x != getattr(b, key)]
            yield f"{name}: {', '.join(changed)}"
            if a.content != b.content and not bytes_shown:
                bytes_shown = True
                yield f"  {_first_bytes(one, two, name)}"
    if list(before) != list(after) and set(before) == set(after):
        yield "the same files in another order"


def _listing(path: Path) -> dict[str, _File]:
    listing = {}
    with tarfile.open(path, "r:") as tar:
        for entry in tar:
            source = tar.extractfile(entry) if entry.isreg() else None
            listing[entry.name] = _File(
                kind=entry.type.decode(),
                mode=f"{entry.mode:o}",
                owner=f"{entry.uid}:{entry.gid}",
                time=int(entry.mtime),
                link=entry.linkname,
                size=entry.size,
                content=_hash(source) if source else "",
            )
    return listing


def _hash(source: Any) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(files.CHUNK):
        digest.update(chunk)
    return digest.hexdigest()[:12]


def _first_bytes(one: Path, two: Path, name: str) -> str:
    with tarfile.open(one, "r:") as first, tarfile.open(two, "r:") as second:
        a, b = first.extractfile(name), second.extractfile(name)
        if a is None or b is None:
            return "not both are files"
        x, y = a.read(), b.read()
    at = next((index for index, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y)))
    start = max(0, at - CONTEXT)
    return f"from byte {at}: {x[start : at + CONTEXT]!r} / {y[start : at + CONTEXT]!r}"
