from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import snapshot
from tools.errors import SnapshotError


def make(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def paths(source: Path) -> list[str]:
    return [file.path for file in snapshot.take(source).files]


def test_everything_goes_where_nothing_is_ignored(tmp_path: Path) -> None:
    make(tmp_path, train="x", _DOT_git__config="x", _DOT_env="x", a__b__c="x")
    assert paths(tmp_path) == [".env", ".git/config", "a/b/c", "train"]


def test_amlignore_alone_counts_where_there_is_one(tmp_path: Path) -> None:
    make(tmp_path, train="x", data__big="x", notes="x", _DOT_gitignore="notes\n", _DOT_amlignore="data\n")
    assert paths(tmp_path) == [".amlignore", ".gitignore", "notes", "train"]


def test_gitignore_counts_where_there_is_no_amlignore(tmp_path: Path) -> None:
    make(tmp_path, train="x", notes="x", _DOT_gitignore="notes\n")
    assert paths(tmp_path) == [".gitignore", "train"]


def test_an_empty_amlignore_disables_gitignore(tmp_path: Path) -> None:
    make(tmp_path, notes="x", _DOT_gitignore="notes\n", _DOT_amlignore="")
    assert "notes" in paths(tmp_path)


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    make(tmp_path, real__file="x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "loop").symlink_to("..")
    assert paths(tmp_path) == ["link/file", "real/file"]


def test_the_digest_is_of_paths_and_contents_alone(tmp_path: Path) -> None:
    one = make(tmp_path / "one", train="x", a__b="y")
    two = make(tmp_path / "two", a__b="y", train="x")
    assert snapshot.take(one).digest == snapshot.take(two).digest
    (two / "train").chmod(0o755)
    assert snapshot.take(one).digest == snapshot.take(two).digest
    make(two, train="z")
    assert snapshot.take(one).digest != snapshot.take(two).digest


@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=9), min_size=1), st.data())
def test_the_digest_moves_with_any_name_or_byte(tmp_path_factory: pytest.TempPathFactory, tree: dict, data) -> None:
    def digest(tree: dict[str, bytes]) -> str:
        folder = tmp_path_factory.mktemp("tree")
        for name, content in tree.items():
            (folder / name).write_bytes(content)
        return snapshot.take(folder).digest

    name = data.draw(st.sampled_from(sorted(tree)))
    changed = {**tree, name: tree[name] + b"x"}
    renamed = {("z" if key == name else key): content for key, content in tree.items()}
    assert len({digest(tree), digest(changed), digest(renamed)}) == 3


def test_a_missing_or_empty_source_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="does not exist"):
        snapshot.take(tmp_path / "none")
    with pytest.raises(SnapshotError, match="no files"):
        snapshot.take(tmp_path)
