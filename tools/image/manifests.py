"""What a registry says of an image: its manifest, and the index of several platforms' (OCI image specification 1.1).

The manifests are OCI image manifests: an OCI index may name them, and Docker 20.10 pulls them. In Docker's own format
the image id would be the same, since that is the digest of the config.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .blobs import Blob

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"  # what engines push


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest in a registry. digest: "sha256:..."; size: its bytes; image_id: the digest of its config."""

    digest: str
    media_type: str
    size: int
    image_id: str


def manifest(config: Blob, layers: Sequence[Blob]) -> bytes:
    """The OCI image manifest, to the byte: what an image's digest in a registry is of."""

    def descriptor(blob: Blob, media_type: str) -> dict[str, str | int]:
        return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}

    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(blob, LAYER) for blob in layers],
        }
    )


def index(images: Sequence[tuple[Manifest, str]]) -> bytes:
    """The OCI image index of manifests, each with its architecture: "amd64" or "arm64"."""
    entries = [
        {
            "mediaType": each.media_type,
            "digest": each.digest,
            "size": each.size,
            "platform": {"architecture": architecture, "os": "linux"},
        }
        for each, architecture in images
    ]
    return _canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def _canonical(table: dict[str, Any]) -> bytes:
    return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
