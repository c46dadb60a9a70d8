"""Experiments and runs as the run history service writes them, and as its queries name what they have."""

from __future__ import annotations

import functools
import getpass
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from . import artifacts, definition, filters, times
from .answers import SCOPE, error
from .runs import Experiment, Run
from .workspace import Workspace

# Folders whose files stand among a run's logs. user_logs and system_logs do not: the SDK asks the artifact service for
# them ("RH should no longer be proxying these", azureml-core 1.61, Run.get_details).
LOGS = ("azureml-logs", "logs")
# What a client may say of a run beside the rest, given back as it was said
EXTRA = (
    "displayName",
    "scriptName",
    "runTypeV2",
    "inputDatasets",
    "outputDatasets",
    "primaryMetricName",
    "createdFrom",
)


def experiment_dto(experiment: Experiment) -> dict[str, Any]:
    """ExperimentDto."""
    return {
        "experimentId": experiment.id,
        "name": experiment.name,
        "description": experiment.description,
        "createdUtc": experiment.created,
        "tags": dict(experiment.tags),
        "archivedTime": experiment.archived,
        "retainForLifetimeOfWorkspace": False,
        "artifactLocation": None,
    }


def run_dto(workspace: Workspace, run: Run) -> dict[str, Any]:
    """RunDto, in the order of the keys of run-history.json (v1.0)."""
    parent = workspace.runs.get(run.parent) if run.parent else None
    root = run if run.root == run.id else workspace.runs.get(run.root)
    scope = SCOPE.format(
        subscription=workspace.identity.subscription,
        group=workspace.identity.resource_group,
        workspace=workspace.identity.name,
    )
    execution = f"{workspace.address.url}/execution/v1.0{scope}/experiments/{run.experiment}"
    empty = dict.fromkeys(EXTRA)
    extra = {**empty, "inputDatasets": [], "outputDatasets": [], **run.extra}
    return {
        "runNumber": run.number,
        "rootRunId": run.root,
        "createdUtc": run.created,
        "createdBy": _user(workspace.identity.tenant),
        "userId": None,
        "token": None,
        "tokenExpiryTimeUtc": None,
        "error": run.error,
        "warnings": list(run.warnings) or None,
        "revision": 1,
        "statusRevision": 1,
        "runUuid": _dashed(run.uuid),
        "parentRunUuid": _dashed(parent.uuid) if parent else None,
        "rootRunUuid": _dashed(root.uuid) if root else None,
        "lastStartTimeUtc": None,
        "currentComputeTime": None,
        "computeDuration": _duration(run),
        "effectiveStartTimeUtc": None,
        "lastModifiedUtc": run.ended or run.started or run.created,
        "duration": _duration(run),
        "cancelationReason": None,
        "runId": run.id,
        "parentRunId": run.parent,
        "experimentId": run.experiment_id,
        "status": run.status,
        "startTimeUtc": run.started,
        "endTimeUtc": run.ended,
        "options": None,
        "displayName": extra["displayName"] or run.name or run.id,
        "name": run.name,
        "dataContainerId": run.data_container,
        "description": run.description,
        "hidden": run.hidden,
        "runType": run.type or None,
        "runTypeV2": extra["runTypeV2"],
        "properties": dict(run.properties),
        "parameters": {},
        "actionUris": {},
        "scriptName": extra["scriptName"],
        "target": run.target,
        "uniqueChildRunComputeTargets": [],
        "tags": dict(run.tags),
        "settings": {},
        "services": {},
        "inputDatasets": extra["inputDatasets"],
        "outputDatasets": extra["outputDatasets"],
        "runDefinition": None,
        "jobSpecification": None,
        "primaryMetricName": extra["primaryMetricName"],
        "createdFrom": extra["createdFrom"],
        "cancelUri": f"{execution}/runId/{run.id}/cancel" if run.definition else None,
        "completeUri": None,
        "diagnosticsUri": None,
        "computeRequest": None,
        "compute": None,
        "retainForLifetimeOfWorkspace": False,
        "queueingInfo": None,
    }


def details_dto(workspace: Workspace, run: Run) -> dict[str, Any]:
    """RunDetailsDto, in the order of the keys of a real run's."""
    folder = workspace.artifacts.folder(run)
    names = [name for top in LOGS for name in artifacts.names(folder, top)]
    return {
        "runId": run.id,
        "target": run.target,
        "status": run.status,
        "startTimeUtc": run.started,
        "endTimeUtc": run.ended,
        "services": {},
        "error": run.error,
        "warnings": list(run.warnings) or None,
        "properties": dict(run.properties),
        "inputDatasets": run.extra.get("inputDatasets") or [],
        "outputDatasets": run.extra.get("outputDatasets") or [],
        "runDefinition": definition.shown(run.definition)["configuration"] if run.definition else {},
        "logFiles": {name: workspace.blobs.uri(folder / name, "r") for name in names},
    }


def error_response(given: Mapping[str, Any]) -> dict[str, Any]:
    """The ErrorResponse of an Error event, with the keys that the client left out."""
    root = given.get("error") or {}
    full = error(str(root.get("message") or ""), code=str(root.get("code") or "UserError"), component="run-history")
    full["error"].update({key: value for key, value in root.items() if value is not None})
    return full


def value_of(run: Run, path: str) -> Any:
    """What stands at that path of a run: text, number, moment, None for null, or MISSING.

    FilterError for a path that runs do not have.
    """
    table, _, name = path.partition("/")
    kind = table.lower()
    if name:
        if kind in ("tags", "properties"):
            return (run.tags if kind == "tags" else run.properties).get(name, filters.MISSING)
        version = run.extra.get("runTypeV2") or {}
        if kind == "runtypev2" and name.lower() == "orchestrator":
            return version.get("orchestrator")
        if kind == "runtypev2" and name.lower().startswith("traits/"):
            return True if name[len("traits/") :] in (version.get("traits") or []) else filters.MISSING
    elif kind in OF_PATH:
        value = OF_PATH[kind](run)
        return times.parse(value) if kind.endswith("utc") and value else value
    raise filters.FilterError(f"runs have no {path}: {', '.join(FIELDS)}, Tags/NAME and Properties/NAME are known")


def order_of(run: Run, path: str) -> Any:
    """By what runs are put in order: one that has not started counts from when it was made."""
    value = value_of(run, path)
    return times.parse(run.created) if value is None and path.lower() == "starttimeutc" else value


def value_of_experiment(experiment: Experiment, path: str) -> Any:
    """The same for an experiment."""
    table, _, name = path.partition("/")
    if name and table.lower() == "tags":
        return experiment.tags.get(name, filters.MISSING)
    dto = {key.lower(): value for key, value in experiment_dto(experiment).items() if key != "tags"}
    if path.lower() not in dto:
        raise filters.FilterError(f"experiments have no {path}: {', '.join(dto)} and Tags/NAME are known")
    value = dto[path.lower()]
    return times.parse(value) if path.lower() in ("createdutc", "archivedtime") and value else value


FIELDS: dict[str, Callable[[Run], Any]] = {
    "RunId": lambda run: run.id,
    "ParentRunId": lambda run: run.parent,
    "RootRunId": lambda run: run.root,
    "RunNumber": lambda run: run.number,
    "RunUuid": lambda run: _dashed(run.uuid),
    "ExperimentId": lambda run: run.experiment_id,
    "Status": lambda run: run.status,
    "RunType": lambda run: run.type or None,
    "Target": lambda run: run.target,
    "Name": lambda run: run.name,
    "DisplayName": lambda run: run.extra.get("displayName") or run.name,
    "Description": lambda run: run.description,
    "ScriptName": lambda run: run.extra.get("scriptName"),
    "Hidden": lambda run: run.hidden,
    "CreatedUtc": lambda run: run.created,
    "StartTimeUtc": lambda run: run.started,
    "EndTimeUtc": lambda run: run.ended,
}
OF_PATH = {name.lower(): field for name, field in FIELDS.items()}  # names count without case


@functools.cache
def _user(tenant: str) -> dict[str, Any]:
    """CreatedByDto: whoever runs this workspace."""
    ids = dict.fromkeys(("userObjectId", "userPuId", "userIdp", "userAltSecId", "userIss"))
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        name = str(os.getuid())
    return {**ids, "userTenantId": tenant, "userName": name, "upn": None}


def _dashed(uuid: str) -> str:
    return f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"


def _duration(run: Run) -> str | None:
    start, end = (times.parse(each) if each else None for each in (run.started, run.ended))
    if start is None or end is None:
        return None
    seconds = (end - start) / timedelta(seconds=1)
    return f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{seconds % 60:010.7f}"
