"""What is refused at submit: what the service would not take, and what this machine cannot run.

A cluster that does not exist is not among it: Azure ML takes such a run and fails it (see jobs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .answers import Refusal
from .definition import Definition

if TYPE_CHECKING:
    from .workspace import Workspace


def check(workspace: Workspace, asked: Definition, *, has_gpu: Callable[[], bool]) -> None:
    """Refusal 400 with what was found and what to do. has_gpu: whether this machine's engine has any."""
    if asked.snapshot and not workspace.snapshots.exists(asked.snapshot):  # an empty folder has none
        # the SDK remembers its last snapshot for ever: a person must be told how to make it forget
        raise _refusal(
            f"Snapshot {asked.snapshot} not found. Change any file of the source directory and submit again, "
            "or remove ~/.azureml/.projectcontent"
        )
    environment = asked.environment
    if environment.version and workspace.environments.get(environment.name, environment.version) is None:
        raise _refusal(f"Environment {environment.name} with version {environment.version} not found.")
    for reference in asked.data:
        if workspace.datastores.folder(reference.datastore) is None:
            raise _refusal(f"Datastore {reference.datastore} not found.")
    compute = workspace.computes.get(asked.target)
    if compute is None:
        return
    if asked.nodes > compute.max_nodes:
        raise _refusal(f"The run asks for {asked.nodes} nodes, and {compute.name} has at most {compute.max_nodes}.")
    if (compute.gpus or asked.docker.gpus) and not has_gpu():
        wants = (
            f"{compute.name} ({compute.vm_size}) has GPUs" if compute.gpus else "docker argument --gpus asks for GPUs"
        )
        raise _refusal(f"{wants}, and this machine's engine has none; rehearse without, e.g. on cpu-cluster.")


def _refusal(message: str) -> Refusal:
    return Refusal(400, message, component="execution")
