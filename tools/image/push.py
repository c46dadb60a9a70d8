"""An image -> a registry: `registry/name@sha256:...`, which names the same bytes for everyone, and a record of it.

What is pushed has the tag env-<12 hex of the fingerprint>. Where that tag holds an image of the same fingerprint
already, whoever pushed it, its digest is the answer, and nothing is made or sent.

The layers go from the cache to the registry, not through the engine, wherever they can: then the digest and the blobs
are the same from a laptop and from a CI without an engine, so that they share each layer. An engine compresses anew,
with bytes of its own. It does push on request, since it may have a proxy, a certificate or a login of its own.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import engine, files, progress
from ..errors import EngineError, RegistryError, SettingsError
from ..settings import FILE, Settings
from . import blobs, build, credentials, manifests, registry, store
from .archive import ARCHITECTURES, Assembly
from .manifests import Manifest
from .registry import Repository

if TYPE_CHECKING:
    import docker

    from ..environment.lock import Lock
    from ..environment.spec import EnvironmentSpec
    from .build import Plan

ENGINE_ATTEMPTS = 4  # where the engine gives up at once; a blob it sends five times itself
_LOGIN = re.compile(r"unauthorized|denied|no basic auth credentials|authentication required", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image in a registry. reference: registry/name@sha256:...; tag: registry/name:env-<12 hex>; image_id: full."""

    reference: str
    tag: str
    image_id: str
    fingerprint: str
    platform: str


def push(
    settings: Settings,
    spec: EnvironmentSpec,
    lock: Lock,
    *,
    client: docker.DockerClient | None,
    by_engine: bool = False,
) -> Pushed:
    """Pushes the image of the lock to [image] registry, and makes it first where registry and engine lack it.

    client: the engine that tries a new image out before it is pushed; without one, or for another platform than the
    engine's, nothing does. by_engine: that engine pushes it too.
    Errors: RegistryError; SettingsError where no registry is set.
    """
    address(settings)
    planned = build.plan(settings, lock, client=client)
    able = client if client and engine.platform(client) == planned.platform else None
    if by_engine:
        if able is None:
            raise EngineError(
                f"no engine here runs {planned.platform}, so none can push it", command="make push, without --by-engine"
            )
        image = build.build(settings, spec, lock, client=able)
        return from_engine(planned, image.id, client=able)

    def assemble() -> Assembly:
        if able:
            build.build(settings, spec, lock, client=able)
        else:
            log.warning("%s is not tried out: no engine here runs %s", planned.reference, planned.platform)
        return build.assemble(build.plan(settings, lock, client=client))

    return direct(planned, assemble)


def direct(planned: Plan, assemble: Callable[[], Assembly]) -> Pushed:
    """Sends the planned image, made by `assemble` if the registry lacks it, without an engine.

    What is found damaged in the cache is made again, once.
    """
    host, path = address(planned.settings)
    with Repository(host, path, credentials.find(host)) as repository:
        found = _find(repository, planned)
        if found is not None:
            log.info("%s/%s has the image", host, path)
        else:
            log.info("Pushing %s to %s/%s", planned.reference, host, path)
            log.debug("docker push %s/%s:%s", host, path, planned.tag)
            try:
                found = repository.push(assemble(), planned.tag)
            except blobs.DamagedError as error:
                log.warning("%s; it is made again", error.found)
                _remove(error.entry)
                found = repository.push(assemble(), planned.tag)
    return _record(planned, found.digest, found.image_id)


def from_engine(planned: Plan, image_id: str, *, client: docker.DockerClient) -> Pushed:
    """Has the engine push its image to [image] registry; what is there already is not sent."""
    host, path = address(planned.settings)
    digest = _engine_push(client, image_id, host, path, planned.tag)
    return _record(planned, digest, image_id)


def index(settings: Settings, images: Sequence[Pushed]) -> str:
    """Puts one index of images for several platforms beside them; returns registry/name@sha256:... of it."""
    host, path = address(settings)
    with Repository(host, path, credentials.find(host)) as repository:
        entries = []
        for image in sorted(images, key=lambda each: each.platform):
            digest = image.reference.partition("@")[2]
            found = repository.find(digest)
            if found is None:
                raise RegistryError(f"{image.reference} is gone from the registry", command="make push")
            entries.append((found, ARCHITECTURES[image.platform]))
        content = manifests.index(entries)
        digest = blobs.of(content, "").digest
        tag = f"index-{digest.removeprefix('sha256:')[:12]}"
        repository.put_manifest(content, manifests.INDEX, tag)
    return f"{host}/{path}@{digest}"


def find(planned: Plan) -> Pushed | None:
    """The planned image in [image] registry, as the registry answers; None if it lacks it."""
    host, path = address(planned.settings)
    with Repository(host, path, credentials.find(host)) as repository:
        found = _find(repository, planned)
    return _record(planned, found.digest, found.image_id) if found else None


def recorded(settings: Settings, image_id: str) -> Pushed | None:
    """Where this project last pushed the image to, for the registry and the name that are set now; asks no one."""
    try:
        return Pushed(**json.loads(_record_path(settings, image_id).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def address(settings: Settings) -> tuple[str, str]:
    """The host of [image] registry and the path of the image's repository there; SettingsError if none is set."""
    if not settings.image.registry:
        raise SettingsError(
            f"{settings.root / FILE}: image.registry is not set, so there is nowhere to push to",
            expected='the registry\'s address, e.g. registry = "myacr.azurecr.io" under [image]',
            command=f"add it to {FILE}, then: make push",
        )
    host, _, folder = settings.image.registry.partition("/")
    return host, f"{folder}/{settings.image.name}" if folder else settings.image.name


def _find(repository: Repository, planned: Plan) -> Manifest | None:
    """The image under the plan's tag, if it says that it has the plan's fingerprint."""
    found = repository.find(planned.tag)
    if found is None:
        return None
    labels = (repository.config(found).get("config") or {}).get("Labels") or {}
    return found if labels.get(store.FINGERPRINT) == planned.fingerprint else None


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _record(planned: Plan, digest: str, image_id: str) -> Pushed:
    host, path = address(planned.settings)
    pushed = Pushed(
        reference=f"{host}/{path}@{digest}",
        tag=f"{host}/{path}:{planned.tag}",
        image_id=image_id,
        fingerprint=planned.fingerprint,
        platform=planned.platform,
    )
    text = json.dumps(asdict(pushed), indent=2, sort_keys=True)
    files.write_text(_record_path(planned.settings, image_id), f"{text}\n")
    return pushed


def _record_path(settings: Settings, image_id: str) -> Path:
    """One file for one image in one repository, so that two pushes at once do not meet."""
    name = quote("/".join(address(settings)), safe="")
    return settings.state / "pushed" / image_id.removeprefix("sha256:") / f"{name}.json"


# --- through the engine


def _engine_push(client: docker.DockerClient, image_id: str, host: str, path: str, tag: str) -> str:
    """The digest under which the engine pushed. It makes further attempts at a blob itself, but not at a manifest."""
    login = credentials.find(host)
    name = f"{host}/{path}"
    log.info("Pushing %s:%s from the engine", name, tag)
    log.debug("docker tag %s %s:%s && docker push %s:%s", image_id, name, tag, name, tag)
    with engine.errors("pushing"):
        client.api.tag(image_id, name, tag, force=True)
    for attempt in range(ENGINE_ATTEMPTS):
        time.sleep(registry.BACKOFF * (2**attempt - 1))
        with engine.errors("pushing"), progress.task("Pushing the image", unit="bytes") as task:
            events = client.api.push(
                name, tag=tag, stream=True, decode=True, auth_config=login.for_engine(host) if login else {}
            )
            outcome = _followed(events, task)
        if outcome.digest:
            return outcome.digest
        problem = outcome.problem
        if _LOGIN.search(problem):
            reason = "refuses the login in Docker's config.json" if login else "asks for a login"
            raise RegistryError(f"{host} {reason}: {problem}", command=credentials.login(host))
        log.debug("%s: %s", name, problem)
        if outcome.retried:
            break
    raise RegistryError(
        f"{host}: the engine could not push {path}:{tag}, after several attempts: {problem}",
        command="try again (what has arrived is not sent again), or: make doctor",
    )


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """How an engine's push ended. retried: whether the engine made further attempts itself."""

    digest: str | None
    problem: str
    retried: bool


def _followed(events: Iterable[dict[str, Any]], task: progress.Task) -> _Outcome:
    sent: dict[str, int] = {}
    digest, problem, retried = None, "it named no digest", False
    for event in events:
        layer = event.get("id", "")
        current = (event.get("progressDetail") or {}).get("current") or 0
        if current > sent.get(layer, 0):
            task.advance(current - sent.get(layer, 0))
            sent[layer] = current
        retried = retried or str(event.get("status", "")).startswith("Retrying in")
        digest = (event.get("aux") or {}).get("Digest", digest)
        problem = str(event.get("error", problem)).strip()
    return _Outcome(digest=digest, problem=problem, retried=retried)
