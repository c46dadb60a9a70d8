"""The local target: a RunSpec in a container of this machine's engine, with Azure ML's contract.

The working directory is a copy of the snapshot inside the container, not a mount: a file that an ignore rule drops is
missing here too, nothing the script does reaches the source directory, and what is collected belongs to the caller.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shlex
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import engine, files, processes
from ..errors import ImageError, RunError
from ..runs import record as records
from ..runs.contract import COLLECTED, SHELL
from ..runs.record import Record
from ..runs.spec import RunSpec
from ..snapshot import Snapshot

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

STOP_SECONDS = 5  # from SIGTERM to SIGKILL; with the rest, a run that is interrupted is gone within 10 s
RUN = "parity.run"  # the label that names a container's run
OWNER = "parity.owner"  # the label that names the process that follows it

log = logging.getLogger(__name__)


def run(client: docker.DockerClient, spec: RunSpec, runs: Path, *, show: Callable[[bytes], None]) -> Record:
    """Runs the spec to its end; `show` gets the output as it comes. The record says how it ended.

    A command that fails is a record with its exit code, not an error. KeyboardInterrupt cancels the run: its container
    is stopped and removed, what it wrote is collected, and the record is returned as canceled.
    """
    with engine.errors("asking for its version"):
        version = client.version()
    record = records.create(runs, spec, target="local", host={"engine": version.get("Version", "unknown")})
    try:
        container = _create(client, spec, record)
    except BaseException as error:
        record.write(status="failed", ended=records.now(), error=str(error) or type(error).__name__)
        raise
    try:
        return _follow(container, record, show)
    finally:
        with engine.errors("removing the container"):
            container.remove(force=True, v=True)


def recover(client: docker.DockerClient, runs: Path) -> None:
    """Ends what a killed tool left running: its containers are removed, and what they wrote is collected."""
    with engine.errors("ending an interrupted run"):
        for container in client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True):
            folder = runs / container.labels[RUN]
            if not folder.is_dir() or processes.alive(container.labels[OWNER]):
                continue
            log.warning("Run %s was interrupted; its container is removed, its outputs are kept", folder.name)
            container.stop(timeout=STOP_SECONDS)
            record = records.read(folder)
            _collect(container, record)
            record.write(status="interrupted", ended=records.now())
            container.remove(force=True, v=True)


def _create(client: docker.DockerClient, spec: RunSpec, record: Record) -> Container:
    from docker.errors import ImageNotFound
    from docker.types import DeviceRequest, Mount

    names = [each.name for each in spec.inputs]
    contract = record.contract
    command = contract.command(spec.command, names, spec.arguments)
    mounts = [
        Mount(contract.input_path(each.name), str(each.path), type="bind", read_only=True) for each in spec.inputs
    ]
    options: dict[str, Any] = {
        "entrypoint": list(SHELL),
        "command": [command],
        "working_dir": contract.working_directory,
        "user": "0:0",
        "environment": {**contract.variables(names), **spec.environment_variables},
        "mounts": mounts,
        "shm_size": spec.resources.shm_bytes,
        "labels": {RUN: record.id, OWNER: processes.this()},
        "name": f"parity-{record.id}",
        "network_mode": "bridge",
    }
    if spec.resources.gpu:
        options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    log.debug("%s", _equal_command(spec, options))
    with engine.errors("making the container"):
        try:
            container = client.containers.create(spec.image.id, **options)
        except ImageNotFound as error:
            raise ImageError(f"the engine does not have {spec.image.reference}", command="make image") from error
        try:
            container.put_archive("/", _working_copy(spec.snapshot, contract.working_directory))
        except BaseException:
            container.remove(force=True, v=True)
            raise
    return container


def _follow(container: Container, record: Record, show: Callable[[bytes], None]) -> Record:
    try:
        with engine.errors("running the container"), record.log.open("wb") as log_file:
            output = container.attach(stream=True, stdout=True, stderr=True, logs=True)
            record = record.write(status="running", started=records.now())
            container.start()
            for piece in output:
                log_file.write(piece)
                log_file.flush()
                show(piece)
            code = int(container.wait()["StatusCode"])
        record = record.write(status="completed" if code == 0 else "failed", exit_code=code)
    except KeyboardInterrupt:
        log.warning("Stopping the run (its outputs are kept)")
        with engine.errors("stopping the container"):
            container.stop(timeout=STOP_SECONDS)
        record = record.write(status="canceled")
    except BaseException as error:
        record.write(status="interrupted", ended=records.now(), error=str(error) or type(error).__name__)
        raise
    with engine.errors("collecting outputs"):
        _collect(container, record)
    return record.write(ended=records.now())


def _working_copy(snapshot: Snapshot, working_directory: str) -> Iterator[bytes]:
    """The snapshot as a tar of absolute paths, file by file; without executable bits, since Azure ML keeps none."""
    for folder in COLLECTED:
        yield _tar_entry(f"{working_directory}/{folder}", tarfile.DIRTYPE, 0o755).tobuf(tarfile.PAX_FORMAT)
    for file in snapshot.files:
        entry = _tar_entry(f"{working_directory}/{file.path}", tarfile.REGTYPE, 0o644)
        content = (snapshot.source / file.path).read_bytes()
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise RunError(f"{snapshot.source / file.path} changed while the run was prepared", command="try again")
        entry.size = file.size
        yield entry.tobuf(tarfile.PAX_FORMAT)
        yield content
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tar_entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode = kind, mode
    return entry


def _collect(container: Container, record: Record) -> None:
    from docker.errors import NotFound

    for folder in COLLECTED:
        try:
            stream, _ = container.get_archive(f"{record.contract.working_directory}/{folder}", chunk_size=files.CHUNK)
        except NotFound:  # the script removed it
            continue
        with (
            files.disk_errors(record.folder, "make room; the run's record says what it was"),
            tarfile.open(fileobj=_Stream(stream), mode="r|") as tar,
        ):
            for name in files.extract(tar, record.folder):
                log.warning("%s was not collected: it is no plain file, or lies outside of %s/", name, folder)
    records.keep_metrics(record)


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


def _equal_command(spec: RunSpec, options: dict[str, Any]) -> str:
    """What a person would type; the values of variables stay out, since they may be secrets."""
    words = ["docker", "run", "--rm", "--user", options["user"], "--workdir", options["working_dir"]]
    words += ["--shm-size", str(options["shm_size"]), "--entrypoint", options["entrypoint"][0]]
    for name in options["environment"]:
        words += ["--env", name]
    for mount in options["mounts"]:
        words += ["--mount", f"type=bind,source={mount['Source']},target={mount['Target']},readonly"]
    if spec.resources.gpu:
        words += ["--gpus", "all"]
    return shlex.join([*words, spec.image.reference, *options["entrypoint"][1:], *options["command"]])
