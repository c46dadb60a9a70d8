"""The engine's store of images: what it has, and how it gets what it lacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import engine, files, progress
from ..errors import EngineError, ImageError
from .archive import Assembly, Layer, chain_ids, stream

if TYPE_CHECKING:
    import docker

FINGERPRINT = "parity.fingerprint"  # the label under which an image says what it was made of

log = logging.getLogger(__name__)


def find(client: docker.DockerClient, reference: str, fingerprint: str) -> str | None:
    """The id of the image of that name, if it says that it has that fingerprint."""
    from docker.errors import ImageNotFound

    with engine.errors("looking for the image"):
        try:
            image = client.images.get(reference)
        except ImageNotFound:
            return None
    return image.id if image.labels.get(FINGERPRINT) == fingerprint else None


def load(client: docker.DockerClient, assembly: Assembly) -> None:
    """Hands the engine the layers that it lacks, or all of them where it refuses a part of an image."""
    known = _known_layers(client)
    if len(_lacking(assembly, known)) < len(assembly.layers):
        try:
            _send(client, assembly, known)
            return
        except EngineError as error:
            log.debug("the engine wants all layers (%s)", error.found)
    _send(client, assembly, frozenset())


def _send(client: docker.DockerClient, assembly: Assembly, known: frozenset[str]) -> None:
    sent = _lacking(assembly, known)
    size = sum(layer.size for layer in sent)
    log.info("Loading %d of %d layers into the engine (%s)", len(sent), len(assembly.layers), files.human(size))
    with progress.task("Loading the image", total=size, unit="bytes") as task, engine.errors("loading the image"):

        def counted() -> Iterator[bytes]:
            for piece in stream(assembly, known=known):
                yield piece
                task.advance(len(piece))

        for line in client.api.load_image(counted()):  # type: ignore[no-untyped-call]
            if "error" in line:
                raise engine.refusal("loading the image", line["error"])
    if not _has(client, assembly.id):
        raise ImageError(
            f"the engine loaded an image, but not {assembly.id}: a layer in the cache is damaged",
            command="make clean-cache, then: make image",
        )


def _lacking(assembly: Assembly, known: frozenset[str]) -> list[Layer]:
    """The layers that the engine lacks, bottom first."""
    chain = chain_ids([layer.diff_id for layer in assembly.layers])
    return [layer for layer, link in zip(assembly.layers, chain, strict=True) if link not in known]


def _has(client: docker.DockerClient, image_id: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(image_id)
    except ImageNotFound:
        return False
    return True


def _known_layers(client: docker.DockerClient) -> frozenset[str]:
    """The chain ids of the layers of all images that this tool made."""
    with engine.errors("listing its images"):
        images = client.images.list(filters={"label": FINGERPRINT})
    return frozenset(link for image in images for link in chain_ids(image.attrs["RootFS"].get("Layers") or []))
