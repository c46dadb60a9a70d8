"""Processes: names that outlive them, since a process id alone is given to another one later; and the collector."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
from collections.abc import Iterator
from pathlib import Path


def this() -> str:
    """The name of this process: host, id and start time."""
    return f"{platform.node()}/{os.getpid()}/{_started(os.getpid())}"


def alive(name: str) -> bool:
    """Whether the process of that name still runs; one of another host is taken to."""
    host, pid, started = name.split("/")
    if host != platform.node():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and someone else's
    return _started(int(pid)) == started


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection, which would look at a hundred thousand objects in the making again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5): /proc/PID/stat, field 22); "" where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""
