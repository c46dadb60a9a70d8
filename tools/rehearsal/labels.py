"""What belongs to a run in the engine, found by its labels, whatever became of the service that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import engine

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

WORKSPACE, RUN, NODE, PART = (f"parity.rehearsal.{name}" for name in ("workspace", "run", "node", "part"))


def of(workspace_id: str, run_id: str, part: str | None = None, node: int | None = None) -> dict[str, str]:
    """The labels of all that a run has in the engine; or of one part, "job" or "helper", and of one node."""
    labels = {WORKSPACE: workspace_id, RUN: run_id}
    return labels | ({PART: part} if part else {}) | ({} if node is None else {NODE: str(node)})


def containers(client: docker.DockerClient, labels: Mapping[str, str]) -> list[Container]:
    """All containers with these labels."""
    return client.containers.list(all=True, filters={"label": _filter(labels)}, ignore_removed=True)


def runs(client: docker.DockerClient, workspace_id: str) -> set[str]:
    """The ids of the workspace's runs that have containers or a network in the engine."""
    labels = {WORKSPACE: workspace_id}
    with engine.errors("listing containers"):
        found = [each.labels[RUN] for each in containers(client, labels)]
        networks = client.networks.list(filters={"label": _filter(labels)})
    return {*found, *(each.attrs["Labels"][RUN] for each in networks)}


def remove(client: docker.DockerClient, labels: Mapping[str, str]) -> None:
    """Takes what has these labels out of the engine; the containers that are in another's network go first."""
    with engine.errors("removing the job's containers"):
        for container in sorted(containers(client, labels), key=lambda each: each.labels[PART] != "job"):
            _gone(container)
        for network in client.networks.list(filters={"label": _filter(labels)}):
            network.remove()


def _gone(container: Container) -> None:
    from docker.errors import APIError, NotFound

    try:
        container.remove(force=True, v=True)
    except NotFound:
        pass
    except APIError as error:
        if "already in progress" not in str(error):
            raise


def _filter(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]
