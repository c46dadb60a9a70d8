"""Packages of this machine's own Debian or Ubuntu, for what no registry of Python packages has."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import shutil
import subprocess
import time
from pathlib import Path

LOCK_PATIENCE = 180.0  # seconds that another apt-get or dpkg may take before we give up
INSTALL_SECONDS = 900.0

log = logging.getLogger(__name__)


def release() -> dict[str, str]:
    """The fields of os-release, such as ID and VERSION_CODENAME; empty on a system that has none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def family() -> set[str]:
    """What this system is and descends from: {"ubuntu", "debian"} on Ubuntu, empty on macOS."""
    fields = release()
    return {name for name in (fields.get("ID"), *fields.get("ID_LIKE", "").split()) if name}


def installable() -> bool:
    """Whether `install` can work: Debian or a descendant, apt-get, and root."""
    return "debian" in family() and shutil.which("apt-get") is not None and os.geteuid() == 0


def install(*packages: str) -> None:
    """Installs packages, quietly; waits for another apt-get that holds the lock.

    Errors: InstallError with the last lines of apt-get.
    """
    try:
        _apt_get("update")
    except InstallError as error:  # one broken source does not make the others useless
        log.debug("%s", error)
    _apt_get("install", "--yes", "--no-install-recommends", *packages)


class InstallError(Exception):
    """apt-get's last lines. Callers say what it was wanted for."""


def _apt_get(*arguments: str) -> None:
    command = ["apt-get", "--quiet", "--quiet", *arguments]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "LC_ALL": "C.UTF-8"}
    log.debug("%s", shlex.join(command))
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                timeout=INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise InstallError(f"apt-get gave no end in {INSTALL_SECONDS:.0f} s") from error
        if done.returncode == 0:
            return
        if "Could not get lock" not in done.stdout or time.monotonic() > deadline:
            raise InstallError("\n".join(done.stdout.strip().splitlines()[-5:]))
        time.sleep(2)


def systemd() -> bool:
    """Whether systemd is this system's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()
