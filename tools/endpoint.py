"""Where a container engine may answer: what the user named, else the usual places of Docker and Podman."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import EngineError

if TYPE_CHECKING:
    import docker
    from docker.tls import TLSConfig

DOCKER = Path("/var/run/docker.sock")
PODMAN = Path("/run/podman/podman.sock")
PING_SECONDS = 3.0  # a running engine answers in milliseconds
WORK_SECONDS = 600  # of silence: loading one large layer on a slow disk says nothing for minutes


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where an engine may answer. origin: who named it, empty for a usual place."""

    url: str
    origin: str = ""
    tls: TLSConfig | None = None

    @property
    def socket(self) -> Path | None:
        """The path of a unix socket."""
        return Path(self.url.removeprefix("unix://")) if self.url.startswith("unix://") else None


def named() -> Endpoint | None:
    """What the user named: DOCKER_HOST before DOCKER_CONTEXT before the current context, as the docker command does."""
    if os.environ.get("DOCKER_HOST"):
        return _from_environment()
    config = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name, origin = os.environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            name = json.loads((config / "config.json").read_text(encoding="utf-8")).get("currentContext")
            origin = f"currentContext of {config / 'config.json'}"
    if not name or name == "default":
        return None
    return _context(config, name, origin)


def _from_environment() -> Endpoint:
    from docker.errors import TLSParameterError
    from docker.utils import kwargs_from_env

    try:
        found = kwargs_from_env()
    except TLSParameterError as error:
        raise EngineError(
            f"DOCKER_HOST={os.environ['DOCKER_HOST']}: {error.msg}",
            expected="ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH (default ~/.docker)",
            command="export DOCKER_CERT_PATH=FOLDER, or: unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH",
        ) from error
    return Endpoint(url=found["base_url"], origin="DOCKER_HOST", tls=found.get("tls"))


def _context(config: Path, name: str, origin: str) -> Endpoint:
    """The endpoint of a Docker context; its files lie under the sha256 of its name (docker/cli, cli/context/store).

    docker-py's own reader looks in the current folder where there is no config.json, hence not used.
    """
    from docker.tls import TLSConfig

    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / identity / "meta.json"
    try:
        endpoint = json.loads(meta.read_text(encoding="utf-8"))["Endpoints"]["docker"]
        url, verify = str(endpoint["Host"]), not endpoint.get("SkipTLSVerify", False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{origin} names the Docker context {name}, which is not readable in {meta}",
            command="docker context ls, then: docker context use NAME",
        ) from error
    files = {part: config / "contexts" / "tls" / identity / "docker" / f"{part}.pem" for part in ("ca", "cert", "key")}
    tls = None
    if files["cert"].is_file() and files["key"].is_file():
        authority = str(files["ca"]) if files["ca"].is_file() else None
        tls = TLSConfig(client_cert=(str(files["cert"]), str(files["key"])), ca_cert=authority, verify=verify)
    return Endpoint(url=url, origin=f"Docker context {name}", tls=tls)


def usual() -> Iterator[Endpoint]:
    """Docker Engine, Docker Desktop (macOS, Linux), rootless Docker, then Podman: of the user, of root, of macOS."""
    home, run = Path.home(), Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    for path in (
        DOCKER,
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        run / "docker.sock",
        run / "podman/podman.sock",
        PODMAN,
        home / ".local/share/containers/podman/machine/podman.sock",
    ):
        with contextlib.suppress(OSError):  # a folder that we may not enter
            if path.is_socket():
                yield Endpoint(url=f"unix://{path}")


class DeniedError(EngineError):
    """An engine is there and does not let this user in."""


def opened(endpoint: Endpoint) -> docker.DockerClient:
    """A client, once the engine has answered within PING_SECONDS."""
    import docker
    from docker.errors import DockerException

    if endpoint.socket is not None:
        _knock(endpoint, endpoint.socket)
    tls = endpoint.tls or False
    try:
        with contextlib.closing(docker.APIClient(base_url=endpoint.url, tls=tls, timeout=PING_SECONDS)) as api:  # type: ignore[arg-type]
            version = api.api_version
        return docker.DockerClient(base_url=endpoint.url, tls=tls, version=version, timeout=WORK_SECONDS)
    except DockerException as error:
        raise _silent(endpoint, str(error)) from error


def _knock(endpoint: Endpoint, path: Path) -> None:
    """docker-py buries why a socket does not open in a text; the system says it plainly."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PING_SECONDS)
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise DeniedError(
                f"{path} is there, and this user may not use it",
                expected="membership in the group that owns it, usually docker",
                command="sudo usermod -aG docker $USER, then log in again",
            ) from error
        except OSError as error:
            raise _silent(endpoint, error.strerror or str(error)) from error


def _silent(endpoint: Endpoint, reason: str) -> EngineError:
    """What to say of an engine that does not answer."""
    found = f"{endpoint.origin or 'an engine'} ({endpoint.url}) does not answer: {reason}"
    if endpoint.origin == "DOCKER_HOST":
        command = "start that engine, or: unset DOCKER_HOST"
    elif "paramiko" in reason:
        command = f"{sys.executable} -m pip install paramiko"
    elif "desktop" in endpoint.origin:
        command = f"{desktop()}, or: docker context use default"
    elif endpoint.origin:
        command = "start that engine, or: docker context use default"
    else:
        command = "make doctor"
    return EngineError(found, command=command)


def desktop() -> str:
    return "open -a Docker" if sys.platform == "darwin" else "systemctl --user start docker-desktop"
