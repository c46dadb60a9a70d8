"""A conventional Dockerfile for the same lock, for those who must build elsewhere.

Its environment has the same packages. It is not the same image: the environment is one layer, each build has another
id, and what the toolkit knows about images (labels, activation variables, the first run, the witness) is not in it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ..download import public
from ..environment.lock import Lock, Package
from ..settings import Settings
from . import base, build
from .archive import ARCHITECTURES
from .staging import PREFIX

INSTALLER = "mambaorg/micromamba:2"
_FILES = "/tmp/packages"  # noqa: S108 - in the container


def text(settings: Settings, lock: Lock) -> str:
    """The Dockerfile of the lock's packages for [image] platform.

    With packages of a channel on this machine (file://) it needs that channel's folder as its build context; else none.
    """
    packages = lock.for_platform(settings.image.platform)
    conda = [package for package in packages if package.manager == "conda"]
    wheels = [package for package in packages if package.manager == "pip"]
    has_python = any(package.name == "python" for package in conda)
    blocks = [
        _head(settings, lock, packages),
        f"ARG BASE={base.reference(settings)}\nARG INSTALLER={INSTALLER}",
        _installer(packages, conda),
        _pip(wheels) if wheels else "",
        _bytecode() if has_python else "",
        _final(base.packages(settings)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def context(lock: Lock, platform: str) -> dict[str, str]:
    """What the Dockerfile copies from its build context: path there -> file:// address in the lock."""
    return {_place(each): each.url for each in lock.for_platform(platform) if _local(each)}


def _head(settings: Settings, lock: Lock, packages: Sequence[Package]) -> str:
    where = "FOLDER" if any(map(_local, packages)) else "-"
    platform = f"linux/{ARCHITECTURES[settings.image.platform]}"
    lines = [f"# The packages of {lock.path.name} for {settings.image.platform}, each by its sha256."]
    if where == "FOLDER":
        lines.append("# FOLDER is that of the channel on the machine where the lock was made.")
        lines.append(f"#   docker build --platform {platform} --tag NAME --file Dockerfile FOLDER")
    else:
        lines.append(f"#   docker build --platform {platform} --tag NAME - < Dockerfile")
    return "\n".join(lines)


def _installer(packages: Sequence[Package], conda: Iterable[Package]) -> str:
    """The stage that links the conda packages; what it needs for that is not in the image."""
    addresses = ["@EXPLICIT", *(f"{_address(each)}#{each.sha256}" for each in conda)]
    folders: dict[str, list[str]] = {}
    for place in sorted(_place(each) for each in packages if _local(each)):
        folders.setdefault(place.rpartition("/")[0], []).append(place)
    return "\n".join(
        [
            "FROM ${INSTALLER} AS installer",
            "USER root",
            *(_continued("COPY", [*places, f"{_FILES}/{folder}/"]) for folder, places in folders.items()),
            _run([_lines(addresses, "/tmp/explicit.txt")]),  # noqa: S108
            f"RUN micromamba create --yes --prefix {PREFIX} --file /tmp/explicit.txt",
        ]
    )


def _pip(wheels: Iterable[Package]) -> str:
    """Wheels, by a pip of their own: the environment need not have one."""
    lines = [f"{each.name} @ {_address(each)} --hash=sha256:{each.sha256}" for each in wheels]
    python = f"{PREFIX}/bin/python"
    install = f"/tmp/pip/bin/pip --python {python} install --no-cache-dir --no-deps --require-hashes"  # noqa: S108
    commands = [f"{python} -m venv /tmp/pip", f"{install} --requirement /tmp/requirements.txt"]
    return _run([_lines(lines, "/tmp/requirements.txt"), *commands])  # noqa: S108


def _bytecode() -> str:
    """Some sources are of newer syntax, or templates; those stay without a .pyc."""
    compiled = f"{PREFIX}/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash {PREFIX}/lib"
    return f"RUN {compiled} > /dev/null || true"


def _final(debian: Sequence[str]) -> str:
    variables = [f"{name}={shlex.quote(value)}" for name, value in sorted(build.ENVIRONMENT.items())]
    install = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"
    return "\n".join(
        [
            "FROM ${BASE}",
            _run(["apt-get update", f"{install} {' '.join(debian)}", "rm -rf /var/lib/apt/lists/*"]),
            f"COPY --from=installer {PREFIX} {PREFIX}",
            _continued("ENV", variables),
            'CMD ["/bin/bash"]',
        ]
    )


def _local(package: Package) -> bool:
    return urlsplit(package.url).scheme == "file"


def _place(package: Package) -> str:
    """Where a package lies in its channel: linux-64/NAME."""
    return str(PurePosixPath(*PurePosixPath(unquote(urlsplit(package.url).path)).parts[-2:]))


def _address(package: Package) -> str:
    """Where the build finds the package; a password in an address does not go into a Dockerfile."""
    return f"file://{_FILES}/{_place(package)}" if _local(package) else public(package.url)


def _lines(lines: Iterable[str], path: str) -> str:
    """A command that writes a file; the oldest builders know no here-documents."""
    return _continued("printf '%s\\n'", [*map(shlex.quote, lines), f"> {path}"])


def _run(commands: Iterable[str]) -> str:
    return "RUN " + " \\\n && ".join(commands)


def _continued(head: str, words: Iterable[str]) -> str:
    return f"{head} " + " \\\n      ".join(words)
