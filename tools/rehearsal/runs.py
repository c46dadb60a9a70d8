"""The run history: experiments and runs, and the order in which a run's statuses follow each other."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .store import Store, now

# As the SDK lists them (azureml-core 1.61, Run.get_status): a run goes down this list and never up.
ORDER = ("NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested")
ENDED = ("Completed", "Failed", "Canceled")

SCHEMA = """
CREATE TABLE IF NOT EXISTS experiments (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created TEXT NOT NULL, description TEXT, archived TEXT,
    tags TEXT NOT NULL DEFAULT '{}');
CREATE UNIQUE INDEX IF NOT EXISTS active_experiments ON experiments (name) WHERE archived IS NULL;
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, uuid TEXT UNIQUE NOT NULL,
    experiment_id TEXT NOT NULL REFERENCES experiments (id), parent TEXT, root TEXT NOT NULL, status TEXT NOT NULL,
    created TEXT NOT NULL, started TEXT, ended TEXT, target TEXT, type TEXT NOT NULL, name TEXT, description TEXT,
    hidden INTEGER NOT NULL DEFAULT 0, properties TEXT NOT NULL DEFAULT '{}', tags TEXT NOT NULL DEFAULT '{}',
    definition TEXT NOT NULL DEFAULT '{}', snapshot TEXT, error TEXT, warnings TEXT NOT NULL DEFAULT '[]',
    extra TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS runs_of_experiment ON runs (experiment_id, number);
CREATE INDEX IF NOT EXISTS runs_of_parent ON runs (parent);
CREATE INDEX IF NOT EXISTS runs_of_root ON runs (root);
"""
CHANGEABLE = {"started", "ended", "target", "type", "name", "description", "hidden", "snapshot", "error", "warnings"}
MERGED = {"properties", "tags", "extra"}
JSON = {"properties", "tags", "definition", "error", "warnings", "extra"}
SELECT = "SELECT runs.*, experiments.name AS experiment FROM runs JOIN experiments ON experiments.id = experiment_id"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A named group of runs. created, archived: as store.now() writes them; an archived one's name may be used anew."""

    name: str
    id: str
    created: str
    tags: Mapping[str, str]
    description: str | None = None
    archived: str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. id: the name that the client gave it; uuid: 32 hex digits; definition: RunDefinition as it was sent.

    extra: what else the client said of it (displayName, scriptName...), under the names of the service.
    """

    id: str
    uuid: str
    number: int
    experiment: str
    experiment_id: str
    parent: str | None
    root: str
    status: str
    created: str
    type: str
    started: str | None = None
    ended: str | None = None
    target: str | None = None
    name: str | None = None
    description: str | None = None
    hidden: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)
    snapshot: str | None = None
    error: Mapping[str, Any] | None = None
    warnings: Sequence[Mapping[str, str]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data_container(self) -> str:
        """The name under which the run's artifacts lie."""
        return f"dcid.{self.id}"

    @property
    def over(self) -> bool:
        """Whether its status will not change any more."""
        return self.status in ENDED


class Runs:
    """All experiments and runs of the workspace."""

    def __init__(self, store: Store) -> None:
        """Makes the tables."""
        self.store = store
        store.define(SCHEMA)

    def experiment(self, name: str) -> Experiment | None:
        """The active experiment of that name."""
        row = self.store.row("SELECT * FROM experiments WHERE name = ? AND archived IS NULL", name)
        return _experiment(row) if row else None

    def archived_experiment(self, name: str) -> Experiment | None:
        """The experiment of that name that was archived last."""
        query = "SELECT * FROM experiments WHERE name = ? AND archived IS NOT NULL ORDER BY archived DESC"
        row = self.store.row(query, name)
        return _experiment(row) if row else None

    def experiment_of_id(self, id: str) -> Experiment | None:  # noqa: A002 - the service's word
        """The experiment of that id."""
        row = self.store.row("SELECT * FROM experiments WHERE id = ?", id)
        return _experiment(row) if row else None

    def experiments(self) -> list[Experiment]:
        """All of them, in the order in which they were made."""
        return [_experiment(row) for row in self.store.rows("SELECT * FROM experiments ORDER BY rowid")]

    def ensure_experiment(self, name: str) -> Experiment:
        """The active experiment of that name, which is made if there is none."""
        with self.store.transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO experiments (name, id, created) VALUES (?, ?, ?)",
                (name, str(uuid.uuid4()), now()),
            )
            found = self.experiment(name)
        if found is None:  # it was made, or was there
            raise KeyError(name)
        return found

    def change_experiment(self, experiment: Experiment) -> bool:
        """Keeps what was changed of it; False if another active experiment has its name."""
        with self.store.transaction() as database:
            try:
                database.execute(
                    "UPDATE experiments SET name = ?, description = ?, archived = ?, tags = ? WHERE id = ?",
                    (
                        *(experiment.name, experiment.description, experiment.archived),
                        *(json.dumps(dict(experiment.tags)), experiment.id),
                    ),
                )
            except sqlite3.IntegrityError:
                return False
        return True

    def remove_experiment(self, experiment: Experiment) -> bool:
        """Forgets it; False if it has runs."""
        with self.store.transaction() as database:
            if self.store.row("SELECT 1 FROM runs WHERE experiment_id = ?", experiment.id):
                return False
            database.execute("DELETE FROM experiments WHERE id = ?", (experiment.id,))
        return True

    def create(
        self,
        id: str,  # noqa: A002
        experiment: str,
        *,
        status: str,
        type: str = "azureml.scriptrun",  # noqa: A002
        parent: str | None = None,
        target: str | None = None,
        definition: Mapping[str, Any] | None = None,
        snapshot: str | None = None,
    ) -> Run | None:
        """A new run; None if there is one of that id already. The experiment is made if need be."""
        belongs_to = self.ensure_experiment(experiment).id
        above = self.get(parent) if parent else None
        with self.store.transaction() as database:
            try:
                database.execute(
                    "INSERT INTO runs (id, uuid, experiment_id, parent, root, status, created, type, target,"
                    " definition, snapshot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(id, uuid.uuid4().hex, belongs_to, parent, above.root if above else parent or id, status),
                        *(now(), type, target, json.dumps(definition or {}), snapshot),
                    ),
                )
            except sqlite3.IntegrityError:
                return None
        return self.get(id)

    def get(self, id: str) -> Run | None:  # noqa: A002
        """The run of that id."""
        row = self.store.row(f"{SELECT} WHERE runs.id = ?", id)
        return _run(row) if row else None

    def all(
        self,
        *,
        experiment: Experiment | str | None = None,
        parent: str | None = None,
        root: str | None = None,
    ) -> list[Run]:
        """The runs of an experiment, a parent or a root (itself not among them), or all; the newest first.

        experiment: where it is a name, the active experiment of that name.
        """
        of = self.experiment(experiment) if isinstance(experiment, str) else experiment
        if of is None and experiment is not None:
            return []
        wanted = {"experiment_id": of.id if of else None, "parent": parent, "root": root}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join([*(f"{column} = ?" for column in given), *(["runs.id != root"] if root else [])]) or "1"
        query = f"{SELECT} WHERE {where} ORDER BY number DESC"
        return [_run(row) for row in self.store.rows(query, *given.values())]

    def unfinished(self) -> list[Run]:
        """The runs whose status may still change, the oldest first."""
        marks = ", ".join("?" * len(ENDED))
        query = f"{SELECT} WHERE status NOT IN ({marks}) ORDER BY number"
        return [_run(row) for row in self.store.rows(query, *ENDED)]

    def update(self, id: str, **changes: Any) -> Run | None:  # noqa: A002
        """The run with these changes; properties, tags and extra are put beside those that it has."""
        with self.store.transaction() as database:
            run = self.get(id)
            if run is None:
                return None
            for column, value in changes.items():
                if column not in CHANGEABLE | MERGED:
                    raise ValueError(column)
                if column in MERGED:
                    value = {**getattr(run, column), **value}
                stored = json.dumps(value) if column in JSON and value is not None else value
                database.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", (stored, id))  # noqa: S608
        return self.get(id)

    def remove_tags(self, id: str, names: Sequence[str]) -> Run | None:  # noqa: A002
        """The run without these tags."""
        with self.store.transaction() as database:
            run = self.get(id)
            if run is None:
                return None
            rest = {name: value for name, value in run.tags.items() if name not in names}
            database.execute("UPDATE runs SET tags = ? WHERE id = ?", (json.dumps(rest), id))
        return self.get(id)

    def move(self, id: str, status: str, *, error: Mapping[str, Any] | None = None) -> Run | None:  # noqa: A002
        """The run in that status; as it was, if the status lies behind it. Sets started and ended."""
        with self.store.transaction() as database:
            run = self.get(id)
            if run is None or run.over:
                return run
            if status not in ENDED and (run.status in ORDER and ORDER.index(status) <= ORDER.index(run.status)):
                return run
            database.execute("UPDATE runs SET status = ? WHERE id = ?", (status, id))
            if status == "Running" and run.started is None:
                database.execute("UPDATE runs SET started = ? WHERE id = ?", (now(), id))
            if status in ENDED:
                database.execute("UPDATE runs SET ended = ? WHERE id = ?", (now(), id))
            if error is not None:
                database.execute("UPDATE runs SET error = ? WHERE id = ?", (json.dumps(error), id))
        return self.get(id)


def _experiment(row: sqlite3.Row) -> Experiment:
    return Experiment(**{**dict(row), "tags": json.loads(row["tags"])})


def _run(row: sqlite3.Row) -> Run:
    table = dict(row)
    for column in JSON:
        table[column] = json.loads(table[column]) if table[column] else None
    return Run(**{**table, "hidden": bool(table["hidden"])})
