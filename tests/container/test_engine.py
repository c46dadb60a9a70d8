"""A second dockerd only ever runs in namespaces of its own: with --bridge=none it removes docker0, and a
killed one leaves its mounts.
"""

import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tools import dockerd, endpoint, engine
from tools.dockerd import Daemon
from tools.errors import EngineError

second_daemon = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or dockerd.program() is None,
    reason="a dockerd of our own needs root and dockerd",
)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="parity-") as name:
        folder = Path(name)
        apart = folder / "dockerd-apart"
        apart.write_text(f'#!/bin/sh\nexec unshare --net --mount -- {dockerd.program()} "$@"\n')
        apart.chmod(0o755)
        monkeypatch.setattr(dockerd, "program", lambda: str(apart))
        paths = {
            "--data-root": folder / "data",
            "--exec-root": folder / "exec",
            "--pidfile": folder / "docker.pid",
            "--host": f"unix://{folder}/docker.sock",
        }
        ours = Daemon(
            socket=folder / "docker.sock",
            pidfile=folder / "docker.pid",
            exec_root=folder / "exec",
            log=folder / "log" / "dockerd.log",
            flags=(*(f"{flag}={path}" for flag, path in paths.items()), "--bridge=none", "--iptables=false"),
        )
        try:
            yield ours
        finally:
            if (pid := dockerd.alive(ours.pidfile, "dockerd")) is not None:
                end(pid, signal.SIGTERM)


def end(pid: int, number: signal.Signals) -> None:
    """Ends our own child, and its containerd with it."""
    os.kill(pid, number)
    os.waitpid(pid, 0)


def answers(daemon: Daemon) -> bool:
    try:
        endpoint.opened(endpoint.Endpoint(url=f"unix://{daemon.socket}"))
    except EngineError:
        return False
    return True


def test_a_real_engine_answers(client: docker.DockerClient) -> None:
    where, found = engine.located()
    assert where.url
    assert found.ping()
    assert engine.platform(found) in ("linux-64", "linux-aarch64")
    assert isinstance(engine.has_gpu(found), bool)


def test_ensure_starts_nothing_while_an_engine_answers(
    client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerd, "start", lambda *_, **__: pytest.fail("started a second one"))
    assert engine.ensure().ping()


@second_daemon
def test_dockerd_starts_in_a_session_of_its_own_and_again_after_it_was_killed(daemon: Daemon) -> None:
    dockerd.start(lambda: answers(daemon), daemon=daemon)
    first = dockerd.alive(daemon.pidfile, "dockerd")
    assert first is not None
    assert os.getsid(first) == first
    end(first, signal.SIGKILL)
    assert daemon.pidfile.exists()
    with subprocess.Popen(["sleep", "600"]) as another:  # which got the numbers of the dead ones
        daemon.pidfile.write_text(str(another.pid))
        daemon.containerd_pidfile.write_text(str(another.pid))
        dockerd.start(lambda: answers(daemon), daemon=daemon)
        assert another.poll() is None
        another.kill()
    second = dockerd.alive(daemon.pidfile, "dockerd")
    assert second not in (None, first)


@second_daemon
def test_a_running_dockerd_is_waited_for_and_not_started_twice(daemon: Daemon) -> None:
    dockerd.start(lambda: answers(daemon), daemon=daemon)
    first = dockerd.alive(daemon.pidfile, "dockerd")
    dockerd.start(lambda: answers(daemon), daemon=daemon)
    assert dockerd.alive(daemon.pidfile, "dockerd") == first


@second_daemon
def test_a_dockerd_that_does_not_come_up_is_told_with_its_last_words(daemon: Daemon) -> None:
    broken = dataclasses.replace(daemon, flags=(*daemon.flags, "--storage-driver=nonesuch"))
    with pytest.raises(EngineError, match="driver not supported") as caught:
        dockerd.start(lambda: answers(broken), daemon=broken)
    assert str(broken.log) in caught.value.found
    assert "make engine" in (caught.value.command or "")
