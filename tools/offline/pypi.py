"""Wheels for the environment's Python, found and fetched by this Python's pip.

pip's own configuration says from where: index, find-links, constraints, proxies, credentials and certificates are its.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .. import progress
from ..errors import OfflineError
from ..image import wheels
from ..image.versions import Target
from ..image.wheels import Wheel
from .python import GLIBC

ROUNDS = 5  # of asking for what pip left out; one is usual, two where this Python is another than the target's

log = logging.getLogger(__name__)


class NoWheelError(OfflineError):
    """pip finds no wheel. requirement: as it was asked for, a PEP 508 text; it may be another one's requirement."""

    def __init__(self, requirement: str, target: Target) -> None:
        super().__init__(f"no wheel of {requirement} for Python {target.python} on {target.subdir}")
        self.requirement = requirement


@dataclass(frozen=True, kw_only=True)
class Closure:
    """Wheels that need nothing but each other. extras: "name[extra]" -> what it requires, of those asked for."""

    wheels: tuple[Wheel, ...]
    extras: dict[str, tuple[Requirement, ...]]


def versions(name: str, target: Target) -> list[Version]:
    """Versions that there are wheels of, for `target`; none where pip cannot say."""
    done = _pip("index", "versions", name, *_only(target))
    match = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    return list(_parsed(match[1].split(", "))) if match else []


def closure(requirements: Sequence[Requirement], constraints: Sequence[str], folder: Path, target: Target) -> Closure:
    """Wheels of the requirements and of all that they require, fetched into `folder`, an empty one.

    pip evaluates markers for the Python that it runs on; here they are evaluated for `target`, so that the answer is
    the same under every Python. Errors: NoWheelError; OfflineError in pip's own words.
    """
    wanted = {str(requirement): requirement for requirement in requirements}
    for number in range(ROUNDS):
        work = folder / str(number)
        work.mkdir(parents=True)
        _download(list(wanted), constraints, work, target)
        found = {wheel.name: wheel for wheel in map(wheels.read, sorted(work.glob("*.whl")))}
        reached, missing, extras = _reached(requirements, found, target)
        if not missing:
            return Closure(wheels=reached, extras=extras)
        wanted |= {str(requirement): requirement for requirement in missing}
    raise OfflineError(f"pip's answer lacks {', '.join(map(str, missing))}", expected="all that the wheels require")


def _reached(
    requirements: Sequence[Requirement], found: dict[str, Wheel], target: Target
) -> tuple[tuple[Wheel, ...], list[Requirement], dict[str, tuple[Requirement, ...]]]:
    """(wheels that are required, requirements that none meets, what the extras asked for require)."""
    reached, missing = dict[str, Wheel](), list[Requirement]()
    extras = dict[str, tuple[Requirement, ...]]()
    queue = list(requirements)
    while queue:
        requirement = queue.pop()
        wheel = found.get(canonicalize_name(requirement.name))
        if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
            missing.append(_plain(requirement))
            continue
        if wheel.name not in reached:
            reached[wheel.name] = wheel
            queue += wheel.needs(target)
        for extra in sorted(requirement.extras):
            key = wheels.extra_key(wheel.name, extra)
            if key not in extras:
                extras[key] = tuple(wheel.needs(target, extra))
                queue += extras[key]
    return tuple(reached[name] for name in sorted(reached)), missing, extras


def _plain(requirement: Requirement) -> Requirement:
    """The requirement without its marker, which was evaluated already."""
    plain = Requirement(str(requirement))
    plain.marker = None
    return plain


def _download(requirements: Sequence[str], constraints: Sequence[str], folder: Path, target: Target) -> None:
    listed, held = folder / "requirements.txt", folder / "constraints.txt"
    listed.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    held.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    done = _pip(
        "download", "--dest", str(folder), "--requirement", str(listed), "--constraint", str(held), *_only(target)
    )
    if done.returncode == 0:
        return
    if "Retrying (" in done.stdout:
        raise OfflineError("pip cannot reach its package index", command="python -m pip config debug shows which it is")
    if match := re.search(r"No matching distribution found for (.+?)(?: \(from .*)?$", done.stdout, re.MULTILINE):
        raise NoWheelError(match[1], target)
    said = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("WARNING")]
    raise OfflineError("pip finds no set of wheels:\n" + "\n".join(f"  {line}" for line in said[-12:]))


def _only(target: Target) -> Iterator[str]:
    """Options of pip for wheels of `target`, whatever Python it runs on."""
    yield from (
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={target.python}",
        f"--abi={target.abi}",
    )
    yield from (f"--platform={platform}" for platform in target.platforms(GLIBC))


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs pip to its end, whatever that is; its stdout and stderr are one text."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color", *arguments]
    log.debug("%s", shlex.join(command))
    with (
        progress.task("Fetching wheels", unit="steps") as task,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            task.advance()
    if any("No module named pip" in line for line in lines):
        raise OfflineError(f"{sys.executable} has no pip", command=f"{sys.executable} -m ensurepip")
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines))


def _parsed(texts: Sequence[str]) -> Iterator[Version]:
    for text in texts:
        try:
            yield Version(text.strip())
        except InvalidVersion:
            continue
