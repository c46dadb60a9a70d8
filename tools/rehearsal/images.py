"""The image of a job: had from the engine, pulled, or made of a conda specification by this project's own steps."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import engine, files
from ..errors import ImageError, ParityError
from ..settings import FILE, Settings
from .definition import Environment

if TYPE_CHECKING:
    import docker

BUILD_LOG = "azureml-logs/20_image_build_log.txt"
TICK = 0.2  # seconds between two looks at whether the run was canceled

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has. id: sha256:...; variables: its own; derived: its name, if it was made here."""

    id: str
    variables: Mapping[str, str]
    derived: str | None = None


class CanceledError(Exception):
    """The run was canceled while its image was made ready."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """For which run an image is wanted. log: where its build log lies; preparing: called if there is work to do."""

    environment: Environment
    log: Path
    canceled: threading.Event
    preparing: Callable[[], object]


class Images:
    """Makes images ready, one conda specification at a time."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """settings: the project's; folder: for specifications and their locks."""
        self.settings, self.folder = settings, folder
        self._building = threading.Lock()
        self._built: dict[str, str] = {}  # specification -> reference, since the service began

    def get(self, client: docker.DockerClient, asked: Asked) -> Image:
        """The image. ParityError with what to do where it cannot be had; CanceledError."""
        environment = asked.environment
        if environment.conda is not None:
            return self._of_conda(client, environment.conda, asked)
        reference = environment.image or ""
        found = _find(client, reference)
        if found is None:
            asked.preparing()
            found = _pull(client, reference, asked)
        return found

    def _of_conda(self, client: docker.DockerClient, conda: Mapping[str, Any], asked: Asked) -> Image:
        """The image that this project's lock and image steps make; the same specification gives the same image."""
        content = json.dumps({key: value for key, value in conda.items() if key != "name"}, indent=1, sort_keys=True)
        name = f"conda-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        known = self._built.get(name)
        found = _find(client, known) if known else None
        if found is None:
            asked.preparing()
            while not self._building.acquire(timeout=TICK):
                if asked.canceled.is_set():
                    raise CanceledError
            try:
                if self._built.get(name) == known:  # another submission may have made it meanwhile
                    self._built[name] = self._build(name, content, asked)
            finally:
                self._building.release()
            found = _find(client, self._built[name])
        if found is None:
            raise ImageError(f"the image {self._built[name]} is gone from the engine", command="submit again")
        return Image(id=found.id, variables=found.variables, derived=self._built[name])

    def _build(self, name: str, content: str, asked: Asked) -> str:
        """The reference of the image. It is made by a process of its own, which a cancel ends at once."""
        if asked.canceled.is_set():
            raise CanceledError
        project = self._project()
        spec = project / "environments" / f"{name}.yml"
        files.write_text(spec, content)  # JSON is YAML
        asked.log.parent.mkdir(parents=True, exist_ok=True)
        with asked.log.open("ab", buffering=0) as told:
            told.write(
                f"{content}\n\nThis project's own lock and image steps make the image of these packages."
                f" Azure ML would put them on {asked.environment.image}, which is not used here.\n\n".encode()
            )
            process = subprocess.Popen(
                [sys.executable, "-I", "-u", "-m", "tools", "image", "--env", str(spec)],
                cwd=project,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                start_new_session=True,
            )
            answer = _result(process, asked.canceled).strip()
            told.write(f"{answer}\n".encode())
        if process.returncode:
            lines = asked.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            start = next(
                (at for at in range(len(lines) - 1, -1, -1) if lines[at].startswith("error: ")), len(lines) - 1
            )
            raise ImageError(f"Image build failed: {' '.join(lines[start:]).removeprefix('error: ')}")
        return answer

    def _project(self) -> Path:
        """A project beside this one: same settings and caches, other specifications and locks."""
        project = self.folder
        (project / "environments").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.settings.root / FILE, project / FILE)
        for name, target in (("docker", self.settings.root / "docker"), (".parity", self.settings.state)):
            link = project / name
            if link.is_symlink() and link.readlink() != target:
                link.unlink()
            if not link.is_symlink():
                link.symlink_to(target)
        return project


def _result(process: subprocess.Popen[str], canceled: threading.Event) -> str:
    """What it answers, once it has ended; CanceledError as soon as the run is canceled."""
    while True:
        try:
            return process.communicate(timeout=TICK)[0]
        except subprocess.TimeoutExpired:
            if not canceled.is_set():
                continue
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise CanceledError


def _find(client: docker.DockerClient, reference: str) -> Image | None:
    """An image of the engine: by name or by its digest in a registry, else the one whose id is that digest.

    The second is how a project without a registry names an image that only this engine has.
    """
    from docker.errors import ImageNotFound

    digest = re.search(r"@(sha256:[0-9a-f]{64})$", reference)
    for name in filter(None, (reference, digest and digest[1])):
        with engine.errors("looking for the image"):
            try:
                found = client.images.get(name)
            except ImageNotFound:
                continue
            pairs = (pair.partition("=") for pair in found.attrs["Config"].get("Env") or [])
            return Image(id=str(found.id), variables={name: value for name, _, value in pairs})
    return None


def _pull(client: docker.DockerClient, reference: str, asked: Asked) -> Image:
    from docker.errors import APIError

    if "@" not in reference and ":" not in reference.rpartition("/")[2]:
        reference += ":latest"  # without a tag the engine pulls all of them
    registry = asked.environment.registry
    login = {"username": registry.username, "password": registry.password} if registry else None
    if registry and registry.address and not reference.startswith(registry.address):
        reference = f"{registry.address}/{reference}"
    asked.log.parent.mkdir(parents=True, exist_ok=True)
    with asked.log.open("a", encoding="utf-8") as told:
        print(f"Pulling {reference}", file=told, flush=True)
        try:
            said = ""
            for line in client.api.pull(reference, stream=True, decode=True, auth_config=login):
                if asked.canceled.is_set():
                    raise CanceledError
                if "error" in line:
                    raise _missing(reference, line["error"])
                if line.get("status") != said:
                    said = line.get("status")
                    print(line.get("id", ""), said, file=told, flush=True)
        except APIError as error:
            print(error.explanation, file=told)
            raise _missing(reference, str(error.explanation or error)) from error
    found = _find(client, reference)
    if found is None:
        raise _missing(reference, "the engine does not have it after the pull")
    return found


def _missing(reference: str, reason: str) -> ParityError:
    return ImageError(
        f"Failed to pull Docker image {reference}: {reason.strip()}",
        command="make push, or name an image that this engine has: NAME@sha256:ID (make image prints the name)",
    )
