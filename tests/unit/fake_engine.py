"""A Docker API on a unix socket, as far as a client's first questions go."""

import json
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

VERSION = {"Version": "99.1", "ApiVersion": "1.45", "Arch": "amd64", "Os": "linux"}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 16


@contextmanager
def engine(path: Path, answers: dict[str, Any] | None = None) -> Iterator[Path]:
    """Answers at `path`. answers: JSON by the end of the request's path; a callable is given the handler."""
    known = {"/version": VERSION, "/info": {}} | (answers or {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for end, answer in known.items():
                if self.path.endswith(end):
                    return self._send(200, answer) if not callable(answer) else answer(self)
            return self._send(404, {"message": f"page not found: {self.path}"})

        def _send(self, status: int, table: Any) -> None:
            content = json.dumps(table).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None:
            pass

    path.parent.mkdir(parents=True, exist_ok=True)
    with _Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()


def refusing(status: int, message: str) -> Callable[[Any], None]:
    return lambda handler: handler._send(status, {"message": message})


def silent(handler: Any) -> None:
    time.sleep(5)


def breaking_off(handler: Any) -> None:
    """Promises more than it sends, as an engine that is killed does."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")


@contextmanager
def short_folder() -> Iterator[Path]:
    """A unix socket's path has 108 bytes at most; pytest's own folders are longer."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        yield Path(folder)
