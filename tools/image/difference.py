"""What tells two images apart: first the layers, then their files, then the bytes of the first file that differs."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from . import saved

CONTEXT = 8  # bytes shown before and after the first one that differs


@dataclass(frozen=True, kw_only=True)
class Side:
    """An image as a folder: its config, and the tar of each of its layers."""

    name: str
    config: dict[str, Any]
    layers: tuple[saved.Tar, ...]
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


def lines(one: Side, two: Side) -> Iterator[str]:
    """The differences, for people, the most telling first; nothing where the images are the same."""
    for key in sorted({*one.config, *two.config} - {"rootfs", "history"}):
        if one.config.get(key) != two.config.get(key):
            yield f"config {key}: {json.dumps(one.config.get(key))} / {json.dumps(two.config.get(key))}"
    if len(one.layers) != len(two.layers):
        yield f"layers: {len(one.layers)} / {len(two.layers)}"
    for index, (a, b) in enumerate(itertools.zip_longest(one.layers, two.layers)):
        if a is None or b is None:
            yield f"layer {index}: only in {one.name if b is None else two.name}"
        elif a.sha256 != b.sha256:
            yield f"layer {index}: {a.sha256[:12]} / {b.sha256[:12]}"
            yield from (f"  {line}" for line in _layer(one.folder / f"{a.sha256}.tar", two.folder / f"{b.sha256}.tar"))


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
