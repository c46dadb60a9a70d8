"""An existing conda environment, read from its folder without conda: its packages and their channels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from ..errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Installed:
    """channels: most used first. pip: "name==version".

    dependencies: "name=version", with "channel::" before it where there are several channels.
    """

    channels: tuple[str, ...]
    dependencies: tuple[str, ...]
    pip: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Record:
    name: str
    version: str
    channel: str
    files: frozenset[str]


def is_prefix(path: Path) -> bool:
    """Whether `path` is the folder of a conda environment."""
    return (path / "conda-meta").is_dir()


def read(prefix: Path) -> Installed:
    """The conda packages of `prefix` by its conda-meta, and what pip put beside them.

    Errors: SpecError if a record cannot be read, or if pip installed something from a folder or a URL.
    """
    records = [_record(path) for path in sorted((prefix / "conda-meta").glob("*.json"))]
    if not records:
        raise SpecError(f"{prefix}: no packages in its conda-meta", expected="the folder of a conda environment")
    counts: dict[str, int] = {}
    for record in records:
        counts[record.channel] = counts.get(record.channel, 0) + 1
    channels = tuple(sorted(counts, key=lambda channel: (-counts[channel], channel)))
    dependencies = sorted(
        (f"{record.channel}::" if len(channels) > 1 else "") + f"{record.name}={record.version}" for record in records
    )
    owned = frozenset[str]().union(*(record.files for record in records))
    return Installed(channels=channels, dependencies=tuple(dependencies), pip=_by_pip(prefix, owned))


def _record(path: Path) -> _Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _Record(
            name=str(record["name"]),
            version=str(record["version"]),
            channel=_channel(str(record.get("channel") or record.get("schannel") or "conda-forge")),
            files=frozenset(record.get("files") or ()),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{path}: not a package's record: {error!r}", expected="a name and a version") from error


def _channel(recorded: str) -> str:
    """The channel's name for an address of its packages where that name means the same, else the channel's address."""
    from rattler import Channel

    if "://" not in recorded:
        return recorded
    parts = urlsplit(recorded)
    if parts.username or parts.password:
        recorded = recorded.replace(parts.netloc, parts.netloc.rsplit("@", 1)[1], 1)
    address = recorded.rstrip("/")
    if address.rsplit("/", 1)[-1] in ("noarch", "linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"):
        address = address.rsplit("/", 1)[0]
    name = Channel(address).name
    return name if name and Channel(name).base_url.rstrip("/") == address else address


def _by_pip(prefix: Path, owned: frozenset[str]) -> tuple[str, ...]:
    """What pip installed: dist-info folders that no conda package owns."""
    found = []
    for metadata in sorted(prefix.glob("lib/python3.*/site-packages/*.dist-info/METADATA")):
        installer = metadata.with_name("INSTALLER")
        if metadata.relative_to(prefix).as_posix() in owned or not installer.is_file():
            continue
        if installer.read_text(encoding="utf-8").strip() != "pip":
            continue
        headers = HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
        name, version = canonicalize_name(str(headers["Name"])), str(headers["Version"])
        if metadata.with_name("direct_url.json").is_file():
            raise SpecError(
                f"{prefix}: pip installed {name} from a folder or a URL, not from an index",
                expected="released versions: they can be fetched again",
                command=f"pip install {name}=={version} in that environment, then try again",
            )
        found.append(f"{name}=={version}")
    return tuple(sorted(found))
