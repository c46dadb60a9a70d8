"""Snapshots of source directories: which files each of them has, and where their contents lie."""

from __future__ import annotations

import json
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from . import paths
from .answers import Refusal
from .store import Store, now

# What the service's documents name ("Where to save and write files for experiments"); azureml-core counts in MiB
LIMIT_BYTES = 300 << 20
LIMIT_FILES = 2000  # that are new or changed since the parent, as azureml-core counts them

SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
    id TEXT PRIMARY KEY, parent TEXT, created TEXT NOT NULL, properties TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS snapshot_files (
    snapshot TEXT NOT NULL REFERENCES snapshots (id), path TEXT NOT NULL, content TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (snapshot, path)) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class SnapshotFile:
    """A file of a snapshot. path: relative, with slashes; size: bytes; location: where its content lies."""

    path: str
    size: int
    location: Path


class Snapshots:
    """All snapshots of the workspace."""

    def __init__(self, store: Store, *, folder: Path) -> None:
        """folder: for the contents of their files, under names of our own."""
        self.store, self.folder = store, folder
        store.define(SCHEMA)

    def exists(self, id: str) -> bool:  # noqa: A002 - the service's word
        """Whether there is one of that id."""
        return self.store.row("SELECT 1 FROM snapshots WHERE id = ?", id) is not None

    def files(self, id: str) -> tuple[SnapshotFile, ...]:  # noqa: A002
        """Its files in the order of their paths; none if there is no such snapshot."""
        rows = self.store.rows("SELECT * FROM snapshot_files WHERE snapshot = ? ORDER BY path", id)
        return tuple(
            SnapshotFile(path=row["path"], size=row["size"], location=self.folder / row["content"]) for row in rows
        )

    def room(self, names: Sequence[str]) -> list[Path]:
        """A place for the content of each of these files. Refusal for names that no file can have, and too many."""
        if len(names) > LIMIT_FILES:
            raise _refusal(f"Your project exceeds the file limit of {LIMIT_FILES}: it has {len(names)} new files.")
        for name in names:
            paths.relative(name)
        return [self.folder / secrets.token_hex(16) for _ in names]

    def create(
        self,
        id: str,  # noqa: A002
        *,
        parent: str | None,
        tree: Mapping[str, Any],
        new: Mapping[str, Path],
        properties: Mapping[str, Any],
    ) -> None:
        """A snapshot of the files in the tree: new ones by path, the others as the parent has them. Refusal, if amiss.

        tree: DirTreeNode as the SDK sends it, {name, type, children: {name: node}}, of the root.
        """
        known = {file.path: file.location for file in self.files(parent)} if parent else {}
        contents = {**known, **new}
        wanted = sorted(_paths(tree))
        if missing := next((path for path in wanted if path not in contents or not contents[path].is_file()), None):
            raise _refusal(f"The content of {missing} was not uploaded, and snapshot {parent} does not have it.")
        sizes = {path: contents[path].stat().st_size for path in wanted}
        if sum(sizes.values()) > LIMIT_BYTES:
            raise _refusal(f"Your total snapshot size exceeds the limit of {LIMIT_BYTES / (1 << 20)} MB.")
        with self.store.transaction() as database:
            if self.exists(id):
                if [(file.path, file.size) for file in self.files(id)] == list(sizes.items()):
                    return  # the same once more: the answer was lost
                raise Refusal(409, f"Snapshot {id} exists already.", component="project")
            database.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?)", (id, parent, now(), json.dumps(dict(properties)))
            )
            database.executemany(
                "INSERT INTO snapshot_files VALUES (?, ?, ?, ?)",
                [(id, path, contents[path].name, size) for path, size in sizes.items()],
            )

    def zip(self, id: str) -> Path:  # noqa: A002
        """The snapshot as an archive, made when it is first asked for."""
        path = self.folder / "zip" / f"{id}.zip"
        if not path.exists():
            with files.written_whole(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in self.files(id):
                    archive.write(file.location, file.path)
        return path


def _paths(tree: Mapping[str, Any]) -> list[str]:
    """The files of the tree. Refusal for names that no file can have."""
    found, folders = [], [("", tree)]
    while folders:
        prefix, folder = folders.pop()
        for name, node in _children(folder).items():
            path = f"{prefix}{name}"
            if node.get("type") == "File":
                found.append(paths.relative(path))
            else:
                paths.relative(path)
                folders.append((f"{path}/", node))
    return found


def _children(folder: Mapping[str, Any]) -> Mapping[str, Any]:
    children = folder.get("children", {})
    if not isinstance(children, dict) or not all(
        isinstance(node, dict) and "/" not in name for name, node in children.items()
    ):
        raise _refusal("DirTreeNode is not a tree of files and folders.")
    return children


def _refusal(message: str) -> Refusal:
    return Refusal(400, message, code="UserError", component="project")
