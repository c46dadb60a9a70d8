"""A lock -> the image in the engine: fetch, link, compile, pack, load, test, and only then its name."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import engine, files
from ..environment import conda_file, requirements
from ..environment.lock import Lock, Package
from ..environment.spec import EnvironmentSpec
from ..errors import EngineError, ImageError
from ..offline import StandIn
from ..settings import Settings
from . import archive, bytecode, layers, smoke, store, witness
from . import base as base_image
from . import cache as caches
from .archive import Assembly
from .base import Base
from .packages import fetch
from .staging import PREFIX

if TYPE_CHECKING:
    import docker

FORMAT = 3  # of everything about an image that is not in its packages or its base
ENVIRONMENT = {
    "CONDA_PREFIX": PREFIX,
    "LANG": "C.UTF-8",
    "PATH": f"{PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has. reference: NAME:env-<12 hex>; id and fingerprint: full; platform: "linux-64".

    witnessed: whether the witness is in it, which needs a Python.
    """

    reference: str
    id: str
    fingerprint: str
    platform: str
    lock_sha256: str
    witnessed: bool
    stand_ins: tuple[StandIn, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an image will be made of, known before anything is fetched or made. python: its version, if it has one."""

    settings: Settings
    platform: str
    lock: Lock
    packages: tuple[Package, ...]
    python: str | None
    base: Base
    fingerprint: str

    @property
    def tag(self) -> str:
        """The image's tag: what it is made of, in short."""
        return f"env-{self.fingerprint[:12]}"

    @property
    def reference(self) -> str:
        """The image's name in an engine."""
        return f"{self.settings.image.name}:{self.tag}"

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """What replaced a service, in the base or in the lock."""
        return tuple(sorted({*self.base.stand_ins, *self.lock.stand_ins}, key=lambda each: each.kind))


def plan(settings: Settings, lock: Lock, *, client: docker.DockerClient | None) -> Plan:
    """The plan of the lock's image; `client` may be asked for the base if that is not in the cache."""
    platform = settings.image.platform
    packages = lock.for_platform(platform)
    python = next((each.version for each in packages if each.name == "python"), None)
    base = base_image.get(settings, client=client)
    # what the image is made of, and not where that came from: a mirror of the same packages gives the same image
    content = {
        "format": [FORMAT, layers.FORMAT],
        "platform": platform,
        "bytecode": bytecode.compiler(platform, python) if python else None,
        "base": [layer.diff_id for layer in base.layers],
        "witness": witness.fingerprint(python),
        "packages": sorted([each.manager, each.name, each.version, each.build, each.sha256] for each in packages),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return Plan(
        settings=settings,
        platform=platform,
        lock=lock,
        packages=packages,
        python=python,
        base=base,
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def assemble(plan: Plan) -> Assembly:
    """The planned image, before any engine or registry has it: packages fetched, layers made."""
    cache = plan.settings.cache
    with files.locked(cache / "build.lock", "Waiting: another build is at work in this checkout"):
        begun = caches.now()
        caches.remove_leftovers(cache)
        fetched = fetch(plan.packages, cache)
        made = layers.make(
            layers.grouped(fetched), cache=cache, platform=plan.platform, unscripted=plan.settings.image.unscripted
        )
        top = witness.layer(plan.python, cache)
        caches.evict(cache, plan.settings.cache_limit, since=begun)
    labels = {
        store.FINGERPRINT: plan.fingerprint,
        "parity.format": str(FORMAT),
        "org.opencontainers.image.title": "parity environment",
        "org.opencontainers.image.version": plan.tag,
    }
    labels |= {f"parity.stand-in.{each.kind}": each.replacement for each in plan.stand_ins}
    return archive.assemble(
        [*plan.base.layers, *made, *([top] if top else [])],
        platform=plan.platform,
        environment={**ENVIRONMENT, **{name: text for layer in made for name, text in layer.variables.items()}},
        labels=labels,
    )


def build(settings: Settings, spec: EnvironmentSpec, lock: Lock, *, client: docker.DockerClient) -> Image:
    """The image of the lock, built if the engine does not have it yet."""
    planned = plan(settings, lock, client=client)
    image_id = store.find(client, planned.reference, planned.fingerprint)
    if image_id is None:
        assembly = _load(planned, client)
        _try_out(planned, spec, assembly.id, client)
        with engine.errors("naming the image"):
            client.api.tag(assembly.id, settings.image.name, planned.tag, force=True)
        image_id = assembly.id
    return Image(
        reference=planned.reference,
        id=image_id,
        fingerprint=planned.fingerprint,
        platform=planned.platform,
        lock_sha256=lock.sha256,
        witnessed=planned.python is not None,
        stand_ins=planned.stand_ins,
    )


def _try_out(planned: Plan, spec: EnvironmentSpec, image_id: str, client: docker.DockerClient) -> None:
    """The smoke test, once for each image: the same id is the same bytes."""
    if engine.platform(client) != planned.platform:
        log.warning("%s is not tried out: the engine here does not run %s", planned.reference, planned.platform)
        return
    passed = planned.settings.cache / "tried-out" / image_id.removeprefix("sha256:")
    if not passed.exists():
        smoke.test(client, image_id, PREFIX, _top(spec, planned.packages))
        passed.parent.mkdir(exist_ok=True)
        passed.touch()


def _load(planned: Plan, client: docker.DockerClient) -> Assembly:
    """Assembles and loads; a damaged layer, which the engine refuses for its hash, is made again, once."""
    assembly = assemble(planned)
    try:
        store.load(client, assembly)
    except (EngineError, ImageError):
        damaged = [layer for layer in assembly.layers if f"sha256:{files.sha256(layer.path)}" != layer.diff_id]
        if not damaged:
            raise
        for layer in damaged:
            log.warning("the layer of %s in the cache is damaged; it is made again", layer.comment)
            shutil.rmtree(layer.path.parent)
        assembly = assemble(plan(planned.settings, planned.lock, client=client))
        store.load(client, assembly)
    return assembly


def _top(spec: EnvironmentSpec, locked: Sequence[Package]) -> list[str]:
    """The names of the locked packages that the spec itself asks for."""
    asked = {conda_file.package_name(text) for text in spec.dependencies} | {
        requirements.name(text) for text in spec.pip
    }
    return [package.name for package in locked if package.name in asked]
