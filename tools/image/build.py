"""A lock -> the image in the engine: fetch, link, compile, pack, load, test, and only then its name."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import engine
from ..environment import conda_file, requirements
from ..environment.lock import Lock, Package
from ..environment.spec import EnvironmentSpec
from ..errors import LockError
from ..offline import StandIn
from ..settings import Settings
from . import archive, bytecode, layers, packages, smoke, store
from . import base as base_image
from .base import Base
from .staging import PREFIX

if TYPE_CHECKING:
    import docker

FORMAT = 1  # of everything about an image that is not in its packages or its base
ENVIRONMENT = {
    "CONDA_PREFIX": PREFIX,
    "LANG": "C.UTF-8",
    "PATH": f"{PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has. reference: NAME:env-<12 hex>; id and fingerprint: full; platform: "linux-64"."""

    reference: str
    id: str
    fingerprint: str
    platform: str
    lock_sha256: str
    stand_ins: tuple[StandIn, ...]


def build(settings: Settings, spec: EnvironmentSpec, lock: Lock, *, client: docker.DockerClient) -> Image:
    """The image of the lock, built if the engine does not have it yet."""
    platform = settings.image.platform
    locked = lock.for_platform(platform)
    if not locked:
        raise LockError(f"{lock.path}: no packages for {platform}", command="make lock")
    base = base_image.get(settings, client=client)
    fingerprint = _fingerprint(base, locked, platform)
    reference = f"{settings.image.name}:env-{fingerprint[:12]}"
    stand_ins = tuple(sorted({*base.stand_ins, *lock.stand_ins}, key=lambda each: each.kind))
    image_id = store.find(client, reference, fingerprint)
    if image_id is None:
        assembly = _assemble(settings, base, locked, _labels(fingerprint, stand_ins))
        store.load(client, assembly)
        smoke.test(client, assembly.id, PREFIX, _top(spec, locked))
        with engine.errors("naming the image"):
            client.api.tag(assembly.id, settings.image.name, f"env-{fingerprint[:12]}", force=True)
        image_id = assembly.id
    return Image(
        reference=reference,
        id=image_id,
        fingerprint=fingerprint,
        platform=platform,
        lock_sha256=lock.sha256,
        stand_ins=stand_ins,
    )


def _fingerprint(base: Base, locked: Sequence[Package], platform: str) -> str:
    """sha256 over what the image is made of, and not over where that came from: 64 hex digits."""
    content = {
        "format": [FORMAT, layers.FORMAT],
        "platform": platform,
        "bytecode": bytecode.possible(platform),
        "base": [layer.diff_id for layer in base.layers],
        "packages": sorted([each.manager, each.name, each.version, each.build, each.sha256] for each in locked),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _assemble(settings: Settings, base: Base, locked: Sequence[Package], labels: Mapping[str, str]) -> archive.Assembly:
    fetched = packages.fetch(locked, settings.cache)
    groups = layers.grouped(fetched)
    made = layers.make(groups, cache=settings.cache, platform=settings.image.platform)
    environment = functools.reduce(lambda known, layer: known | layer.variables, made, ENVIRONMENT)
    return archive.assemble(
        [*base.layers, *made], platform=settings.image.platform, environment=environment, labels=labels
    )


def _labels(fingerprint: str, stand_ins: Sequence[StandIn]) -> dict[str, str]:
    labels = {store.FINGERPRINT: fingerprint, "parity.format": str(FORMAT)}
    return labels | {f"parity.stand-in.{each.kind}": each.replacement for each in stand_ins}


def _top(spec: EnvironmentSpec, locked: Sequence[Package]) -> list[str]:
    """The names of the locked packages that the spec itself asks for."""
    asked = {conda_file.package_name(text) for text in spec.dependencies} | {
        requirements.name(text) for text in spec.pip
    }
    return [package.name for package in locked if package.name in asked]
