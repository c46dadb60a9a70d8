"""All runs of a project: found by name, listed, marked where their tool was killed, and removed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .. import files, processes
from ..errors import RunError, nearest
from . import index
from . import record as records
from .index import Entry
from .record import Record

LAST = "last"
LAST_LOCAL = "last-local"
LAST_REMOTE = "last-remote"
NEAR = 500  # of the newest runs, among which a misspelt one is looked for
LOCAL = "local"  # the target of that name; every other one is remote

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which runs are wanted; every part that is set must fit. since: UTC; the rest are texts to be found.

    target: its name, or "remote" for all but the local one; image: in the reference, the id or the fingerprint;
    tag: KEY or KEY=VALUE, of a run in a workspace.
    """

    target: str | None = None
    status: str | None = None
    image: str | None = None
    since: datetime | None = None
    command: str | None = None
    tag: str | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether a run is one of them."""
        if self.target and entry.target != self.target and not (self.target == "remote" and entry.target != LOCAL):
            return False
        if self.status and entry.status != self.status:
            return False
        if self.image and not any(self.image in each for each in (entry.image, entry.image_id, entry.fingerprint)):
            return False
        if self.since and datetime.fromisoformat(entry.created) < self.since:
            return False
        if self.command and self.command not in entry.command:
            return False
        return not self.tag or any(each == self.tag or each.startswith(f"{self.tag}=") for each in entry.tags)


def entries(runs: Path, memory: Path, wanted: Filter | None = None) -> list[Entry]:
    """The runs that fit, the oldest first, after what a killed tool left was marked. memory: a folder for the index."""
    found = index.entries(runs, memory)
    if lost := [entry for entry in found if _lost(entry)]:
        _interrupt(runs, lost)
        found = index.entries(runs, memory)
    return [entry for entry in found if wanted is None or wanted.fits(entry)]


def settle(runs: Path, memory: Path) -> None:
    """Marks as interrupted the records of tools that were killed; what a workspace runs is its own to tell."""
    entries(runs, memory)


def find(runs: Path, name: str) -> Record:
    """The run of that name: its id, the beginning of one id, `last`, `last-local` or `last-remote`.

    It reads no more records than it must. Errors: RunError with what is there instead.
    """
    names = _names(runs)
    if name in (LAST, LAST_LOCAL, LAST_REMOTE):
        for each in reversed(names):
            record = _read(runs / each)
            if record and (name == LAST or (record.target == LOCAL) == (name == LAST_LOCAL)):
                return record
        kind = {LAST: "run", LAST_LOCAL: "local run", LAST_REMOTE: "remote run"}[name]
        verb = "make run-remote, or: make rehearse" if name == LAST_REMOTE else "make run-local"
        raise RunError(f"there is no {kind} in {runs}", command=verb)
    fitting = [each for each in names if each.startswith(name)] if name else []
    if len(fitting) > 1 and name not in fitting:
        shown = ", ".join(fitting[-3:])
        raise RunError(f"{name} begins {len(fitting)} runs: {'..., ' if len(fitting) > 3 else ''}{shown}")
    if not fitting:
        raise RunError(
            f"there is no run {name!r} in {runs}{nearest(name, [LAST, LAST_LOCAL, LAST_REMOTE, *names[-NEAR:]])}",
            expected=f"an id, the beginning of one, {LAST}, {LAST_LOCAL} or {LAST_REMOTE}",
            command="python -m tools runs list",
        )
    folder = runs / (name if name in fitting else fitting[0])
    try:
        return records.read(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{folder / 'run.json'} cannot be read: {error}") from error


def remove(record: Record) -> None:
    """Deletes a run's folder, whole; RunError if the run is not over."""
    removable(record)
    gone = record.folder.with_name(f".{record.id}.removed")  # a list never shows half a run
    with files.disk_errors(record.folder, "mend the folder's permissions"):
        record.folder.rename(gone)
        shutil.rmtree(gone)


def removable(record: Record) -> None:
    """RunError if the run is not over."""
    if record.status not in index.FINISHED:
        raise RunError(
            f"run {record.id} is {record.status}",
            expected="a run that is over",
            command=f"python -m tools runs cancel {record.id}" if record.remote else "wait for it, or end it by Ctrl-C",
        )


def moment(text: str, *, now: datetime | None = None) -> datetime:
    """A time from text: 2026-11-23, 2026-11-23T15:41 (UTC), or an age such as 30m, 12h, 7d. ValueError if neither."""
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    if text[:-1].isdigit() and text[-1] in units:
        return (now or datetime.now(timezone.utc)) - timedelta(**{units[text[-1]]: int(text[:-1])})
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _lost(entry: Entry) -> bool:
    """Whether the process that made and followed it is gone, and no workspace has it."""
    return not entry.over and not entry.remote and entry.owner is not None and not processes.alive(entry.owner)


def _interrupt(runs: Path, lost: Iterable[Entry]) -> None:
    for entry in lost:
        log.warning("Run %s was interrupted: the process that followed it is gone", entry.id)
        record = _read(runs / entry.id)
        if record and record.status not in index.FINISHED:
            with files.disk_errors(record.folder, "mend the folder's permissions"):
                record.write(status="interrupted", ended=records.now(), error="the process that followed it is gone")


def _names(runs: Path) -> list[str]:
    """The folders of runs, the oldest first."""
    if not runs.is_dir():
        return []
    return sorted(each.name for each in runs.iterdir() if not each.name.startswith(".") and each.is_dir())


def _read(folder: Path) -> Record | None:
    try:
        return records.read(folder)
    except (OSError, ValueError, TypeError, KeyError):
        return None
