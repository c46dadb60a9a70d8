"""The same files as the SDKs, by the SDKs' own functions."""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nobody import as_nobody
from sdks import Sdk, SdkError

from tools import snapshot
from tools.errors import SnapshotError
from tools.snapshot import limits, rules, tree
from tools.snapshot.patterns import Dialect
from tools.snapshot.words import MIB

NOTHING = contextlib.nullcontext()

NAMES = [
    "a", "b", "d", "A", "data", "Data", "x.py", "y.pyc", "a b", " b", "b ", "ü", "u\u0308", "%41", "a%", ".a", "..a",
    "#a", "!a", "[a]", "a*", "?", "\\", "a\nb", "b\n", "\n", "a\rb", "-", "^", "]", "\u2028", "日本", "a'b\"", "$(a)",
]  # fmt: skip
names = st.sampled_from(NAMES)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
pieces = st.one_of(
    names,
    st.sampled_from(
        ["*", "**", "?", "[a-b]", "[!a]", "[^a]", "[", "]", "[b-a]", "/", "/", "/", "\\", " ", "!", "#", "."]
    ),
)
lines = st.one_of(
    st.builds(
        "{}{}{}".format, st.sampled_from(["", "", "!", "/", "!/"]), paths, st.sampled_from(["", "/", "/*", "/**"])
    ),
    st.lists(pieces, max_size=6).map("".join),
    st.sampled_from(["*", "!*/", "**", "**/", "*.py", "!d/", "!d", "!**/a", "/*", "!/d/**", "# note", "", "\ufeff*"]),
)
ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])
ignore_files = st.lists(st.tuples(lines, ends).map("".join), max_size=6).map("".join)
kinds = st.sampled_from(["file"] * 8 + ["folder", "link", "link", "circle", "outside", "dangling", "socket"])
trees = st.dictionaries(paths, st.tuples(kinds, paths), max_size=14)
RANK = {"circle": 1, "link": 2}  # made last: they need something to lead to, and beside a circle no link may branch


FEW = {"a": ("file", ""), "b": ("file", ""), "^": ("file", ""), "d/a": ("file", ""), "d/b/^": ("file", "")}


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


def made(scratch: Path, entries: dict[str, tuple[str, str]]) -> Path:
    """A source directory with these entries; those that cannot be made beside the others are left out."""
    shutil.rmtree(scratch, ignore_errors=True)
    source, outside = scratch / "source", scratch / "outside"
    for folder in (source, outside / "deep"):
        folder.mkdir(parents=True)
    (outside / "o").write_text("o")
    (outside / "deep" / "a").write_text("a")
    circle = False
    for name, (kind, target) in sorted(entries.items(), key=lambda each: RANK.get(each[1][0], 0)):
        path, leads_to = source / name, source / target
        with contextlib.suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.write_text(name)
            elif kind == "folder":
                path.mkdir()
            elif kind == "socket":
                os.mknod(path, stat.S_IFSOCK | 0o644)
            elif kind == "dangling":
                path.symlink_to("nothing here")
            elif kind == "outside":
                path.symlink_to(outside)
            elif kind == "circle" and not circle:  # two would take the SDKs for ever
                path.symlink_to(os.path.relpath(source, path.parent.resolve()))
                circle = True
            # a link to a folder on the way to the circle would double the SDKs' work at each of its forty turns
            elif kind == "link" and (leads_to.is_file() or (not circle and not leads_back(leads_to, path.parent))):
                path.symlink_to(leads_to)
    return source


def leads_back(folder: Path, to: Path) -> bool:
    return not folder.is_dir() or any(to.samefile(here) for here, _, _ in os.walk(folder, followlinks=True))


def ours(source: Path, dialect: Dialect) -> list[str] | None:
    """The files of a snapshot; None where it is refused."""
    try:
        return [file.path for file in tree.survey(source, rules.load(source, dialect)).files]
    except SnapshotError:
        return None


def theirs(sdk: Sdk, source: Path, dialect: Dialect) -> list[str] | None:
    try:
        return sdk.ask(f"files_{dialect}", str(source))
    except SdkError:
        return None


def write(source: Path, name: str, text: str | None) -> None:
    if text is not None:
        (source / name).write_bytes(text.encode())


def has_circle(source: Path) -> bool:
    return any(path.is_symlink() and path.resolve() in path.parents for path in source.rglob("*"))


@pytest.mark.parametrize("dialect", ["v1", "v2"])
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@example(entries=FEW, amlignore="[^a]\n", gitignore=None, nested="")
@example(entries=FEW, amlignore="d/\n!d/b\n", gitignore="*\n", nested="a\n")
@example(entries=FEW, amlignore="*\n!d/\n", gitignore=None, nested="")
@example(entries=FEW, amlignore="", gitignore="*\n", nested="")
@given(entries=trees, amlignore=st.none() | ignore_files, gitignore=st.none() | ignore_files, nested=ignore_files)
def test_the_files_are_those_of_the_sdk(
    sdk: Sdk, scratch: Path, dialect: Dialect, entries: dict, amlignore: str, gitignore: str, nested: str
) -> None:
    source = made(scratch, entries)
    write(source, ".amlignore", amlignore)
    write(source, ".gitignore", gitignore)
    if (source / "d").is_dir():
        write(source / "d", ".amlignore", nested)
    mine, reference = ours(source, dialect), theirs(sdk, source, dialect)
    if mine is None and has_circle(source) and dialect == "v2":
        return  # azure-ai-ml lists what is in the circle forty times, and fails or not
    if dialect == "v1" and mine is not None and reference is not None:
        # The one known difference: line breaks in names, in folders that are not looked into.
        loaded = rules.load(source, dialect)
        unseen = [path for path in reference if path not in mine]
        assert all("\n" in path and any(loaded.empties(folder) for folder in above(path)) for path in unseen)
        reference = [path for path in reference if path not in unseen]
    assert mine == reference


def above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


@pytest.mark.parametrize("dialect", ["v1", "v2"])
@pytest.mark.parametrize(
    "content", [b"\xff\n", b"\xef\xbb\xbfa\n", b"a\x0cb\n", b"a\\ \nb", b"a\\ ", b"b\r\na\r", b"!\n"]
)
def test_an_ignore_file_of_odd_bytes_is_read_as_the_sdk_does(
    sdk: Sdk, tmp_path: Path, dialect: Dialect, content: bytes
) -> None:
    for name in ("a", "b", "a ", "\ufeffa", "a\x0cb"):
        (tmp_path / name).touch()
    (tmp_path / ".amlignore").write_bytes(content)
    assert ours(tmp_path, dialect) == theirs(sdk, tmp_path, dialect)


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_an_ignore_file_may_be_a_link_or_a_folder(sdk: Sdk, tmp_path: Path, dialect: Dialect) -> None:
    source = tmp_path / "source"
    for name in ("a", "b", "d/a"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    (tmp_path / "rules").write_text("a\n/source/b\n")
    (source / ".amlignore").symlink_to(tmp_path / "rules")
    assert ours(source, dialect) == theirs(sdk, source, dialect)
    (source / ".amlignore").unlink()
    (source / ".amlignore").mkdir()
    (source / ".gitignore").write_text("a\n")
    assert ours(source, dialect) == theirs(sdk, source, dialect)


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_names_that_are_not_utf_8_are_refused_by_both(sdk: Sdk, tmp_path: Path, dialect: Dialect) -> None:
    (tmp_path / os.fsdecode(b"a\xff")).touch()
    assert ours(tmp_path, dialect) is None
    assert theirs(sdk, tmp_path, dialect) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the rights of another user")
@pytest.mark.parametrize("dialect", ["v1", "v2"])
@pytest.mark.parametrize("hidden", ["file", "folder"])
def test_what_cannot_be_read_is_skipped_or_refused_as_by_the_sdk(sdk: Sdk, dialect: Dialect, hidden: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        source = Path(name)
        (source / "folder").mkdir()
        for path in ("file", "folder/x", "open"):
            (source / path).touch()
        source.chmod(0o755)
        (source / hidden).chmod(0)
        reference = sdk.ask("unprivileged", f"files_{dialect}", name)
        assert as_nobody(ours, source, dialect) == reference
        if (dialect, hidden) == ("v1", "file"):
            assert reference == ["folder/x", "open"]


def test_the_limits_are_those_of_azureml_core(sdk: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(sdk.home))
    (tmp_path / "large").touch()
    for size, verdict in ((300 * MIB, "near"), (300 * MIB + 1, "over")):
        os.truncate(tmp_path / "large", size)
        with pytest.raises(SdkError, match="exceeds the limit of 300") if verdict == "over" else NOTHING:
            sdk.ask("check_v1", str(tmp_path))
        assert snapshot.inspect(tmp_path)[0].verdict == verdict
    (tmp_path / "large").unlink()
    for number in range(2000):
        (tmp_path / str(number)).touch()
    assert sdk.ask("check_v1", str(tmp_path)) == 2000
    assert snapshot.inspect(tmp_path)[0].verdict == "near"
    (tmp_path / "more").touch()
    with pytest.raises(SdkError, match="exceeds the file limit of 2000"):
        sdk.ask("check_v1", str(tmp_path))
    assert snapshot.inspect(tmp_path)[0].verdict == "over"


def test_files_that_azureml_core_has_sent_do_not_count(
    sdk: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(sdk.home))
    for number in range(2500):
        (tmp_path / f"{number % 7}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 7}" / f"ü {number}").write_text(str(number))
    assert snapshot.inspect(tmp_path)[0].verdict == "over"
    sdk.ask("note_v1", str(tmp_path))
    try:
        for number in (3, 5, 8):
            (tmp_path / f"{number % 7}" / f"ü {number}").write_text("changed")
        (tmp_path / "0" / "new").touch()
        (tmp_path / "1" / "ü 1").unlink()
        os.utime(tmp_path / "2" / "ü 2")
        found, taken = snapshot.inspect(tmp_path)
        assert found.changed == sdk.ask("check_v1", str(tmp_path)) == 4
        assert (found.verdict, len(taken.files)) == ("within", 2500)
        assert "2,500 in all; 4 of 2,000 that may be new since the last snapshot" in found.text()
        for number in range(2001):
            (tmp_path / f"{number % 7}" / f"ü {number}").write_text("changed too")
        with pytest.raises(SdkError, match="exceeds the file limit"):
            sdk.ask("check_v1", str(tmp_path))
        assert snapshot.inspect(tmp_path)[0].verdict == "over"
    finally:
        sdk.ask("forget_v1")
    assert limits.last_snapshot() is None
