import gzip
import hashlib
import os
import random
from pathlib import Path

import pytest

from tools.image import blobs
from tools.image.archive import Layer


def make(folder: Path, content: bytes) -> Layer:
    path = folder / "layer.tar"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    diff_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Layer(diff_id=diff_id, path=path, size=len(content), comment="torch=2.13.0")


def bytes_of(blob: blobs.Blob) -> bytes:
    return b"".join(blob.pieces())


@pytest.mark.parametrize("size", [0, 1, blobs.BLOCK - 1, blobs.BLOCK, 3 * blobs.BLOCK + 5])
def test_a_blob_holds_the_layer_and_has_its_own_digest(tmp_path: Path, size: int) -> None:
    content = random.Random(1).randbytes(size)
    blob = blobs.compressed(make(tmp_path / "a", content))
    packed = bytes_of(blob)
    assert gzip.decompress(packed) == content
    assert (f"sha256:{hashlib.sha256(packed).hexdigest()}", len(packed)) == (blob.digest, blob.size)


def test_the_same_layer_gives_the_same_blob_on_any_number_of_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"parity" * 3_000_000
    one = blobs.compressed(make(tmp_path / "a", content))
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    other = blobs.compressed(make(tmp_path / "b", content))
    assert bytes_of(one) == bytes_of(other)
    assert bytes_of(one)[4:10] == bytes(5) + b"\xff"  # no time, no system


def test_a_blob_is_made_once(tmp_path: Path) -> None:
    layer = make(tmp_path / "a", b"x" * 100)
    first = blobs.compressed(layer)
    layer.path.unlink()
    assert blobs.compressed(layer) == first


def test_what_a_killed_push_left_is_not_believed(tmp_path: Path) -> None:
    layer = make(tmp_path / "a", b"x" * 100)
    whole = blobs.compressed(layer)
    content = bytes_of(whole)
    assert isinstance(whole.source, Path)
    whole.source.write_bytes(content[:-1])
    left = layer.path.with_name(".layer.tar.gz.x1.part")
    left.touch()
    assert bytes_of(blobs.compressed(layer)) == content
    assert not left.exists()


def test_a_damaged_tar_is_never_packed(tmp_path: Path) -> None:
    layer = make(tmp_path / "a", b"x" * 100)
    layer.path.write_bytes(b"y" * 100)
    with pytest.raises(blobs.DamagedError, match=r"layer\.tar") as caught:
        blobs.compressed(layer)
    assert caught.value.entry == tmp_path / "a"
    assert not [*(tmp_path / "a").glob("*.gz"), *(tmp_path / "a").glob("*.gz.json"), *(tmp_path / "a").glob(".*")]


def test_a_layer_that_was_evicted_meanwhile_is_made_again(tmp_path: Path) -> None:
    layer = make(tmp_path / "a", b"x" * 100)
    layer.path.unlink()
    with pytest.raises(blobs.DamagedError):
        blobs.compressed(layer)


def test_a_damaged_blob_is_found_before_its_end_is_handed_out(tmp_path: Path) -> None:
    layer = make(tmp_path / "a", random.Random(1).randbytes(3_000_000))
    blob = blobs.compressed(layer)
    assert isinstance(blob.source, Path)
    content = bytearray(bytes_of(blob))
    content[1000] ^= 1
    blob.source.write_bytes(content)
    handed_out: list[bytes] = []
    with pytest.raises(blobs.DamagedError) as caught:
        handed_out.extend(blobs.compressed(layer).pieces())
    assert sum(map(len, handed_out)) < blob.size
    assert caught.value.entry == blob.source
