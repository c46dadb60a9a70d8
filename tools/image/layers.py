"""Packages -> layers: which packages share one, and the tar that each becomes.

The rule (after apko's): a package whose file is at least BIG gets a layer of its own, the OWN biggest at most; all
others share BUCKETS layers, each in the one that its name hashes to. So a new version of one package changes one layer.
The big ones come first, in classes of size, since an engine registers anew whatever lies above a layer that changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .. import files, progress
from . import activation, bytecode, staging, wheels
from .archive import Layer
from .cache import used
from .packages import Fetched

FORMAT = 1  # of the bytes of a layer: raise it when the same packages must give another tar
BIG = 1_000_000  # bytes of a package's file (compressed)
OWN = 40
BUCKETS = 8
MTIME = 315_532_800  # 1980-01-01, the earliest time that zip files can hold

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PackageLayer(Layer):
    """A layer of packages, and the variables that these set on activation."""

    variables: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The packages of one layer, sorted by name."""

    packages: tuple[Fetched, ...]

    @property
    def comment(self) -> str:
        """What stands in the image's history."""
        return " ".join(f"{each.package.name}={each.package.version}" for each in self.packages)


def grouped(packages: Iterable[Fetched]) -> tuple[Group, ...]:
    """The layers of an image, bottom first; the order of `packages` does not matter."""
    by_size = sorted(packages, key=lambda each: (-each.size, each.package.name))
    own = [each for each in by_size if each.size >= BIG][:OWN]
    buckets: dict[int, list[Fetched]] = defaultdict(list)
    for each in by_size:
        if each not in own:
            buckets[hashlib.sha256(each.package.name.encode()).digest()[0] % BUCKETS].append(each)
    own.sort(key=lambda each: (-(each.size.bit_length() // 2), each.package.name))  # classes a factor of 4 wide
    groups = [Group(packages=(each,)) for each in own]
    for _, members in sorted(buckets.items()):
        groups.append(Group(packages=tuple(sorted(members, key=lambda each: each.package.name))))
    return tuple(groups)


def make(
    groups: Sequence[Group], *, cache: Path, platform: str, unscripted: Collection[str] = ()
) -> tuple[PackageLayer, ...]:
    """The groups' layers, from `cache` where it has them; only what is missing is linked, compiled and packed.

    unscripted: packages whose post-link script may be left out.
    """
    python = next((each for group in groups for each in group.packages if each.package.name == "python"), None)
    if python and bytecode.compiler(platform, python.package.version) is None:
        log.warning("no .pyc files in the image: there is no Python %s here to compile them", python.package.version)
    keys = [_key(group, python, platform) for group in groups]
    missing = [key for key in keys if read(cache, key) is None]
    if missing:
        log.info("Making %d of %d layers", len(missing), len(groups))
        with files.disk_errors(cache, "make clean-cache, or make room"), _workshop(cache) as work:
            made = {key: group for key, group in zip(keys, groups, strict=True) if key in missing}
            _make_missing(made, python, work, cache, platform, unscripted)
    layers = [read(cache, key) for key in keys]
    return tuple(layer for layer in layers if layer is not None)


def _make_missing(
    groups: dict[str, Group],
    python: Fetched | None,
    work: Path,
    cache: Path,
    platform: str,
    unscripted: Collection[str],
) -> None:
    extracted = work / "extracted"
    interpreter = None
    if python:
        interpreter = staging.link_python(python, work / "python", extracted=extracted, platform=platform)
    with progress.task("Making layers", total=len(groups)) as task:
        for key, group in groups.items():
            folder = work / key
            paths = [
                staging.conda_file(each, cache, python=interpreter.version if interpreter else "3")
                for each in group.packages
            ]
            staging.link(paths, folder, interpreter, extracted=extracted, platform=platform, unscripted=unscripted)
            if interpreter and python and bytecode.compiler(platform, python.package.version):
                bytecode.compile_all(folder, interpreter, platform)
            pack(folder, cache / "layers" / key, group.comment, root=staging.PREFIX)
            shutil.rmtree(folder)
            task.advance()


@contextlib.contextmanager
def _workshop(cache: Path) -> Iterator[Path]:
    """A folder beside the caches, so that linking does not copy; gone afterwards."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="staging-") as name:
        yield Path(name)


def _key(group: Group, python: Fetched | None, platform: str) -> str:
    """The layer's name in the cache: everything that its bytes depend on."""
    content = {
        "format": FORMAT,
        "wheels": wheels.FORMAT,
        "prefix": staging.PREFIX,
        "platform": platform,
        "python": python.package.sha256 if python else None,
        "bytecode": bytecode.compiler(platform, python.package.version) if python else None,
        "packages": [each.package.sha256 for each in group.packages],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(cache: Path, key: str) -> PackageLayer | None:
    """A finished layer: its note is written last, so a tar without one is not believed."""
    note = cache / "layers" / key / "layer.json"
    try:
        table = json.loads(note.read_text(encoding="utf-8"))
        tar = note.with_name("layer.tar")
        if tar.stat().st_size != table["size"]:
            return None
        used(note.parent)
        return PackageLayer(path=tar, **table)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pack(folder: Path, target: Path, comment: str, *, root: str) -> None:
    """Writes the layer that holds everything in `folder` below `root`, with its note, into the folder `target`."""
    with files.directory_written_whole(target) as work:
        tar = work / "layer.tar"
        with tar.open("wb") as raw:
            writer = _Hashing(raw)
            _write_tar(folder, writer, root.strip("/"))
        note = {
            "diff_id": f"sha256:{writer.digest.hexdigest()}",
            "size": writer.size,
            "comment": comment,
            "variables": activation.variables(folder),
        }
        (work / "layer.json").write_text(json.dumps(note, sort_keys=True), encoding="utf-8")


class _Hashing(io.RawIOBase):
    """A file that counts and hashes what is written to it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.digest, self.size = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Writes and counts."""
        self.digest.update(data)
        self.size += len(data)
        return self.raw.write(data)


def _write_tar(folder: Path, out: _Hashing, root: str) -> None:
    """Every file under `folder` as root/..., with order, owner, mode and time fixed."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=files.CHUNK) as tar:
        parents = root.split("/")
        for depth in range(1, len(parents)):
            tar.addfile(_entry("/".join(parents[:depth]), tarfile.DIRTYPE, 0o755))
        here = [folder] if root else []
        for path in sorted([*here, *folder.rglob("*")], key=lambda path: path.relative_to(folder).as_posix()):
            name = f"{root}/{path.relative_to(folder).as_posix()}".strip("/") if path != folder else root
            if path.is_symlink():
                entry = _entry(name, tarfile.SYMTYPE, 0o777)
                entry.linkname = os.readlink(path)  # noqa: PTH115 - the text as it is
                tar.addfile(entry)
            elif path.is_dir():
                tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
            else:
                status = path.stat()
                entry = _entry(name, tarfile.REGTYPE, 0o755 if status.st_mode & 0o100 else 0o644)
                entry.size = status.st_size
                with path.open("rb") as file:
                    tar.addfile(entry, file)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, MTIME
    return entry
