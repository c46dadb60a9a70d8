"""What an environment asks for, from a conda spec (.yml), a pip requirements file (.txt), or a conda prefix."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError, nearest
from . import conda_file, prefix, requirements

if TYPE_CHECKING:
    from ..settings import Settings

FOLDER = "environments"
LOCK_SUFFIX = ".conda-lock.yml"
DEFAULT_CHANNELS = ("conda-forge",)
_SUFFIXES = (".yml", ".yaml", ".txt")
_KINDS = "a .yml or .txt file, or the folder of a conda environment"


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What an environment asks for, before any solving.

    dependencies: conda match specs as written; one that holds for a single Linux platform ends in its selector, as in
    "mkl  # [linux64]" (a comment to conda's and rattler's MatchSpec alike). pip: PEP 508 requirements.
    hashes: (pip name, sha256) pairs that the spec allows; a name without any may have every hash.
    """

    name: str
    path: Path
    channels: tuple[str, ...]
    dependencies: tuple[str, ...]
    pip: tuple[str, ...]
    cuda: bool
    hashes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def load(cls, path: Path, *, python: str = "3.11") -> EnvironmentSpec:
        """The spec in a .yml or .txt file, or of the conda environment in a folder.

        python: the version for a requirements file, which names none. Errors: SpecError with file, line or key, what
        was found and what was expected.
        """
        if path.is_dir():
            return _from_prefix(path)
        if not path.is_file():
            raise SpecError(f"{path}: no such file", expected=_KINDS)
        if path.name.endswith(LOCK_SUFFIX):
            raise SpecError(f"{path}: this is a lock", expected="the spec that it was made from")
        if path.suffix == ".txt":
            return _from_requirements(path, python)
        if path.suffix in _SUFFIXES:
            return _from_conda_file(path)
        raise SpecError(f"{path}: unknown kind of spec", expected=_KINDS)

    @property
    def content(self) -> str:
        """What decides the lock, as canonical JSON: order, spacing, case and comments make no difference."""
        return json.dumps(
            {
                "channels": list(self.channels),  # their order is their priority
                "dependencies": sorted({conda_file.normalised(text) for text in self.dependencies}),
                "pip": sorted({requirements.normalised(text) for text in self.pip}),
                "hashes": [" ".join(pair) for pair in self.hashes],
            },
            sort_keys=True,
        )


def find(settings: Settings, name_or_path: str) -> Path:
    """The spec that a person means by "pytorch" or by a path, relative to the current folder or to parity.toml's.

    Errors: SpecError with the specs there are, and the nearest.
    """
    folder = settings.root / FOLDER
    named = [folder / f"{name_or_path}{suffix}" for suffix in _SUFFIXES]
    written = [Path(name_or_path).expanduser(), settings.root / name_or_path]
    for path in (*named, *written):
        if path.is_file() or prefix.is_prefix(path):
            return _short(path)
    known = sorted(path.stem for path in folder.glob("*") if path.suffix in _SUFFIXES and not _is_lock(path))
    raise SpecError(
        f"no environment spec {name_or_path}{nearest(Path(name_or_path).stem, known)}",
        expected=f"one of {', '.join(known)} (in {FOLDER}/), or a path" if known else f"a .yml file in {folder}",
        command=f"make lock ENV={known[0]}" if known else None,
    )


def _is_lock(path: Path) -> bool:
    return path.name.endswith(LOCK_SUFFIX)


def _short(path: Path) -> Path:
    """Relative to the current folder where it lies in it: that is how a person knows it."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _from_conda_file(path: Path) -> EnvironmentSpec:
    read = conda_file.read(path)
    return EnvironmentSpec(
        name=path.stem,
        path=path,
        channels=read.channels or DEFAULT_CHANNELS,
        dependencies=read.dependencies,
        pip=read.pip,
        cuda=_asks_for_cuda(read.dependencies),
        hashes=read.hashes,
    )


def _from_requirements(path: Path, python: str) -> EnvironmentSpec:
    read = requirements.read(path)
    return EnvironmentSpec(
        name=path.stem,
        path=path,
        channels=DEFAULT_CHANNELS,
        dependencies=(f"python={python}", "pip"),
        pip=read.requirements,
        cuda=False,
        hashes=read.hashes,
    )


def _from_prefix(path: Path) -> EnvironmentSpec:
    if not prefix.is_prefix(path):
        raise SpecError(f"{path}: a folder without conda-meta", expected="the folder of a conda environment")
    installed = prefix.read(path)
    return EnvironmentSpec(
        name=path.resolve().name,
        path=path,
        channels=installed.channels,
        dependencies=installed.dependencies,
        pip=installed.pip,
        cuda=_asks_for_cuda(installed.dependencies),
    )


def _asks_for_cuda(dependencies: tuple[str, ...]) -> bool:
    """cuda-version, pytorch-cuda, a *cuda* build, __cuda; pytorch-gpu and its like; libraries that only CUDA has."""
    names = {conda_file.package_name(text) for text in dependencies}
    return (
        any("cuda" in text.lower() for text in dependencies)
        or any(name.endswith("-gpu") for name in names)
        or not names.isdisjoint({"cudnn", "nccl"})
    )
