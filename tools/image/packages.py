"""The lock's packages on this machine: fetched in parallel, resumed, and never used before their sha256 is right."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .. import files, progress
from ..download import client, download, public
from ..environment.lock import Package
from ..errors import FetchError, HashMismatchError
from .cache import used

if TYPE_CHECKING:
    import httpx

    from ..progress import Task

DOWNLOADS = 6  # at once: more than a home line fills, fewer than a mirror minds

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A package's file on this machine. path: its verified file; size: of that file, in bytes."""

    package: Package
    path: Path
    size: int


def fetch(packages: Sequence[Package], cache: Path) -> tuple[Fetched, ...]:
    """The packages' files, in the order given; what lies in `cache` already is verified there, not fetched again.

    Errors: FetchError names the package and the address; HashMismatchError names both hashes, and the file is gone.
    """
    with files.disk_errors(cache, "make clean-cache, or make room"):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            present = list(pool.map(lambda package: _present(package, cache), packages))
        missing = [package for package, is_present in zip(packages, present, strict=True) if not is_present]
        if missing:
            _fetch_all(missing, cache)
    paths = [_path(package, cache) for package in packages]
    return tuple(
        Fetched(package=package, path=path, size=path.stat().st_size)
        for package, path in zip(packages, paths, strict=True)
    )


def _present(package: Package, cache: Path) -> bool:
    path = _path(package, cache)
    if not path.exists():
        return False
    if files.sha256(path) == package.sha256:
        used(path.parent)
        return True
    log.warning("%s in the cache is damaged; it is fetched again", package.filename)
    path.unlink()
    return False


def _fetch_all(packages: Sequence[Package], cache: Path) -> None:
    """In parallel; the first failure stops what has not begun, and what was fetched stays."""
    log.info("Fetching %d packages", len(packages))
    with (
        progress.task(f"Fetching {len(packages)} packages", unit="bytes") as task,
        client() as http,
        ThreadPoolExecutor(DOWNLOADS) as pool,
    ):
        futures = [pool.submit(_get, package, cache, http, task) for package in packages]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _path(package: Package, cache: Path) -> Path:
    return cache / "packages" / package.sha256 / package.filename


def _get(package: Package, cache: Path, http: httpx.Client, task: Task) -> None:
    path = _path(package, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    if urlsplit(package.url).scheme == "file":
        _copy(package, part)
    else:
        download(f"{package.name} {package.version}", package.url, part, client=http, task=task)
    found = files.sha256(part)
    if found != package.sha256:
        part.unlink()
        raise HashMismatchError(package.filename, expected=package.sha256, found=found, where=public(package.url))
    part.replace(path)


def _copy(package: Package, part: Path) -> None:
    source = Path(unquote(urlsplit(package.url).path))
    try:
        shutil.copyfile(source, part)
    except FileNotFoundError as error:
        raise FetchError(
            f"{package.name} {package.version}: {source} is gone", command="make lock, to lock what the channel has now"
        ) from error
