"""What a list shows of each run, remembered, so that ten thousand records are not all read again.

The file is only a memory: an entry counts while its run.json has the size and the time of change that it had when the
entry was made, and whatever is missing, odd or older is read from the record itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import files, processes
from ..errors import DiskError

FILE = "runs.json"
VERSION = 1  # of the file's form
YOUNG = 2_000_000_000  # ns; what changed just now may change again without a newer time, so it is not remembered
FINISHED = frozenset({"completed", "failed", "canceled", "interrupted"})


class Entry(NamedTuple):
    """One run, in a line. created, started, ended: ISO 8601, UTC; command: with its arguments.

    remote: whether a workspace has it; tags: "key=value", its tags there; owner: the process that follows it, as
    tools/processes.py names it.
    """

    id: str
    target: str
    status: str
    created: str
    started: str | None
    ended: str | None
    exit_code: int | None
    command: str
    image: str
    image_id: str
    fingerprint: str
    tags: tuple[str, ...]
    remote: bool
    owner: str | None

    @property
    def over(self) -> bool:
        """Whether nothing will change it any more."""
        return self.status in FINISHED


def entries(runs: Path, memory: Path) -> list[Entry]:
    """Every record in `runs`, the oldest first; what is no record is left out. memory: the folder of the index file."""
    before = _read(memory / FILE)
    found: list[Entry] = []
    kept: dict[str, list[Any]] = {}
    old = time.time_ns() - YOUNG
    with processes.uncollected(), _folder(runs) as descriptor:
        for name in sorted(os.listdir(descriptor)) if descriptor is not None else ():  # noqa: PTH208 - a descriptor
            try:
                facts = os.stat(f"{name}/run.json", dir_fd=descriptor)
            except OSError:
                continue
            row = before.get(name)
            if row is not None and row[0] == facts.st_mtime_ns and row[1] == facts.st_size:
                kept[name] = row
                found.append(Entry._make(row[2:]))
            elif entry := _entry(runs / name):
                found.append(entry)
                if facts.st_mtime_ns < old:
                    kept[name] = [facts.st_mtime_ns, facts.st_size, *entry]
        if kept != before:
            with contextlib.suppress(OSError, DiskError):  # a memory that cannot be kept costs time, nothing else
                files.write_text(memory / FILE, json.dumps({"version": VERSION, "runs": kept}, separators=(",", ":")))
        return found


def _entry(folder: Path) -> Entry | None:
    """What run.json says; None where it is none, so that one damaged record hides no other."""
    try:
        table = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        ingredients, image = table["ingredients"], table["ingredients"]["image"]
        return Entry(
            id=folder.name,
            target=table["target"],
            status=table["status"],
            created=table["created"],
            started=table["started"],
            ended=table["ended"],
            exit_code=table["exit_code"],
            command=" ".join([ingredients["command"], *ingredients["arguments"]]),
            image=image["reference"],
            image_id=image["id"],
            fingerprint=image["fingerprint"],
            tags=tuple(f"{key}={value}" for key, value in ((table.get("remote") or {}).get("tags") or {}).items()),
            remote=table.get("remote") is not None,
            owner=table["host"].get("process"),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["version"] != VERSION:
            return {}
        width = 2 + len(Entry._fields)
        return {name: row for name, row in table["runs"].items() if len(row) == width}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int | None]:
    """A folder, open; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
