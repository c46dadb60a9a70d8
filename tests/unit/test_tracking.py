import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from recorded import Recorded

from tools import tracking
from tools.errors import ParityError, RunError, TrackingError


class Handler(BaseHTTPRequestHandler):
    """A server of something else: any call has a page for an answer."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refused(tmp_path: Path, uri: str, status: str = "completed") -> ParityError:
    with pytest.raises(ParityError) as error:
        list(tracking.export([Recorded(status=status).write(tmp_path)], uri, experiment="x"))
    return error.value


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    error = refused(tmp_path, "http://127.0.0.1:1")
    assert isinstance(error, TrackingError)
    assert "http://127.0.0.1:1 does not answer" in error.found


def test_a_server_of_something_else_is_told(tmp_path: Path, page: str) -> None:
    assert "is no MLflow server" in refused(tmp_path, page).found


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "file:///runs", "http://", ""])
def test_a_store_without_a_server_is_told_how_to_get_one(tmp_path: Path, uri: str) -> None:
    error = refused(tmp_path, uri)
    assert isinstance(error, TrackingError)
    assert "mlflow server" in str(error.command)


def test_a_run_that_is_not_over_is_not_exported(tmp_path: Path, page: str) -> None:
    assert isinstance(refused(tmp_path, page, status="running"), RunError)


@pytest.mark.parametrize(
    ("moment", "milliseconds"),
    [
        ("2026-11-23T15:41:05.733+00:00", 1795448465733),
        ("2026-11-23T15:41:05.7331234Z", 1795448465733),
        ("2026-11-23T15:41:05Z", 1795448465000),
    ],
)
def test_times_of_both_targets_are_read(moment: str, milliseconds: int) -> None:
    assert tracking._milliseconds(moment) == milliseconds
