"""All runs of a project: found by name, listed, marked where their tool was killed, and removed."""

from __future__ import annotations

import logging
import os
import shutil
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
    if lost := [entry for entry in found if _lost(entry.status, entry.remote, entry.owner)]:
        for entry in lost:
            find(runs, entry.id)
        found = index.entries(runs, memory)
    return [entry for entry in found if wanted is None or wanted.fits(entry)]


def find(runs: Path, name: str) -> Record:
    """The run of that name: its id, the beginning of one id, `last`, `last-local` or `last-remote`.

    Marked first, if a killed tool left it. It reads no more records than it must. Errors: RunError with what is there.
    """
    names = _names(runs)
    if name in (LAST, LAST_LOCAL, LAST_REMOTE):
        for each in reversed(names):
            record = _read(runs / each)
            if record and (name == LAST or (record.target == LOCAL) == (name == LAST_LOCAL)):
                return _settled(record)
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
        return _settled(records.read(folder))
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


def _lost(status: str, remote: bool, owner: str | None) -> bool:
    """Whether the process that made and followed a run is gone, and no workspace has it to tell what became of it."""
    return status not in index.FINISHED and not remote and owner is not None and not processes.alive(owner)


def _settled(record: Record) -> Record:
    """The record, marked as interrupted if the process that followed it is gone."""
    if not _lost(record.status, record.remote is not None, record.host.get("process")):
        return record
    log.warning("Run %s was interrupted: the process that followed it is gone", record.id)
    with files.disk_errors(record.folder, "mend the folder's permissions"):
        return record.write(status="interrupted", ended=records.now(), error="the process that followed it is gone")


def _names(runs: Path) -> list[str]:
    """The folders of runs, the oldest first."""
    if not runs.is_dir():
        return []
    with os.scandir(runs) as found:  # without a look at each, of which there may be ten thousand
        return sorted(each.name for each in found if not each.name.startswith(".") and each.is_dir())


def _read(folder: Path) -> Record | None:
    try:
        return records.read(folder)
    except (OSError, ValueError, TypeError, KeyError):
        return None
