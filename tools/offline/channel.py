"""A conda channel of what a spec needs, made of Debian's Python and PyPI's wheels.

It stands in for conda-forge where that cannot be reached. Its folder only grows: what is in it stays, byte for byte, so
locks made from it stay good.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from .. import files, progress
from ..errors import OfflineError, SpecError
from ..image import conda, wheels
from ..image.conda import Recipe
from ..image.versions import Target, pip_spec
from ..image.wheels import Wheel
from . import pypi, python, pytorch

if TYPE_CHECKING:
    from ..environment.spec import EnvironmentSpec

FORMAT = 1  # of the channel: a new one makes every channel anew

# PyPI's name -> conda-forge's, where they differ by more than spelling.
CONDA_NAMES = {
    "build": "python-build",
    "flatbuffers": "python-flatbuffers",
    "graphviz": "python-graphviz",
    "kaleido": "python-kaleido",
    "msgpack": "msgpack-python",
    "opencv-python-headless": "py-opencv",
    "tables": "pytables",
    "torch": "pytorch",
    "tzdata": "python-tzdata",
    "xxhash": "python-xxhash",
}
# Further names that conda-forge has for a package -> PyPI's.
ALIASES = {
    "dask-core": "dask",
    "matplotlib-base": "matplotlib",
    "opencv": "opencv-python-headless",
    "pytorch-cpu": "torch",
    "seaborn-base": "seaborn",
}
# Programs and libraries that are no Python packages; what PyPI has under these names is something else.
# fmt: off
NOT_PYTHON = frozenset({
    "autoconf", "bash", "binutils", "boost", "bzip2", "c-compiler", "ca-certificates", "clang", "coreutils",
    "cpuonly", "cudatoolkit", "curl", "cxx-compiler", "eigen", "ffmpeg", "fftw", "fortran-compiler", "gcc", "gdal",
    "gdb", "geos", "gfortran", "git", "git-lfs", "glib", "gxx", "hdf5", "icu", "imagemagick", "java", "jpeg", "jq",
    "krb5", "libblas", "libcurl", "libffi", "libgcc", "libgcc-ng", "libgfortran", "libgl", "libgomp",
    "libjpeg-turbo", "libpng", "libsndfile", "libstdcxx", "libstdcxx-ng", "libtiff", "libuv", "libxml2", "llvm",
    "lz4-c", "make", "mpich", "nccl", "ncurses", "nodejs", "nomkl", "openblas", "openjdk", "openmpi", "openssl",
    "perl", "pkg-config", "proj", "protobuf-c", "r", "r-base", "readline", "rust", "snappy", "sox", "sqlite",
    "sysroot_linux-64", "tar", "tk", "unzip", "vim", "wget", "xz", "yaml", "zip", "zlib", "zstd",
})
# fmt: on

ELSEWHERE = "use a machine that reaches the conda channel"
NO_PINS: Mapping[str, str] = MappingProxyType({})
_PYPI_NAMES = {conda_name: name for name, conda_name in CONDA_NAMES.items()}
_SELECTORS = {"linux64": "linux-64", "aarch64": "linux-aarch64"}  # at the end of a match spec, after #
WORKERS = 2  # conversions at once; each spends most of its time in zlib and zstd, outside of the interpreter's lock

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel on this machine. url: its file:// address; lookup: conda-lock's table of PyPI's names, YAML."""

    path: Path
    url: str
    lookup: Path


@dataclass(frozen=True, kw_only=True)
class _Needs:
    """What a spec asks for, in PyPI's words.

    asked: conda name -> requirement; pins: requirements that hold whatever is needed of them; where: the spec's file.
    """

    asked: Mapping[str, Requirement]
    pins: tuple[Requirement, ...]
    target: Target
    where: Path


def make(
    spec: EnvironmentSpec, directory: Path, *, pins: Mapping[str, str] = NO_PINS, platform: str = "linux-64"
) -> Channel:
    """The channel in `directory`, with all that the conda part of `spec` needs on `platform`.

    pins: conda name -> version to hold. What is there already is neither fetched nor made again.
    Errors: OfflineError with the package that cannot be had this way.
    """
    import filelock

    directory = directory.resolve()
    channel = Channel(path=directory, url=directory.as_uri(), lookup=directory / "lookup.yaml")
    stamp = directory / ".made" / _key(spec, pins, platform)
    with files.disk_errors(directory, "make room, then try again"):
        directory.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(directory / ".lock"):
            if not _complete(stamp, directory):
                needs = _needs(spec, pins, platform)
                log.info("Making a conda channel of Debian's python and PyPI's wheels")
                made = _packages(needs, directory)
                _index(directory)
                files.write_text(channel.lookup, _lookup())
                files.write_text(stamp, "".join(f"{path.relative_to(directory)}\n" for path in sorted(made)))
    return channel


def _key(spec: EnvironmentSpec, pins: Mapping[str, str], platform: str) -> str:
    """Equal for needs that the same packages meet."""
    parts = [
        FORMAT,
        wheels.FORMAT,
        python.VERSION,
        platform,
        sorted(spec.dependencies),
        sorted(pins.items()),
        spec.cuda,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _needs(spec: EnvironmentSpec, pins: Mapping[str, str], platform: str) -> _Needs:
    if spec.cuda:
        raise OfflineError(
            f"{spec.path} asks for CUDA; the stand-in for the conda channel has CPU builds only",
            expected="the conda channel, or a spec without CUDA",
            command=f"make lock ENV={spec.name} where the conda channel answers; it needs no GPU",
        )
    if platform not in python.ARCHITECTURES:
        raise OfflineError(f"no stand-in channel for {platform}", expected=", ".join(python.ARCHITECTURES))
    asked = dict[str, Requirement]()
    for text in (*spec.dependencies, *(f"{name}=={version}" for name, version in pins.items() if name == "python")):
        name, specifiers = _parsed(text, platform, spec.path)
        if name == "python" and not specifiers.contains(python.VERSION):
            raise OfflineError(
                f"{spec.path}: {text}: the stand-in for the conda channel has Python {python.VERSION} only",
                expected=f"python={python.SERIES}",
                command=ELSEWHERE,
            )
        if name and name != "python":
            known = asked[name].specifier if name in asked else SpecifierSet()
            asked[name] = Requirement(f"{_pypi_name(name, spec.path)}{known & specifiers}")
    return _Needs(
        asked=asked,
        pins=tuple(_held(pins)),
        target=Target(python=python.VERSION, subdir=platform),
        where=spec.path,
    )


def _held(pins: Mapping[str, str]) -> Iterator[Requirement]:
    """The pins that can hold a wheel; a lock made from a real channel names other packages too."""
    for name, version in sorted(pins.items()):
        if name != "python" and name not in NOT_PYTHON and (held := pip_spec(f"=={version}")):
            with contextlib.suppress(InvalidRequirement):
                yield Requirement(f"{canonicalize_name(ALIASES.get(name) or _PYPI_NAMES.get(name, name))}{held}")


def _parsed(text: str, platform: str, where: Path) -> tuple[str, SpecifierSet]:
    """(conda name, versions) of a match spec; no name for one that another platform's selector ends."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    text, _, selector = text.partition("#")
    if selector and _SELECTORS.get(selector.strip(" []"), platform) != platform:
        return "", SpecifierSet()
    try:
        spec = MatchSpec(text.strip())
    except InvalidMatchSpecError as error:
        raise SpecError(f"{where}: {text.strip()}: {error}", expected="a conda match spec, e.g. numpy>=2") from error
    return spec.name.normalized, pip_spec(spec.version)


def _pypi_name(name: str, where: Path) -> str:
    if name in NOT_PYTHON or name.startswith("_"):
        raise OfflineError(
            f"{where}: {name} is no Python package; the stand-in for the conda channel has Python packages only",
            command=f"take {name} out of the spec, or {ELSEWHERE}",
        )
    return canonicalize_name(ALIASES.get(name) or _PYPI_NAMES.get(name, name))


def _packages(needs: _Needs, directory: Path) -> list[Path]:
    """The packages that meet the needs, made where they are missing."""
    subdir = needs.target.subdir
    with ThreadPoolExecutor(WORKERS + 1) as pool, tempfile.TemporaryDirectory(prefix="parity-wheels-") as folder:
        interpreter = pool.submit(python.make, directory / subdir, subdir=subdir)
        found = _wheels(needs, Path(folder))
        if interpreter.done():
            interpreter.result()  # its error, if it has one, before the longest part of the work
        recipes = [
            (wheel, wheels.recipe(wheel, needs.target, rename=CONDA_NAMES, extras=found.extras))
            for wheel in found.wheels
        ]
        missing = [(wheel, recipe) for wheel, recipe in recipes if not (directory / recipe.path).exists()]
        missing.sort(key=lambda pair: -pair[0].path.stat().st_size)  # the longest work first
        if missing:
            log.info("Turning %d wheels into conda packages", len(missing))
        with progress.task("Converting wheels", sum(wheel.size for wheel, _ in missing), "bytes") as task:

            def one(pair: tuple[Wheel, Recipe]) -> None:
                wheel, recipe = pair
                wheels.write(wheel, recipe, needs.target, directory / recipe.subdir)
                task.advance(wheel.size)

            list(pool.map(one, missing))
        named = {wheel.name: recipe for wheel, recipe in recipes}
        others = [
            conda.write(alias, [], directory / alias.subdir)
            for name, requirement in needs.asked.items()
            if (alias := _alias(name, named[canonicalize_name(requirement.name)]))
        ]
        return [*(directory / recipe.path for _, recipe in recipes), *others, interpreter.result()]


def _wheels(needs: _Needs, folder: Path) -> pypi.Closure:
    """The wheels of all that is asked for, those of PyTorch without CUDA."""
    requirements = [*needs.asked.values(), *needs.pins]
    wanted = SpecifierSet(
        ",".join(str(each.specifier) for each in requirements if each.name == "torch" and each.specifier)
    )
    torch = pytorch.constraint(wanted, needs.target)
    constraints = [*map(str, needs.pins), *([torch] if torch else [])]
    try:
        found = pypi.closure(list(needs.asked.values()), constraints, folder / "fetched", needs.target)
    except OfflineError as error:
        if torch == pytorch.NONE and torch in str(error):
            raise OfflineError(
                f"{needs.where} needs pytorch, and pip finds no CPU build of torch{wanted}",
                expected="wheels whose version ends in +cpu",
                command=pytorch.HELP,
            ) from error
        raise OfflineError(
            f"{needs.where}: {error.found}", expected=error.expected, command=error.command or ELSEWHERE
        ) from error
    mended = list[Wheel]()
    for wheel in found.wheels:
        if wheel.name == "torch":
            pytorch.check(wheel, needs.target)
        if wheel.name == "torchvision":
            wheel = wheels.read(pytorch.without_cuda(wheel.path, folder / "mended"))
        mended.append(wheel)
    return pypi.Closure(wheels=tuple(mended), extras=found.extras)


def _alias(name: str, package: Recipe) -> Recipe | None:
    """The package that `name` is for people, where the wheel's package has another name: it needs that one."""
    if name == package.name:
        return None
    depends = f"{package.name} =={package.version}"
    digest = hashlib.sha256(f"{FORMAT} {name} {depends}".encode()).hexdigest()
    return Recipe(
        name=name,
        version=package.version,
        build=f"h{digest[:7]}_{FORMAT}",
        subdir="noarch",
        number=FORMAT,
        depends=(depends,),
        noarch="generic",
    )


def _complete(stamp: Path, directory: Path) -> bool:
    """Whether these needs were met once, and all of it is still there."""
    if not stamp.exists() or not (directory / "lookup.yaml").exists():
        return False
    names = stamp.read_text(encoding="utf-8").splitlines()
    return all((directory / name).exists() and (directory / name).with_name("repodata.json").exists() for name in names)


def _index(directory: Path) -> None:
    """Writes repodata.json of each platform's folder, in a process that ends before the library's end can crash it."""
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from rattler.index import index_fs\n"
        "asyncio.run(index_fs(Path(sys.argv[1]), write_zst=False, write_shards=False))\n"
        "sys.stdout.flush()\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", code, str(directory)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise OfflineError(f"{directory} cannot be indexed: {done.stderr.strip()}")


def _lookup() -> str:
    """conda-lock's table of the names that differ between PyPI and conda, YAML."""
    row = "{pypi}: {{conda_name: {conda}, import_name: {pypi}, mapping_source: parity, pypi_name: {pypi}}}\n"
    return "".join(row.format(pypi=name, conda=conda_name) for name, conda_name in sorted(CONDA_NAMES.items()))
