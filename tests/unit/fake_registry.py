"""A registry in memory, on the loopback: what the distribution specification says of pushes, and faults on demand."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], bytes]


@dataclass(kw_only=True)
class FakeRegistry:
    """answer: what to say instead, for a method and a path ("drop": break the connection while the body comes).

    login: "" for none, else "basic" or "token"; secrets: the logins that are let in, as their headers or fields come.
    """

    address: str = ""
    answer: Callable[[str, str], Answer | str | None] = lambda method, path: None
    login: str = ""
    secrets: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: int = 0

    def count(self, method: str, part: str = "") -> int:
        return sum(each == method and part in path for each, path in self.requests)

    def respond(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if path == "/token":
            return self.token(query, headers, body)
        if self.login and not self.let_in(headers):
            return self.challenge()
        _, _, kind, reference = re.split(r"^/v2/(.+)/(blobs|manifests)/", path, maxsplit=1)
        if kind == "manifests":
            return self.manifest(method, reference, headers, body)
        if method == "POST":
            return 202, {"Location": f"{path}upload?_state=x"}, b""
        if method == "PUT":
            digest = query["digest"][0]
            if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
                return 400, {}, json.dumps({"errors": [{"code": "DIGEST_INVALID"}]}).encode()
            self.blobs[digest] = body
            return 201, {}, b""
        return (200, {}, self.blobs[reference]) if reference in self.blobs else (404, {}, b"")

    def manifest(self, method: str, reference: str, headers: dict[str, str], body: bytes) -> Answer:
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if method == "PUT":
            self.manifests[reference] = self.manifests[digest] = headers["content-type"], body
            return 201, {"Docker-Content-Digest": digest}, b""
        if reference not in self.manifests:
            return 404, {}, b""
        kind, content = self.manifests[reference]
        return 200, {"Content-Type": kind}, content

    def let_in(self, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "")
        return given in self.secrets if self.login == "basic" else given == f"Bearer token-{self.tokens}"

    def challenge(self) -> Answer:
        if self.login == "basic":
            return 401, {"WWW-Authenticate": 'Basic realm="test"'}, b""
        realm = f'Bearer realm="http://{self.address}/token",service="test",scope="repository:team/parity:pull"'
        return 401, {"WWW-Authenticate": realm}, b""

    def token(self, query: dict[str, list[str]], headers: dict[str, str], body: bytes) -> Answer:
        fields = {**query, **parse_qs(body.decode())}
        given = headers.get("authorization") or fields.get("refresh_token", [""])[0]
        if given not in self.secrets or fields["scope"] != ["repository:team/parity:pull,push"]:
            return 401, {}, b""
        self.tokens += 1
        return 200, {}, json.dumps({"access_token": f"token-{self.tokens}"}).encode()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@contextlib.contextmanager
def serving() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            fake.requests.append((self.command, self.path))
            answer = fake.answer(self.command, self.path)
            if answer == "drop":
                self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1))
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, content = answer or fake.respond(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
