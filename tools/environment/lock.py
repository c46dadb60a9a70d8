"""Locks: every package by address and sha256, as conda-lock 4 writes them (format 1), and when they are out of date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

from .. import offline
from ..errors import LockError
from . import conda_file, requirements
from .spec import EnvironmentSpec

FORMAT = 1  # `version:` of the file
SPEC_KEY, STAND_INS_KEY = "spec", "stand_ins"  # in the lock's custom_metadata
_RELOCK = "make lock"
_STAND_INS = {offline.CHANNEL.kind: offline.CHANNEL}
_CONDA_SUFFIXES = (".conda", ".tar.bz2")


@dataclass(frozen=True, kw_only=True)
class Package:
    """One file of the lock. build is "" for pip's. md5 is None where the channel names none."""

    name: str
    version: str
    build: str
    manager: Literal["conda", "pip"]
    url: str
    sha256: str
    md5: str | None
    platform: str
    dependencies: tuple[str, ...]

    @property
    def filename(self) -> str:
        """The last part of the address, percent-decoded."""
        return _filename(self.url)


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock file. sha256: of the file itself. stand_ins: what replaced a service when it was made.

    spec: `EnvironmentSpec.content` of what it was made from, None if another tool made it.
    """

    path: Path
    sha256: str
    packages: tuple[Package, ...]
    platforms: tuple[str, ...]
    stand_ins: tuple[offline.StandIn, ...]
    spec: str | None

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Reads a lock; 100 packages take under 0.1 s.

        Errors: LockError if the file is missing, not of format 1, or has a package without address, sha256 or with a
        file of another name.
        """
        content, table = _table(path)
        metadata = table.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(table.get("package"), list):
            raise LockError(f"{path}: no metadata or no packages in it", command=_RELOCK)
        custom = metadata.get("custom_metadata")
        custom = custom if isinstance(custom, dict) else {}
        packages = {
            (package.platform, package.manager, package.name): package
            for package in (_package(path, entry) for entry in table["package"])
        }
        return cls(
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            packages=tuple(packages[key] for key in sorted(packages)),
            platforms=tuple(sorted(metadata.get("platforms") or {platform for platform, _, _ in packages})),
            stand_ins=tuple(_stand_in(path, kind) for kind in str(custom.get(STAND_INS_KEY) or "").split()),
            spec=_spec(custom.get(SPEC_KEY)),
        )

    def for_platform(self, platform: str) -> tuple[Package, ...]:
        """The packages for "linux-64" or the like, by manager and name; LockError if it has none."""
        if platform not in self.platforms:
            raise LockError(
                f"{self.path}: platform {platform} is not in it", expected=", ".join(self.platforms), command=_RELOCK
            )
        return tuple(package for package in self.packages if package.platform == platform)


def stale(lock_path: Path, spec: EnvironmentSpec, platforms: Iterable[str] = ()) -> str | None:
    """Why the lock does not answer the spec any more, in words, or None if it does. Nothing is solved or fetched.

    platforms: those that it must hold. Errors: LockError if the lock is there but not readable.
    """
    if not lock_path.exists():
        return "no lock"
    lock = Lock.read(lock_path)
    if lock.spec is None:
        return f"{lock_path.name} does not say what it was made from"
    if changes := _changes(json.loads(lock.spec), json.loads(spec.content)):
        return f"{spec.path}: {'; '.join(changes)}"
    if missing := [platform for platform in platforms if platform not in lock.platforms]:
        return f"platform {', '.join(missing)} is not in it"
    gone = next((package for package in lock.packages if not _there(package.url)), None)
    return f"{gone.filename} is gone from its channel" if gone else None


def _table(path: Path) -> tuple[bytes, dict[str, Any]]:
    import yaml

    try:
        content = path.read_bytes()
        table = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except OSError as error:
        raise LockError(f"{path}: cannot be read: {error.strerror}", command=_RELOCK) from error
    except (yaml.YAMLError, ValueError) as error:
        raise LockError(f"{path}: not valid YAML: {error}", command=_RELOCK) from error
    if not isinstance(table, dict) or table.get("version") != FORMAT:
        found = table.get("version") if isinstance(table, dict) else None
        raise LockError(f"{path}: version {found} of the format", expected=f"version {FORMAT}", command=_RELOCK)
    return content, table


def _package(path: Path, entry: Any) -> Package:
    name = entry.get("name") if isinstance(entry, dict) else None
    try:
        hashes, manager = entry["hash"], entry["manager"]
        package = Package(
            name=str(entry["name"]),
            version=str(entry["version"]),
            build=_build(entry["url"]) if manager == "conda" else "",
            manager=cast(Literal["conda", "pip"], manager),
            url=str(entry["url"]),
            sha256=str(hashes.get("sha256") or ""),
            md5=hashes.get("md5") or None,
            platform=str(entry["platform"]),
            dependencies=tuple(sorted(entry.get("dependencies") or {})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise LockError(f"{path}: package {name}: {error!r} is missing or no text", command=_RELOCK) from error
    if manager not in ("conda", "pip"):
        raise LockError(f"{path}: package {name}: manager {manager}", expected="conda or pip", command=_RELOCK)
    if len(package.sha256) != 64:
        raise LockError(f"{path}: package {name}: no sha256", expected="a sha256 for every package", command=_RELOCK)
    stem = f"{package.name}-{package.version}-{package.build}"
    if manager == "conda" and package.filename not in [f"{stem}{suffix}" for suffix in _CONDA_SUFFIXES]:
        expected = f"a file {stem}.conda"
        raise LockError(f"{path}: package {name} is the file {package.filename}", expected=expected, command=_RELOCK)
    return package


def _filename(url: str) -> str:
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def _build(url: str) -> str:
    """The build of a conda package: the last part of its file's name."""
    return _filename(url).removesuffix(".conda").removesuffix(".tar.bz2").rsplit("-", 1)[-1]


def _spec(recorded: Any) -> str | None:
    """The recorded spec, None if it is none."""
    try:
        return str(recorded) if isinstance(json.loads(recorded), dict) else None
    except (TypeError, ValueError):
        return None


def _stand_in(path: Path, kind: str) -> offline.StandIn:
    if kind not in _STAND_INS:
        raise LockError(f"{path}: unknown stand-in {kind}", expected=", ".join(_STAND_INS), command=_RELOCK)
    return _STAND_INS[cast(Literal["channel"], kind)]


def _there(url: str) -> bool:
    """False only for a file:// address without its file; other addresses are not asked."""
    parts = urlsplit(url)
    return parts.scheme != "file" or Path(unquote(parts.path)).is_file()


def _changes(then: Any, now: Any) -> list[str]:
    """What people would say has changed between two `EnvironmentSpec.content`."""
    added, removed, changed = list[str](), list[str](), list[str]()
    for key, name_of in (("dependencies", conda_file.package_name), ("pip", requirements.name)):
        before, after = _by_name(then.get(key, []), name_of), _by_name(now[key], name_of)
        added += [name for name in after if name not in before]
        removed += [name for name in before if name not in after]
        changed += [
            f"{', '.join(before[name])} -> {', '.join(after[name])}"
            for name in after
            if name in before and before[name] != after[name]
        ]
    if then.get("channels") != now["channels"]:
        changed.append(f"channels {', '.join(then.get('channels', []))} -> {', '.join(now['channels'])}")
    if then.get("hashes", []) != now["hashes"]:
        changed.append("hashes")
    named = (("added", added), ("removed", removed), ("changed", changed))
    return [f"{verb}: {', '.join(names)}" for verb, names in named if names]


def _by_name(texts: list[str], name_of: Any) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for text in texts:
        grouped.setdefault(name_of(text), []).append(text)
    return grouped
