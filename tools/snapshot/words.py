"""How a report writes sizes and paths."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20


def mib(size: int) -> str:
    """Bytes as MiB, with one decimal."""
    return "<0.1" if 0 < size < MIB / 20 else f"{size / MIB:,.1f}"


def of_limit(size: int, limit: int) -> str:
    """A size beside its limit, in one unit, which tells the two apart."""
    if abs(size - limit) < limit / 100:
        return f"{size:,} of {limit:,} bytes"
    return f"{mib(size)} of {mib(limit)} MiB"


def printable(path: str) -> str:
    """A path on one line, whatever its name holds."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in path)


def shown(path: Path) -> str:
    """A path as a person types it here: from the current folder, if it lies below."""
    near = os.path.relpath(path)
    return near if path.is_absolute() and not near.startswith("..") else str(path)
