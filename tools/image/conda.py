"""Writes conda packages (the .conda format, version 2): the same content gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from .. import files
from ..errors import PackageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"  # conda's own default: linking puts the prefix where a file has this
MTIME = 315532800  # 1980-01-01, the first moment that a zip archive can name
LEVEL = 1  # of zstd: level 3 takes twice as long on libtorch and saves 4 % of it
WORKERS = 2  # of zstd; their number does not change the bytes, having any does
ZIP64_BYTES = 1 << 31  # content that could make a member larger than a plain zip archive holds

NoarchKind = Literal["python", "generic"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a package.

    path: relative to the prefix. size: in bytes. open: its content. sha256: what the content must have, if known.
    target: of a symbolic link, relative to the link; such a member has no content. placeholder: whether the text
    holds PLACEHOLDER.
    """

    path: str
    size: int = 0
    open: Callable[[], IO[bytes]] = io.BytesIO
    executable: bool = False
    sha256: str | None = None
    target: str | None = None
    placeholder: bool = False

    @classmethod
    def at(cls, path: str, file: Path) -> Member:
        """A file of this machine, executable if its owner may execute it."""
        status = file.stat()
        return cls(
            path=path,
            size=status.st_size,
            open=lambda: file.open("rb"),
            executable=bool(status.st_mode & stat.S_IXUSR),
        )

    @classmethod
    def of(cls, path: str, content: bytes, *, executable: bool = False, placeholder: bool = False) -> Member:
        """A file whose content is at hand."""
        return cls(
            path=path,
            size=len(content),
            open=lambda: io.BytesIO(content),
            executable=executable,
            placeholder=placeholder,
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a package says of itself.

    depends: conda match specs. number: of the build; of two builds of a version, solvers take the higher one.
    entry_points: "name = module:function", which linking writes for noarch packages alone.
    """

    name: str
    version: str
    build: str
    subdir: str
    number: int = 0
    depends: tuple[str, ...] = ()
    noarch: NoarchKind | None = None
    license: str | None = None
    entry_points: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The file name without .conda."""
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def path(self) -> str:
        """Where the file lies in a channel: "noarch/tqdm-4.67.1-pyh1234567_0.conda"."""
        return f"{self.subdir}/{self.stem}.conda"


def write(recipe: Recipe, members: Sequence[Member], directory: Path) -> Path:
    """The package, written whole into `directory`; the order of the members makes no difference.

    Errors: PackageError where a member's content is not what its sha256 says, or two members have one path.
    """
    members = sorted(members, key=lambda member: member.path)
    for first, second in itertools.pairwise(members):
        if first.path == second.path:
            raise PackageError(f"{recipe.name} {recipe.version}: {first.path} is in it twice")
    path = directory / f"{recipe.stem}.conda"
    large = sum(member.size for member in members) >= ZIP64_BYTES
    with files.written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        with _member(archive, "metadata.json") as part:
            part.write(b'{"conda_pkg_format_version": 2}')
        with _tar(archive, f"pkg-{recipe.stem}.tar.zst", large=large) as tar:
            paths = [_add(tar, member) for member in members]
        with _tar(archive, f"info-{recipe.stem}.tar.zst") as tar:
            for name, content in sorted(_info(recipe, members, paths).items()):
                _add(tar, Member.of(f"info/{name}", content))
    return path


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, *, large: bool = False) -> Iterator[IO[bytes]]:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # Unix, whatever this machine is
    info.external_attr = 0o100644 << 16
    with archive.open(info, "w", force_zip64=large) as part:
        yield part


@contextmanager
def _tar(archive: zipfile.ZipFile, name: str, *, large: bool = False) -> Iterator[tarfile.TarFile]:
    parameter = zstd.CompressionParameter
    options = {int(parameter.compression_level): LEVEL, int(parameter.nb_workers): WORKERS}
    with (
        _member(archive, name, large=large) as part,
        zstd.ZstdFile(part, "w", options=options) as stream,
        tarfile.TarFile(fileobj=cast(IO[bytes], stream), mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        yield tar


class _Hashed:
    """A stream that knows the sha256 of what was read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def _add(tar: tarfile.TarFile, member: Member) -> dict[str, Any]:
    """Adds a member; returns its entry of info/paths.json."""
    info = tarfile.TarInfo(member.path)
    info.mtime = MTIME
    if member.target is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
        tar.addfile(info)
        return {
            "_path": member.path,
            "path_type": "softlink",
            "sha256": hashlib.sha256(b"").hexdigest(),
            "size_in_bytes": 0,
        }
    info.size = member.size
    info.mode = 0o755 if member.executable else 0o644
    with member.open() as stream:
        hashed = _Hashed(stream)
        tar.addfile(info, cast(IO[bytes], hashed))
        if stream.read(1):
            raise PackageError(f"{member.path} is larger than the {member.size} bytes that are said of it")
    sha256 = hashed.digest.hexdigest()
    if member.sha256 is not None and member.sha256 != sha256:
        raise PackageError(f"{member.path} has sha256 {sha256}", expected=f"sha256 {member.sha256}")
    entry = {"_path": member.path, "path_type": "hardlink", "sha256": sha256, "size_in_bytes": member.size}
    return entry | ({"file_mode": "text", "prefix_placeholder": PLACEHOLDER} if member.placeholder else {})


def _info(recipe: Recipe, members: Sequence[Member], paths: list[dict[str, Any]]) -> dict[str, bytes]:
    """The files of info/ by name."""
    index = {
        "name": recipe.name,
        "version": recipe.version,
        "build": recipe.build,
        "build_number": recipe.number,
        "depends": list(recipe.depends),
        "subdir": recipe.subdir,
        **({"noarch": recipe.noarch} if recipe.noarch else _machine(recipe.subdir)),
        **({"license": recipe.license} if recipe.license else {}),
    }
    link = {
        "package_metadata_version": 1,
        "noarch": {"type": recipe.noarch, "entry_points": list(recipe.entry_points)},
    }
    return {
        "about.json": _json({"license": recipe.license} if recipe.license else {}),
        "files": "".join(f"{member.path}\n" for member in members).encode(),
        "index.json": _json(index),
        "paths.json": _json({"paths": paths, "paths_version": 1}),
        **({"link.json": _json(link)} if recipe.noarch == "python" else {}),
    }


def _machine(subdir: str) -> dict[str, str]:
    system, _, bits = subdir.partition("-")
    return {"platform": system, "arch": {"64": "x86_64"}.get(bits, bits)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode() + b"\n"
