"""How much the caches may hold: what was not used for longest goes first."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from .. import files

_ENTRIES = ("packages/*", "wheels/*/*", "layers/*")  # each a folder that is written, used and removed as a whole

log = logging.getLogger(__name__)


def used(entry: Path) -> None:
    """Says that an entry was used now."""
    os.utime(entry)


def evict(cache: Path, limit: int, *, since: float) -> None:
    """Brings the cache down to `limit` bytes, without what was used after `since` (seconds since the epoch)."""
    entries = sorted(_entries(cache), key=lambda entry: entry.stat().st_mtime)
    sizes = {entry: sum(path.stat().st_size for path in entry.rglob("*") if path.is_file()) for entry in entries}
    total = sum(sizes.values())
    freed = 0
    for entry in entries:
        if total - freed <= limit or entry.stat().st_mtime >= since:
            break
        shutil.rmtree(entry)
        freed += sizes[entry]
    if freed:
        log.info("Removed %s from the cache, least used first", files.human(freed))
    if total - freed > limit:
        log.warning("the cache holds %s, over its limit, all of it in use", files.human(total - freed))


def remove_leftovers(cache: Path) -> None:
    """Removes what a killed build left: staging folders and half-written entries, if no build can be at work."""
    for path in (*cache.glob("staging-*"), *cache.glob("*/.*.part"), *cache.glob("*/*/.*.part")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def now() -> float:
    """The time that `evict` compares with; file systems round down to their ticks."""
    return time.time() - 2


def _entries(cache: Path) -> Iterator[Path]:
    return (path for pattern in _ENTRIES for path in cache.glob(pattern) if path.is_dir() and path.name[0] != ".")
