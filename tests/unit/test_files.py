import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from tools import files
from tools.errors import DiskError


def test_a_file_that_failed_midway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "note"
    files.write_text(path, "old")
    with contextlib.suppress(ZeroDivisionError), files.written_whole(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made"
    for content in ("one", "two"):
        with files.directory_written_whole(path) as work:
            (work / content).write_text(content)
            assert not (path / content).exists()
    assert [each.name for each in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_failed_midway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with files.directory_written_whole(path) as work:
        (work / "old").touch()
    with contextlib.suppress(ZeroDivisionError), files.directory_written_whole(path) as work:
        (work / "new").touch()
        raise ZeroDivisionError
    assert [each.name for each in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_with_the_next_command(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with pytest.raises(DiskError) as caught, files.disk_errors(tmp_path, "make clean-cache"):
        full.write_bytes(b"x")
    assert "is full" in str(caught.value)
    assert "make clean-cache" in str(caught.value)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> tarfile.TarFile:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return tarfile.open(fileobj=buffer)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_extract_unpacks_files_folders_and_inner_links(tmp_path: Path) -> None:
    tar = archive(
        (member("outputs", tarfile.DIRTYPE), b""),
        (member("outputs/model.pt"), b"weights"),
        (member("outputs/last.pt", tarfile.SYMTYPE, "model.pt"), b""),
    )
    assert files.extract(tar, tmp_path) == []
    assert (tmp_path / "outputs" / "last.pt").read_bytes() == b"weights"
    assert (tmp_path / "outputs" / "model.pt").stat().st_uid == os.getuid()


def test_extract_never_writes_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "door").symlink_to(outside)
    hostile = [
        member("../outside/a"),
        member("door/b"),
        member("out", tarfile.SYMTYPE, "../outside"),
        member("absolute", tarfile.SYMTYPE, str(outside)),
        member("pipe", tarfile.FIFOTYPE),
        member("hard", tarfile.LNKTYPE, "../outside/c"),
    ]
    left_out = files.extract(archive(*((each, b"") for each in hostile)), inside)
    assert left_out == [each.name for each in hostile]
    assert list(outside.iterdir()) == []


def test_extract_through_its_own_link_stays_inside(tmp_path: Path) -> None:
    tar = archive((member("a", tarfile.SYMTYPE, ".."), b""), (member("a/b"), b"x"), (member("/etc/x"), b"y"))
    assert files.extract(tar, tmp_path / "in") == ["a"]
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "in" / "etc" / "x").read_bytes() == b"y"
