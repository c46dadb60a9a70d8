"""dockerd on this machine: by systemd where that runs, else in the background, in a session of its own."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .errors import EngineError

START_SECONDS = 60.0  # a first start makes its folders and firewall rules; 2 s are usual
LOG_LINES = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """Where one dockerd keeps its things; the defaults are dockerd's own. flags: what else it is started with."""

    socket: Path = Path("/var/run/docker.sock")
    pidfile: Path = Path("/var/run/docker.pid")
    exec_root: Path = Path("/var/run/docker")
    log: Path = Path("/var/log/parity-dockerd.log")
    flags: tuple[str, ...] = ()

    @property
    def containerd_pidfile(self) -> Path:
        """Of the containerd that dockerd starts for itself where the system runs none."""
        return self.exec_root / "containerd" / "containerd.pid"


def program() -> str | None:
    """The path of an installed dockerd, also where PATH lacks the folders of system programs."""
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/usr/bin")


def start(answers: Callable[[], bool], *, daemon: Daemon | None = None) -> None:
    """Starts dockerd and waits until `answers()`. daemon: another than the machine's own, in the background.

    Errors: EngineError with the last lines of its log.
    """
    if daemon is None and debian.systemd():
        _start_service(answers)
    else:
        _start_in_background(answers, daemon or Daemon())


def _start_service(answers: Callable[[], bool]) -> None:
    command = ["systemctl", "start", "docker"]
    log.debug("%s", shlex.join(command))
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=2 * START_SECONDS)
    deadline = time.monotonic() + START_SECONDS
    while done.returncode == 0 and time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.2)
    journal = subprocess.run(
        ["journalctl", "--unit=docker", "--output=cat", "--no-pager", f"--lines={LOG_LINES}"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    raise EngineError(
        f"systemd could not start Docker: {done.stderr.strip()}\n{journal.stdout.strip()}",
        command="sudo journalctl -u docker, mend what it says, then: sudo systemctl restart docker",
    )


def _start_in_background(answers: Callable[[], bool], daemon: Daemon) -> None:
    running = alive(daemon.pidfile, "dockerd")
    process = None
    if running is None:
        for pidfile, name in ((daemon.pidfile, "dockerd"), (daemon.containerd_pidfile, "containerd")):
            _remove_stale(pidfile, name)
        command = [program() or "dockerd", *daemon.flags]
        log.debug("%s >%s 2>&1 &", shlex.join(command), daemon.log)
        daemon.log.parent.mkdir(parents=True, exist_ok=True)
        with daemon.log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",  # a daemon holds no folder of its caller's
            )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if answers():
            return
        time.sleep(0.2)
    if process is None:
        raise EngineError(
            f"dockerd runs (process {running}) and does not answer at {daemon.socket}",
            command=f"sudo kill {running}, then: make engine",
        )
    how = "does not answer" if process.poll() is None else f"ended with exit code {process.returncode}"
    if process.poll() is None:
        process.terminate()
    last = daemon.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LOG_LINES:]
    raise EngineError(
        "\n".join([f"dockerd was started and {how}; its last lines, of {daemon.log}:", *last]),
        command="mend what it says, then: make engine",
    )


def alive(pidfile: Path, name: str) -> int | None:
    """The process that a pid file names, if it lives and is a program of that name."""
    try:
        pid = int(pidfile.read_text())
        # pid (comm) state ...: proc_pid_stat(5); a killed child that nobody waited for stays as a zombie, Z
        comm, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except (OSError, ValueError):
        return None
    return pid if comm == name and rest.split()[0] not in "ZX" else None


def _remove_stale(pidfile: Path, name: str) -> None:
    """A killed dockerd leaves its pid files; once another process has such a number, a new dockerd refuses to start."""
    if pidfile.exists() and alive(pidfile, name) is None:
        log.debug("rm %s", pidfile)
        pidfile.unlink()
