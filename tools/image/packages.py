"""The lock's packages on this machine: fetched in parallel, resumed, and never used before their sha256 is right."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from .. import files, progress
from ..environment.lock import Package
from ..errors import FetchError, HashMismatchError

if TYPE_CHECKING:
    import httpx

    from ..progress import Task

DOWNLOADS = 6  # at once: more than a home line fills, fewer than a mirror minds
ATTEMPTS = 4  # per file, each going on where the last one broke off

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
        return True
    log.warning("%s in the cache is damaged; it is fetched again", package.filename)
    path.unlink()
    return False


def _fetch_all(packages: Sequence[Package], cache: Path) -> None:
    """In parallel; the first failure stops what has not begun, and what was fetched stays."""
    import httpx

    log.info("Fetching %d packages", len(packages))
    with (
        progress.task(f"Fetching {len(packages)} packages", unit="bytes") as task,
        # as it lies on the server: a hash is of the file, and a range is of it too
        httpx.Client(timeout=30, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client,
        ThreadPoolExecutor(DOWNLOADS) as pool,
    ):
        futures = [pool.submit(_get, package, cache, client, task) for package in packages]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _path(package: Package, cache: Path) -> Path:
    return cache / "packages" / package.sha256 / package.filename


def _get(package: Package, cache: Path, client: httpx.Client, task: Task) -> None:
    path = _path(package, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    if urlsplit(package.url).scheme == "file":
        _copy(package, part)
    else:
        _download(package, part, client, task)
    found = files.sha256(part)
    if found != package.sha256:
        part.unlink()
        raise HashMismatchError(package.filename, expected=package.sha256, found=found, where=_public(package.url))
    part.replace(path)


def _copy(package: Package, part: Path) -> None:
    source = Path(unquote(urlsplit(package.url).path))
    try:
        shutil.copyfile(source, part)
    except FileNotFoundError as error:
        raise FetchError(
            f"{package.name} {package.version}: {source} is gone", command="make lock, to lock what the channel has now"
        ) from error


def _download(package: Package, part: Path, client: httpx.Client, task: Task) -> None:
    import httpx

    problem = ""
    for attempt in range(ATTEMPTS):
        time.sleep(0.2 * attempt**2)
        start = part.stat().st_size if part.exists() else 0
        try:
            with client.stream("GET", package.url, headers={"Range": f"bytes={start}-"} if start else {}) as response:
                if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # the part is whole already; its hash decides
                response.raise_for_status()
                resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
                with part.open("ab" if resumed else "wb") as file:
                    for chunk in response.iter_raw():
                        file.write(chunk)
                        task.advance(len(chunk))
            return
        except httpx.HTTPStatusError as error:
            problem = f"the server answers {error.response.status_code} {error.response.reason_phrase}"
            if error.response.status_code < 500 and error.response.status_code not in (408, 429):
                break
        except httpx.HTTPError as error:
            problem = str(error) or type(error).__name__
    raise FetchError(
        f"{package.name} {package.version} cannot be fetched from {_public(package.url)}: {problem}",
        command="try again (what was fetched is kept), or: make doctor",
    )


def _public(url: str) -> str:
    """The address without its user, password and token: fit for an error message."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
