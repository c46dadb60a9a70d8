"""The containers of one job: each node is a pair, as in a pod.

A helper of the same image has the node's network and forwards the workspace's address to its socket; the job's own
container is in that network and made by the contract that every target keeps. Nodes of one job share a private network
of the engine. Labels tell whose a container is, so that it is found again whatever became of the service.
"""

from __future__ import annotations

import logging
import queue
import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import engine
from ..errors import EngineError, ImageError, RunError
from ..runs import container as containers
from ..runs.contract import SHELL, Contract
from . import labels, logs, variables
from .definition import DataReference, Definition
from .images import Image
from .runs import Run

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from .computes import Compute
    from .workspace import Workspace

INSIDE = Path(__file__).parent / "inside"
SOCKETS = "/run/parity-rehearsal"  # in the helper
# What the engine keeps of a container's output: enough to write the log anew, and no disk is filled by it
ENGINE_LOG = {"max-size": "1g", "max-file": "1"}
READY_SECONDS = 30.0  # for the helper to listen; 0.1 s is usual
LOST_SECONDS = 60.0  # in which an engine that went away may come back
TICK = 0.5
# For the image's own Python; an image without any has no SDK that would ask for the workspace
HELPER = (
    'for python in "$1" python3 python; do command -v "$python" > /dev/null && '
    'exec "$python" -I -S -c "$0" "$2" "$3"; done; echo none; exec sleep infinity'
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A job with all that it needs to start."""

    workspace: Workspace
    run: Run
    definition: Definition
    compute: Compute
    image: Image

    @property
    def contract(self) -> Contract:
        """Where the job finds its things."""
        return Contract(run_id=self.run.id, run_uuid=self.run.uuid)

    @property
    def artifacts(self) -> Path:
        """Where what it leaves is kept."""
        return self.workspace.artifacts.folder(self.run)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that ended. error: why it could not be followed."""

    node: int
    local: int
    code: int
    error: Exception | None = None


class Nodes:
    """The containers of one job, made here or found again."""

    def __init__(self, client: docker.DockerClient, assignment: Assignment) -> None:
        """Nothing is made yet."""
        self.client, self.assignment = client, assignment
        self.jobs: list[Container] = []
        self.ended: queue.Queue[Ended] = queue.Queue()
        self._pool = ThreadPoolExecutor(max_workers=2 * assignment.definition.nodes, thread_name_prefix="node")
        self._followers: list[threading.Thread] = []

    def create(self) -> None:
        """Makes all containers; the helpers run afterwards, the job's own do not. ParityError if the engine refuses."""
        nodes = range(self.assignment.definition.nodes)
        with engine.errors("making the job's containers"):
            network = self._network() if len(nodes) > 1 else "bridge"
            helpers = list(self._pool.map(lambda node: self._helper(node, network), nodes))
            if self.assignment.definition.distribution or len(nodes) > 1:  # addresses are known once they run
                list(self._pool.map(self._started, helpers))
                hosts = [_address(helper) for helper in helpers]
                self.jobs = list(self._pool.map(lambda node: self._job(node, helpers[node], hosts), nodes))
            else:
                starting = self._pool.submit(self._started, helpers[0])
                self.jobs = [self._job(0, helpers[0], ["127.0.0.1"])]
                starting.result()

    def find(self) -> bool:
        """Whether all of the job's containers are still there, from before a restart."""
        found = {int(each.labels[labels.NODE]): each for each in labels.containers(self.client, self._labels("job"))}
        self.jobs = [found[node] for node in sorted(found)]
        return len(self.jobs) == self.assignment.definition.nodes

    def start(self) -> None:
        """Starts the processes, those that do not run yet, and follows all of them. Their ends come on `ended`."""
        with engine.errors("starting the job's containers"):
            for container in self.jobs:
                if container.status == "created":
                    _start(container)
        definition = self.assignment.definition
        names = logs.names(definition.processes)
        for node, container in enumerate(self.jobs):
            own = names[node * definition.per_node : (node + 1) * definition.per_node]
            output = logs.Output([logs.Log(self.assignment.artifacts / name) for name in own])
            follower = threading.Thread(target=self._follow, args=(node, container, output), name=f"log-{node}")
            self._followers.append(follower)
            follower.start()

    def stop(self, seconds: int = containers.STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL to what is left after these seconds; then all output is there."""
        with engine.errors("stopping the job"):
            list(self._pool.map(lambda container: container.stop(timeout=seconds), self.jobs))
        self.join()

    def join(self) -> None:
        """Waits until all output is there."""
        for follower in self._followers:
            follower.join()

    def collect(self) -> None:
        """What the job left, as its artifacts and on the datastores that it uploads to; node 0 has the last word."""
        contract = self.assignment.contract
        with engine.errors("collecting outputs"):
            for container in reversed(self.jobs):
                containers.collect(container, contract, self.assignment.artifacts)
                for reference in self.assignment.definition.data:
                    if reference.mode == "upload":
                        folder = self._datastore(reference)
                        folder.mkdir(parents=True, exist_ok=True)
                        containers.copy(container, f"{_path(reference, contract)}/.", folder)

    def collect_logs(self) -> None:
        """What lies in logs/ so far; Azure ML shows that folder while a job runs."""
        with engine.errors("reading logs/"):
            containers.collect(self.jobs[0], self.assignment.contract, self.assignment.artifacts, what=["logs"])

    def log_name(self, ended: Ended) -> str:
        """The name of a process's log."""
        definition = self.assignment.definition
        return logs.names(definition.processes)[ended.node * definition.per_node + ended.local]

    def said(self, ended: Ended) -> str:
        """The last lines of what a process printed."""
        return logs.tail(self.assignment.artifacts / self.log_name(ended))

    def remove(self) -> None:
        """Takes all of it out of the engine."""
        self._pool.shutdown()
        labels.remove(self.client, self._labels())

    def _labels(self, part: str | None = None, node: int | None = None) -> dict[str, str]:
        return labels.of(self.assignment.workspace.identity.workspace_id, self.assignment.run.id, part, node)

    def _network(self) -> str:
        name = f"parity-{self.assignment.run.uuid}"
        self.client.networks.create(name, driver="bridge", labels=self._labels())
        return name

    def _helper(self, node: int, network: str) -> Container:
        from docker.types import Mount

        address = self.assignment.workspace.address
        source = (INSIDE / "forward.py").read_text(encoding="utf-8")
        interpreter = self.assignment.definition.environment.interpreter
        return self.client.containers.create(
            self.assignment.image.id,
            entrypoint=list(SHELL),
            command=[HELPER, source, interpreter, str(address.port), f"{SOCKETS}/{address.socket.name}"],
            user="0:0",
            working_dir="/",
            mounts=[Mount(SOCKETS, str(address.socket.parent), type="bind", read_only=True)],
            network_mode=network,
            labels=self._labels("helper", node),
            name=f"parity-{self.assignment.run.uuid}-{node}-network",
        )

    def _started(self, helper: Container) -> None:
        """Starts a helper and waits until it listens."""
        _start(helper)
        deadline = time.monotonic() + READY_SECONDS
        said = b""
        for piece in helper.logs(stream=True, follow=True):
            said += piece
            if said.strip() in (b"ready", b"none"):
                return
            if time.monotonic() > deadline:
                break
        words = said.decode(errors="replace").strip().splitlines()
        raise RunError(f"the job's network did not come up: {words[-1] if words else 'no word'}", command="make doctor")

    def _job(self, node: int, helper: Container, hosts: Sequence[str]) -> Container:
        from docker.types import LogConfig, Ulimit

        assignment, contract = self.assignment, self.assignment.contract
        definition = assignment.definition
        data = {each.name: _path(each, contract) for each in definition.data}
        of_job = variables.of_job(
            assignment.workspace, assignment.run, contract, image=assignment.image.variables, data=data
        )
        of_node = variables.of_node(assignment.compute, definition, variables.Place(node=node, hosts=hosts))
        own = {**definition.docker.variables, **definition.variables}
        processes = [variables.of_process(definition, node, local) for local in range(definition.per_node)]
        line = definition.line(data)
        options: dict[str, Any] = {
            "log_config": LogConfig(type="json-file", config=ENGINE_LOG),
            "ulimits": [Ulimit(name=name, soft=soft, hard=hard) for name, soft, hard in definition.docker.ulimits],
        }
        if definition.docker.host_ipc:
            options["ipc_mode"] = "host"
        plan = containers.Plan(
            name=f"parity-{assignment.run.uuid}-{node}",
            image=assignment.image.id,
            contract=contract,
            command=line if len(processes) == 1 else _several(line, processes),
            files=[
                containers.File(path=each.path, size=each.size, location=each.location)
                for each in assignment.workspace.snapshots.files(definition.snapshot or "")
            ],
            mounts={_path(each, contract): self._mounted(each) for each in definition.data if each.mode != "upload"},
            variables={**of_job, **of_node, **(processes[0] if len(processes) == 1 else {}), **own},
            shm_bytes=definition.docker.shm_bytes,
            gpu=definition.docker.gpus or assignment.compute.gpus > 0,
            labels=self._labels("job", node),
            network=f"container:{helper.id}",
            extras={
                variables.inside(contract, "authorities.pem"): _authorities(assignment.workspace.authority),
                variables.inside(contract, "python", "sitecustomize.py"): (INSIDE / "sitecustomize.py").read_bytes(),
            },
            options=options,
        )
        return containers.create(self.client, plan)

    def _datastore(self, reference: DataReference) -> Path:
        folder = self.assignment.workspace.datastores.folder(reference.datastore)
        if folder is None:
            raise RunError(f"data reference {reference.name}: no datastore {reference.datastore}")
        return folder / reference.path

    def _mounted(self, reference: DataReference) -> Path:
        path = self._datastore(reference)
        if not path.exists():
            if reference.path:
                raise RunError(f"data reference {reference.name}: {reference.datastore} has no {reference.path}")
            path.mkdir(parents=True)
        return path

    def _follow(self, node: int, container: Container, output: logs.Output) -> None:
        """Keeps what a node prints, to its end, and says how it ended; the engine may go away for a moment."""
        several = self.assignment.definition.per_node > 1
        reported: set[int] = set()
        try:
            for piece in _output(container, output):
                output.write(piece)
                while output.ended:
                    local, code = output.ended.popleft()
                    if local not in reported:
                        reported.add(local)
                        self.ended.put(Ended(node=node, local=local, code=code))
            code = int(container.wait()["StatusCode"])
        except Exception as error:
            log.warning("following %s", container.name, exc_info=True)
            self.ended.put(Ended(node=node, local=0, code=-1, error=error))
            return
        finally:
            output.close()
        for local in range(self.assignment.definition.per_node):  # in one container, those that were killed with it
            if not several or local not in reported:
                self.ended.put(Ended(node=node, local=local, code=code))


def _start(container: Container) -> None:
    from docker.errors import APIError

    try:
        container.start()
    except APIError as error:
        text = str(error.explanation)
        if "executable file not found" in text or "no such file or directory" in text:
            raise ImageError(
                f"the image has no {SHELL[0]}, by which Azure ML starts every command: {text.strip()}",
                command="add bash to the image",
            ) from error
        raise


def _address(helper: Container) -> str:
    helper.reload()
    (network,) = helper.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def _output(container: Container, output: logs.Output) -> Iterator[bytes]:
    """All that the container prints, from its first byte, until it has ended."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    lost = None
    while True:
        try:
            output.restart()
            yield from container.logs(stream=True, follow=True)
            container.reload()
            if container.status not in ("created", "running", "paused", "restarting"):
                return
            lost = None
        except (DockerException, RequestException, HTTPError, OSError) as error:
            # a silent job outlasts the client's patience, and an engine may be started anew
            lost = lost or time.monotonic()
            if time.monotonic() - lost > LOST_SECONDS:
                raise EngineError(f"the engine was lost: {error}", command="make doctor") from error
        time.sleep(TICK)


def _path(reference: DataReference, contract: Contract) -> str:
    """Where the script has a data reference."""
    wanted = reference.path_on_compute
    if not wanted:
        return contract.input_path(reference.name)
    return wanted.rstrip("/") if wanted.startswith("/") else f"{contract.working_directory}/{wanted.strip('/')}"


def _several(line: str, processes: Iterable[Mapping[str, str]]) -> str:
    """Several processes in one container: each line gets its process's number, each end a line of its own.

    SIGTERM goes on to the processes; what they still say then is kept.
    """
    parts = ["trap 'trap \"\" TERM; kill 0' TERM"]
    for number, own in enumerate(processes):
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in own.items())
        process = f"(export {exports}; exec {SHELL[0]} {SHELL[1]} {shlex.quote(line)}) 2>&1"
        numbered = f"(trap '' TERM; exec sed -u 's/^/{number} /')"
        told = f"code=${{PIPESTATUS[0]}}; printf '\\n= {number} %d\\n' $code; exit $code"
        parts.append(f"(trap : TERM; {process} | {numbered}; {told}) & all+=($!)")
    parts.append('code=0; for each in "${all[@]}"; do wait "$each" || code=$?; done; wait; exit $code')
    return "\n".join(parts)


def _authorities(own: Path) -> bytes:
    """The workspace's authority and the usual ones."""
    import certifi

    return own.read_bytes() + b"\n" + Path(certifi.where()).read_bytes()
