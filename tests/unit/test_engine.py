import contextlib
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fake_engine
import pytest
from fake_engine import engine as answering

from tools import debian, dockerd, endpoint, engine
from tools.errors import DiskError, EngineError, ImageError, ParityError, SettingsError

NOBODY = 65534


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with no engine: its root holds home/, run/ and the sockets of the system."""
    for name in [name for name in os.environ if name.startswith("DOCKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    with fake_engine.short_folder() as root:
        (root / "home").mkdir()
        monkeypatch.setenv("HOME", str(root / "home"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(root / "run"))
        monkeypatch.setattr(endpoint, "DOCKER", root / "docker.sock")
        monkeypatch.setattr(endpoint, "PODMAN", root / "podman.sock")
        monkeypatch.setattr(engine, "LOCK", root / "lock")
        monkeypatch.setattr(debian, "installable", lambda: False)
        yield root


def url(path: Path) -> str:
    return f"unix://{path}"


def write_context(config: Path, name: str, host: str) -> Path:
    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / identity / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}))
    return config / "contexts" / "tls" / identity / "docker"


def certificate(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("ca", "cert", "key"):
        (folder / f"{name}.pem").write_text("")


@pytest.mark.parametrize(
    "place",
    [
        "docker.sock",
        "home/.docker/run/docker.sock",
        "home/.docker/desktop/docker.sock",
        "run/docker.sock",
        "run/podman/podman.sock",
        "podman.sock",
    ],
)
def test_an_engine_in_a_usual_place_is_found(system: Path, place: str) -> None:
    with answering(system / place):
        where, client = engine.located()
    assert where.url == url(system / place)
    assert client.api.api_version == "1.45"
    assert client.api.timeout == endpoint.WORK_SECONDS


def test_docker_comes_before_podman(system: Path) -> None:
    with answering(system / "podman.sock"), answering(system / "run/docker.sock"):
        assert engine.located()[0].url == url(system / "run/docker.sock")


def test_a_socket_that_a_dead_engine_left_is_passed_over(system: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(system / "docker.sock"))
    with answering(system / "podman.sock"):
        assert engine.located()[0].url == url(system / "podman.sock")


def test_an_engine_that_accepts_and_says_nothing_is_given_up_soon(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "PING_SECONDS", 0.2)
    started = time.monotonic()
    with (
        answering(system / "docker.sock", {"/version": fake_engine.silent}),
        pytest.raises(EngineError, match="no container engine answers"),
    ):
        engine.connect()
    assert time.monotonic() - started < 2


def test_docker_host_comes_before_a_context_and_the_usual_places(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_context(system / "home/.docker", "far", url(system / "far.sock"))
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    monkeypatch.setenv("DOCKER_HOST", url(system / "mine.sock"))
    with answering(system / "docker.sock"), answering(system / "far.sock"), answering(system / "mine.sock"):
        where = engine.located()[0]
    assert (where.url, where.origin) == (url(system / "mine.sock"), "DOCKER_HOST")


def test_a_docker_host_that_does_not_answer_is_never_replaced(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", url(system / "gone.sock"))
    with answering(system / "docker.sock"), pytest.raises(EngineError) as caught:
        engine.ensure()
    assert "DOCKER_HOST" in caught.value.found
    assert "gone.sock" in caught.value.found
    assert caught.value.command is not None
    assert "unset DOCKER_HOST" in caught.value.command


def test_a_docker_host_that_is_no_address_is_an_error(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "gopher://here")
    with pytest.raises(EngineError, match="gopher"):
        engine.connect()


@pytest.mark.parametrize("with_config", [True, False])
def test_docker_context_names_a_context(system: Path, monkeypatch: pytest.MonkeyPatch, with_config: bool) -> None:
    config = system / "home/.docker"
    write_context(config, "far", url(system / "far.sock"))
    if with_config:
        (config / "config.json").write_text('{"currentContext": "other"}')
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    with answering(system / "docker.sock"), answering(system / "far.sock"):
        assert engine.located()[0].url == url(system / "far.sock")


def test_the_current_context_is_used(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = system / "elsewhere"
    write_context(config, "far", url(system / "far.sock"))
    (config / "config.json").write_text('{"currentContext": "far"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    with answering(system / "docker.sock"), answering(system / "far.sock"):
        assert engine.located()[0].url == url(system / "far.sock")


def test_the_context_called_default_means_the_usual_places(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    with answering(system / "docker.sock"):
        assert engine.located()[0].url == url(system / "docker.sock")


def test_a_context_that_does_not_answer_is_never_replaced(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_context(system / "home/.docker", "desktop-linux", url(system / "desktop.sock"))
    monkeypatch.setenv("DOCKER_CONTEXT", "desktop-linux")
    with answering(system / "docker.sock"), pytest.raises(EngineError) as caught:
        engine.connect()
    assert "desktop-linux" in caught.value.found
    assert caught.value.command is not None
    assert "docker-desktop" in caught.value.command or "open -a Docker" in caught.value.command


def test_an_unknown_context_is_an_error(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with answering(system / "docker.sock"), pytest.raises(EngineError, match="nowhere") as caught:
        engine.connect()
    assert "docker context" in (caught.value.command or "")


def test_a_context_brings_its_certificates(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate(write_context(system / "home/.docker", "far", "tcp://engine.invalid:2376"))
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    found = endpoint.named()
    assert found is not None
    assert found.tls is not None
    assert found.tls.verify is True
    assert found.tls.ca_cert is not None
    assert found.tls.ca_cert.endswith("ca.pem")


def test_docker_tls_verify_without_certificates_says_which_are_missing(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://engine.invalid:2376")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with pytest.raises(EngineError) as caught:
        engine.connect()
    assert "cert.pem" in (caught.value.expected or "")


@contextlib.contextmanager
def as_a_user() -> Iterator[None]:
    """Root may open any socket."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_socket_that_the_user_may_not_open_says_how_to_be_let_in(system: Path) -> None:
    system.chmod(0o755)
    with answering(system / "docker.sock") as path:
        path.chmod(0o600 if os.geteuid() == 0 else 0)
        with as_a_user(), pytest.raises(EngineError) as caught:
            engine.connect()
    assert str(path) in caught.value.found
    assert "usermod -aG docker" in (caught.value.command or "")


def test_another_engine_is_used_where_one_does_not_let_the_user_in(system: Path) -> None:
    system.chmod(0o755)
    with answering(system / "docker.sock") as denied, answering(system / "podman.sock") as open_to_all:
        denied.chmod(0o600 if os.geteuid() == 0 else 0)
        open_to_all.chmod(0o666)
        with as_a_user():
            assert engine.located()[0].url == url(open_to_all)


# --- installing and starting


def test_nothing_is_installed_where_the_user_refuses(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, "never")
    monkeypatch.setattr(debian, "installable", lambda: True)
    monkeypatch.setattr(debian, "install", lambda *names: pytest.fail("installed all the same"))
    monkeypatch.setattr(dockerd, "start", lambda *_, **__: pytest.fail("started all the same"))
    with pytest.raises(EngineError):
        engine.ensure()


def test_a_word_that_is_no_rule_for_installing_is_an_error(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, "nevr")
    with pytest.raises(SettingsError, match="nevr"):
        engine.ensure()


def test_nothing_is_installed_while_an_engine_answers(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "installable", lambda: True)
    monkeypatch.setattr(debian, "install", lambda *names: pytest.fail("installed all the same"))
    with answering(system / "podman.sock"):
        assert engine.ensure().api.api_version == "1.45"


def test_two_callers_at_once_install_and_start_one_engine(
    system: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed: list[tuple[str, ...]] = []
    started: list[bool] = []
    monkeypatch.setattr(debian, "installable", lambda: True)
    monkeypatch.setattr(dockerd, "program", lambda: None)

    def install(*names: str) -> None:
        installed.append(names)
        time.sleep(0.3)

    with contextlib.ExitStack() as stack:

        def start(answers: object) -> None:
            started.append(True)
            stack.enter_context(answering(system / "docker.sock"))

        monkeypatch.setattr(debian, "install", install)
        monkeypatch.setattr(dockerd, "start", start)
        clients: list[object] = []
        with caplog.at_level("INFO", logger="tools"):
            threads = [threading.Thread(target=lambda: clients.append(engine.ensure())) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
    assert len(clients) == 2
    assert [names[0] for names in installed] == ["docker.io"]
    assert started == [True]
    lines = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert len(lines) == 1
    assert "docker.io" in lines[0]
    assert "PARITY_ENGINE=never" in lines[0]


def test_what_apt_says_is_told_where_docker_cannot_be_installed(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*names: str) -> None:
        raise debian.InstallError("E: Unable to locate package docker.io")

    monkeypatch.setattr(debian, "installable", lambda: True)
    monkeypatch.setattr(dockerd, "program", lambda: None)
    monkeypatch.setattr(debian, "install", fail)
    with pytest.raises(EngineError, match=r"Unable to locate package docker\.io"):
        engine.ensure()


@pytest.mark.parametrize(
    ("fields", "has_dockerd", "has_systemd", "expected"),
    [
        ({"ID": "debian"}, False, True, "sudo apt-get install docker.io && sudo systemctl start docker"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, False, False, "sudo apt-get install docker.io && sudo service docker"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, True, True, "sudo systemctl start docker"),
        ({"ID": "fedora"}, False, True, "sudo dnf install moby-engine"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, False, True, "sudo dnf install podman"),
        ({"ID": "arch"}, False, True, "sudo pacman -S docker"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="macOS has one answer")
def test_the_next_command_is_one_for_this_system(
    system: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, str],
    has_dockerd: bool,
    has_systemd: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(debian, "release", lambda: fields)
    monkeypatch.setattr(debian, "systemd", lambda: has_systemd)
    monkeypatch.setattr(dockerd, "program", lambda: "/usr/bin/dockerd" if has_dockerd else None)
    with pytest.raises(EngineError) as caught:
        engine.connect()
    assert caught.value.command is not None
    assert expected in caught.value.command


def test_a_pid_file_counts_only_while_its_process_is_that_program(tmp_path: Path) -> None:
    pidfile = tmp_path / "docker.pid"
    assert dockerd.alive(pidfile, "dockerd") is None
    pidfile.write_text("what")
    assert dockerd.alive(pidfile, "dockerd") is None
    with subprocess.Popen(["sleep", "60"]) as process:
        pidfile.write_text(f"{process.pid}\n")
        deadline = time.monotonic() + 5
        while dockerd.alive(pidfile, "sleep") is None and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has become sleep
        assert dockerd.alive(pidfile, "sleep") == process.pid
        assert dockerd.alive(pidfile, "dockerd") is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
        assert dockerd.alive(pidfile, "sleep") is None


# --- what an engine says


@pytest.mark.parametrize(("architecture", "platform"), [("amd64", "linux-64"), ("arm64", "linux-aarch64")])
def test_the_platform_of_an_engine_has_condas_name(system: Path, architecture: str, platform: str) -> None:
    with answering(system / "docker.sock", {"/version": fake_engine.VERSION | {"Arch": architecture}}):
        assert engine.platform(engine.connect()) == platform


@pytest.mark.parametrize(
    ("info", "device", "expected"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, True, True),
        ({"Runtimes": {"nvidia": {}}}, False, False),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": None}, True, False),
        ({"Runtimes": None}, True, False),
    ],
)
def test_a_gpu_needs_an_engine_that_knows_it_and_a_machine_that_has_one(
    system: Path, monkeypatch: pytest.MonkeyPatch, info: dict[str, object], device: bool, expected: bool
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(engine, "GPUS", (system / "nvidiactl",))
    if device:
        (system / "nvidiactl").touch()
    with answering(system / "docker.sock", {"/info": info}):
        assert engine.has_gpu(engine.connect()) is expected


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (fake_engine.refusing(404, "No such image: a:b"), ImageError, "No such image: a:b"),
        (fake_engine.refusing(500, "write /x: no space left on device"), DiskError, "disk is full"),
        (fake_engine.refusing(500, "something else"), EngineError, "something else"),
        (fake_engine.breaking_off, EngineError, "connection to the engine was lost"),
    ],
)
def test_what_an_engine_refuses_is_told_with_what_was_being_done(
    system: Path, answer: object, kind: type[ParityError], words: str
) -> None:
    with answering(system / "docker.sock", {"/images/a:b/json": answer}):
        client = engine.connect()
        with pytest.raises(kind, match=words) as caught, engine.errors("looking for a:b"):
            client.images.get("a:b")
    assert "looking for a:b" in caught.value.found
    assert "\n" not in caught.value.found
    assert caught.value.command


def test_an_engine_that_stops_answering_is_told(system: Path) -> None:
    with answering(system / "docker.sock", {"/info": fake_engine.silent}):
        client = engine.connect()
        client.api.timeout = 0.2
        with pytest.raises(EngineError, match="no answer in time"), engine.errors("asking"):
            client.info()


def test_trouble_that_is_not_the_engines_passes_through() -> None:
    with pytest.raises(BrokenPipeError), engine.errors("showing a log"):
        raise BrokenPipeError
    with pytest.raises(io.UnsupportedOperation), engine.errors("reading a file"):
        raise io.UnsupportedOperation
