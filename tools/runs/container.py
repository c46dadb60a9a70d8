"""A container by the contract, on this machine's engine: how every target that runs one here makes and collects it.

The working directory is a copy of the snapshot inside the container, not a mount: a file that an ignore rule drops is
missing here too, nothing the script does reaches the source directory, and what is collected belongs to the caller.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import RunError
from .contract import COLLECTED, SHELL, Contract

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

STOP_SECONDS = 5  # from SIGTERM to SIGKILL; with the rest, a run that is interrupted is gone within 10 s

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the working copy. path: in it; location: here; sha256: what it must be, if that is known."""

    path: str
    size: int
    location: Path
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A container before it is made. image: its id; mounts: folders here by their path in the container, read-only.

    variables: those of the contract and the run's own; extras: contents by path in the container, beside the working
    copy; options: what else the engine's create call takes (docker-py's names).
    """

    name: str
    image: str
    contract: Contract
    command: str
    files: Sequence[File]
    mounts: Mapping[str, Path]
    variables: Mapping[str, str] = field(repr=False)
    shm_bytes: int
    gpu: bool
    labels: Mapping[str, str]
    network: str = "bridge"
    extras: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)


def create(client: docker.DockerClient, plan: Plan) -> Container:
    """The container, with its working copy, not started. ImageNotFound and other words of the engine pass through."""
    from docker.types import DeviceRequest, Mount

    options: dict[str, Any] = {
        "entrypoint": list(SHELL),
        "command": [plan.command],
        "working_dir": plan.contract.working_directory,
        "user": "0:0",
        "environment": dict(plan.variables),
        "mounts": [Mount(target, str(source), type="bind", read_only=True) for target, source in plan.mounts.items()],
        "shm_size": plan.shm_bytes,
        "labels": dict(plan.labels),
        "name": plan.name,
        "network_mode": plan.network,
        **plan.options,
    }
    if plan.gpu:
        options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    container = client.containers.create(plan.image, **options)
    try:
        container.put_archive("/", _content(plan))
    except BaseException:
        container.remove(force=True, v=True)
        raise
    return container


def collect(container: Container, contract: Contract, folder: Path, *, what: Sequence[str] = COLLECTED) -> None:
    """Copies these folders of the working directory into `folder`; one that the script removed is left out."""
    for name in what:
        copy(container, f"{contract.working_directory}/{name}", folder)


def copy(container: Container, path: str, folder: Path) -> None:
    """Copies a file or folder of the container into `folder`, if it is there; what is neither is left out, and said."""
    from docker.errors import NotFound

    try:
        stream, _ = container.get_archive(path, chunk_size=files.CHUNK)
    except NotFound:
        return
    with tarfile.open(fileobj=_Stream(stream), mode="r|", bufsize=files.CHUNK) as tar:
        for name in files.extract(tar, folder):
            log.warning("%s was not collected: it is no plain file, or lies outside of %s/", name, Path(path).name)


def read(container: Container, path: str) -> bytes:
    """The content of a file of the container, as far as it is written; b"" if it is not there."""
    from docker.errors import NotFound

    try:
        stream, _ = container.get_archive(path, chunk_size=files.CHUNK)
    except NotFound:
        return b""
    with tarfile.open(fileobj=_Stream(stream), mode="r|", bufsize=files.CHUNK) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isreg() else None
            return source.read() if source else b""
    return b""


def equal_command(plan: Plan, reference: str) -> str:
    """What a person would type; the values of variables stay out, since they may be secrets."""
    words = ["docker", "run", "--rm", "--user", "0:0", "--workdir", plan.contract.working_directory]
    words += ["--shm-size", str(plan.shm_bytes), "--entrypoint", SHELL[0]]
    if plan.network != "bridge":
        words += ["--network", plan.network, "--name", plan.name]
    for name in plan.variables:
        words += ["--env", name]
    for target, source in plan.mounts.items():
        words += ["--mount", f"type=bind,source={source},target={target},readonly"]
    if plan.gpu:
        words += ["--gpus", "all"]
    return shlex.join([*words, reference, *SHELL[1:], plan.command])


def _content(plan: Plan) -> Iterator[bytes]:
    """The working copy as a tar of absolute paths, file by file; no executable bits, since Azure ML keeps none."""
    directory = plan.contract.working_directory
    for folder in COLLECTED:
        yield _entry(f"{directory}/{folder}", tarfile.DIRTYPE, 0o755, 0)
    for file in plan.files:
        content = file.location.read_bytes()
        changed = file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256
        if changed or len(content) != file.size:
            raise RunError(f"{file.location} changed while the run was prepared", command="try again")
        yield from _file(f"{directory}/{file.path}", content)
    for path, content in plan.extras.items():
        yield from _file(path, content)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield _entry(name, tarfile.REGTYPE, 0o644, len(content))
    yield content
    yield bytes(-len(content) % tarfile.BLOCKSIZE)


def _entry(name: str, kind: bytes, mode: int, size: int) -> bytes:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry.tobuf(tarfile.PAX_FORMAT)


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes; fewer at the end only."""
        parts, have = [self.rest], len(self.rest)
        while (size < 0 or have < size) and (piece := next(self.pieces, None)) is not None:
            parts.append(piece)
            have += len(piece)
        content = b"".join(parts)
        cut = have if size < 0 else size
        self.rest = content[cut:]
        return content[:cut]
