import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tools.environment.lock import Package
from tools.errors import FetchError, HashMismatchError
from tools.image import packages

CONTENT = bytes(range(256)) * 4096


class Mirror(BaseHTTPRequestHandler):
    """Serves CONTENT under every name; "broken" drops the connection midway, until it is asked for the rest."""

    requests: ClassVar[list[tuple[str, str | None]]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        name = self.path.rsplit("/", 1)[-1]
        if "missing" in name:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) // 2 if "broken" in name and not wanted else len(CONTENT)
        self.wfile.write(CONTENT[start:end])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    Mirror.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def package(url: str, sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> Package:
    name = url.rsplit("/", 1)[-1].partition("-")[0]
    return Package(
        name=name,
        version="1",
        build="0",
        manager="conda",
        url=url,
        sha256=sha256,
        md5=None,
        platform="linux-64",
        dependencies=(),
    )


def test_packages_come_in_the_order_asked_and_a_second_time_from_the_cache(mirror: str, tmp_path: Path) -> None:
    wanted = [package(f"{mirror}/{name}-1-0.conda", hashlib.sha256(CONTENT).hexdigest()) for name in ("b", "a")]
    for _ in range(2):
        fetched = packages.fetch(wanted, tmp_path)
        assert [each.package.name for each in fetched] == ["b", "a"]
        assert all(each.path.read_bytes() == CONTENT and each.size == len(CONTENT) for each in fetched)
        assert fetched[0].path.name == "b-1-0.conda"
    assert len(Mirror.requests) == 2


def test_a_broken_download_goes_on_where_it_stopped(mirror: str, tmp_path: Path) -> None:
    (fetched,) = packages.fetch([package(f"{mirror}/broken-1-0.conda")], tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert [wanted for _, wanted in Mirror.requests] == [None, f"bytes={len(CONTENT) // 2}-"]


def test_another_content_than_locked_is_refused_with_both_hashes(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(HashMismatchError) as caught:
        packages.fetch([package(f"{mirror}/evil-1-0.conda", "f" * 64)], tmp_path)
    message = str(caught.value)
    assert "evil-1-0.conda" in message
    assert "f" * 64 in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_file_in_the_cache_is_fetched_again(mirror: str, tmp_path: Path) -> None:
    wanted = [package(f"{mirror}/tqdm-1-0.conda")]
    (fetched,) = packages.fetch(wanted, tmp_path)
    fetched.path.write_bytes(CONTENT[:-1] + b"x")
    (again,) = packages.fetch(wanted, tmp_path)
    assert again.path.read_bytes() == CONTENT


def test_a_file_channel_is_verified_too(tmp_path: Path) -> None:
    source = tmp_path / "channel" / "a b-1-0.conda"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    (fetched,) = packages.fetch([package(source.as_uri())], tmp_path / "cache")
    assert fetched.path.read_bytes() == CONTENT
    source.write_bytes(b"swapped")
    with pytest.raises(HashMismatchError):
        packages.fetch([package(source.as_uri())], tmp_path / "other")


def test_a_package_that_is_not_there_is_named_without_the_address_s_secrets(mirror: str, tmp_path: Path) -> None:
    url = f"{mirror.replace('//', '//user:secret@')}/t/missing-1-0.conda?token=secret"
    with pytest.raises(FetchError) as caught:
        packages.fetch([package(url)], tmp_path)
    assert "missing 1 cannot be fetched" in str(caught.value)
    assert "404" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(Mirror.requests) == 1  # a 404 is final


def test_a_server_that_is_gone_is_told_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="try again"):
        packages.fetch([package("http://127.0.0.1:9/a-1-0.conda")], tmp_path)
