"""What Azure ML takes: how large a snapshot may be, and how many of its files may be new.

azureml-core 1.61 (azureml/_restclient/constants.py and snapshots_client.py) refuses more than 300 MiB in all, and more
than 2,000 files that are new or changed since its last snapshot for the same workspace. azure-ai-ml 1.35 refuses
nothing; above 100 MB it warns.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import CHUNK
from .patterns import Dialect
from .tree import SnapshotFile
from .words import MIB

NO_FILE_LIMIT = "AML_SNAPSHOT_NO_FILE_LIMIT"  # of azureml-core: any value takes the limit of files away
NEAR = 0.8  # of a limit: worth a word


@dataclass(frozen=True, kw_only=True)
class Limits:
    """size: bytes; files: new or changed ones. None: no limit. refuses: whether the SDK refuses what exceeds them."""

    size: int
    files: int | None
    refuses: bool


def of(dialect: Dialect) -> Limits:
    """The limits of the SDK with these rules."""
    if dialect == "v2":
        return Limits(size=100_000_000, files=None, refuses=False)
    return Limits(size=300 * MIB, files=None if os.environ.get(NO_FILE_LIMIT) else 2000, refuses=True)


def last_snapshot() -> Path | None:
    """azureml-core's note of the last snapshot that it sent for any workspace; None before the first.

    It keeps one for each workspace, under the hash of an id that only Azure tells: the newest is taken.
    """
    notes = Path.home().glob(".azureml/.projectcontent/*/latestsnapshot")
    return max(notes, key=lambda path: path.stat().st_mtime_ns, default=None)


def changed(source: Path, found: list[SnapshotFile], note: Path, *, enough: int) -> int:
    """How many of these files azureml-core would send: those that the last snapshot did not hold like this.

    enough: a number at which counting ends. note: as `last_snapshot` gives it; one that cannot be read counts as none.
    """
    try:
        known = dict(_hashes(json.loads(json.loads(note.read_text())["root"])))
    except (OSError, ValueError, KeyError, TypeError):
        return len(found)
    count = 0
    for file in found:
        if known.get(file.path) != _sdk_hash(source / file.path):
            count += 1
            if count >= enough:
                break
    return count


def _hashes(root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Path and hash of each file in azureml-core's tree (DirTreeJsonEncoder)."""
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        for node in folder["children"]:
            if node["type"] == "File":
                yield prefix + node["name"], node["hash"]
            else:
                folders.append((f"{prefix}{node['name']}/", node))


def _sdk_hash(path: Path) -> str | None:
    """azureml-core's hash of a file: sha512 of its content, its name and the word File."""
    digest = hashlib.sha512()
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                digest.update(data)
    except OSError:
        return None
    digest.update(path.name.encode() + b"File")
    return digest.hexdigest()
