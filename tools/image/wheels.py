"""Turns wheels into conda packages, so that one linker places every package of an image.

A pure wheel becomes a noarch package, whose entry points the linker writes; any other, a package of its platform. Every
file is checked against the wheel's own RECORD on its way. The dist-info folder stays, so that `pip check` and
importlib.metadata see what they would see after `pip install`.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import email.parser
import hashlib
import io
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, cast

from installer.exceptions import InstallerError
from installer.records import RecordEntry, parse_record_file
from installer.sources import WheelFile
from installer.utils import parse_entrypoints
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from .. import files
from ..errors import PackageError
from . import conda
from .conda import Member, Recipe
from .versions import Target, conda_spec

FORMAT = 1  # of the packages made here: a new one gives every package a new build, which solvers prefer

NONE: Mapping[str, str] = MappingProxyType({})
NO_EXTRAS: Mapping[str, Sequence[Requirement]] = MappingProxyType({})

_RETRY = "fetch it again; if it stays so, take another version of the package"
_REPLACED = ("INSTALLER", "RECORD", "RECORD.jws", "RECORD.p7s", "REQUESTED", "direct_url.json")  # of a dist-info folder
_COMMAND = re.compile(r"\w[\w.-]*")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SCRIPT = """#!{prefix}/bin/python{series}
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({function}())
"""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """What a wheel says of itself.

    name: canonical (PEP 503); sha256: of the file; pure: it runs on any platform; commands: (name, module, function) of
    its entry points that are commands.
    """

    path: Path
    sha256: str
    name: str
    version: Version
    requires: tuple[Requirement, ...]
    requires_python: SpecifierSet
    license: str | None
    pure: bool
    tags: frozenset[Tag]
    commands: tuple[tuple[str, str, str], ...]

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self.path.stat().st_size

    def needs(self, target: Target, extra: str = "") -> Iterator[Requirement]:
        """What it requires on `target`: always, or what its `extra` adds to that."""
        for requirement in self.requires:
            marker = requirement.marker
            always = marker is None or marker.evaluate({**target.markers, "extra": ""})
            added = marker is not None and not always and marker.evaluate({**target.markers, "extra": extra})
            if added if extra else always:
                yield requirement


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where the parts of one wheel go: folders of the package, and the names that the wheel gives its own."""

    packages: str
    scripts: str
    headers: str
    dist_info: str
    data: str

    def place(self, name: str) -> tuple[str, bool]:
        """(path in the package, whether it is a script) of a wheel's member; PackageError if there is none."""
        parts = name.split("/")
        if parts[0] != self.data:
            return f"{self.packages}/{name}", False
        folders = {
            "purelib": self.packages,
            "platlib": self.packages,
            "scripts": self.scripts,
            "headers": self.headers,
            "data": "",
        }
        if len(parts) < 3 or parts[1] not in folders or (parts[1] == "data" and parts[2] in ("conda-meta", "info")):
            raise PackageError(f"{name!r} has no place in an environment", expected=f"one of {', '.join(folders)}")
        return "/".join(part for part in (folders[parts[1]], *parts[2:]) if part), parts[1] == "scripts"

    def recorded(self, path: str) -> str:
        """A path in the package as RECORD has it: relative to site-packages, once it is linked."""
        if path.startswith(f"{self.packages}/"):
            return path[len(self.packages) + 1 :]
        return f"../../../{path.replace('python-scripts/', 'bin/', 1) if self.scripts != 'bin' else path}"


def convert(
    wheel: Path,
    directory: Path,
    *,
    python: str,
    subdir: str,
    rename: Mapping[str, str] = NONE,
) -> Path:
    """The wheel as one .conda in `directory`; byte-identical on every rerun, its build string names its content.

    python: "3.11", or "3.11.2" where it is known; subdir: "linux-64". rename: PyPI's names -> conda's, if they differ.
    Errors: PackageError where the file is no wheel for that Python, or holds something else than its RECORD says.
    """
    source, target = read(wheel), Target(python=python, subdir=subdir)
    return write(source, recipe(source, target, rename=rename), target, directory)


def read(path: Path) -> Wheel:
    """The wheel's metadata. Errors: PackageError where it is not a wheel that can be read."""
    with _opened(path) as (archive, source):
        name, version, _, tags = parse_wheel_filename(path.name)
        metadata = email.parser.HeaderParser().parsestr(source.read_dist_info("METADATA"))
        wheel = email.parser.HeaderParser().parsestr(source.read_dist_info("WHEEL"))
        if (canonicalize_name(metadata["Name"]), Version(metadata["Version"])) != (name, version):
            raise PackageError(f"{path.name} says of itself that it is {metadata['Name']} {metadata['Version']}")
        data = {item.split("/")[1] for item in archive.namelist() if item.startswith(f"{_data_folder(source)}/")}
        license_text = metadata["License-Expression"] or metadata["License"] or ""
        return Wheel(
            path=path,
            sha256=files.sha256(path),
            name=name,
            version=version,
            requires=tuple(Requirement(text) for text in metadata.get_all("Requires-Dist", [])),
            requires_python=SpecifierSet(metadata["Requires-Python"] or ""),
            license=license_text if re.fullmatch(r"[\x20-\x7e]{1,80}", license_text) else None,
            pure=(
                (wheel["Root-Is-Purelib"] or "").strip().lower() == "true"
                and all(tag.platform == "any" for tag in tags)
                and data <= {"", "purelib", "scripts"}
            ),
            tags=tags,
            commands=tuple(_commands(source)),
        )


def recipe(
    wheel: Wheel,
    target: Target,
    *,
    rename: Mapping[str, str] = NONE,
    extras: Mapping[str, Sequence[Requirement]] = NO_EXTRAS,
) -> Recipe:
    """What the wheel's package says of itself; its file name is final.

    extras: "name[extra]" -> what that extra of another package requires, since conda packages have no extras.
    Errors: PackageError if the wheel is not for `target`.
    """
    pythons = [target.python] if target.python != target.series else [f"{target.series}.0", f"{target.series}.99"]
    fits = any(wheel.requires_python.contains(python) for python in pythons)
    if not fits or not wheel.tags & target.tags:
        reason = f" (it requires Python {wheel.requires_python})" if not fits else ""
        raise PackageError(
            f"{wheel.path.name} is not for Python {target.python} on {target.subdir}{reason}",
            expected=f"a wheel for {target.abi}, abi3 or py3, and for manylinux on {target.machine} or any platform",
        )
    python = f">={target.series},<{target.next_series}.0a0" if not wheel.pure else conda_spec(wheel.requires_python)
    depends = {f"python {python}".rstrip()}
    for requirement in _with_extras(wheel.needs(target), extras):
        needed = canonicalize_name(requirement.name)
        if needed != wheel.name:
            depends.add(f"{rename.get(needed, needed)} {conda_spec(requirement.specifier)}".rstrip())
    name = rename.get(wheel.name, wheel.name)
    kind = "py" if wheel.pure else target.abi.replace("cp", "py")
    key = json.dumps([FORMAT, wheel.sha256, name, kind, sorted(depends)])
    local = f"{wheel.version.local}_" if wheel.version.local else ""
    return Recipe(
        name=name,
        version=wheel.version.public,
        build=f"{local}{kind}h{hashlib.sha256(key.encode()).hexdigest()[:7]}_{FORMAT}",
        subdir="noarch" if wheel.pure else target.subdir,
        number=FORMAT,
        depends=tuple(sorted(depends)),
        noarch="python" if wheel.pure else None,
        license=wheel.license,
        entry_points=tuple(f"{name} = {module}:{function}" for name, module, function in wheel.commands),
    )


def write(wheel: Wheel, package: Recipe, target: Target, directory: Path) -> Path:
    """Writes the package that `recipe` describes into `directory`, whole. Errors: as `convert`."""
    with _opened(wheel.path) as (archive, source):
        layout = _Layout(
            packages="site-packages" if wheel.pure else f"lib/python{target.series}/site-packages",
            scripts="python-scripts" if wheel.pure else "bin",
            headers=f"include/python{target.series}/{wheel.name}",
            dist_info=source.dist_info_dir,
            data=_data_folder(source),
        )
        members, rows = _members(archive, source, layout, target)
        written = [Member.of(f"{layout.packages}/{layout.dist_info}/INSTALLER", b"conda\n")]
        if wheel.pure:
            rows += [(layout.recorded(f"bin/{name}"), "", "") for name, _, _ in wheel.commands]
        else:
            written += [_script(command, target) for command in wheel.commands]
        rows += [_row(layout, member) for member in written]
        return conda.write(package, [*members, *written, _record(layout, rows)], directory)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, WheelFile]]:
    """The wheel, open; whatever is wrong with it is a PackageError that names it."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                _check_name(name)
            yield archive, WheelFile(archive)
    except PackageError as error:
        if path.name in error.found:
            raise
        raise PackageError(f"{path.name}: {error.found}", expected=error.expected, command=_RETRY) from error
    except (
        AssertionError,
        EOFError,
        InstallerError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        issues = getattr(error, "issues", None) or [str(error) or type(error).__name__]
        raise PackageError(f"{path.name} is not a sound wheel: {issues[0]}", command=_RETRY) from error


def _check_name(name: str) -> None:
    """Refuses a member that would lie outside of the folder it is unpacked to."""
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\x00-\x1f\x7f]", name):
        raise PackageError(f"{name!r} would leave the package's folder", expected="paths inside of it")


def _data_folder(source: WheelFile) -> str:
    return f"{source.dist_info_dir.removesuffix('.dist-info')}.data"


def _commands(source: WheelFile) -> Iterator[tuple[str, str, str]]:
    if "entry_points.txt" not in source.dist_info_filenames:
        return
    for name, module, function, _ in parse_entrypoints(source.read_dist_info("entry_points.txt")):
        if not _COMMAND.fullmatch(name) or not all(_DOTTED.fullmatch(part) for part in (module, function)):
            raise PackageError(f"its entry point {name!r} = {module}:{function} is no command that can be written")
        yield name, module, function


def _with_extras(
    requirements: Iterable[Requirement], extras: Mapping[str, Sequence[Requirement]]
) -> Iterator[Requirement]:
    """The requirements, and behind each the requirements of the extras that it asks for."""
    for requirement in requirements:
        yield requirement
        for extra in sorted(requirement.extras):
            yield from extras.get(extra_key(requirement.name, extra), ())


def extra_key(name: str, extra: str) -> str:
    """The name of an extra of a package, as `recipe` looks it up: "requests[socks]"."""
    return f"{canonicalize_name(name)}[{canonicalize_name(extra)}]"


def _members(
    archive: zipfile.ZipFile, source: WheelFile, layout: _Layout, target: Target
) -> tuple[list[Member], list[tuple[str, str, str]]]:
    """The wheel's files where they go, and their rows of RECORD."""
    source.validate_record(validate_contents=False)  # that each is in it; the contents are checked as they are copied
    recorded = {row[0]: row for row in parse_record_file(source.read_dist_info("RECORD").splitlines())}
    replaced = {f"{layout.dist_info}/{name}" for name in _REPLACED}
    members, rows = list[Member](), list[tuple[str, str, str]]()
    for item in archive.infolist():
        if item.is_dir() or item.filename in replaced or "__pycache__" in item.filename.split("/"):
            continue
        path, is_script = layout.place(item.filename)
        _, hash_text, size = recorded[item.filename]
        member = _checked(archive, item, RecordEntry.from_elements(path, hash_text, size))
        if is_script and (script := _with_shebang(member, target)):
            members.append(script)
            rows.append(_row(layout, script))
        else:
            members.append(dataclasses.replace(member, executable=is_script or member.executable))
            rows.append((layout.recorded(path), hash_text, str(item.file_size)))
    return members, rows


def _checked(archive: zipfile.ZipFile, item: zipfile.ZipInfo, entry: RecordEntry) -> Member:
    """A file of the wheel that cannot be copied unless it is what RECORD says."""
    if entry.hash_ is None or entry.size not in (None, item.file_size):
        raise PackageError(f"{item.filename} has {item.file_size} bytes", expected=f"{entry.size}, as RECORD says")
    sha256 = None
    if entry.hash_.name == "sha256":
        sha256 = base64.urlsafe_b64decode(entry.hash_.value + "==").hex()
    else:
        with archive.open(item) as stream:
            if not entry.validate_stream(cast(BinaryIO, stream)):
                raise PackageError(f"{item.filename} has another {entry.hash_.name} than RECORD says")
    mode = item.external_attr >> 16
    return Member(
        path=entry.path,
        size=item.file_size,
        open=lambda: archive.open(item),
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        sha256=sha256,
    )


def _with_shebang(member: Member, target: Target) -> Member | None:
    """The script with the environment's Python in its first line, if it asks for that ("#!python", PEP 427)."""
    with member.open() as stream:
        if stream.read(8) != b"#!python":
            return None
    with member.open() as stream:
        content = stream.read()
    if member.sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise PackageError(f"{member.path} has another sha256 than RECORD says")
    first, newline, rest = content.partition(b"\n")
    options = first.removeprefix(b"#!pythonw").removeprefix(b"#!python")
    shebang = f"#!{conda.PLACEHOLDER}/bin/python{target.series}".encode()
    return Member.of(member.path, shebang + options.rstrip(b"\r") + newline + rest, executable=True, placeholder=True)


def _script(command: tuple[str, str, str], target: Target) -> Member:
    name, module, function = command
    content = _SCRIPT.format(
        prefix=conda.PLACEHOLDER,
        series=target.series,
        module=module,
        first=function.split(".")[0],
        function=function,
    )
    return Member.of(f"bin/{name}", content.encode(), executable=True, placeholder=True)


def _row(layout: _Layout, member: Member) -> tuple[str, str, str]:
    """A row of RECORD for a file made here; one that linking changes has no hash."""
    if member.placeholder:
        return layout.recorded(member.path), "", ""
    with member.open() as stream:
        digest = base64.urlsafe_b64encode(hashlib.sha256(stream.read()).digest()).rstrip(b"=").decode()
    return layout.recorded(member.path), f"sha256={digest}", str(member.size)


def _record(layout: _Layout, rows: list[tuple[str, str, str]]) -> Member:
    path = f"{layout.packages}/{layout.dist_info}/RECORD"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(sorted([*rows, (layout.recorded(path), "", "")]))
    return Member.of(path, text.getvalue().encode())
