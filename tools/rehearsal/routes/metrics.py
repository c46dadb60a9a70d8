"""The metrics service (v2.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Route

from .. import times
from ..answers import SCOPE, Call, Refusal, answering, error
from ..metrics import FLOATS, Metric, Value
from ..runs import Run
from ..workspace import Workspace

SAMPLE = 1000  # values that `sample` gives back at most


def routes(workspace: Workspace) -> list[BaseRoute]:
    """What a run logs, and gives back."""

    def route(name: str, function: Callable[[Workspace, Call, Run], Any]) -> Route:
        def answer(call: Call) -> Any:
            run = workspace.runs.get(call.path["run"])
            if run is None:
                raise Refusal(404, f"Run {call.path['run']} not found.", component="metric")
            return function(workspace, call, run)

        return Route(f"/metric/v2.0{SCOPE}/runs/{{run}}/{name}", answering(answer), methods=["POST"])

    return [route("batch", batch), route("list", names), route("full", full), route("sample", sample)]


def batch(workspace: Workspace, call: Call, run: Run) -> dict[str, Any]:
    """Adds values; those that it cannot take are named, and the others are kept."""
    refused = workspace.metrics.append(run.id, call.body.get("values") or [])
    return {
        "errors": [
            {"metric": metric, "errorResponse": error(why, code="ValidationError", component="metric")}
            for metric, why in refused
        ]
    }


def names(workspace: Workspace, call: Call, run: Run) -> dict[str, Any]:
    """The metrics of a run."""
    value = [
        {
            "metricKey": {"namespace": "", "name": metric.name},
            "columns": metric.columns,
            "properties": {"uxMetricType": metric.kind},
        }
        for metric in workspace.metrics.all(run.id)
    ]
    return {"value": value, "continuationToken": None, "nextLink": None}


def full(workspace: Workspace, call: Call, run: Run) -> dict[str, Any]:
    """All values of a metric, or those between startTime and endTime."""
    metric, values = _wanted(workspace, call, run)
    start, end = (times.parse(str(call.body.get(name) or "")) for name in ("startTime", "endTime"))
    if start:
        values = [value for value in values if value.created >= times.written(start)]
    if end:
        values = [value for value in values if value.created <= times.written(end)]
    return _dto(run, metric, values)


def sample(workspace: Workspace, call: Call, run: Run) -> dict[str, Any]:
    """As many values of a metric as a chart needs, the first and the last among them."""
    metric, values = _wanted(workspace, call, run)
    step = max(1, -(-len(values) // SAMPLE))
    chosen = [value for i, value in enumerate(values) if i % step == 0 or i == len(values) - 1]
    counted = {"isPartialResult": len(chosen) < len(values), "numValuesLogged": len(values)}
    return {"derivedLabelValues": {}, **counted, **_dto(run, metric, chosen)}


def _wanted(workspace: Workspace, call: Call, run: Run) -> tuple[Metric, list[Value]]:
    name = str(call.body.get("metricName", ""))
    metric = workspace.metrics.get(run.id, name)
    if metric is None:
        raise Refusal(404, f"Metric {name} of run {run.id} not found.", component="metric")
    return metric, list(workspace.metrics.full(run.id, name))


def _dto(run: Run, metric: Metric, values: list[Value]) -> dict[str, Any]:
    """MetricV2Dto. Each value has all columns, since the SDK fails on one that is missing."""
    blank = {column: "NaN" if of in FLOATS else None for column, of in metric.columns.items()}
    return {
        "dataContainerId": run.data_container,
        "name": metric.name,
        "columns": metric.columns,
        "properties": {"uxMetricType": metric.kind},
        "namespace": None,
        "standardSchemaId": None,
        "value": [_value(value, blank) for value in values],
        "continuationToken": None,
        "nextLink": None,
    }


def _value(value: Value, blank: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "metricId": value.id,
        "createdUtc": value.created,
        "step": value.step,
        "data": {**blank, **value.data},
    }
