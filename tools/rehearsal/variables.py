"""The variables that a job's process finds: those of the Common Runtime, with true values.

Set are the names that both of the service's runtimes set, and the Common Runtime's own where they mean something here.
Left out are those of which only the legacy runtime is known (PYTHONUNBUFFERED, AZUREML_RUN_TOKEN_EXPIRY,
AZUREML_DATA_CONTAINER_ID): a script that counts on them is noticed. MLFLOW_* are left out, since this workspace serves
no MLflow: a script that logs by MLflow writes files instead of failing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..runs.contract import Contract
from .definition import Definition
from .runs import Run

if TYPE_CHECKING:
    from .computes import Compute
    from .workspace import Workspace

BATCH_PORT = 6000  # of AZ_BATCH_MASTER_NODE (Azure Batch, node variables)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process runs. node: its number; hosts: the IPv4 addresses of all nodes, the first is the master's."""

    node: int
    hosts: Sequence[str]


def inside(contract: Contract, *names: str) -> str:
    """A path in the folder where the service keeps what it brings to a job."""
    return "/".join([contract.root, "cap/lifecycler/wd", *names])


def of_job(
    workspace: Workspace, run: Run, contract: Contract, *, image: Mapping[str, str], data: Mapping[str, str]
) -> dict[str, str]:
    """What every process of the job has. image: the image's own variables; data: name of an input -> its path."""
    identity, url = workspace.identity, workspace.address.url
    token, authorities = workspace.tokens.job(run.id), inside(contract, "authorities.pem")
    context = {
        "subscription_id": identity.subscription,
        "resource_group": identity.resource_group,
        "workspace_name": identity.name,
        "workspace_id": identity.workspace_id,
        "service_endpoint": url,
        "discovery_endpoint": workspace.discovery,
        "experiment_name": run.experiment,
        "experiment_id": run.experiment_id,
        "run_id": run.id,
        "root_run_id": run.root,
        "run_uuid": run.uuid,
        "run_token": token,
        "data_container_id": run.data_container,
    }
    path = [inside(contract, "python"), *filter(None, [image.get("PYTHONPATH")])]
    return {
        **contract.variables(()),
        **{name: each for key, each in data.items() for name in _input_names(key)},
        "AZUREML_RUN_ID": run.id,
        "AZUREML_ROOT_RUN_ID": run.root,
        "AZUREML_EXPERIMENT_ID": run.experiment_id,
        "AZUREML_WORKSPACE_ID": identity.workspace_id,
        "AZUREML_ARM_SUBSCRIPTION": identity.subscription,
        "AZUREML_ARM_RESOURCEGROUP": identity.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": identity.name,
        "AZUREML_ARM_PROJECT_NAME": run.experiment,
        "AZUREML_WORKSPACE_SCOPE": identity.scope,
        "AZUREML_EXPERIMENT_SCOPE": f"{identity.scope}/experiments/{run.experiment}",
        "AZUREML_SERVICE_ENDPOINT": url,
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": url,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": workspace.discovery,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_CURRENT_CLOUD": "AzureCloud",  # without it the SDK may ask Azure which cloud this is
        "AZUREML_CR_AZUREML_CONTEXT": json.dumps(context),
        "AZUREML_CR_LIFECYCLER_PATH": f"{contract.root}/cap/lifecycler",
        # the workspace's authority is nobody else's: what a job reaches must know it beside the usual ones
        "REQUESTS_CA_BUNDLE": authorities,
        "SSL_CERT_FILE": authorities,
        "PYTHONPATH": ":".join(path),  # inside/sitecustomize.py says why
    }


def of_node(compute: Compute, definition: Definition, place: Place) -> dict[str, str]:
    """What the processes of one node have beside that."""
    context = {
        "cluster_name": compute.name,
        "node_id": f"node-{place.node}",
        "vm_size": compute.vm_size,
        "gpu_count": compute.gpus,
        "vm_priority": compute.priority,
        "node_count": definition.nodes,
    }
    variables = {
        "AZUREML_CR_COMPUTE_CONTEXT": json.dumps(context),
        "AZUREML_CR_DISTRIBUTED_CONFIG": json.dumps({"rank": place.node, "host_list": list(place.hosts)}),
        "AZUREML_CR_NODE_RANK": str(place.node),
    }
    if definition.distribution == "mpi":
        if definition.nodes > 1:
            variables["AZ_BATCH_MASTER_NODE"] = f"{place.hosts[0]}:{BATCH_PORT}"
            variables["AZ_BATCH_HOST_LIST"] = ",".join(place.hosts)
        else:
            variables["AZ_BATCHAI_MPI_MASTER_NODE"] = "localhost"
    elif definition.distribution or definition.nodes > 1:
        variables |= Contract.of_node(place.node, definition.processes, place.hosts[0])
    return variables


def of_process(definition: Definition, node: int, local: int) -> dict[str, str]:
    """What one process has beside that. local: its number on its node."""
    rank = node * definition.per_node + local
    if definition.distribution == "mpi":
        return {
            "OMPI_COMM_WORLD_RANK": str(rank),
            "OMPI_COMM_WORLD_SIZE": str(definition.processes),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(local),
            "OMPI_COMM_WORLD_LOCAL_SIZE": str(definition.per_node),
        }
    if definition.distribution or definition.nodes > 1:
        return Contract.of_process(rank, local)
    return {}


def _input_names(name: str) -> tuple[str, str]:
    return f"AZUREML_DATAREFERENCE_{name}", f"AZURE_ML_INPUT_{name}"
