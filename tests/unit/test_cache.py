import os
from pathlib import Path

import pytest

from tools.image import cache


def entry(root: Path, name: str, *, size: int, used: float) -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "content").write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def test_the_least_used_goes_first_and_only_as_much_as_must(tmp_path: Path) -> None:
    old = entry(tmp_path, "packages/old", size=100, used=1)
    middle = entry(tmp_path, "layers/middle", size=100, used=2)
    new = entry(tmp_path, "wheels/1/new", size=100, used=3)
    cache.evict(tmp_path, 200, since=10)
    assert [path.exists() for path in (old, middle, new)] == [False, True, True]


def test_what_was_used_again_stays(tmp_path: Path) -> None:
    old = entry(tmp_path, "packages/old", size=100, used=1)
    other = entry(tmp_path, "packages/other", size=100, used=2)
    cache.used(old)
    cache.evict(tmp_path, 100, since=10**12)
    assert [path.exists() for path in (old, other)] == [True, False]


def test_a_build_never_loses_what_it_uses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = entry(tmp_path, "layers/kept", size=100, used=20)
    cache.evict(tmp_path, 10, since=10)
    assert kept.exists()
    assert "over its limit" in caplog.text


def test_leftovers_of_a_killed_build_go(tmp_path: Path) -> None:
    entry(tmp_path, "staging-abc", size=1, used=1)
    entry(tmp_path, "layers/.key.x.part", size=1, used=1)
    kept = entry(tmp_path, "layers/key", size=1, used=1)
    cache.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["layers"]
    assert list((tmp_path / "layers").iterdir()) == [kept]
