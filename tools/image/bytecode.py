"""Deterministic .pyc files, compiled by the environment's own Python: `import torch` takes a third of the time.

They are unchecked hash-based files (PEP 552): no time stamp in them, and no look at the source when they are read.
"""

from __future__ import annotations

import json
import logging
import os
import platform as machine
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import PackageError
from .staging import PREFIX, Interpreter

log = logging.getLogger(__name__)

_VERSION = "import platform; print(platform.python_implementation(), platform.python_version(), sep='-')"

# Runs in the environment's Python, with its standard library only. argv: folder, prefix; stdin: a JSON list of sources
# relative to both. What this Python cannot compile (newer syntax, templates) is left without a .pyc, as pip does.
_SCRIPT = """
import importlib._bootstrap_external as external, importlib.util as util, json, os, sys, warnings
warnings.simplefilter("ignore")
folder, prefix = sys.argv[1:]
for name in json.load(sys.stdin):
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        source = file.read()
    try:
        code = compile(source, os.path.join(prefix, name), "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        continue
    target = util.cache_from_source(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(external._code_to_hash_pyc(code, util.source_hash(source), False))
"""


def compiler(platform: str, python: str) -> str | None:
    """Who compiles for an image of `platform` with Python `python` ("3.11.2"): a version, or None for nobody.

    That is the image's own Python where this machine can run it, else one of the same minor version on PATH. It is part
    of the image's fingerprint, since two of them may not write the same bytes.
    """
    if _own(platform):
        return python
    host = shutil.which(f"python{_minor(python)}")
    if host is None:
        return None
    done = subprocess.run([host, "-c", _VERSION], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _own(platform: str) -> bool:
    host = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}.get(machine.machine())
    return sys.platform == "linux" and host == platform


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def compile_all(folder: Path, interpreter: Interpreter, platform: str) -> None:
    """Puts a .pyc beside every .py of site-packages and the standard library in `folder`, as `compiler` says."""
    own = interpreter.folder / "bin" / f"python{interpreter.version}"
    python = str(own) if _own(platform) else f"python{interpreter.version}"
    library = folder / "lib" / f"python{interpreter.version}"
    sources = sorted(str(path.relative_to(folder)) for path in library.rglob("*.py") if not path.is_symlink())
    workers = os.cpu_count() or 1
    shares = [sources[start::workers] for start in range(min(workers, len(sources)))]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda share: _compile(python, share, folder), shares))


def _compile(python: str, sources: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        # no site, no user folder, no .pyc of its own: the staged files are hard links that must not change
        [python, "-I", "-S", "-B", "-X", "utf8", "-c", _SCRIPT, str(folder), PREFIX],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise PackageError(
            f"{Path(python).name} does not compile the image's sources on this machine: {last}",
            expected="a C library that is at least as new as the one the package was built for",
            command="make doctor, or build on a newer system",
        )
