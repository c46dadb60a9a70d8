"""The Azure ML target: a RunSpec goes to a workspace by azureml-core, and its run comes back as a record.

A rehearsal takes the same way. All that differs is where the workspace is and who signs in, and both reach the SDK by
its public means: variables, config.json, MSI.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import AzureError
from ...runs import record as records
from ...runs.record import Record
from ...runs.spec import RunSpec
from ...settings import Settings
from . import collection, submission
from .compute import Compute
from .failures import errors
from .following import Follower

if TYPE_CHECKING:
    from azureml.core import Run, Workspace

REMOTE, REHEARSAL = "azureml", "rehearsal"  # Record.target
# What a rehearsal can show; in its record, on its page and in the README
REHEARSED = (
    "A rehearsal shows that the SDK, the image, the snapshot and the command work together. "
    "It cannot show Azure's quotas, networks, drivers and changes."
)


def submit(
    workspace: Workspace, settings: Settings, spec: RunSpec, compute: Compute, *, image: str, target: str
) -> tuple[Run, Record]:
    """Starts the run; its record is on disk before it is. image: by which the workspace gets it, with its digest.

    Errors: AzureError; the record then says so. KeyboardInterrupt cancels what may have been started.
    """
    tags = submission.tags(settings, spec, image)
    record = records.create(
        settings.runs, spec, target=target, host={"azureml_core": importlib.metadata.version("azureml-core")}
    )
    remote = {
        "run_id": record.id,
        "experiment": settings.azureml.experiment,
        "subscription": workspace.subscription_id,
        "resource_group": workspace.resource_group,
        "workspace": workspace.name,
        "compute": {"name": compute.name, "kind": compute.kind, "vm_size": compute.vm_size, "gpus": compute.gpus},
        "image": image,
        "data": settings.data.remote if spec.inputs else None,
        "tags": tags,
        "portal": None,
        "note": REHEARSED if target == REHEARSAL else None,
    }
    record = record.write(remote=remote)
    try:
        run = submission.submit(workspace, settings, spec, run_id=record.id, image=image, tags=tags)
    except KeyboardInterrupt:
        started = submission.find(workspace, record.id)
        if started is not None:
            with errors("canceling the run"):
                started.cancel()
        record.write(status="canceled", ended=records.now(), error="interrupted while it was submitted")
        raise
    except BaseException as error:
        record.write(status="failed", ended=records.now(), error=str(error) or type(error).__name__)
        raise
    if target == REMOTE:  # a rehearsal's holds the word that opens its pages, for as long as the service runs
        remote["portal"] = portal(run)
    return run, record.write(remote=remote, status="running", started=records.now())


def portal(run: Run) -> str:
    """The address of the run's page."""
    with errors("the run's address"):
        return str(run.get_portal_url())


def find(workspace: Workspace, record: Record) -> Run:
    """The run of a record, with the tags that a killed tool may not have set any more.

    Errors: AzureError where the workspace has no such run; the record then says so.
    """
    remote: Mapping[str, Any] = record.remote or {}
    run = submission.find(workspace, remote.get("run_id", record.id))
    if run is None:
        record.write(status="failed", ended=records.now(), error="it never reached the workspace")
        raise AzureError(
            f"the workspace {workspace.name} has no run {record.id}: it was never started, or it is of another one",
            expected=f"the workspace {remote.get('workspace')} of resource group {remote.get('resource_group')}",
            command="python -m tools runs list",
        )
    with errors("the run's tags"):
        missing = dict(remote.get("tags") or {}).items() - run.tags.items()
        if missing:
            run.set_tags(dict(missing))
    return run


def follower(run: Run, record: Record, show: Callable[[bytes], None], interrupted: Callable[[], bool]) -> Follower:
    """What shows the run to its end; stdout.log of the record begins anew. interrupted: whether it is to be left."""
    return Follower(run, record.log, show, interrupted)


def collect(run: Run, details: Mapping[str, Any], record: Record) -> Record:
    """The record of the run that has ended so, with its files and metrics."""
    return collection.collect(run, details, record)


def cancel(run: Run) -> None:
    """Asks the workspace to end the run."""
    with errors("canceling the run"):
        run.cancel()
