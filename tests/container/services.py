"""What a push talks to, on the loopback: Debian's docker-registry, a proxy with faults before it, a second dockerd."""

import contextlib
import http.client
import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from tools import debian, dockerd

USER, PASSWORD = "someone", "secret"
HTPASSWD = f"{USER}:$2b$04$hkYxPp4zV1HkBer7Iq2FTefxcSMZWdJ/Gaf1GbDsm0tlAbyNgUYJq\n"  # of PASSWORD
PATIENCE = 30.0  # seconds for a service to come up

CONFIG = """\
version: 0.1
storage:
  filesystem:
    rootdirectory: {storage}
http:
  addr: {address}
"""
AUTHENTICATION = """\
auth:
  htpasswd:
    realm: test
    path: {htpasswd}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"{what} does not come up"
        time.sleep(0.05)


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def registry_program() -> str:
    if not shutil.which("docker-registry"):
        if not debian.installable():
            pytest.skip("docker-registry is missing: sudo apt-get install docker-registry")
        debian.install("docker-registry")
    return "docker-registry"


@contextlib.contextmanager
def registry(folder: Path, *, with_login: bool = False) -> Iterator[str]:
    """An empty registry; yields its address."""
    port = free_port()
    folder.mkdir()
    text = CONFIG.format(storage=folder / "storage", address=f"127.0.0.1:{port}")
    if with_login:
        (folder / "htpasswd").write_text(HTPASSWD)
        text += AUTHENTICATION.format(htpasswd=folder / "htpasswd")
    (folder / "config.yml").write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([registry_program(), "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        until(lambda: connects(port), f"docker-registry ({(folder / 'log').read_text()})")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@dataclass(kw_only=True)
class Proxy:
    """Passes requests on to a registry. fault: what to do with one instead: "drop", "500", or None.

    requests: method and path of each, as they came.
    """

    address: str
    fault: Callable[[str, str], str | None] = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def count(self, *methods: str) -> int:
        return sum(method in methods for method, _ in self.requests)


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            passing.requests.append((self.command, self.path))
            fault = passing.fault(self.command, self.path)
            if fault == "drop":
                if self.command in ("PUT", "PATCH"):
                    self.rfile.read(1)
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body = self.body()
            if fault:
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            hop_by_hop = ("transfer-encoding", "content-length", "connection", "expect")
            connection = http.client.HTTPConnection(upstream)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in hop_by_hop:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # who pushed may have stopped
                self.wfile.write(content)
            connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = pass_on  # noqa: N815

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    passing = Proxy(address=f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield passing
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def empty_engine(folder: Path) -> Iterator[docker.DockerClient]:
    """A second dockerd that has nothing; what it pulls is gone with it."""
    program = dockerd.program()
    if program is None:
        pytest.skip("dockerd is missing: sudo apt-get install docker.io")
    folder.mkdir()
    socket_path = folder / "docker.sock"
    command = [program, f"--host=unix://{socket_path}", f"--data-root={folder / 'data'}"]
    command += [f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}", "--iptables=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    client = None
    try:
        until(lambda: answers(socket_path), f"dockerd ({(folder / 'log').read_text()[-500:]})")
        client = docker.DockerClient(base_url=f"unix://{socket_path}")
        yield client
    finally:
        if client:
            client.close()
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder / "data", ignore_errors=True)


def answers(path: Path) -> bool:
    with contextlib.suppress(Exception), contextlib.closing(docker.APIClient(base_url=f"unix://{path}")) as api:
        return bool(api.ping())
    return False
