"""What Azure's resource manager knows: resource groups, and the names that the workspace goes by."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .identity import PROVIDER, Identity
from .store import Store, now

SCHEMA = """
CREATE TABLE IF NOT EXISTS resource_groups (name TEXT PRIMARY KEY COLLATE NOCASE, location TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS workspaces (
    resource_group TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE, location TEXT NOT NULL,
    created TEXT NOT NULL, PRIMARY KEY (resource_group, name));
"""
GROUP_NAME = re.compile(r"[\w.()-]{1,90}")  # Azure's rules for resource names
WORKSPACE_NAME = re.compile(r"[A-Za-z0-9][\w-]{1,32}")


@dataclass(frozen=True, kw_only=True)
class Group:
    """A resource group. location: a region of Azure's, by its short name."""

    name: str
    location: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name that the workspace goes by, and where it is said to lie. created: as store.now() writes it."""

    resource_group: str
    name: str
    location: str
    created: str


class Resources:
    """The subscription's resource groups and workspaces; there is one workspace, whatever it was created as."""

    def __init__(self, store: Store, identity: Identity) -> None:
        """identity: whose group and name are there from the start."""
        self.store, self.identity = store, identity
        store.define(SCHEMA)
        with store.transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO resource_groups VALUES (?, ?)", (identity.resource_group, identity.region)
            )
            database.execute(
                "INSERT OR IGNORE INTO workspaces VALUES (?, ?, ?, ?)",
                (identity.resource_group, identity.name, identity.region, now()),
            )

    def group(self, name: str) -> Group | None:
        """The resource group of that name, in whatever case."""
        row = self.store.row("SELECT * FROM resource_groups WHERE name = ?", name)
        return Group(**dict(row)) if row else None

    def groups(self) -> list[Group]:
        """All of them."""
        return [Group(**dict(row)) for row in self.store.rows("SELECT * FROM resource_groups ORDER BY name")]

    def put_group(self, name: str, location: str) -> Group:
        """The resource group of that name, which is made if there is none."""
        with self.store.transaction() as database:
            database.execute("INSERT OR IGNORE INTO resource_groups VALUES (?, ?)", (name, location))
        found = self.group(name)
        assert found
        return found

    def workspace(self, resource_group: str, name: str) -> Entry | None:
        """The workspace under that name in that group."""
        row = self.store.row("SELECT * FROM workspaces WHERE resource_group = ? AND name = ?", resource_group, name)
        return Entry(**dict(row)) if row else None

    def workspaces(self, resource_group: str | None = None) -> list[Entry]:
        """All names of a group, or of the subscription, the first of them first."""
        rows = self.store.rows("SELECT * FROM workspaces ORDER BY created")
        found = [Entry(**dict(row)) for row in rows]
        return [each for each in found if resource_group in (None, each.resource_group)]

    def put_workspace(self, resource_group: str, name: str, location: str) -> None:
        """Lets the workspace go by one more name."""
        with self.store.transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO workspaces VALUES (?, ?, ?, ?)", (resource_group, name, location, now())
            )

    def remove_workspace(self, resource_group: str, name: str) -> None:
        """Takes a name away."""
        with self.store.transaction() as database:
            database.execute("DELETE FROM workspaces WHERE resource_group = ? AND name = ?", (resource_group, name))

    def is_own(self, entry: Entry) -> bool:
        """Whether it is the name in config.json, which stays."""
        own = (self.identity.resource_group.lower(), self.identity.name.lower())
        return (entry.resource_group.lower(), entry.name.lower()) == own

    def scope(self, entry: Entry) -> str:
        """/subscriptions/.../workspaces/NAME."""
        group = f"/subscriptions/{self.identity.subscription}/resourceGroups/{entry.resource_group}"
        return f"{group}/providers/{PROVIDER}/workspaces/{entry.name}"
