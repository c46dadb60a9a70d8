"""Registered models: named, numbered from 1 on, each an asset that says which files belong to it."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any

from .store import Store, now

# A deleted model leaves its row: its number is not given out again.
SCHEMA = """
CREATE TABLE IF NOT EXISTS assets (id TEXT PRIMARY KEY, description TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS models (
    name TEXT NOT NULL, version INTEGER NOT NULL, description TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, version));
"""
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")


class Models:
    """All models and assets of the workspace, as the model management service describes them (camelCase names)."""

    def __init__(self, store: Store) -> None:
        """Makes the tables."""
        self.store = store
        store.define(SCHEMA)

    def put_asset(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """Registers which artifacts belong together."""
        made = {**description, "id": uuid.uuid4().hex, "createdTime": now()}
        with self.store.transaction() as database:
            database.execute("INSERT INTO assets VALUES (?, ?)", (made["id"], json.dumps(made)))
        return made

    def asset(self, id: str) -> dict[str, Any] | None:  # noqa: A002 - the service's word
        """The asset of that id."""
        row = self.store.row("SELECT description FROM assets WHERE id = ?", id)
        return json.loads(row["description"]) if row else None

    def put(self, name: str, description: Mapping[str, Any]) -> dict[str, Any]:
        """Registers a model under the next number."""
        moment = now()
        with self.store.transaction() as database:
            row = self.store.row("SELECT max(version) AS last FROM models WHERE name = ?", name)
            version = ((row["last"] if row else None) or 0) + 1
            known = {"id": f"{name}:{version}", "name": name, "version": version}
            made = {**description, **known, "createdTime": moment, "modifiedTime": moment}
            database.execute(
                "INSERT INTO models (name, version, description) VALUES (?, ?, ?)", (name, version, json.dumps(made))
            )
        return made

    def get(self, id: str) -> dict[str, Any] | None:  # noqa: A002
        """The model of that id, NAME:VERSION."""
        name, _, version = id.rpartition(":")
        row = self.store.row(
            "SELECT description FROM models WHERE name = ? AND version = ? AND NOT deleted", name, version
        )
        return _description(row) if row else None

    def all(self) -> list[dict[str, Any]]:
        """All of them, the newest first."""
        rows = self.store.rows("SELECT description FROM models WHERE NOT deleted ORDER BY rowid DESC")
        return [_description(row) for row in rows]

    def change(self, id: str, changes: Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: A002
        """The model with these parts in place of its own."""
        with self.store.transaction() as database:
            there = self.get(id)
            if there is None:
                return None
            made = {**there, **changes, "modifiedTime": now()}
            database.execute(
                "UPDATE models SET description = ? WHERE name = ? AND version = ?",
                (json.dumps(made), there["name"], there["version"]),
            )
        return made

    def delete(self, id: str) -> bool:  # noqa: A002
        """Takes it away; its files stay with the run that made them. False if it is not there."""
        name, _, version = id.rpartition(":")
        with self.store.transaction() as database:
            done = database.execute(
                "UPDATE models SET deleted = 1 WHERE name = ? AND version = ? AND NOT deleted", (name, version)
            )
        return done.rowcount == 1


def _description(row: sqlite3.Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["description"])
    return found
