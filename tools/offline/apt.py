"""Debian packages of one release, fetched and verified by apt in folders of its own; what is installed here stays.

The mirrors are those that apt is configured for: it works on a Debian of any release, for any architecture and user.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import OfflineError

# Suites that name Debian's own archive, and no other distribution's.
_SUITES = r"(bullseye|bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable)"
_ARCHIVE = re.compile(rf"'(?P<mirror>[^']+?)/?/dists/{_SUITES}(?P<security>-security)?/InRelease'")
_KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("gpg", "pgp"))
_SECONDS = 300.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """Addresses of Debian's archive and of its security updates, as apt's configuration has them."""

    archive: tuple[str, ...]
    security: tuple[str, ...]


def mirrors() -> Mirrors:
    """Debian's mirrors in apt's configuration. Errors: OfflineError where there is none."""
    if shutil.which("apt-get") is None:
        raise OfflineError("no apt-get on this machine", expected="Debian, or a machine that reaches the real service")
    with tempfile.TemporaryDirectory(prefix="parity-apt-") as folder:
        # Without lists of its own, apt says which it would fetch first: one for each configured suite of each mirror.
        asked = _apt_get(_configured(Path(folder), sources=None, architecture=None), "update", "--print-uris")
    found = [(match["mirror"], bool(match["security"])) for match in _ARCHIVE.finditer(asked)]
    archive = tuple(dict.fromkeys(mirror for mirror, security in found if not security))
    if not archive:
        raise OfflineError(
            "apt on this machine is configured for no mirror of Debian",
            expected="Debian, or an entry for Debian in /etc/apt/sources.list.d, with its keyring",
        )
    return Mirrors(archive=archive, security=tuple(dict.fromkeys(mirror for mirror, security in found if security)))


def download(packages: Sequence[str], folder: Path, *, release: str, architecture: str) -> list[Path]:
    """The newest .deb of each package in a release ("bookworm"), into `folder`, in the packages' order.

    architecture: Debian's name of it, "amd64". apt verifies the release's signature and the hashes of the files.
    Errors: OfflineError with apt's own words.
    """
    where = mirrors()
    sources = "\n".join(
        [
            *(_source(mirror, release, architecture) for mirror in where.archive),
            *(_source(mirror, f"{release}-security", architecture) for mirror in where.security),
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="parity-apt-") as private:
        configuration = _configured(Path(private), sources=sources, architecture=architecture)
        updated = _apt_get(configuration, "update", check=False)
        try:
            _apt_get(configuration, "--quiet", "--quiet", "download", *packages, folder=folder)
        except OfflineError as error:
            raise OfflineError(f"{error.found}\n{updated.strip()}", expected=error.expected) from error
    return [next(folder.glob(f"{package}_*.deb")) for package in packages]


def _source(mirror: str, suite: str, architecture: str) -> str:
    """One entry in sources.list(5)'s deb822 style."""
    keyring = next((path for path in _KEYRINGS if path.exists()), None)
    signed_by = f"Signed-By: {keyring}\n" if keyring else ""
    return (
        f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nArchitectures: {architecture}\n"
        f"Targets: Packages\n{signed_by}"
    )


def _configured(folder: Path, *, sources: str | None, architecture: str | None) -> Path:
    """An apt.conf that keeps all of apt's state in `folder`; sources None: those of this machine."""
    for name in ("state/lists/partial", "cache/archives/partial", "sources.list.d"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    lines = [
        f'Dir::State "{folder}/state";',
        f'Dir::State::status "{folder}/status";',
        f'Dir::Cache "{folder}/cache";',
        "#clear APT::Update;",  # hooks that want to be root
        "#clear APT::Default-Release;",
        'Acquire::Languages "none";',
        'Acquire::Retries "3";',
        f'APT::Sandbox::User "{"root" if os.geteuid() == 0 else ""}";',  # _apt cannot enter a private folder
    ]
    if sources is not None:
        (folder / "sources.list.d" / "debian.sources").write_text(sources, encoding="utf-8")
        lines += [
            'Dir::Etc::sourcelist "/dev/null";',
            f'Dir::Etc::sourceparts "{folder}/sources.list.d";',
            'Dir::Etc::preferences "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
        ]
    if architecture is not None:
        lines += [
            f'APT::Architecture "{architecture}";',
            "#clear APT::Architectures;",
            f'APT::Architectures {{ "{architecture}"; }};',
        ]
    configuration = folder / "apt.conf"
    configuration.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return configuration


def _apt_get(configuration: Path, *arguments: str, folder: Path | None = None, check: bool = True) -> str:
    """apt-get's output. Errors: OfflineError with its last lines."""
    command = ["apt-get", f"--config-file={configuration}", *arguments]
    log.debug("%s", shlex.join(command))
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise OfflineError(f"apt-get {arguments[0]} gave no end in {_SECONDS:.0f} s") from error
    if check and done.returncode != 0:
        raise OfflineError(
            "Debian's packages cannot be fetched: " + "\n".join(done.stdout.strip().splitlines()[-5:]),
            expected="a mirror of Debian that apt reaches (sudo apt-get update shows it)",
        )
    return done.stdout
