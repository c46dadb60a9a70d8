import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tools import data, files, offline, settings
from tools.errors import DataError, FetchError, OfflineError
from tools.offline import digits

NAMES = ("batches.meta", *digits.BATCHES)
CONTENT = {name: f"{name}: ".encode() * 5000 for name in NAMES}
SUMS = "".join(f"{hashlib.sha256(CONTENT[name]).hexdigest()}  {name}\n" for name in sorted(NAMES)).encode()
WHOLE = {data.SUMS: SUMS, **CONTENT}


def packed(members: dict[str, bytes]) -> bytes:
    """A .tar.gz with these files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


class Host(BaseHTTPRequestHandler):
    """Serves `archive`; drops the connection in the middle of each of the first `drops` answers."""

    archive: ClassVar[bytes]
    drops: ClassVar[int]
    ranges: ClassVar[list[str | None]]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(self.archive):
            self.send_error(416)
            return
        rest = self.archive[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if Host.drops:
            Host.drops -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(offline.VARIABLE, raising=False)
    offline.answers.cache_clear()
    offline._say.cache_clear()


@pytest.fixture
def cifar_10(monkeypatch: pytest.MonkeyPatch) -> Iterator[data.Archive]:
    """A small CIFAR-10 on a host that answers."""
    content = packed({f"{data.FOLDER}/{name}": text for name, text in CONTENT.items()})
    Host.archive, Host.drops, Host.ranges = content, 0, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        archive = data.Archive(
            url=f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            md5=tuple((name, hashlib.md5(CONTENT[name]).hexdigest()) for name in NAMES),
        )
        monkeypatch.setattr(data, "CIFAR_10", archive)
        yield archive
        server.shutdown()
        thread.join()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host answers; the stand-in is made of a few made-up digits."""
    archive = data.Archive(url="http://127.0.0.1:1/none.tar.gz", size=1, sha256="", md5=tuple((n, "") for n in NAMES))
    monkeypatch.setattr(data, "CIFAR_10", archive)
    originals = np.column_stack([np.arange(50 * 64).reshape(50, 64) % 17, np.arange(50) % 10]).astype(np.uint8)
    write = digits.write
    monkeypatch.setattr(digits, "fetch", lambda cache: originals)
    monkeypatch.setattr(digits, "write", lambda directory, digits: write(directory, digits, per_batch=20))


@pytest.fixture
def project(tmp_path: Path) -> settings.Settings:
    return settings.Settings(root=tmp_path)


@pytest.fixture
def own_data(tmp_path: Path) -> settings.Settings:
    """A project whose user looks after the data."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "1.png").write_bytes(b"one")
    (tmp_path / "data" / "labels.csv").write_bytes(b"1,cat\n")
    return settings.Settings(root=tmp_path, data=settings.Data(dataset="none"))


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# CIFAR-10 itself


def test_the_files_come_from_the_archive_and_are_told_with_size_and_hash(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    prepared = data.prepare(project)
    folder = prepared.path / data.FOLDER
    assert {name: (folder / name).read_bytes() for name in WHOLE} == WHOLE
    assert prepared.path == project.root / "data"
    assert prepared.files == tuple(
        data.DataFile(
            path=f"{data.FOLDER}/{name}", size=len(WHOLE[name]), sha256=hashlib.sha256(WHOLE[name]).hexdigest()
        )
        for name in sorted(WHOLE)
    )
    assert prepared.stand_ins == ()


def test_a_data_set_that_was_made_before_there_were_sums_gets_them(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    whole = data.prepare(project)
    folder = whole.path / data.FOLDER
    (folder / data.SUMS).unlink()
    manifest = json.loads((folder / data.MANIFEST).read_text())
    del manifest["sha256"][data.SUMS]
    (folder / data.MANIFEST).write_text(json.dumps(manifest))
    (folder / NAMES[0]).write_bytes(b"changed since")
    with pytest.raises(DataError, match=f"{NAMES[0]} has changed"):
        data.prepare(project)
    (folder / NAMES[0]).write_bytes(CONTENT[NAMES[0]])
    assert data.prepare(project) == whole


def test_what_is_there_is_not_fetched_again(cifar_10: data.Archive, project: settings.Settings) -> None:
    first = data.prepare(project)
    Host.ranges.clear()
    assert data.prepare(project) == first
    assert Host.ranges == []


def test_a_download_goes_on_where_it_broke_off(cifar_10: data.Archive, project: settings.Settings) -> None:
    Host.drops = 2
    data.prepare(project)
    first, second, third = Host.ranges
    assert first is None
    half = len(Host.archive) // 2
    assert second == f"bytes={half}-"
    assert third == f"bytes={half + (len(Host.archive) - half) // 2}-"


def test_a_download_that_a_killed_process_began_is_finished_by_the_next(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    part = project.cache / "data" / "cifar-10-python.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(Host.archive[:100])
    data.prepare(project)
    assert Host.ranges == ["bytes=100-"]


def test_a_whole_part_is_not_fetched_again(cifar_10: data.Archive, project: settings.Settings) -> None:
    part = project.cache / "data" / "cifar-10-python.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(Host.archive)
    data.prepare(project)
    assert (project.data_path / data.FOLDER / "test_batch").read_bytes() == CONTENT["test_batch"]


def test_an_archive_with_another_hash_is_refused_and_nothing_of_it_is_kept(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    Host.archive = packed({f"{data.FOLDER}/{name}": b"forged" for name in NAMES})
    with pytest.raises(DataError, match=hashlib.sha256(Host.archive).hexdigest()) as refused:
        data.prepare(project)
    assert cifar_10.sha256 in str(refused.value)
    assert not everything_below(project.data_path)
    assert not list((project.cache / "data").glob("*.tar.gz*"))


def test_a_host_that_always_drops_the_line_is_an_error_and_what_came_stays(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    Host.drops = 100
    with pytest.raises(FetchError, match=r"cifar-10-python\.tar\.gz cannot be fetched"):
        data.prepare(project)
    Host.drops = 0
    data.prepare(project)
    assert Host.ranges[-1] is not None


def test_the_archive_is_not_kept_once_it_is_unpacked(cifar_10: data.Archive, project: settings.Settings) -> None:
    data.prepare(project)
    assert not list(project.root.rglob("*.tar.gz*"))


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: os.truncate(path, 10), "has changed: 10 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[::-1]), "has changed"),
        (lambda path: path.unlink(), "is missing"),
    ],
    ids=["truncated", "tampered", "removed"],
)
def test_a_damaged_file_is_named_with_the_way_to_mend_it(
    cifar_10: data.Archive, project: settings.Settings, name: str, damage: Callable[[Path], None], told: str
) -> None:
    folder = data.prepare(project).path / data.FOLDER
    damage(folder / name)
    with pytest.raises(DataError, match=f"{name} {told}") as raised:
        data.prepare(project)
    assert raised.value.command == f"rm -r {folder}; make data"


def test_a_change_is_found_even_where_size_and_time_were_set_back(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    path = data.prepare(project).path / data.FOLDER / "data_batch_1"
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="data_batch_1 has changed"):
        data.prepare(project)


def test_a_copy_of_the_project_is_as_good_as_the_original(
    cifar_10: data.Archive, project: settings.Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = data.prepare(project)
    copy = settings.Settings(root=tmp_path_factory.mktemp("copy"))
    first.path.rename(copy.data_path)
    Host.ranges.clear()
    assert data.prepare(copy).digest == first.digest
    assert Host.ranges == []


def test_files_that_torchvision_fetched_are_used_as_they_are(
    cifar_10: data.Archive, project: settings.Settings
) -> None:
    folder = project.data_path / data.FOLDER
    folder.mkdir(parents=True)
    for name, content in {**CONTENT, "readme.html": b"about"}.items():
        (folder / name).write_bytes(content)
    adopted = data.prepare(project)
    assert Host.ranges == []
    assert adopted.stand_ins == ()
    assert (folder / "readme.html").exists()
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match="test_batch is missing"):
        data.prepare(project)


def test_a_folder_that_someone_else_made_is_not_touched(cifar_10: data.Archive, project: settings.Settings) -> None:
    folder = project.data_path / data.FOLDER
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"is there, but is not what `make data` puts there") as raised:
        data.prepare(project)
    assert 'dataset = "none"' in str(raised.value)
    assert everything_below(project.data_path) == {f"{data.FOLDER}/data_batch_1": b"mine"}


def test_what_a_killed_process_left_behind_is_swept_away(cifar_10: data.Archive, project: settings.Settings) -> None:
    left_over = project.data_path / f".{data.FOLDER}.abc.part"
    left_over.mkdir(parents=True)
    (left_over / "data_batch_1").write_bytes(b"half")
    data.prepare(project)
    assert not left_over.exists()


def test_a_failure_midway_leaves_no_folder_that_looks_whole(
    unreachable: None, project: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = digits.write

    def interrupted(directory: Path, originals: object) -> None:
        (directory / "data_batch_1").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.prepare(project)
    assert not everything_below(project.data_path)
    monkeypatch.setattr(digits, "write", write)
    assert len(data.prepare(project).files) == len(WHOLE)


# Unpacking


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An archive that tries to leave its folder in every way a tar file can."""
    path = tmp_path / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"evil") if member.size else None)

        add("../escaped")
        add(str(tmp_path / "escaped"))
        add(f"{data.FOLDER}/../../escaped")
        add(f"{data.FOLDER}/extra")
        add(f"{data.FOLDER}/data_batch_1", tarfile.SYMTYPE, str(tmp_path / "escaped"))
        add(f"{data.FOLDER}/data_batch_2", tarfile.LNKTYPE, "../escaped")
        add(f"{data.FOLDER}/test_batch")
    return path


def test_unpacking_takes_the_named_files_and_nothing_else(hostile: Path, tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    data.extract(hostile, inside, ["test_batch"])
    assert everything_below(tmp_path / "a") == {"b/test_batch": b"evil"}
    assert not (tmp_path / "escaped").exists()


def test_a_link_in_place_of_a_file_is_a_missing_file(hostile: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks .*data_batch_1, .*data_batch_2"):
        data.extract(hostile, tmp_path / "a", ["data_batch_1", "data_batch_2", "test_batch"])
    assert not (tmp_path / "escaped").exists()


# The stand-in


def test_the_stand_in_is_told_when_it_is_made_and_each_time_it_is_used(
    unreachable: None, project: settings.Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        caplog.clear()
        assert data.prepare(project).stand_ins == (offline.DATA,)
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert offline.DATA.replacement in warning
        assert "PARITY_OFFLINE=never" in warning


def test_the_stand_in_has_the_files_of_the_real_one(unreachable: None, project: settings.Settings) -> None:
    assert [file.path for file in data.prepare(project).files] == sorted(f"{data.FOLDER}/{name}" for name in WHOLE)


def test_a_refused_stand_in_is_an_error_and_nothing_is_made(
    unreachable: None, project: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(offline.VARIABLE, "never")
    with pytest.raises(OfflineError):
        data.prepare(project)
    assert not everything_below(project.data_path)


def test_a_stand_in_that_is_there_is_refused_too_but_not_destroyed(
    unreachable: None, project: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data.prepare(project)
    monkeypatch.setenv(offline.VARIABLE, "never")
    with pytest.raises(OfflineError):
        data.prepare(project)
    monkeypatch.delenv(offline.VARIABLE)
    assert data.prepare(project) == first


def test_a_stand_in_gives_way_to_the_real_one_where_it_is_refused(
    cifar_10: data.Archive, unreachable: None, project: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = data.prepare(project)
    monkeypatch.setattr(data, "CIFAR_10", cifar_10)
    assert data.prepare(project) == stand_in
    monkeypatch.setenv(offline.VARIABLE, "never")
    real = data.prepare(project)
    assert real.stand_ins == ()
    assert real.digest != stand_in.digest
    assert (real.path / data.FOLDER / "test_batch").read_bytes() == CONTENT["test_batch"]


@pytest.mark.parametrize("policy", ["always", "auto", "never"])
def test_the_real_one_is_used_whatever_the_policy(
    cifar_10: data.Archive, project: settings.Settings, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    real = data.prepare(project)
    monkeypatch.setenv(offline.VARIABLE, policy)
    assert data.prepare(project) == real


# Data of the user's own


def test_ones_own_data_is_every_file_below_the_path(own_data: settings.Settings) -> None:
    prepared = data.prepare(own_data)
    assert [(file.path, file.size) for file in prepared.files] == [("images/1.png", 3), ("labels.csv", 6)]
    assert prepared.stand_ins == ()


def test_the_digest_is_of_names_and_content_only(own_data: settings.Settings) -> None:
    first = data.prepare(own_data).digest
    path = own_data.data_path / "labels.csv"
    os.utime(path, (1, 1))
    path.chmod(0o600)
    assert data.prepare(own_data).digest == first
    path.write_bytes(b"1,dog\n")
    changed = data.prepare(own_data).digest
    path.write_bytes(b"1,cat\n")
    assert data.prepare(own_data).digest == first != changed
    path.rename(path.with_name("names.csv"))
    assert data.prepare(own_data).digest != first


def test_the_digest_does_not_change_between_versions(own_data: settings.Settings) -> None:
    one, labels = (hashlib.sha256(content).hexdigest() for content in (b"one", b"1,cat\n"))
    text = f"{one} 3 images/1.png\n{labels} 6 labels.csv\n"
    assert data.prepare(own_data).digest == hashlib.sha256(text.encode()).hexdigest()


def test_ones_own_folder_gets_no_file_of_ours(own_data: settings.Settings) -> None:
    before = everything_below(own_data.data_path)
    data.prepare(own_data)
    assert everything_below(own_data.data_path) == before


def test_a_missing_folder_is_an_error_that_says_what_to_do(project: settings.Settings) -> None:
    missing = project.model_copy(update={"data": settings.Data(dataset="none", path="elsewhere")})
    with pytest.raises(DataError, match="elsewhere is missing") as raised:
        data.prepare(missing)
    assert "parity.toml" in str(raised.value.command)


def test_a_file_in_place_of_the_folder_is_an_error(own_data: settings.Settings) -> None:
    wrong = own_data.model_copy(update={"data": settings.Data(dataset="none", path="data/labels.csv")})
    with pytest.raises(DataError, match="is not a folder"):
        data.prepare(wrong)


@pytest.mark.parametrize("kind", ["absolute", "outside", "folder"])
def test_a_link_that_the_container_could_not_follow_is_an_error(own_data: settings.Settings, kind: str) -> None:
    root = own_data.data_path
    (own_data.root / "large").mkdir()
    (own_data.root / "large" / "file").write_bytes(b"")
    targets = {"absolute": root / "labels.csv", "outside": "../large/file", "folder": "../large"}
    (root / "link").symlink_to(targets[kind])
    with pytest.raises(DataError, match=r"data/link is a link to"):
        data.prepare(own_data)


def test_a_link_inside_the_folder_is_a_file_like_any_other(own_data: settings.Settings) -> None:
    (own_data.data_path / "images" / "2.png").symlink_to("1.png")
    one, two, _ = data.prepare(own_data).files
    assert (two.path, two.sha256) == ("images/2.png", one.sha256)


def test_a_pipe_among_the_files_does_not_hang(own_data: settings.Settings) -> None:
    os.mkfifo(own_data.data_path / "pipe")
    with pytest.raises(DataError, match="pipe is not a plain file"):
        data.prepare(own_data)


def test_files_that_did_not_change_are_not_read_again(
    own_data: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data.prepare(own_data)
    (own_data.data_path / "labels.csv").write_bytes(b"1,horse\n")
    read = []
    real = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path.name) or real(path))
    assert data.prepare(own_data) != first
    assert read == ["labels.csv"]


def test_a_damaged_index_only_costs_time(own_data: settings.Settings) -> None:
    first = data.prepare(own_data)
    (index,) = (own_data.cache / "data").glob("*.json")
    assert json.loads(index.read_text())
    index.write_text("{")
    assert data.prepare(own_data) == first
