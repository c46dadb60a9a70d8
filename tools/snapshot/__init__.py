"""The snapshot: the files of the source directory that Azure ML would upload, and their one content hash.

Rules: the root's .amlignore, else its .gitignore, never both; what they mean is in `patterns`, `rules` and `tree`,
after azureml-core 1.61 ("v1") or azure-ai-ml 1.35 ("v2"). Nothing is excluded by itself.

One known difference to azureml-core: a folder that a line like `d/` empties is not looked into; a file in it with a
line break in its name, which azureml-core would send, is left out.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SnapshotError
from . import contents, limits, offenders, rules, secrets, tree
from .contents import Contents
from .limits import Limits
from .patterns import Dialect
from .report import Report
from .rules import Rules
from .tree import SnapshotFile, Tree

PATIENCE = 0.12  # seconds for which a walk goes on although a limit is exceeded, to name what is there

__all__ = ["Snapshot", "SnapshotFile", "inspect", "take"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run's working directory holds at its start. Files are sorted by path.

    digest: its identity, sha256 over path, size and content hash of every file: 64 hex digits.
    """

    source: Path
    files: tuple[SnapshotFile, ...]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def take(source: Path, dialect: Dialect = "v1", *, memory: Path | None = None) -> Snapshot:
    """The snapshot of a source directory, as it is now.

    memory: the folder that remembers hashes of files from one time to the next. Errors: SnapshotError with the whole
    report where the SDK would refuse it; also where there is no directory, or nothing in it, or the SDK would fail.
    """
    report, snapshot = inspect(source, dialect, memory=memory)
    if snapshot is None:
        raise SnapshotError(report.text(), command="make snapshot ARGS=--fix")
    if not snapshot.files:
        raise SnapshotError(f"the source directory {source} has no files to run", command="check its .amlignore")
    if report.offenders:
        titles = ", ".join(dict.fromkeys(each.kind.title for each in report.offenders))
        log.warning("the snapshot holds what does not belong in one (%s); see it: make snapshot", titles)
    return snapshot


def inspect(
    source: Path,
    dialect: Dialect = "v1",
    *,
    memory: Path | None = None,
    ignored: Callable[[str], None] | None = None,
) -> tuple[Report, Snapshot | None]:
    """The verdict on a source directory, and its snapshot, unless the SDK would refuse it; then no file is read.

    ignored: told each path that the rules leave out. Errors: SnapshotError as in `take`, but for its first.
    """
    if not source.is_dir():
        raise SnapshotError(
            f"the source directory {source} does not exist",
            expected="the folder of your training script",
            command="set [run] source in parity.toml",
        )
    loaded, limit, note = rules.load(source, dialect), limits.of(dialect), limits.last_snapshot()
    count_all = note is None or limit.files is None

    def over(seen: Tree) -> bool:
        return limit.refuses and (
            seen.size > limit.size or (count_all and limit.files is not None and len(seen.files) > limit.files)
        )

    with _uncollected():
        found = tree.survey(source, loaded, enough=tree.Patience(over, PATIENCE), ignored=ignored)
    changed = len(found.files)
    if note and limit.files is not None and changed > limit.files and not over(found):
        changed = limits.changed(source, found.files, note, enough=limit.files + 1)
    since = note.stat().st_mtime if note else None
    if over(found) or (limit.refuses and limit.files is not None and changed > limit.files):
        return _report(source, loaded, limit, found, changed, since, [], None), None
    with _uncollected():
        read = contents.read(source, found.files, memory)
    found.files = read.files
    snapshot = Snapshot(source=source, files=tuple(read.files), digest=read.digest)
    return _report(source, loaded, limit, found, changed, since, _tokens(source, read), snapshot), snapshot


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: it goes through many thousands of tuples again and again, and there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _tokens(source: Path, read: Contents) -> list[tuple[SnapshotFile, str]]:
    """Files in which a secret was seen, and where in them."""
    return [
        (file, f"line {secrets.line(source / file.path, kind)}: {secrets.KINDS[kind - 1].name}")
        for file in read.files[: secrets.FILES]
        if (kind := read.secrets.get(file.path))
    ]


def _report(
    source: Path,
    loaded: Rules,
    limit: Limits,
    found: Tree,
    changed: int,
    since: float | None,
    tokens: list[tuple[SnapshotFile, str]],
    snapshot: Snapshot | None,
) -> Report:
    return Report(
        source=source,
        dialect=loaded.dialect,
        ignore_file=loaded.file,
        limits=limit,
        tree=found,
        changed=changed,
        since=since,
        offenders=tuple(offenders.find(source, found, loaded.dialect, tokens)),
        digest=snapshot.digest if snapshot else None,
    )
