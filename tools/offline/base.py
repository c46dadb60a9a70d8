"""A base of Debian packages, made by mmdebstrap, where no container registry can be reached.

It has what debian:bookworm-slim has, and the packages of docker/packages.txt. The same packages give the same bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform as machine
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .. import debian, progress
from ..errors import OfflineError
from ..progress import Task
from . import BASE, apt

SUITE = "bookworm"
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("gpg", "pgp"))
NEEDED = ("mmdebstrap", "debian-archive-keyring", "gpg")
SECONDS = 900.0  # 20 s are usual; a slow mirror gives 40 MB of packages in this time
FORMAT = "1"  # of the base: raise it when the same packages must give other bytes
EPOCH = 315_532_800  # 1980-01-01: no file in the base is younger
MEMORY = "/dev/shm"  # noqa: S108 - mmdebstrap makes a folder of its own in it
ROOM = 2_000_000_000  # bytes; 500 MB are used
STAGES = 10  # lines that mmdebstrap writes as it goes on

ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64"}
MACHINES = {"x86_64": "linux-64", "amd64": "linux-64", "aarch64": "linux-aarch64", "arm64": "linux-aarch64"}

# What debian:bookworm-slim leaves out too (debuerreotype's slim excludes). Removed at the end: given to dpkg as
# path-exclude, it makes mmdebstrap filter each package, which takes longer than all the rest.
EXCLUDED = ("doc-base", "groff", "info", "linda", "lintian", "locale", "man")
# What mmdebstrap copies from this machine or writes for its own use, and what differs between two runs.
REMOVED = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/hostname",
    "etc/resolv.conf",
    "var/cache/ldconfig/aux-cache",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
)

log = logging.getLogger(__name__)


def make(packages: Sequence[str], tar: Path, *, platform: str) -> None:
    """Writes the base as one tar. packages: Debian's names, besides the essential ones; platform: "linux-64".

    Errors: OfflineError where the platform is not this machine's, where mmdebstrap is missing and we may not install
    it, and where it fails.
    """
    own = MACHINES.get(machine.machine().lower())
    if platform != own:
        raise OfflineError(
            f"{BASE.missing} cannot be reached, and its stand-in is made for this machine's own platform only",
            expected=f"platform = {own!r} in parity.toml, or a container registry (found {platform!r})",
            command="make doctor",
        )
    _ensure_mmdebstrap()
    log.info("Making a base of Debian packages")
    command = _command(packages, tar, ARCHITECTURES[platform])
    log.debug("SOURCE_DATE_EPOCH=%d %s", EPOCH, shlex.join(command))
    _run(command, os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8"} | _scratch())


def _ensure_mmdebstrap() -> None:
    if shutil.which("mmdebstrap"):
        return
    by_hand = f"sudo apt-get install {' '.join(NEEDED)}"
    if not debian.installable():
        raise OfflineError(f"{BASE.missing} cannot be reached, and its stand-in needs mmdebstrap", command=by_hand)
    log.info("Installing mmdebstrap by apt-get")
    try:
        debian.install(*NEEDED)
    except debian.InstallError as error:
        raise OfflineError(f"apt-get could not install mmdebstrap:\n{error}", command=by_hand) from error


def _command(packages: Sequence[str], tar: Path, architecture: str) -> list[str]:
    removed = " ".join(f'"$1"/{path}' for path in (*REMOVED, *(f"usr/share/{name}/*" for name in EXCLUDED)))
    options = [
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--format=tar",
        f"--architectures={architecture}",
        f"--include={','.join(packages)}",
        "--skip=output/dev",  # an engine brings its own; a rootless one cannot make device nodes
        "--dpkgopt=force-unsafe-io",
        *(f"--aptopt={option}" for option in _apt_options()),
        f"--customize-hook=rm -rf {removed}",
        '--customize-hook=find "$1"/usr/share/doc -mindepth 1 ! -type d ! -name copyright -delete',
        '--customize-hook=find "$1"/usr/share/doc -mindepth 1 -type d -empty -delete',
    ]
    return [*_own_mounts(), "mmdebstrap", *options, SUITE, str(tar), *_sources()]


def _own_mounts() -> list[str]:
    """As root, mmdebstrap mounts for all to see, and a killed one leaves that; in a namespace of its own it is gone."""
    apart = ["unshare", "--mount"]
    possible = os.geteuid() == 0 and subprocess.run([*apart, "true"], capture_output=True).returncode == 0
    return apart if possible else []


def _sources() -> list[str]:
    """The Debian mirrors of this machine's own apt, for SUITE; none (mmdebstrap's default) where it has none."""
    try:
        mirrors = apt.mirrors()
    except OfflineError as error:
        log.debug("%s", error.found)
        return []
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    signed = f"[signed-by={keyring}] " if keyring else ""
    archive = [
        f"deb {signed}{mirror} {suite} main" for mirror in mirrors.archive for suite in (SUITE, f"{SUITE}-updates")
    ]
    return [*archive, *(f"deb {signed}{mirror} {SUITE}-security main" for mirror in mirrors.security)]


def _apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors: proxies, certificates, clocks. They do not stay in the base."""
    if shutil.which("apt-config") is None:
        return []
    dump = subprocess.run(["apt-config", "dump", "--no-empty", "Acquire"], capture_output=True, encoding="utf-8")
    wanted = ("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries")
    return [line.rstrip(";") for line in dump.stdout.splitlines() if line.startswith(wanted)]


def _scratch() -> dict[str, str]:
    """Where mmdebstrap unpacks: in memory where there is room, since dpkg waits for the disk at each of its steps."""
    if "TMPDIR" in os.environ:
        return {}
    with contextlib.suppress(OSError, AttributeError, LookupError, ValueError):  # not on Linux
        shm, meminfo = os.statvfs(MEMORY), Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(meminfo.partition("MemAvailable:")[2].split()[0]) * 1024
        if (
            min(free, shm.f_bavail * shm.f_frsize) > ROOM
            and not shm.f_flag & os.ST_NOEXEC
            and os.access(MEMORY, os.W_OK)
        ):
            return {"TMPDIR": MEMORY}
    return {}


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Runs mmdebstrap to its end, or stops it. It writes to a file: if we are killed, it still ends and cleans up."""
    with tempfile.TemporaryFile() as output, progress.task("Making the base", STAGES, "steps") as task:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        deadline = time.monotonic() + SECONDS
        lines: list[str] = []
        try:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                lines += _more(output, lines, task)
        finally:
            late = _stop(process)
        lines += _more(output, lines, task)
    if late or process.returncode != 0:
        why = f"gave no end in {SECONDS:.0f} s" if late else f"ended with exit code {process.returncode}"
        raise OfflineError(
            "\n".join([f"mmdebstrap {why}:", *[line for line in lines if not line.startswith("I: ")][-8:]]),
            expected="Debian packages from apt's own mirrors",
            command="apt-get update, mend what it says, then try again",
        )


def _more(output: IO[bytes], lines: list[str], task: Task) -> list[str]:
    """The lines written since the last time."""
    text = os.pread(output.fileno(), 1 << 20, 0).decode(errors="replace")
    more = text[: text.rfind("\n") + 1].splitlines()[len(lines) :]
    for line in more:
        log.debug("%s", line)
        task.advance(line.startswith("I: "))
    return more


def _stop(process: subprocess.Popen[bytes]) -> bool:
    """Ends mmdebstrap with all its children, if it still runs: it unmounts what it mounted and removes its folder."""
    if process.poll() is not None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(20)
            break
    return True
