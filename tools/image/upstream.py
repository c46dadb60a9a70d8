"""The registry that a base starts from, as the engine reaches it: with its mirrors, proxies and certificates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import engine, offline

if TYPE_CHECKING:
    import docker

log = logging.getLogger(__name__)


def has_or_reaches(client: docker.DockerClient, reference: str) -> bool:
    """Whether the engine has the image, or can reach the registry that does."""
    from docker.errors import ImageNotFound

    with engine.errors(f"looking for {reference}"):
        try:
            client.images.get(reference)
        except ImageNotFound:
            return answers(client, reference)
    return True


def answers(client: docker.DockerClient, reference: str) -> bool:
    """Whether the engine can reach the registry of an image and finds the image there, within PROBE_SECONDS."""
    return offline.in_time(lambda: _answers(client, reference), False)


def _answers(client: docker.DockerClient, reference: str) -> bool:
    from docker import auth
    from docker.errors import DockerException, NotFound

    try:
        client.images.get_registry_data(reference)
    except NotFound:  # Podman has no such call: ask the registry ourselves
        registry, _ = auth.resolve_repository_name(reference)
        return offline.answers(auth.INDEX_URL if registry == auth.INDEX_NAME else f"https://{registry}/v2/")
    except (DockerException, OSError) as error:
        log.debug("%s: %s", reference, error)
        return False
    return True
