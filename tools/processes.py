"""Names for processes that outlive them: a process id alone is given to another one later."""

from __future__ import annotations

import os
import platform
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


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5): /proc/PID/stat, field 22); "" where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""
