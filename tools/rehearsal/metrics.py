"""What runs log: scalars, lists, tables, and where images and the like lie among their artifacts."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from . import times
from .store import Store

TABLE, SCALAR = "azureml.v1.table", "azureml.v1.scalar"
FLOATS = ("float", "double")
NUMBERS = ("int", "long", *FLOATS)
NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

SCHEMA = """
CREATE TABLE IF NOT EXISTS metrics (
    run TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, columns TEXT NOT NULL, UNIQUE (run, name));
CREATE TABLE IF NOT EXISTS metric_values (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL,
    created TEXT NOT NULL, step INTEGER, data TEXT NOT NULL, UNIQUE (run, id));
CREATE INDEX IF NOT EXISTS values_of_metric ON metric_values (run, name, created, number);
"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of a run. kind: uxMetricType; columns: type by name, those of the table, or one of the metric's name."""

    name: str
    kind: str
    columns: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Value:
    """What was logged at once: a cell for each column. created: as times.written."""

    id: str
    created: str
    data: Mapping[str, Any]
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """A number that was logged. created: as times.written."""

    step: int | None
    created: str
    value: float


class Metrics:
    """The metrics of all runs."""

    def __init__(self, store: Store) -> None:
        """Makes the tables."""
        self.store = store
        store.define(SCHEMA)

    def append(self, run_id: str, values: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str]]:
        """Adds MetricV2Dto as the SDK sends them, in any order; gives those that were not added, and why.

        A value whose id was seen before is the same one, sent twice because its answer was lost.
        """
        refused = []
        with self.store.transaction() as database:
            for metric in values:
                try:
                    name, kind, columns, points = _read(metric)
                except (KeyError, TypeError, ValueError, AttributeError) as problem:
                    refused.append((metric, f"The metric cannot be read: {problem!r}"))
                    continue
                before = self.get(run_id, name)
                if before and before.kind != kind:
                    refused.append((metric, f"{name} is logged as {before.kind} already, not as {kind}."))
                    continue
                database.execute(
                    "INSERT INTO metrics VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET columns = excluded.columns",
                    (run_id, name, kind, json.dumps(_merged(before.columns if before else {}, columns))),
                )
                database.executemany(
                    "INSERT OR IGNORE INTO metric_values (run, name, id, created, step, data)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    [(run_id, name, each.id, each.created, each.step, json.dumps(each.data)) for each in points],
                )
        return refused

    def names(self, run_id: str) -> list[str]:
        """The names of its metrics, in the order in which they were first logged."""
        return [metric.name for metric in self.all(run_id)]

    def all(self, run_id: str) -> list[Metric]:
        """Its metrics, in the order in which they were first logged."""
        rows = self.store.rows("SELECT * FROM metrics WHERE run = ? ORDER BY rowid", run_id)
        return [Metric(name=row["name"], kind=row["kind"], columns=json.loads(row["columns"])) for row in rows]

    def get(self, run_id: str, name: str) -> Metric | None:
        """One of its metrics."""
        return next((metric for metric in self.all(run_id) if metric.name == name), None)

    def full(self, run_id: str, name: str) -> tuple[Value, ...]:
        """All values of a metric, in the order in which they were logged."""
        rows = self.store.rows(
            "SELECT * FROM metric_values WHERE run = ? AND name = ? ORDER BY created, number", run_id, name
        )
        return tuple(
            Value(id=row["id"], created=row["created"], step=row["step"], data=json.loads(row["data"])) for row in rows
        )

    def scalars(self, run_id: str) -> dict[str, list[Point]]:
        """The numbers of each metric that is no table, in the order in which they were logged."""
        found: dict[str, list[Point]] = {}
        for metric in self.all(run_id):
            if metric.kind == TABLE or metric.columns.get(metric.name) not in NUMBERS:
                continue
            found[metric.name] = [
                Point(step=value.step, created=value.created, value=number)
                for value in self.full(run_id, metric.name)
                if (number := _number(value.data.get(metric.name))) is not None
            ]
        return found


def _read(metric: Mapping[str, Any]) -> tuple[str, str, Mapping[str, str], list[Value]]:
    """Name, uxMetricType, columns and values of a MetricV2Dto."""
    name = str(metric["name"])
    kind = str((metric.get("properties") or {}).get("uxMetricType") or SCALAR)
    columns = {str(column): str(of).lower() for column, of in (metric.get("columns") or {}).items()}
    points = []
    for value in metric.get("value") or []:
        moment = times.parse(str(value.get("createdUtc") or "")) or datetime.now(timezone.utc)
        step = value.get("step")
        points.append(
            Value(
                id=str(value.get("metricId") or uuid.uuid4()),
                created=times.written(moment),
                step=None if step is None else int(step),
                data={str(column): _cell(cell) for column, cell in value["data"].items()},
            )
        )
    return name, kind, columns, points


def _merged(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The columns of both. One of two types is of the wider one; what is no number at times is a string."""
    merged = dict(before)
    for column, of in after.items():
        was = merged.setdefault(column, of)
        if was != of:
            merged[column] = "double" if {was, of} <= set(NUMBERS) else "string"
    return merged


def _cell(value: Any) -> Any:
    """A cell as JSON has it: what is no number goes by its name, as .NET writes it and float() reads it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _number(cell: Any) -> float | None:
    if isinstance(cell, str):
        return NO_NUMBERS.get(cell)
    return float(cell) if isinstance(cell, int | float) else None
