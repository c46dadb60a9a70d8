"""The packages of two runs, and which were added, removed or changed from the first to the second.

What a run had is what its witness saw. Where one of the runs has no witness it is, for both, what their locks hold, if
locks of these hashes lie in the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..environment.lock import Lock
from ..errors import LockError
from .subject import Subject

LOCKS = ("environments", ".parity/offline")  # where a project's locks lie


@dataclass(frozen=True, kw_only=True)
class Packages:
    """versions: by name, with the build where it is known; source: who says so, in words."""

    versions: Mapping[str, str]
    source: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A package that two runs do not have alike. before, after: None where the run lacks it."""

    name: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> str:
        """What became of it."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


def of(subjects: Sequence[Subject], root: Path) -> list[Packages]:
    """The packages of each run, from one kind of source; [] if none tells of all. root: the project's folder."""
    if all(subject.packages for subject in subjects):
        return [Packages(versions=subject.packages, source="seen in the container") for subject in subjects]
    found = [locked(root, str(each.image.get("lock_sha256")), str(each.image.get("platform"))) for each in subjects]
    known = [packages for packages in found if packages]
    return known if len(known) == len(subjects) else []


def locked(root: Path, sha256: str, platform: str) -> Packages | None:
    """What the lock of that hash holds for a platform; None where the project at `root` has no such lock now."""
    for path in (path for folder in LOCKS for path in sorted((root / folder).glob("*.conda-lock.yml"))):
        try:
            if files.sha256(path) == sha256:
                packages = Lock.read(path).for_platform(platform)
                versions = {each.name: f"{each.version} {each.build}".rstrip() for each in packages}
                return Packages(versions=versions, source=f"of the lock {path.relative_to(root)}")
        except (OSError, LockError):
            continue  # it is not readable any more: as good as gone
    return None


def changes(before: Packages, after: Packages) -> list[Change]:
    """Which packages differ, by name."""
    one, two = before.versions, after.versions
    return [
        Change(name=name, before=one.get(name), after=two.get(name))
        for name in sorted({*one, *two})
        if one.get(name) != two.get(name)
    ]


def counted(found: Iterable[Change]) -> str:
    """How many of each kind, in words."""
    kinds = [each.kind for each in found]
    said = [f"{kinds.count(kind):,} {kind}" for kind in ("added", "removed", "changed") if kind in kinds]
    return ", ".join(said) or "no difference"
