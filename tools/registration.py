"""The image as a registered Environment of Azure ML, by digest: NAME:VERSION, one version for one change.

azureml-core (1.61) has no place for tags on an Environment, and the variables of one get into its jobs. So the facts
stand in what it does have:
- the version, COUNT-FINGERPRINT (12 hex digits, as in the image's tag): `parity-pytorch:3-0123456789ab`. Two that
  register the same at once choose the same version, and a version's content never changes, so that one is made. The
  count grows with each change: after A, B, A the newest version, which is the one in force, is A's second.
- labels (`Environment.label`): fingerprint-HEX, lock-SHA256 and commit-SHA. A label moves to the version that got it
  last, and `Environment.get(workspace, name, label=...)` finds that.
"""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AzureError, ImageError
from .settings import FILE
from .targets.azureml.failures import errors, status

if TYPE_CHECKING:
    import docker

    from .environment.spec import EnvironmentSpec
    from .image.build import Plan

PLATFORM = "linux-64"  # what Azure ML runs
_VERSION = re.compile(r"(\d+)-([0-9a-f]{12})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is to be in force. repository: REGISTRY/NAME of the image; shm_size: of a job's /dev/shm, "2g".

    fingerprint, lock_sha256: 64 hex digits; commit: of the project, -dirty if it has changes, None outside git.
    """

    name: str
    repository: str
    fingerprint: str
    lock_sha256: str
    commit: str | None
    shm_size: str

    @property
    def short(self) -> str:
        """The fingerprint as it stands in versions and in the image's tag."""
        return self.fingerprint[:12]

    @property
    def labels(self) -> list[str]:
        """What the registered version says of itself; the first one is enough to find it."""
        labels = [f"fingerprint-{self.fingerprint}", f"lock-{self.lock_sha256}"]
        return [*labels, f"commit-{self.commit}"] if self.commit else labels


@dataclass(frozen=True, kw_only=True)
class Registered:
    """An Environment of the workspace. image: REPOSITORY@sha256:...; new: whether it was registered just now."""

    name: str
    version: str
    image: str
    new: bool

    @property
    def reference(self) -> str:
        """NAME:VERSION, as Azure ML writes it."""
        return f"{self.name}:{self.version}"


def candidate(planned: Plan, spec: EnvironmentSpec, *, repository: str) -> Candidate:
    """What the plan's image would be registered as."""
    settings = planned.settings
    return Candidate(
        name=_name(f"{settings.image.name}-{spec.name}"),
        repository=repository,
        fingerprint=planned.fingerprint,
        lock_sha256=planned.lock.sha256,
        commit=_commit(settings.root),
        shm_size=settings.resources.shm_size,
    )


def digest(planned: Plan, client: docker.DockerClient | None) -> str:
    """sha256:... of the planned image: in [image] registry, which is asked; with a client, its id in that engine.

    Errors: ImageError where it is not there, or the image in the registry is none that Azure ML runs.
    """
    from .image import push, store

    if client:
        if image_id := store.find(client, planned.reference, planned.fingerprint):
            return image_id
        raise ImageError(f"the engine has no {planned.reference}", command="make image, then: make register")
    if planned.platform != PLATFORM:
        raise ImageError(
            f"{planned.reference} is for {planned.platform}",
            expected=f"{PLATFORM}, which Azure ML runs",
            command=f'platform = "{PLATFORM}" under [image] of {FILE}, then: make push',
        )
    if found := push.find(planned):
        return found.reference.partition("@")[2]
    raise ImageError(
        f"{planned.reference} is not in {'/'.join(push.address(planned.settings))}",
        expected="the image of this lock, where jobs can pull it",
        command="make push, then: make register",
    )


def check(workspace: Any, wanted: Candidate) -> tuple[Registered | None, str | None]:
    """(the version in force, None where there is none; why another would be registered, None if none would)."""
    found = _get(workspace, wanted.name)
    return _registered(found) if found else None, _why(found, wanted)


def register(workspace: Any, wanted: Candidate, find: Callable[[], str]) -> Registered:
    """Registers the image, unless the version in force has its fingerprint already; `find` gives the image's digest.

    Errors: AzureError with the service's own text, whatever it refuses, except that a version is there already with
    the same image.
    """
    found = _get(workspace, wanted.name)
    if why := _why(found, wanted):
        image = f"{wanted.repository}@{find()}"
        log.info("Registering %s (%s)", wanted.name, why)
        made = _put(workspace, wanted, image, found)
    else:
        made = _registered(found)
    labelled = _get(workspace, wanted.name, label=wanted.labels[0])
    if labelled is None or labelled.version != made.version:  # also where an earlier registration got no further
        _label(workspace, made, wanted.labels)
    return made


def _put(workspace: Any, wanted: Candidate, image: str, found: Any) -> Registered:
    """Makes the next version, which is then in force."""
    while True:
        version = f"{_count(found) + 1}-{wanted.short}"
        there = _get(workspace, wanted.name, version=version)
        if there is None:
            break
        newest = _get(workspace, wanted.name)
        if _why(newest, wanted) is None:  # it was made just now by another
            return _registered(newest)
        found = there
    if refused := _try(workspace, wanted, image, version):
        there = _get(workspace, wanted.name, version=version)
        if there is None or there.docker.base_image != image:
            raise refused
    newest = _get(workspace, wanted.name)
    if newest.version != version:
        raise AzureError(
            f"{wanted.name}:{version} is registered, but {wanted.name}:{newest.version} is the newest: "
            "another registration overtook it",
            command="make register, if this one is to be in force",
        )
    return _registered(newest, new=not refused)


def _try(workspace: Any, wanted: Candidate, image: str, version: str) -> AzureError | None:
    """Registers that version; returns the service's refusal."""
    from azureml.core import Environment

    environment = Environment.from_docker_image(wanted.name, image)  # nothing is installed into it
    environment.version = version
    environment.environment_variables.clear()  # of an example
    environment.docker.shm_size = wanted.shm_size
    try:
        with errors(f"registering {wanted.name}:{version}"), _quietly():
            environment.register(workspace)
    except AzureError as error:
        return error
    return None


def _label(workspace: Any, made: Registered, labels: list[str]) -> None:
    from azureml.core import Environment

    with errors(f"labelling {made.reference}"):
        Environment.label(workspace, made.name, made.version, labels)


def _get(workspace: Any, name: str, **which: str) -> Any:
    """The Environment, the newest where neither version nor label is given; None where there is none."""
    from azureml.core import Environment

    try:
        with errors(f"asking for {':'.join((name, *which.values()))}"):
            return Environment.get(workspace, name, **which)
    except AzureError as error:
        if status(error) == 404:
            return None
        raise


def _why(found: Any, wanted: Candidate) -> str | None:
    """Why another version is to be registered, in words, or None."""
    if found is None:
        return "it is not registered yet"
    match = _VERSION.fullmatch(found.version)
    image = found.docker.base_image or ""
    if match is None:
        return f"version {found.version} was not registered by make register"
    if match.group(2) != wanted.short:
        return f"version {found.version} has another fingerprint than env-{wanted.short}"
    if image.partition("@")[0] != wanted.repository:
        return f"version {found.version} is {image}, not of {wanted.repository}"
    if found.docker.shm_size != wanted.shm_size:
        return f"version {found.version} has a shm_size of {found.docker.shm_size}, not of {wanted.shm_size}"
    return None


def _count(found: Any) -> int:
    match = _VERSION.fullmatch(found.version) if found else None
    return int(match.group(1)) if match else 0


def _registered(found: Any, *, new: bool = False) -> Registered:
    return Registered(name=found.name, version=found.version, image=found.docker.base_image or "", new=new)


def _name(text: str) -> str:
    """Azure ML's names of Environments have letters, digits, - and _ (machineLearningServices 2023-04-01)."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)


def _commit(root: Path) -> str | None:
    """The commit that is checked out, with -dirty if tracked files were changed."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without azureml-core's warning that a version is given, which is meant."""
    logger = logging.getLogger("azureml.core.environment")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
