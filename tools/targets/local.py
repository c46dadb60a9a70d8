"""The local target: a RunSpec in containers of this machine's engine, one for each node, with Azure ML's contract."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from .. import engine, files, processes
from ..errors import ImageError, ParityError
from ..runs import container as containers
from ..runs import launch, ranks
from ..runs import record as records
from ..runs.container import STOP_SECONDS
from ..runs.record import Record
from ..runs.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

    import docker
    from docker.models.containers import Container

RUN = "parity.run"  # the label that names a container's run
OWNER = "parity.owner"  # the label that names the process that follows it
OUT_OF_MEMORY = "out of memory: the system ended a process; lower what it keeps in memory, such as its batch size"

log = logging.getLogger(__name__)


Show = Callable[[bytes], None]
Watch = Callable[[Callable[[], bytes]], AbstractContextManager[None]]


def run(client: docker.DockerClient, spec: RunSpec, runs: Path, *, show: Show, watch: Watch | None = None) -> Record:
    """Runs the spec to its end; `show` gets the output as it comes. The record says how it ended.

    watch: is entered while the command runs, with a function that reads the metrics so far.

    A command that fails is a record with its exit code, not an error; of several nodes, the first that fails ends the
    others. KeyboardInterrupt cancels the run: its containers are stopped and removed, what they wrote is collected, and
    the record is returned as canceled. A second one goes away at once; the next run collects what is left.
    """
    with engine.errors("asking for its version"):
        version = client.version()
    record = records.create(runs, spec, target="local", host={"engine": version.get("Version", "unknown")})
    try:
        nodes = _create(client, spec, record)
    except BaseException as error:
        record.write(status="failed", ended=records.now(), error=str(error) or type(error).__name__)
        _remove(client, record.id)
        raise
    try:
        record = _follow(nodes, record, show, watch)
    except KeyboardInterrupt:
        log.warning("Left at once: the next run ends it and collects its outputs")
        raise
    except BaseException:
        _remove(client, record.id)
        raise
    _remove(client, record.id)
    return record


def recover(client: docker.DockerClient, runs: Path) -> None:
    """Ends what a killed tool left running: its containers are removed, and what they wrote is collected."""
    with engine.errors("ending an interrupted run"):
        left = client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)
        labels = [each.labels for each in left]
        labels += [each.attrs["Labels"] for each in client.networks.list(filters={"label": OWNER})]
        for run_id, owner in sorted({(each[RUN], each[OWNER]) for each in labels}):
            folder = runs / run_id
            if not folder.is_dir() or processes.alive(owner):
                continue
            log.warning("Run %s was interrupted; its container is removed, its outputs are kept", run_id)
            nodes = sorted((each for each in left if each.labels[RUN] == run_id), key=lambda each: str(each.name))
            _stop(nodes)
            record = records.read(folder)
            _collect(nodes, record)
            record.write(status="interrupted", ended=records.now())
            _remove(client, run_id)


def _create(client: docker.DockerClient, spec: RunSpec, record: Record) -> list[Container]:
    """The containers of all nodes, not started. Several have a network of their own, where names are addresses."""
    from docker.errors import ImageNotFound

    labels = {RUN: record.id, OWNER: processes.this()}
    number = spec.resources.nodes
    network = f"parity-{record.id}" if number > 1 else "bridge"
    made = []
    with engine.errors("making the container"):
        if number > 1:
            log.debug("docker network create %s", network)
            client.networks.create(network, driver="bridge", labels=labels)
        for node in range(number):
            plan = _plan(spec, record, node, network=network, labels=labels)
            log.debug("%s", containers.equal_command(plan, spec.image.reference))
            try:
                made.append(containers.create(client, plan))
            except ImageNotFound as error:
                raise ImageError(f"the engine does not have {spec.image.reference}", command="make image") from error
    return made


def _plan(spec: RunSpec, record: Record, node: int, *, network: str, labels: dict[str, str]) -> containers.Plan:
    names = [each.name for each in spec.inputs]
    contract, nodes = record.contract, spec.resources.nodes
    hosts = [f"parity-{record.id}-{each}" for each in range(nodes)] if nodes > 1 else [f"parity-{record.id}"]
    found = {**contract.of_node(node, nodes, hosts[0]), **contract.of_process(node)} if nodes > 1 else {}
    return containers.Plan(
        name=hosts[node],
        image=spec.image.id,
        contract=contract,
        command=spec.line,
        # one node alone: what it removes would come back with the others' outputs
        files=[*_snapshot(spec), *(_start(spec) if node == 0 else ())],
        mounts={contract.input_path(each.name): each.path for each in spec.inputs},
        variables={**contract.variables(names), **found, **spec.variables},
        shm_bytes=spec.resources.shm_bytes,
        gpu=spec.resources.gpu,
        labels=labels,
        network=network,
    )


def _snapshot(spec: RunSpec) -> Iterator[containers.File]:
    for file in spec.snapshot.files:
        location = spec.snapshot.source / file.path
        yield containers.File(path=file.path, size=file.size, location=location, sha256=file.sha256)


def _start(spec: RunSpec) -> Iterator[containers.File]:
    if spec.start is None:
        return
    for path, sha256 in spec.start.files:
        location = spec.start.folder / path
        yield containers.File(path=f"outputs/{path}", size=location.stat().st_size, location=location, sha256=sha256)


def _follow(nodes: Sequence[Container], record: Record, show: Show, watch: Watch | None) -> Record:
    def metrics() -> bytes:
        return containers.read(nodes[0], f"{record.contract.working_directory}/outputs/{records.METRICS}")

    try:
        with engine.errors("running the container"), contextlib.ExitStack() as stack:
            output = _Output(record, len(nodes), show, stack)
            running = _Running(nodes, record.ingredients["resources"]["processes"])
            record = record.write(status="running", started=records.now())
            try:
                running.start()
                with watch(metrics) if watch else contextlib.nullcontext():
                    first = running.follow(output)
                record = record.write(status="failed" if first else "completed", exit_code=first.code if first else 0)
            except KeyboardInterrupt:
                log.warning("Stopping the run (its outputs are kept)")
                running.stop()
                running.follow(output, patience=STOP_SECONDS)  # one that was not started yet has no end
                record, first = record.write(status="canceled"), None
    except BaseException as error:
        record.write(status="interrupted", ended=records.now(), error=str(error) or type(error).__name__)
        raise
    with engine.errors("collecting outputs"):
        _collect(nodes, record)
        if first:
            record = _explained(record, first, nodes)
    return record.write(ended=records.now())


def _explained(record: Record, first: ranks.Failure, nodes: Sequence[Container]) -> Record:
    """The record with why it failed, as far as that is known; of several processes, with the first one's code."""
    several = launch.shape(record.ingredients["resources"])
    failure = ranks.failure(record.folder, record.ingredients["resources"]["processes"]) if several else None
    failure = failure or first
    container = nodes[failure.node]
    container.reload()
    reason = OUT_OF_MEMORY if container.attrs["State"]["OOMKilled"] else None
    error = ranks.told(record.folder, failure, reason) if several else reason
    return record.write(exit_code=failure.code, error=error)


class _Output:
    """What the nodes print: together in stdout.log and on the screen, and of several also each in a log of its own."""

    def __init__(self, record: Record, nodes: int, show: Show, stack: contextlib.ExitStack) -> None:
        """stack: closes the files."""
        self.show = show
        self.together = stack.enter_context(record.log.open("wb"))
        self.own: list[tuple[IO[bytes], ranks.Lines]] = []
        for node in range(nodes) if nodes > 1 else ():
            path = record.folder / ranks.node_log(node)
            path.parent.mkdir(exist_ok=True)
            self.own.append((stack.enter_context(path.open("wb")), ranks.Lines(node)))

    def write(self, node: int, piece: bytes) -> None:
        """The next piece of what a node prints; b"" is its end."""
        if self.own:
            file, lines = self.own[node]
            file.write(piece)
            file.flush()
            piece = lines(piece) if piece else lines.end()
        if piece:
            self.together.write(piece)
            self.together.flush()
            self.show(piece)


class _Running:
    """The containers of a run while they run: a thread reads what each of them prints."""

    def __init__(self, nodes: Sequence[Container], processes: int) -> None:
        """Nothing is started yet. processes: on each node."""
        self.nodes, self.processes = nodes, processes
        self.left = len(nodes)
        # of each node, what it prints, and at its end its exit code or why it could not be followed
        self.said: queue.Queue[tuple[int, bytes | int | Exception]] = queue.Queue()

    def start(self) -> None:
        """Starts all of them; what they print is read from its first byte."""
        for node, container in enumerate(self.nodes):
            stream = container.attach(stream=True, stdout=True, stderr=True, logs=True)
            threading.Thread(target=self._read, args=(node, stream), name=f"node-{node}", daemon=True).start()
        for container in self.nodes:
            container.start()

    def follow(self, output: _Output, *, patience: float | None = None) -> ranks.Failure | None:
        """Passes on what they print until all have ended; the first that failed, which ends the others.

        After an interrupt it may be called again, for the rest. patience: seconds without a word, after which it is
        left.
        """
        first, stopping = None, None
        while self.left:
            try:
                node, said = self.said.get(timeout=patience)
            except queue.Empty:
                break
            if isinstance(said, bytes):
                output.write(node, said)
            elif isinstance(said, Exception):
                raise said
            else:
                output.write(node, b"")
                self.left -= 1
                if said and first is None:
                    first = ranks.Failure(node=node, rank=node * self.processes, code=said)
                    if self.left:
                        stopping = threading.Thread(target=self._stop_quietly, name="stop")
                        stopping.start()
        if stopping:
            stopping.join()
        return first

    def stop(self) -> None:
        """Ends all of them."""
        _stop(self.nodes)

    def _stop_quietly(self) -> None:
        with contextlib.suppress(ParityError):  # whatever is left is removed in the end
            self.stop()

    def _read(self, node: int, stream: IO[bytes]) -> None:
        try:
            for piece in stream:
                self.said.put((node, piece))
            self.said.put((node, int(self.nodes[node].wait()["StatusCode"])))
        except Exception as error:
            self.said.put((node, error))


def _stop(nodes: Sequence[Container]) -> None:
    """SIGTERM, and SIGKILL to what is left after STOP_SECONDS."""
    with engine.errors("stopping the container"), ThreadPoolExecutor(len(nodes) or 1) as pool:
        list(pool.map(lambda container: container.stop(timeout=STOP_SECONDS), nodes))


def _collect(nodes: Sequence[Container], record: Record) -> None:
    """What the nodes wrote; the first one has the last word."""
    with files.disk_errors(record.folder, "make room; the run's record says what it was"):
        for container in reversed(nodes):
            containers.collect(container, record.contract, record.folder)
        records.keep(record)


def _remove(client: docker.DockerClient, run_id: str) -> None:
    """Takes what the run has out of the engine."""
    ours = f"{RUN}={run_id}"
    with engine.errors("removing the container"):
        for container in client.containers.list(all=True, filters={"label": ours}, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in client.networks.list(filters={"label": ours}):
            network.remove()
