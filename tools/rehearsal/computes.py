"""The clusters that jobs name as their target: what they would be on Azure; the jobs themselves run on this machine."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from .store import Store, now
from .vm_sizes import SIZES, VmSize

# A deleted cluster leaves its row: the one that is there from the start does not come back with the next.
SCHEMA = """
CREATE TABLE IF NOT EXISTS computes (
    name TEXT PRIMARY KEY COLLATE NOCASE, vm_size TEXT NOT NULL, min_nodes INTEGER NOT NULL,
    max_nodes INTEGER NOT NULL, idle_seconds INTEGER NOT NULL, priority TEXT NOT NULL, description TEXT,
    tags TEXT NOT NULL DEFAULT '{}', created TEXT NOT NULL, changed TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
"""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,23}")  # Azure ML's rule for clusters
FIRST = ("cpu-cluster", "STANDARD_D2_V2", 0, 4, 2400, "Dedicated")  # as Azure ML's tutorial makes it


@dataclass(frozen=True, kw_only=True)
class Compute:
    """A cluster. idle_seconds: before a node is given back; created, changed: as store.now() writes them."""

    name: str
    vm_size: str
    min_nodes: int
    max_nodes: int
    idle_seconds: int
    priority: str
    description: str | None
    tags: Mapping[str, str]
    created: str
    changed: str

    @property
    def size(self) -> VmSize:
        """The machine that each node is."""
        return SIZES[self.vm_size]

    @property
    def gpus(self) -> int:
        """GPUs of a node."""
        return self.size.gpus

    @property
    def cores(self) -> int:
        """Cores of a node."""
        return self.size.cores

    @property
    def memory_gb(self) -> float:
        """Memory of a node, GiB."""
        return self.size.memory_gb


class Computes:
    """All clusters of the workspace."""

    def __init__(self, store: Store) -> None:
        """Makes the table, and in it the cluster that the tutorial's scripts name."""
        self.store = store
        store.define(SCHEMA)
        moment = now()
        with store.transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO computes (name, vm_size, min_nodes, max_nodes, idle_seconds, priority, created,"
                " changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*FIRST, moment, moment),
            )

    def get(self, name: str) -> Compute | None:
        """The cluster of that name, in whatever case."""
        row = self.store.row("SELECT * FROM computes WHERE name = ? AND NOT deleted", name)
        return _compute(row) if row else None

    def all(self) -> list[Compute]:
        """All of them, by name."""
        return [_compute(row) for row in self.store.rows("SELECT * FROM computes WHERE NOT deleted ORDER BY name")]

    def names(self) -> list[str]:
        """Their names."""
        return [each.name for each in self.all()]

    def put(
        self,
        name: str,
        *,
        vm_size: str,
        min_nodes: int,
        max_nodes: int,
        idle_seconds: int,
        priority: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Compute:
        """Makes a cluster, or changes it; vm_size: one of vm_sizes.SIZES."""
        there, moment = self.get(name), now()
        values = (there.name if there else name, vm_size, min_nodes, max_nodes, idle_seconds, priority, description)
        with self.store.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO computes (name, vm_size, min_nodes, max_nodes, idle_seconds, priority,"
                " description, tags, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, json.dumps(dict(tags or {})), there.created if there else moment, moment),
            )
        made = self.get(name)
        assert made
        return made

    def delete(self, name: str) -> None:
        """Takes it away."""
        with self.store.transaction() as database:
            database.execute("UPDATE computes SET deleted = 1 WHERE name = ?", (name,))


def _compute(row: sqlite3.Row) -> Compute:
    table = dict(row)
    del table["deleted"]
    return Compute(**{**table, "tags": json.loads(table["tags"])})
