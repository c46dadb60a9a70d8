"""A proxy before a rehearsal workspace, with faults: it has the workspace's own certificate, and stands in its place in
every address that the workspace gives out."""

import contextlib
import http.client
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workspaces import Rehearsal

HOP_BY_HOP = ("transfer-encoding", "content-length", "connection", "expect", "host")


@dataclass(kw_only=True)
class Proxy:
    """variables: those of a client that is to meet the faults. fault: "500", "drop" or None for a method and a path;
    seen: told each request once it was answered. requests: method and path of each, as they came."""

    variables: dict[str, str]
    fault: Callable[[str, str], str | None] = lambda method, path: None
    seen: Callable[[str, str], None] = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def proxy(rehearsal: Rehearsal, folder: Path) -> Iterator[Proxy]:
    """folder: a new one, for what the client keeps."""
    variables = rehearsal.variables()
    upstream = rehearsal.url.removeprefix("https://")
    trust = ssl.create_default_context(cafile=variables["REQUESTS_CA_BUNDLE"])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            passing.requests.append((self.command, self.path))
            fault = passing.fault(self.command, self.path)
            if fault == "drop":
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault:
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPSConnection(upstream, context=trust)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            headers["Accept-Encoding"] = "identity"
            connection.request(self.command, self.path, body.replace(own, upstream.encode()), headers)
            answer = connection.getresponse()
            content = answer.read().replace(upstream.encode(), own)
            connection.close()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value.replace(upstream, own.decode()))
            length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)
            passing.seen(self.command, self.path)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients go away
    own = f"127.0.0.1:{server.server_port}".encode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(rehearsal.state / "leaf.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    clouds = Path(variables["ARM_CLOUD_METADATA_URL"].removeprefix("file://")).read_text()
    metadata = folder / "metadata.json"
    metadata.write_text(json.dumps(json.loads(clouds.replace(upstream, own.decode()))))
    passing = Proxy(
        variables={
            **variables,
            "ARM_CLOUD_METADATA_URL": metadata.as_uri(),
            "AZURE_CONFIG_DIR": str(folder / "azure"),
            "HOME": str(folder),
            "MSI_ENDPOINT": variables["MSI_ENDPOINT"].replace(upstream, own.decode()),
        }
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield passing
    finally:
        server.shutdown()
        server.server_close()
