"""The local target: a RunSpec in a container of this machine's engine, with Azure ML's contract."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import engine, files, processes
from ..errors import ImageError
from ..runs import container as containers
from ..runs import record as records
from ..runs.container import STOP_SECONDS
from ..runs.record import Record
from ..runs.spec import RunSpec

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

RUN = "parity.run"  # the label that names a container's run
OWNER = "parity.owner"  # the label that names the process that follows it

log = logging.getLogger(__name__)


Watch = Callable[[Callable[[], bytes]], AbstractContextManager[None]]


def run(
    client: docker.DockerClient, spec: RunSpec, runs: Path, *, show: Callable[[bytes], None], watch: Watch | None = None
) -> Record:
    """Runs the spec to its end; `show` gets the output as it comes. The record says how it ended.

    watch: is entered while the command runs, with a function that reads the metrics so far.

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
        return _follow(container, record, show, watch)
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

    plan = _plan(spec, record)
    log.debug("%s", containers.equal_command(plan, spec.image.reference))
    with engine.errors("making the container"):
        try:
            return containers.create(client, plan)
        except ImageNotFound as error:
            raise ImageError(f"the engine does not have {spec.image.reference}", command="make image") from error


def _plan(spec: RunSpec, record: Record) -> containers.Plan:
    names = [each.name for each in spec.inputs]
    contract = record.contract
    return containers.Plan(
        name=f"parity-{record.id}",
        image=spec.image.id,
        contract=contract,
        command=spec.line,
        files=[
            containers.File(
                path=file.path, size=file.size, location=spec.snapshot.source / file.path, sha256=file.sha256
            )
            for file in spec.snapshot.files
        ],
        mounts={contract.input_path(each.name): each.path for each in spec.inputs},
        variables={**contract.variables(names), **spec.variables},
        shm_bytes=spec.resources.shm_bytes,
        gpu=spec.resources.gpu,
        labels={RUN: record.id, OWNER: processes.this()},
    )


def _follow(container: Container, record: Record, show: Callable[[bytes], None], watch: Watch | None) -> Record:
    def metrics() -> bytes:
        return containers.read(container, f"{record.contract.working_directory}/outputs/{records.METRICS}")

    try:
        with engine.errors("running the container"), record.log.open("wb") as log_file:
            output = container.attach(stream=True, stdout=True, stderr=True, logs=True)
            record = record.write(status="running", started=records.now())
            container.start()
            with watch(metrics) if watch else contextlib.nullcontext():
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


def _collect(container: Container, record: Record) -> None:
    with files.disk_errors(record.folder, "make room; the run's record says what it was"):
        containers.collect(container, record.contract, record.folder)
    records.keep(record)
