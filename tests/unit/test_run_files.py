"""What runs leave behind: metrics, files by address, snapshots."""

import asyncio
import base64
import hashlib
import math
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tools.rehearsal import blobs as blobs_module
from tools.rehearsal import paths, snapshots
from tools.rehearsal.answers import Refusal
from tools.rehearsal.artifacts import Artifacts
from tools.rehearsal.blobs import Blobs
from tools.rehearsal.metrics import Metrics
from tools.rehearsal.routes import blobs as routes
from tools.rehearsal.runs import Run, Runs
from tools.rehearsal.snapshots import Snapshots
from tools.rehearsal.store import Store
from tools.rehearsal.tokens import Tokens

URL = "https://127.0.0.1:1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace.sqlite")


# Metrics


def values(name: str, *logged: tuple[int, Any], kind: str = "scalar", of: str = "double") -> dict[str, Any]:
    """MetricV2Dto; logged: (microsecond, value)."""
    return {
        "name": name,
        "columns": {name: of},
        "properties": {"uxMetricType": f"azureml.v1.{kind}"},
        "value": [
            {"metricId": f"{name}-{at}", "createdUtc": f"2026-01-01T00:00:00.{at:06}Z", "data": {name: value}}
            for at, value in logged
        ],
    }


def test_batches_that_come_in_any_order_and_twice_are_read_as_they_were_logged(store: Store) -> None:
    metrics = Metrics(store)
    batches = [values("loss", *((at, float(at)) for at in range(first, first + 10))) for first in range(0, 1000, 10)]
    random.Random(0).shuffle(batches)
    for batch in [*batches, *batches[:5]]:
        assert metrics.append("run", [batch]) == []
    assert [point.value for point in metrics.scalars("run")["loss"]] == list(range(1000))
    assert metrics.scalars("other") == {}


def test_what_is_no_number_is_kept_as_such(store: Store) -> None:
    metrics = Metrics(store)
    metrics.append("run", [values("loss", (0, math.nan), (1, math.inf), (2, -math.inf), (3, 1))])
    assert [value.data["loss"] for value in metrics.full("run", "loss")] == ["NaN", "Infinity", "-Infinity", 1]
    found = [point.value for point in metrics.scalars("run")["loss"]]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, 1.0]


def test_a_metric_stays_what_it_was_first(store: Store) -> None:
    metrics = Metrics(store)
    metrics.append("run", [values("m", (0, 1), of="int")])
    refused = metrics.append("run", [values("m", (1, 2), kind="table"), values("n", (0, 1)), {"value": 3}])
    assert [why.partition(" ")[0] for _, why in refused] == ["m", "The"]
    assert metrics.names("run") == ["m", "n"]
    metrics.append("run", [values("m", (2, 0.5))])
    assert (metric := metrics.get("run", "m"))
    assert metric.columns == {"m": "double"}


# Files by their addresses


@pytest.fixture
def blobs(tmp_path: Path, store: Store) -> Blobs:
    return Blobs(store, folder=tmp_path, tokens=Tokens(key=b"k" * 32, start="s", tenant="t"), url=URL)


class Http:
    """Asks the routes of files, with no network between."""

    def __init__(self, blobs: Blobs) -> None:
        workspace: Any = SimpleNamespace(blobs=blobs)
        self.app = Starlette(routes=routes.routes(workspace))

    def ask(self, method: str, uri: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app)) as client:
                return await client.request(method, uri, **options)

        return asyncio.run(ask())

    def get(self, uri: str, **options: Any) -> httpx.Response:
        return self.ask("GET", uri, **options)


@pytest.fixture
def http(blobs: Blobs) -> Http:
    return Http(blobs)


def put(http: Http, uri: str, content: bytes, query: str = "", **headers: str) -> httpx.Response:
    sums = base64.b64encode(hashlib.md5(content).digest()).decode()
    named = {"Content-MD5": sums, "x-ms-blob-type": "BlockBlob", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return http.ask("PUT", uri.replace("parity.blob.x@", "") + query, content=content, headers=named)


def test_the_sdk_finds_an_account_in_an_address_to_write_to(blobs: Blobs, tmp_path: Path) -> None:
    uri = blobs.uri(tmp_path / "ü #%.txt", "w")
    host = uri.partition("://")[2].partition("/")[0]
    account, service, rest = host.split(".", 2)  # as azureml-core does (_file_utils/upload.py)
    assert f"https://{account}.{service}.{rest}" == f"https://{host}"
    assert uri.isascii()
    assert "%" not in uri.partition("?")[0]
    assert blobs.written_to(uri) == tmp_path / "ü #%.txt"


def test_a_file_is_written_whole_or_not_at_all(http: Http, blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    uri = blobs.uri(path, "w")
    wrong = put(http, uri, b"content", Content_MD5="AAAAAAAAAAAAAAAAAAAAAA==")
    assert (wrong.status_code, wrong.headers["x-ms-error-code"]) == (400, "Md5Mismatch")
    assert not path.exists()
    assert list(path.parent.iterdir()) == []
    made = put(http, uri, b"content")
    assert made.status_code == 201
    assert made.headers["etag"]
    assert made.headers["last-modified"]
    assert path.read_bytes() == b"content"


def test_a_file_that_is_there_is_not_written_over_unless_it_is_the_same_once_more(
    http: Http, blobs: Blobs, tmp_path: Path
) -> None:
    uri = blobs.uri(tmp_path / "a", "w")
    assert put(http, uri, b"one", If_None_Match="*").status_code == 201
    assert put(http, uri, b"one", If_None_Match="*").status_code == 201
    again = put(http, uri, b"two", If_None_Match="*")
    assert (again.status_code, again.headers["x-ms-error-code"]) == (409, "BlobAlreadyExists")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_blocks_become_a_file_in_the_order_of_their_list(http: Http, blobs: Blobs, tmp_path: Path) -> None:
    uri = blobs.uri(tmp_path / "a", "w")
    names = [base64.b64encode(name).decode() for name in (b"1", b"2", b"3")]
    for name, content in zip(names, (b"un", b"ended", b"dropped"), strict=True):
        assert put(http, uri, content, f"&comp=block&blockid={name}").status_code == 201
    assert not (tmp_path / "a").exists()
    listed = "".join(f"<Latest>{name}</Latest>" for name in (names[1], names[0]))
    assert put(http, uri, f"<BlockList>{listed}</BlockList>".encode(), "&comp=blocklist").status_code == 201
    assert (tmp_path / "a").read_bytes() == b"endedun"
    assert list((tmp_path / "blocks").iterdir()) == []
    missing = put(http, uri, b"<BlockList><Latest>eA==</Latest></BlockList>", "&comp=blocklist")
    assert missing.headers["x-ms-error-code"] == "InvalidBlockList"
    assert put(http, uri, b"x", "&comp=block&blockid=../..").status_code == 400


def test_a_log_grows_by_appends_which_say_where_they_begin(
    http: Http, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = blobs.uri(tmp_path / "log.txt", "w")
    assert put(http, uri, b"x", "&comp=appendblock").status_code == 404
    assert put(http, uri, b"", x_ms_blob_type="AppendBlob").status_code == 201
    for number, (content, at) in enumerate([(b"one\n", 0), (b"two\n", 4)], start=1):
        done = put(http, uri, content, "&comp=appendblock")
        assert done.headers["x-ms-blob-append-offset"] == str(at)
        assert done.headers["x-ms-blob-committed-block-count"] == str(number)
    assert put(http, uri, b"x", "&comp=appendblock", x_ms_blob_condition_appendpos="3").status_code == 412
    assert http.get(blobs.uri(tmp_path / "log.txt", "r")).text == "one\ntwo\n"
    monkeypatch.setattr(blobs_module, "APPENDED_BYTES", 10)
    for _ in range(5):  # never refused: the SDK would write that into the log
        assert put(http, uri, b"three\n", "&comp=appendblock").status_code == 201
    assert (tmp_path / "log.txt").read_bytes() == b"one\ntwo\nth" + blobs_module.LAST_WORDS


def test_parts_of_a_file_are_read(http: Http, blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    uri = blobs.uri(tmp_path / "a", "r")
    for wanted, expected in [("bytes=2-4", b"234"), ("bytes=8-", b"89"), ("bytes=5-99", b"56789")]:
        part = http.get(uri, headers={"x-ms-range": wanted})
        assert (part.status_code, part.content) == (206, expected)
    assert http.get(uri, headers={"Range": "bytes=10-"}).status_code == 416
    head = http.ask("HEAD", uri)
    assert (head.headers["content-length"], head.headers["x-ms-blob-type"]) == ("10", "BlockBlob")
    assert http.get(uri).content == b"0123456789"
    assert http.get(blobs.uri(tmp_path / "none", "r")).headers["x-ms-error-code"] == "BlobNotFound"


def test_an_address_is_for_one_file_and_one_permission(http: Http, blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "key").write_bytes(b"secret")
    uri = blobs.uri(tmp_path / "a", "r")
    assert put(http, uri, b"x").status_code == 403
    assert http.get(uri.replace(b"a".hex() + "?", b"key".hex() + "?")).status_code == 403
    assert http.get(uri.partition("?")[0]).status_code == 403
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert http.get(blobs.uri(tmp_path / "link", "r")).status_code == 403


# Artifacts


@pytest.fixture
def run(store: Store) -> Run:
    made = Runs(store).create("run_1", "first", status="Running")
    assert made
    return made


def test_a_run_has_the_files_below_its_folder_and_no_others(tmp_path: Path, store: Store, run: Run) -> None:
    artifacts = Artifacts(Runs(store), folder=tmp_path / "artifacts")
    assert artifacts.names(run) == []
    for name in ("user_logs/std_log.txt", "outputs/a b.txt", "outputs/.half.part"):
        path = artifacts.path(run, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (artifacts.folder(run) / "outputs" / "link").symlink_to("/etc/hostname")
    assert artifacts.names(run) == ["outputs/a b.txt", "user_logs/std_log.txt"]
    assert artifacts.container("ExperimentRun", "dcid.run_1") == artifacts.folder(run)
    with pytest.raises(Refusal):
        artifacts.path(run, "outputs/link")
    for container in ("dcid.other", "run_1", "../run_1"):
        with pytest.raises(Refusal):
            artifacts.container("ExperimentRun", container)
    with pytest.raises(Refusal):
        artifacts.container("LocalUpload", "..")


# Snapshots


def tree(*names: str) -> dict[str, Any]:
    root: dict[str, Any] = {"name": "", "type": "Directory", "children": {}}
    for name in names:
        *folders, last = name.split("/")
        node = root
        for folder in folders:
            node = node["children"].setdefault(folder, {"name": folder, "type": "Directory", "children": {}})
        node["children"][last] = {"name": last, "type": "File", "children": {}}
    return root


@pytest.fixture
def kept(tmp_path: Path, store: Store) -> Snapshots:
    return Snapshots(store, folder=tmp_path / "snapshots")


def take(kept: Snapshots, name: str, parent: str | None, new: dict[str, str], *names: str) -> None:
    places = dict(zip(new, kept.room(list(new)), strict=True))
    for path, content in new.items():
        places[path].parent.mkdir(exist_ok=True)
        places[path].write_text(content)
    kept.create(name, parent=parent, tree=tree(*names), new=places, properties={})


def contents(kept: Snapshots, name: str) -> dict[str, str]:
    return {file.path: file.location.read_text() for file in kept.files(name)}


def test_a_snapshot_is_its_parent_with_what_changed(kept: Snapshots) -> None:
    take(kept, "one", None, {"a": "1", "sub/b": "2", "sub/c": "3"}, "a", "sub/b", "sub/c")
    take(kept, "two", "one", {"a": "new", "sub/d": "4"}, "a", "sub/c", "sub/d")
    assert contents(kept, "one") == {"a": "1", "sub/b": "2", "sub/c": "3"}
    assert contents(kept, "two") == {"a": "new", "sub/c": "3", "sub/d": "4"}
    assert kept.exists("two")
    assert not kept.exists("three")


def test_a_snapshot_whose_files_are_not_there_is_refused(kept: Snapshots) -> None:
    with pytest.raises(Refusal, match=r"sub/b was not uploaded"):
        take(kept, "one", "lost", {"a": "1"}, "a", "sub/b")
    assert not kept.exists("one")


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "a/../../b", "a//b", "a\0b", ".", "a/", "x" * 256, "y/" * 600 + "z", "line\nfeed"]
)
def test_names_that_no_file_can_have_are_refused(kept: Snapshots, tmp_path: Path, name: str) -> None:
    with pytest.raises(Refusal) as refused:
        kept.room([name])
    assert refused.value.status == 400
    place = tmp_path / "content"
    place.write_text("x")
    with pytest.raises(Refusal):
        kept.create("one", parent=None, tree=tree(name), new={name: place}, properties={})
    with pytest.raises(Refusal):
        paths.inside(tmp_path, name)


@pytest.mark.parametrize("amiss", [{"children": []}, {"children": {"a": 1}}, {"children": {"a/b": {"type": "File"}}}])
def test_what_is_no_tree_is_refused(kept: Snapshots, amiss: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        kept.create("one", parent=None, tree=amiss, new={}, properties={})


def test_the_limits_of_a_snapshot(kept: Snapshots) -> None:
    with pytest.raises(Refusal, match="file limit of 2000"):
        kept.room([str(number) for number in range(2001)])
    place = kept.room(["a"])[0]
    place.parent.mkdir()
    place.touch()
    os.truncate(place, snapshots.LIMIT_BYTES + 1)
    with pytest.raises(Refusal, match=r"exceeds the limit of 300\.0 MB"):
        kept.create("one", parent=None, tree=tree("a"), new={"a": place}, properties={})
