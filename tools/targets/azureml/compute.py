"""The compute target, and whether it can take a run: the SDK itself submits to names that do not exist."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import AzureError, nearest
from ...settings import FILE, Settings
from .failures import errors

if TYPE_CHECKING:
    from azureml.core import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """A compute target. kind: "AmlCompute"; nodes: the most it can have; gpus: of a node. None: not known."""

    name: str
    kind: str
    vm_size: str | None
    nodes: int | None
    gpus: int | None


def find(workspace: Workspace, settings: Settings) -> Compute:
    """The compute target of [azureml], for a run of [resources] nodes.

    Errors: AzureError for one that does not exist, that failed to be made, or that has too few nodes.
    """
    name, nodes = settings.azureml.compute, settings.resources.nodes
    with errors("the compute targets of the workspace"):
        targets = workspace.compute_targets
    if name not in targets:
        known = ", ".join(sorted(targets)) or "none"
        raise AzureError(
            f"the workspace {workspace.name} has no compute target {name!r}{nearest(name, targets)}",
            expected=f"one of its compute targets: {known}",
            command=f"set compute under [azureml] of {FILE}, or make one: Compute, at ml.azure.com",
        )
    found = _described(workspace, targets[name])
    if targets[name].provisioning_state == "Failed":
        reasons = "; ".join(str(each) for each in targets[name].provisioning_errors or ()) or "no reason given"
        raise AzureError(f"the compute target {name} could not be made: {reasons}", command="make it anew")
    if found.nodes is not None and nodes > found.nodes:
        raise AzureError(
            f"{FILE}: resources.nodes = {nodes}, but {name} has {found.nodes} at most",
            expected=f"1 to {found.nodes}",
            command=f"set nodes under [resources], or raise the maximum of {name}",
        )
    if found.gpus and settings.resources.gpu == "none":
        log.warning('%s has GPUs (%s), but gpu = "none": they are paid for, and not counted on', name, found.vm_size)
    return found


def _described(workspace: Workspace, target: Any) -> Compute:
    vm_size = getattr(target, "vm_size", None)
    scale = getattr(target, "scale_settings", None)
    most = getattr(scale, "maximum_node_count", None)
    if target.type == "ComputeInstance":
        most = 1
    return Compute(
        name=target.name,
        kind=target.type,
        vm_size=vm_size,
        nodes=int(most) if most is not None else None,
        gpus=_gpus(workspace, vm_size, getattr(target, "cluster_location", None)),
    )


def _gpus(workspace: Workspace, vm_size: str | None, location: str | None) -> int | None:
    """How many GPUs a machine of that size has, if the region's list of sizes tells."""
    if not vm_size:
        return None
    from azureml.core.compute import AmlCompute

    try:
        with errors("the machine sizes of the region"):
            sizes = AmlCompute.supported_vmsizes(workspace, location)
    except AzureError as error:  # a reader of the workspace may not be one of the subscription
        log.debug("%s", error.found)
        return None
    for size in sizes:
        if str(size.get("name", "")).lower() == vm_size.lower():
            return int(size.get("gpus") or 0)
    return None
