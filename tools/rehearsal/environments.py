"""Registered environments: a version's content never changes, as on Azure ML; its labels may."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from .store import Store, now

SCHEMA = """
CREATE TABLE IF NOT EXISTS environments (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version TEXT NOT NULL, definition TEXT NOT NULL,
    created TEXT NOT NULL, UNIQUE (name, version));
CREATE TABLE IF NOT EXISTS environment_labels (
    name TEXT NOT NULL, label TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (name, label));
"""
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")
RESERVED = "azureml"  # of curated environments, in whatever case
LATEST = "latest"  # a label that is always there


class Unchangeable(Exception):  # noqa: N818 - the message is the service's own
    """That version is there already, with another content."""


class Environments:
    """All environments of the workspace. A definition: camelCase names, with "name" and "version"."""

    def __init__(self, store: Store) -> None:
        """Makes the tables."""
        self.store = store
        store.define(SCHEMA)

    def get(self, name: str, version: str | None = None) -> dict[str, Any] | None:
        """The definition; of the newest version unless one is named."""
        row = self.store.row(
            "SELECT * FROM environments WHERE name = ? AND (? IS NULL OR version = ?) ORDER BY number DESC LIMIT 1",
            *(name, version, version),
        )
        return _definition(row) if row else None

    def labeled(self, name: str, label: str) -> dict[str, Any] | None:
        """The definition that carries that label."""
        if label == LATEST:
            return self.get(name)
        row = self.store.row("SELECT version FROM environment_labels WHERE name = ? AND label = ?", name, label)
        return self.get(name, row["version"]) if row else None

    def all(self) -> list[dict[str, Any]]:
        """The newest version of each, by name."""
        rows = self.store.rows(
            "SELECT * FROM environments WHERE number IN (SELECT max(number) FROM environments GROUP BY name)"
            " ORDER BY name"
        )
        return [_definition(row) for row in rows]

    def versions(self, name: str) -> list[dict[str, Any]]:
        """All versions of one, the newest first."""
        rows = self.store.rows("SELECT * FROM environments WHERE name = ? ORDER BY number DESC", name)
        return [_definition(row) for row in rows]

    def put(self, name: str, version: str | None, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Registers it. Without a version: the newest one if it has this content, else the next number.

        Unchangeable if that version is there with another content.
        """
        text = _content(definition)
        with self.store.transaction() as database:
            there = self.get(name, version)
            if there is not None and _content(there) == text:
                return there
            if there is not None and version is not None:
                raise Unchangeable(
                    f"Environment {name} with version {version} is already registered and cannot be changed."
                )
            database.execute(
                "INSERT INTO environments (name, version, definition, created) VALUES (?, ?, ?, ?)",
                (name, version or self._next(name), text, now()),
            )
        made = self.get(name, version)
        assert made
        return made

    def label(self, name: str, version: str, labels: Sequence[str]) -> None:
        """Gives the version these labels and no others; a label is on one version at a time."""
        with self.store.transaction() as database:
            database.execute("DELETE FROM environment_labels WHERE name = ? AND version = ?", (name, version))
            database.executemany(
                "INSERT OR REPLACE INTO environment_labels VALUES (?, ?, ?)",
                [(name, label, version) for label in labels],
            )

    def _next(self, name: str) -> str:
        numbers = [int(each["version"]) for each in self.versions(name) if re.fullmatch("[0-9]+", each["version"])]
        return str(max(numbers, default=0) + 1)


def _definition(row: sqlite3.Row) -> dict[str, Any]:
    return {"name": row["name"], "version": row["version"], **json.loads(row["definition"])}


def _content(definition: Mapping[str, Any]) -> str:
    """What makes a version: all but its name and number, written so that equal contents are equal texts."""
    return json.dumps({key: definition[key] for key in definition if key not in ("name", "version")}, sort_keys=True)
