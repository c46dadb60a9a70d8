"""Packages -> the files of one layer, linked for /opt/env in a folder of this machine.

Each group of packages gets a folder of its own, so what a layer holds depends on its own packages, the Python that they
are for, and nothing else: no other package, order or folder of this machine can change it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PackageError
from . import wheels
from .cache import used
from .packages import Fetched

if TYPE_CHECKING:
    from rattler import PrefixRecord, RepoDataRecord

PREFIX = "/opt/env"

# What rattler notes of this machine and of the moment in conda-meta/*.json; none of it is the package's.
_LOCAL_KEYS = ("extracted_package_dir", "package_tarball_full_path", "link", "url", "channel", "requested_spec",
               "requested_specs", "indexed_timestamp")  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """The environment's own Python. folder: where it is linked on this machine; version: "3.11"."""

    folder: Path
    version: str

    @property
    def meta(self) -> Path:
        """What conda-meta says of it."""
        return next((self.folder / "conda-meta").glob("python-*.json"))


def conda_file(fetched: Fetched, cache: Path, *, python: str) -> Path:
    """The package as a conda package: itself, or its wheel converted (kept in `cache` by the wheel's sha256)."""
    package = fetched.package
    if package.manager == "conda":
        return fetched.path
    if fetched.path.suffix != ".whl":
        raise PackageError(
            f"{package.name} {package.version} has no wheel for Python {python} on linux; locked: {package.filename}",
            expected="a wheel; nothing is compiled in an image's build",
            command=f"pin a version of {package.name} that has one, or take it from the conda channel, then: make lock",
        )
    folder = cache / "wheels" / f"{wheels.FORMAT}-{python}-{package.platform}" / package.sha256
    if folder.is_dir() and (ready := sorted(folder.glob("*.conda"))):
        used(folder)
        return ready[0]
    return wheels.convert(fetched.path, folder, python=python, subdir=package.platform)


def link_python(python: Fetched, folder: Path, *, extracted: Path, platform: str) -> Interpreter:
    """Links the environment's Python alone into `folder`; noarch packages and bytecode need to know it.

    extracted: where packages are unpacked, on the same file system (what is linked are hard links into it).
    """

    async def steps() -> None:
        await _install(await _records([python.path]), folder, extracted=extracted, platform=platform, installed=[])

    asyncio.run(steps())
    return Interpreter(folder=folder, version=".".join(python.package.version.split(".")[:2]))


def link(
    paths: Sequence[Path],
    folder: Path,
    interpreter: Interpreter | None,
    *,
    extracted: Path,
    platform: str,
    unscripted: Collection[str] = (),
) -> None:
    """Links conda packages into `folder` as they will lie under PREFIX, without anything of this machine in them.

    unscripted: packages whose post-link script may be left out. Errors: PackageError for any other that has one.
    """
    meta = folder / "conda-meta"
    beside = interpreter and not any(path.name.startswith(f"{interpreter.meta.stem}.") for path in paths)

    async def steps() -> None:
        from rattler import PrefixRecord

        records = await _records(paths)
        installed = [PrefixRecord.from_path(interpreter.meta)] if interpreter and beside else []
        await _install([*installed, *records], folder, extracted=extracted, platform=platform, installed=installed)

    meta.mkdir(parents=True)
    if interpreter and beside:
        shutil.copy(interpreter.meta, meta)  # rattler takes Python for installed here, and so knows its version
    asyncio.run(steps())
    if interpreter and beside:
        (meta / interpreter.meta.name).unlink()
    _refuse_scripts(folder, unscripted)
    for path in meta.glob("*.json"):
        _neutralise(path)
    (meta / "history").unlink(missing_ok=True)
    (folder / "CACHEDIR.TAG").unlink(missing_ok=True)


async def _records(paths: Sequence[Path]) -> list[RepoDataRecord]:
    from rattler import RepoDataRecord

    return [await RepoDataRecord.from_package_archive(path) for path in paths]


async def _install(
    records: Sequence[RepoDataRecord | PrefixRecord],
    folder: Path,
    *,
    extracted: Path,
    platform: str,
    installed: list[PrefixRecord],
) -> None:
    from rattler import Subdir, install

    await install(
        list(records),
        folder,
        cache_dir=extracted,
        installed_packages=installed,
        platform=Subdir(platform),
        execute_link_scripts=False,
        show_progress=False,
        alternative_target_prefix=PREFIX,
    )


def _refuse_scripts(folder: Path, unscripted: Collection[str]) -> None:
    for script in sorted((folder / "bin").glob(".*-post-link.sh")):
        name = script.name.removeprefix(".").removesuffix("-post-link.sh")
        if name in unscripted:
            log.warning("%s is not finished by its post-link script, as [image] unscripted says", name)
        else:
            raise PackageError(
                f"{name} wants to run a script after it is linked (bin/{script.name}), and an image is made without "
                "running its packages, so that it is the same everywhere",
                expected="packages without post-link scripts",
                command=f'take another build of it, or, if it works without: [image] unscripted = ["{name}"]',
            )


def _neutralise(meta: Path) -> None:
    table = json.loads(meta.read_text(encoding="utf-8"))
    for key in _LOCAL_KEYS:
        table.pop(key, None)
    meta.unlink()  # never write in place: a file here may be a hard link into what was extracted
    meta.write_text(json.dumps(table, sort_keys=True, indent=1), encoding="utf-8")
