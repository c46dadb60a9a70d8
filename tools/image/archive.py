"""Layers -> the image's config, whose sha256 is the image's id, and the archive that an engine loads."""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import files

CREATED = "1980-01-01T00:00:00Z"  # a time that says nothing, so that the id depends on content alone
ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer. diff_id: "sha256:..." of the uncompressed tar at `path`; size: its bytes; comment: for the history."""

    diff_id: str
    path: Path
    size: int
    comment: str


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """An image before any engine has it. config: its JSON, to the byte."""

    config: bytes
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """The image id, "sha256:...", the same on every engine and registry."""
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"


def assemble(
    layers: Sequence[Layer], *, platform: str, environment: Mapping[str, str], labels: Mapping[str, str]
) -> Assembly:
    """The image of these layers, bottom first. environment: its variables; labels: what it says of itself."""
    config = {
        "architecture": ARCHITECTURES[platform],
        "config": {
            "Cmd": ["/bin/bash"],
            "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
            "Labels": dict(labels),
            "WorkingDir": "/",
        },
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": f"parity: {layer.comment}"} for layer in layers],
        "os": "linux",
        "rootfs": {"diff_ids": [layer.diff_id for layer in layers], "type": "layers"},
    }
    content = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Assembly(config=content.encode(), layers=tuple(layers))


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """An engine's names for layers on top of each other (OCI image specification, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        link = f"{chain[-1]} {diff_id}" if chain else None
        chain.append(f"sha256:{hashlib.sha256(link.encode()).hexdigest()}" if link else diff_id)
    return tuple(chain)


def stream(assembly: Assembly, *, known: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """The image as docker-archive, in pieces; the tars of layers whose chain id is `known` are left out."""
    name = assembly.id.removeprefix("sha256:")
    paths = [f"{layer.diff_id.removeprefix('sha256:')}/layer.tar" for layer in assembly.layers]
    manifest = [{"Config": f"{name}.json", "RepoTags": None, "Layers": paths}]
    yield from _member(f"{name}.json", assembly.config)
    chain = chain_ids([layer.diff_id for layer in assembly.layers])
    sent = set()
    for layer, path, link in zip(assembly.layers, paths, chain, strict=True):
        if link in known or path in sent:
            continue
        sent.add(path)
        yield _header(path, layer.size)
        with layer.path.open("rb") as file:
            while chunk := file.read(files.CHUNK):
                yield chunk
        yield _padding(layer.size)
    yield from _member("manifest.json", json.dumps(manifest, separators=(",", ":")).encode())
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content))
    yield content
    yield _padding(len(content))


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
