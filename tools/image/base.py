"""The base of the image, as layers: of docker/Dockerfile through the engine, or of its stand-in.

A project that has no docker/ of its own uses the toolkit's.

Layers are kept as uncompressed tars in .parity/cache/base/KEY/, KEY being a hash of what they are made from, so that
nothing is built and neither engine nor network is asked while docker/ stays as it is.

Which one it is: a cached base of the Dockerfile is used as it is. A cached stand-in is used without asking again for
TRUST_SECONDS, since asking a network that swallows packets takes offline.PROBE_SECONDS and `make image` is to take less
when nothing changed; after that the registry is asked, and if it answers, the real base takes the stand-in's place.
PARITY_OFFLINE=never asks at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import engine, files, offline, progress, project
from ..errors import ImageError, ParityError
from ..offline import StandIn
from ..offline import base as offline_base
from ..settings import Settings
from . import saved, upstream
from .archive import Layer

if TYPE_CHECKING:
    import docker

FORMAT = 1  # of the cache and of what is done to the layers
TRUST_SECONDS = 3600.0
LOG_LINES = 8
COMMENT = "Debian packages of docker/packages.txt"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Base:
    """The lowest layers of an image, bottom first."""

    layers: tuple[Layer, ...]
    stand_ins: tuple[StandIn, ...]


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What a base is made from, and where what is made is kept."""

    dockerfile: Path
    packages: Path
    platform: str
    cache: Path

    @property
    def reference(self) -> str:
        """The image that the Dockerfile starts from."""
        found = re.findall(r"(?mi)^FROM\s+(?:--\S+\s+)*(\S+)", self.dockerfile.read_text(encoding="utf-8"))
        if len(found) != 1:
            raise ImageError(f"{self.dockerfile}: {len(found)} FROM lines", expected="one FROM line: FROM IMAGE")
        return str(found[0])

    def names(self) -> tuple[str, ...]:
        """The packages of packages.txt, without its comments."""
        lines = self.packages.read_text(encoding="utf-8").splitlines()
        return tuple(name for line in lines for name in line.partition("#")[0].split())

    def kept(self, kind: str) -> Path:
        """The folder of a finished base; kind: "image" or "stand-in"."""
        # comments in packages.txt change nothing, and a stand-in knows no Dockerfile
        made_from = [self.dockerfile.read_text(encoding="utf-8")] if kind == "image" else [offline_base.FORMAT]
        content = json.dumps([FORMAT, kind, self.platform, self.names(), *made_from])
        return self.cache / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def get(settings: Settings, *, client: docker.DockerClient | None) -> Base:
    """The base of the project's images; `client` is asked only for what is not in the cache.

    Errors: OfflineError where no registry can be reached and its stand-in is refused or cannot be made, ImageError
    where the Dockerfile does not build.
    """
    recipe = _recipe(settings)
    image, stand_in = recipe.kept("image"), recipe.kept("stand-in")
    kept = _read(image)
    if kept and offline.policy() != "always":
        return kept
    with files.disk_errors(settings.cache, "make room, then try again"):
        return _make(recipe, image, stand_in, client)


def reference(settings: Settings) -> str:
    """The image that docker/Dockerfile starts from, as it names it."""
    return _recipe(settings).reference


def packages(settings: Settings) -> tuple[str, ...]:
    """The Debian packages of docker/packages.txt."""
    return _recipe(settings).names()


def _recipe(settings: Settings) -> _Recipe:
    own, toolkits = settings.root / "docker", project.TOOLKIT / "docker"
    folder = toolkits if toolkits.is_dir() and not own.is_dir() else own
    for path in (folder / "Dockerfile", folder / "packages.txt"):
        if not path.is_file():
            raise ImageError(f"no {path}", expected="the base of the image", command="git checkout docker")
    return _Recipe(
        dockerfile=folder / "Dockerfile",
        packages=folder / "packages.txt",
        platform=settings.image.platform,
        cache=settings.cache / "base",
    )


def _make(recipe: _Recipe, image: Path, stand_in: Path, client: docker.DockerClient | None) -> Base:
    import filelock

    recipe.cache.mkdir(parents=True, exist_ok=True)
    asked = recipe.cache / "registry-asked"

    def reached() -> bool:
        if _read(stand_in) and offline.policy() == "auto" and _young(asked):
            return False
        answered = client is not None and upstream.has_or_reaches(client, recipe.reference)
        if not answered:
            asked.touch()
        return answered

    if offline.needed(offline.BASE, reached) or client is None:
        with filelock.FileLock(f"{stand_in}.lock"):
            _sweep(stand_in)
            return _read(stand_in) or _stand_in(recipe, stand_in)
    with filelock.FileLock(f"{image}.lock"):
        _sweep(image)
        return _read(image) or _build(recipe, image, client)


def _sweep(folder: Path) -> None:
    """What a killed one left half done; we hold the lock, so nobody is at it."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


def _young(stamp: Path) -> bool:
    try:
        return 0 <= time.time() - stamp.stat().st_mtime < TRUST_SECONDS
    except OSError:
        return False


def _stand_in(recipe: _Recipe, folder: Path) -> Base:
    with files.directory_written_whole(folder) as work:
        tar = work / "base.tar"
        offline_base.make(recipe.names(), tar, platform=recipe.platform)
        digest = files.sha256(tar)
        tar.rename(work / f"{digest}.tar")
        size = (work / f"{digest}.tar").stat().st_size
        _write(work, [saved.Tar(sha256=digest, size=size)], [f"{COMMENT}, by mmdebstrap"], offline.BASE)
    return _written(folder)


def _build(recipe: _Recipe, folder: Path, client: docker.DockerClient) -> Base:
    """The Dockerfile's image, its layers taken out of the engine and made independent of when they were built."""
    log.info("Building the base of the image from %s", recipe.dockerfile)
    tag = f"parity-base:{folder.name}"
    with files.directory_written_whole(folder) as work:
        archive = work / "image.tar"
        try:
            _run_build(recipe, client, tag)
            with engine.errors("taking the base out of the engine"):
                below = len(client.images.get(recipe.reference).attrs["RootFS"]["Layers"])
                _save(client, tag, archive)
        finally:
            _untag(client, tag)
        tars = list(saved.unpack(archive, work, architecture=offline_base.ARCHITECTURES[recipe.platform]).layers)
        archive.unlink()
        # what the Dockerfile adds carries the time of the build; what it starts from stays as it was published
        tars = [*tars[:below], *(saved.normalise(tar, work) for tar in tars[below:])]
        for path in set(work.glob("*.tar")) - {work / f"{tar.sha256}.tar" for tar in tars}:
            path.unlink()
        _write(work, tars, [recipe.reference] * below + [COMMENT] * (len(tars) - below), None)
    return _written(folder)


def _run_build(recipe: _Recipe, client: docker.DockerClient, tag: str) -> None:
    platform = f"linux/{offline_base.ARCHITECTURES[recipe.platform]}"
    log.debug("docker build --platform %s --tag %s %s", platform, tag, recipe.dockerfile.parent)
    lines: list[str] = []
    with engine.errors("building the base"), progress.task("Building the base", unit="lines") as task:
        events = client.api.build(
            fileobj=_context(recipe),
            custom_context=True,
            tag=tag,
            platform=platform,
            rm=True,
            forcerm=True,
            decode=True,
        )
        for event in events:
            for line in str(event.get("stream") or event.get("error") or "").splitlines():
                lines.append(line)
                log.debug("%s", line)
                task.advance()
            if "error" in event:
                raise _failed(recipe, lines)


def _context(recipe: _Recipe) -> io.BytesIO:
    """The two files, with the mode that COPY hands on the same on every checkout."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path in (recipe.dockerfile, recipe.packages):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    return context


def _failed(recipe: _Recipe, lines: list[str]) -> ParityError:
    if "no space left on device" in lines[-1].lower():
        return engine.refusal("building the base", lines[-1])
    last = [line for line in lines if line.strip()][-LOG_LINES:]
    return ImageError(
        "\n".join([f"{recipe.dockerfile} does not build; its last lines:", *last]),
        command=f"mend it, or use the stand-in: {offline.VARIABLE}=always make image",
    )


def _save(client: docker.DockerClient, tag: str, archive: Path) -> None:
    log.debug("docker save --output %s %s", archive, tag)
    size = client.images.get(tag).attrs["Size"]
    with archive.open("wb") as file, progress.task("Taking out the base", size, "bytes") as task:
        for chunk in client.api.get_image(tag):
            file.write(chunk)
            task.advance(len(chunk))


def _untag(client: docker.DockerClient, tag: str) -> None:
    """The engine keeps the image that the Dockerfile starts from, and no other trace."""
    from docker.errors import DockerException

    try:
        client.api.remove_image(tag)
    except (DockerException, OSError) as error:
        log.debug("docker rmi %s: %s", tag, error)


def _write(folder: Path, tars: list[saved.Tar], comments: list[str], stand_in: StandIn | None) -> None:
    layers = [
        {"sha256": tar.sha256, "size": tar.size, "comment": comment}
        for tar, comment in zip(tars, comments, strict=True)
    ]
    note = {"layers": layers, "stand_in": stand_in is not None}
    (folder / "base.json").write_text(json.dumps(note, indent=1), encoding="utf-8")


def _read(folder: Path) -> Base | None:
    """A finished base, if it is there in full; the folder appeared as a whole, so sizes are proof enough."""
    try:
        note = json.loads((folder / "base.json").read_text(encoding="utf-8"))
        layers = tuple(_layers(folder, note["layers"]))
        stand_ins = (offline.BASE,) if note["stand_in"] else ()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Base(layers=layers, stand_ins=stand_ins)


def _layers(folder: Path, notes: list[dict[str, str | int]]) -> Iterator[Layer]:
    for note in notes:
        path = folder / f"{note['sha256']}.tar"
        if path.stat().st_size != note["size"]:
            raise ValueError(f"{path} is not whole")
        yield Layer(diff_id=f"sha256:{note['sha256']}", path=path, size=int(note["size"]), comment=str(note["comment"]))


def _written(folder: Path) -> Base:
    base = _read(folder)
    if base is None:
        raise ImageError(f"{folder} cannot be read back", command="try again")
    return base
