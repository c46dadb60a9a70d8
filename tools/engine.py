"""Docker (or Podman) through docker-py: found where the user keeps it, or installed and started."""

from __future__ import annotations

import contextlib
import logging
import os
import platform as machine
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import debian, dockerd
from .endpoint import DeniedError, Endpoint, desktop, named, opened, usual
from .errors import DiskError, EngineError, ImageError, ParityError, SettingsError

if TYPE_CHECKING:
    import docker

VARIABLE = "PARITY_ENGINE"
LOCK = Path("/run/parity-engine.lock")  # two callers at once install and start one Docker
GPUS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # the second is WSL's
NONE = "no container engine answers on this machine"

log = logging.getLogger(__name__)


def connect() -> docker.DockerClient:
    """A client of the engine that DOCKER_HOST, the Docker context or, without these, a usual place names.

    Errors: EngineError; an engine that the user named and that does not answer is never replaced by another.
    """
    return located()[1]


def located() -> tuple[Endpoint, docker.DockerClient]:
    """`connect`, and where that is."""
    found = _find()
    if found is None:
        raise EngineError(NONE, command="make engine" if _may_install() else _advice())
    return found


def ensure() -> docker.DockerClient:
    """`connect`; where no engine answers, and we are root on Debian or Ubuntu, installs and starts Docker first.

    Errors: EngineError with what to type on this system, or with the last lines of a dockerd that does not come up.
    """
    found = _find()
    if found is None:
        if not _may_install():
            raise EngineError(NONE, command=_advice())
        _install_and_start()
        found = _find()
    if found is None:
        raise EngineError("Docker was started and answers no more", command="make doctor")
    return found[1]


def _may_install() -> bool:
    rule = os.environ.get(VARIABLE, "auto")
    if rule not in ("auto", "never"):
        raise SettingsError(f"{VARIABLE}={rule}: allowed: auto, never")
    return rule == "auto" and debian.installable()


def _install_and_start() -> None:
    import filelock

    with filelock.FileLock(LOCK):
        if _find() is not None:  # another caller was here first
            return
        installed = dockerd.program() is not None
        what = "starting dockerd" if installed else "installing docker.io by apt-get and starting it"
        log.info("No container engine answers: %s (refuse with %s=never)", what, VARIABLE)
        if not installed:
            _install()
        dockerd.start(lambda: _find() is not None)


def _install() -> None:
    # where the kernel has AppArmor, dockerd needs its parser, which Debian's package only recommends
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    more = ["apparmor"] if apparmor.exists() and apparmor.read_text().startswith("Y") else []
    try:
        debian.install("docker.io", *more)
    except debian.InstallError as error:
        raise EngineError(f"apt-get could not install docker.io:\n{error}", command=_advice()) from error


def _find() -> tuple[Endpoint, docker.DockerClient] | None:
    """The first engine that answers; EngineError if the user's own choice does not, or if we are not let in."""
    chosen = named()
    if chosen is not None:
        return chosen, opened(chosen)
    denied = None
    for place in usual():
        try:
            return place, opened(place)
        except DeniedError as error:
            denied = denied or error
        except EngineError as error:
            log.debug("%s", error.found)
    if denied is not None:
        raise denied
    return None


def _advice() -> str:
    """How a person gets an engine on this system."""
    if sys.platform == "darwin":
        return (
            desktop() if Path("/Applications/Docker.app").exists() else "brew install --cask docker && open -a Docker"
        )
    start = "sudo systemctl start docker" if debian.systemd() else "sudo service docker start"
    kin = debian.family()
    if dockerd.program() is not None:
        command = start
    elif "debian" in kin:
        command = f"sudo apt-get install docker.io && {start}"
    elif "rhel" in kin:
        command = "sudo dnf install podman && sudo systemctl start podman.socket"
    elif "fedora" in kin:
        command = f"sudo dnf install moby-engine && {start}"
    elif "arch" in kin:
        command = f"sudo pacman -S docker && {start}"
    elif "suse" in kin:
        command = f"sudo zypper install docker && {start}"
    else:
        command = "install Docker or Podman with your system's package manager, then: make doctor"
    if "microsoft" in machine.release().lower():
        return f"start Docker Desktop with its WSL integration for this distribution, or: {command}"
    return command


def platform(client: docker.DockerClient) -> str:
    """What the engine's containers run on without emulation, by conda's names: linux-64 or linux-aarch64."""
    with errors("asking for its version"):
        architecture = client.version()["Arch"]
    return {"amd64": "linux-64", "arm64": "linux-aarch64"}.get(architecture, f"linux-{architecture}")


def has_gpu(client: docker.DockerClient) -> bool:
    """Whether containers can be given NVIDIA GPUs: the engine knows how, and this machine, if it is here, has one."""
    with errors("asking what it has"):
        info = client.info()
    local = client.api.base_url.startswith("http+docker://local")
    able = (
        "nvidia" in (info.get("Runtimes") or {})
        or any("nvidia" in device.get("ID", "") for device in info.get("DiscoveredDevices") or [])
        or (local and shutil.which("nvidia-container-runtime-hook") is not None)
    )
    return able and (not local or any(device.exists() for device in GPUS))


@contextlib.contextmanager
def errors(doing: str = "talking to the engine") -> Iterator[None]:
    """Turns what docker-py raises into a line and the next command. doing: "loading the image".

    Errors: ImageError for an image that the engine lacks, DiskError for its full disk, EngineError for all else.
    """
    import requests
    import urllib3
    from docker.errors import APIError, DockerException, ImageNotFound

    try:
        yield
    except ImageNotFound as error:
        raise ImageError(f"{doing}: {error.explanation}", command="make image") from error
    except APIError as error:
        raise refusal(doing, str(error.explanation or error)) from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise EngineError(
            f"{doing}: the engine gave no answer in time", command="make doctor, then try again"
        ) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ConnectionResetError) as error:
        raise EngineError(
            f"{doing}: the connection to the engine was lost", command="make doctor, then try again"
        ) from error
    except DockerException as error:
        raise refusal(doing, str(error)) from error


def refusal(doing: str, text: str) -> ParityError:
    """The error for an engine's own words, which also arrive inside the streams of a build or a load."""
    if "no space left on device" in text.lower():
        return DiskError(
            f"{doing}: the engine's disk is full", command="docker system df, then remove what you do not need"
        )
    return EngineError(f"{doing}: the engine refused: {text.strip()}", command="make doctor")
