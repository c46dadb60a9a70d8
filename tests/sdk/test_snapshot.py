"""The same files as the SDKs, by the SDKs' own functions."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sdks import Sdk, SdkError

from tools import snapshot
from tools.errors import SnapshotError
from tools.snapshot import limits, rules, tree
from tools.snapshot.patterns import Dialect, escape

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
LINKS = {"link", "circle"}  # made last, since they need something to lead to


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
    for name, (kind, target) in sorted(entries.items(), key=lambda each: each[1][0] in LINKS):
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
            elif kind == "link" and (leads_to.is_file() or (leads_to.is_dir() and not circle)):
                if path.parent.resolve() not in [
                    Path(here).resolve() for here, _, _ in os.walk(leads_to, followlinks=True)
                ]:
                    path.symlink_to(leads_to)
    return source


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
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
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
