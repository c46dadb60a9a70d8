"""Every error a user can meet: what was found, what was expected, the next command, and an exit code of its own.

Library code raises these; `cli` alone prints them and exits. 1 is left to a verb's own "no" (a stale lock, a failed
check) and to the exit code of the user's container; 2 is a mistake on the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ParityError(Exception):
    """A user's mistake or a machine's refusal, told in full.

    found: what is wrong and where, one line. expected: what would have been right. command: what to type next.
    """

    exit_code: ClassVar[int] = 10

    def __init__(self, found: str, *, expected: str | None = None, command: str | None = None) -> None:
        super().__init__(found)
        self.found, self.expected, self.command = found, expected, command

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.command:
            lines.append(f"  next:     {self.command}")
        return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """', did you mean X?' for the nearest of the known names, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


class SettingsError(ParityError):
    """parity.toml cannot be read, or says something that it cannot say."""

    exit_code = 11


class EngineError(ParityError):
    """No container engine answers, or it refused."""

    exit_code = 12


class SpecError(ParityError):
    """An environment spec is missing or not readable."""

    exit_code = 13


class SolveError(ParityError):
    """No set of packages satisfies the spec; the lock was not touched."""

    exit_code = 14


class LockError(ParityError):
    """A lock is missing, stale or not readable."""

    exit_code = 15


class FetchError(ParityError):
    """A file could not be had from its address."""

    exit_code = 16


class HashMismatchError(ParityError):
    """A file is not the one that the lock names; nothing of it was used."""

    exit_code = 17

    def __init__(self, name: str, *, expected: str, found: str, where: str) -> None:
        super().__init__(
            f"{name} is not the file that was locked: sha256 {found}, from {where}",
            expected=f"sha256 {expected}",
            command="try again (nothing of it was used); if it stays so, the source changed: make lock",
        )


class PackageError(ParityError):
    """A package cannot be put into an image."""

    exit_code = 18


class ImageError(ParityError):
    """An image is missing, or does not do what it must."""

    exit_code = 19


class DataError(ParityError):
    """The data set is missing, or not what it should be."""

    exit_code = 20


class SnapshotError(ParityError):
    """The source directory cannot be sent as it is."""

    exit_code = 21


class DiskError(ParityError):
    """A disk is full or cannot be written."""

    exit_code = 22


class OfflineError(ParityError):
    """A service cannot be reached, and its stand-in is refused or cannot be made."""

    exit_code = 23


class RunError(ParityError):
    """A run could not be started or followed (a script that fails has its own exit code)."""

    exit_code = 24


class RegistryError(ParityError):
    """A registry does not let us in, refused what was sent, or broke off."""

    exit_code = 25


class RehearsalError(ParityError):
    """The rehearsal workspace does not start or end."""

    exit_code = 26


class AzureError(ParityError):
    """Azure ML, or the rehearsal workspace in its place, refused: login, workspace, compute, environment or run."""

    exit_code = 27


class TrackingError(ParityError):
    """A tracking server is none, does not answer, or refused what was sent."""

    exit_code = 28
