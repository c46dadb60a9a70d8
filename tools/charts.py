"""The chart libraries of the toolkit's pages, inlined, so that a page is one file that needs no network.

Each comes out of a wheel, by pip, when a page is first asked for: pip reaches a package index wherever the toolkit
could be installed. What is taken is the library's own published bundle, byte for byte, as its sha256 says.

uPlot (MIT, 0.05 MB) draws curves. plotly.js (MIT, 4.8 MB in each page, 9.7 MB to fetch) draws treemaps that open.
ECharts was left out: no maintained package on PyPI carries it.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import files
from .errors import FetchError, HashMismatchError


@dataclass(frozen=True, kw_only=True)
class Library:
    """requirement: the wheel, as pip names it; members: the files taken out of it, with their sha256."""

    requirement: str
    members: Mapping[str, str]


PLOTLY = Library(
    requirement="plotly==7.1.0",
    members={"plotly/package_data/plotly.min.js": "3b6e15d45dbb7fca5bd2094291e961ddc5472cd887009e6009a56dab668d721f"},
)
UPLOT = Library(  # 1.6.31, and its style
    requirement="youplot==1.0.0",
    members={
        "youplot/vendor/uplot.iife.min.js": "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
        "youplot/vendor/uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    },
)

log = logging.getLogger(__name__)


def library(cache: Path) -> str:
    """plotly.js as text, for a <script> element; as `texts`."""
    return texts(PLOTLY, cache)[0]


def texts(library: Library, cache: Path) -> tuple[str, ...]:
    """The library's files as text, for <script> and <style> elements, in the order of its members.

    cache: a folder that keeps them. Errors: FetchError if pip cannot get the wheel, HashMismatchError if a file is
    another one.
    """
    kept = {member: _kept(library, member, cache) for member in library.members}
    contents = {member: path.read_bytes() if path.is_file() else b"" for member, path in kept.items()}
    if _wrong(library, contents):
        contents = _from_wheel(library)
        if wrong := _wrong(library, contents):
            found, where = _sha256(contents[wrong]), f"the wheel of {library.requirement}"
            raise HashMismatchError(wrong, expected=library.members[wrong], found=found, where=where)
        for member, path in kept.items():
            with files.written_whole(path) as file:
                file.write(contents[member])
    return tuple(content.decode() for content in contents.values())


def _kept(library: Library, member: str, cache: Path) -> Path:
    return cache / "charts" / f"{library.requirement}{PurePosixPath(member).suffix}"


def _wrong(library: Library, contents: Mapping[str, bytes]) -> str | None:
    """The first member that is not what it should be."""
    wrong = (each for each, content in contents.items() if _sha256(content) != library.members[each])
    return next(wrong, None)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _from_wheel(library: Library) -> dict[str, bytes]:
    log.info("Fetching %s for its charts", library.requirement)
    with tempfile.TemporaryDirectory() as folder:
        pip = ("-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        options = ("--no-deps", "--only-binary=:all:", "--dest", folder)
        command = [sys.executable, *pip, *options, library.requirement]
        log.debug("%s", " ".join(command))
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            raise FetchError(
                f"{library.requirement} cannot be fetched: {(reasons or ['pip failed'])[0]}",
                expected="a package index that pip reaches",
                command=f"python -m pip download --no-deps {library.requirement}",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            present = set(wheel.namelist())
            return {member: wheel.read(member) if member in present else b"" for member in library.members}
