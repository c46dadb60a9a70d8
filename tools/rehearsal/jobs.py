"""What was submitted, from its first status to its last: image, queue, nodes, outputs.

A cluster runs as many nodes at a time as it may have; the rest waits in the order of submission. A job has a thread
while its image is made ready (IMAGES at a time) and while it runs; one that waits has none. All that must be known
after a kill is in the run history and in the engine's own containers.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import engine
from ..errors import ParityError, RunError, nearest
from . import answers, definition, images, labels, limits, times
from .definition import Definition
from .images import Image, Images
from .nodes import Assignment, Ended, Nodes

if TYPE_CHECKING:
    import docker

    from .computes import Compute
    from .runs import Run
    from .workspace import Workspace

TICK = 0.2  # seconds between two looks at whether a run was canceled
IMAGES = 16  # submissions whose images are looked for at a time; conda specifications are built one by one
LOGS_SECONDS = 10  # between two looks into a running job's logs/
LOGS_SHARE = 10  # a look lasts at most one part in so many of the time between two
RECOVERY_SECONDS = 30  # that a cancel waits for a service that has just begun
STOPPED = "The rehearsal workspace was stopped."
GONE = "The job's containers are gone from the engine."
# Where the service keeps what it knows of the processes, once a job has left Starting
PROCESSES = {
    "ProcessInfoFile": "azureml-logs/process_info.json",
    "ProcessStatusFile": "azureml-logs/process_status.json",
}

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Job:
    """A submission that is not over. number: its run's; canceled: somebody asked; ended: nothing is at work."""

    run_id: str
    number: int
    definition: Definition
    compute: Compute
    canceled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    image: Image | None = None
    nodes: Nodes | None = None


class Jobs:
    """All jobs of the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        """Nothing is begun."""
        self.workspace = workspace
        self.images = Images(workspace.settings, workspace.folder / "conda")
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}  # by run, those that are not over
        self._waiting: list[Job] = []  # for nodes, in the order of submission
        self._running: list[Job] = []
        self._preparing = ThreadPoolExecutor(max_workers=IMAGES, thread_name_prefix="image")
        self._client: docker.DockerClient | None = None
        self._recovered = threading.Event()
        self._closing = False

    @property
    def client(self) -> docker.DockerClient:
        """The engine. EngineError if none answers."""
        with self._lock:
            if self._client is None:
                self._client = engine.connect()
            return self._client

    def check(self, asked: Definition) -> None:
        """Refusal 400 for what cannot run here, at submit, where a person still looks."""
        limits.check(self.workspace, asked, has_gpu=lambda: engine.has_gpu(self.client))

    def submit(self, run_id: str) -> None:
        """Begins a run that is in the history; a run on a cluster that does not exist fails, as on Azure ML."""
        run = self.workspace.runs.get(run_id)
        if run is None:
            raise KeyError(run_id)
        asked = definition.read(run.definition)
        compute = self.workspace.computes.get(asked.target)
        if compute is None:
            message = f"AzureMLCompute cluster {asked.target} does not exist"
            close = nearest(asked.target, self.workspace.computes.names())
            self.workspace.runs.move(run_id, "Failed", error=_error(message + close))
            return
        job = self._begin(run, asked, compute)
        self._preparing.submit(self._guarded, job, self._prepare)

    def cancel(self, run_id: str) -> None:
        """Asks a run's job to end. One that is over stays as it is; one that nothing is known of ends at once."""
        self._recovered.wait(RECOVERY_SECONDS)
        with self._lock:
            job = self._jobs.get(run_id)
            if job is None:
                self.workspace.runs.move(run_id, "Canceled")
                return
            self.workspace.runs.move(run_id, "CancelRequested")
            job.canceled.set()
            waiting = job in self._waiting
            if waiting:
                self._waiting.remove(job)
        if waiting:
            self._finish(job, "Canceled")

    def recover(self) -> None:
        """Takes up what was under way when the service was killed; returns at once."""
        threading.Thread(target=self._recover, name="recover", daemon=True).start()

    def close(self) -> None:
        """Cancels what is under way, and keeps its outputs; the engine has nothing of it afterwards."""
        with self._lock:
            self._closing = True
            jobs = list(self._jobs.values())
            for job in jobs:
                self.cancel(job.run_id)
        self._preparing.shutdown()
        for job in jobs:
            job.ended.wait()

    def _begin(self, run: Run, asked: Definition, compute: Compute) -> Job:
        job = Job(run_id=run.id, number=run.number, definition=asked, compute=compute)
        with self._lock:
            self._jobs[run.id] = job
        return job

    def _finish(self, job: Job, status: str, error: dict[str, Any] | None = None, at_work: Nodes | None = None) -> None:
        """The last status; then the engine is cleared, and others may have the nodes."""
        self.workspace.runs.move(job.run_id, status, error=error)
        if at_work:
            try:
                at_work.remove()
            except ParityError as problem:
                log.warning("run %s: %s", job.run_id, problem)  # the next start tries again
        with self._lock:
            self._jobs.pop(job.run_id, None)
            if job in self._running:
                self._running.remove(job)
        job.ended.set()
        self._dispatch()

    def _guarded(self, job: Job, work: Callable[[Job], None]) -> None:
        """Whatever goes wrong, the run comes to an end, and says why."""
        try:
            work(job)
        except images.CanceledError:
            self._finish(job, "Canceled", at_work=job.nodes)
        except Exception as problem:
            known = isinstance(problem, ParityError)
            if not known:
                log.exception("run %s", job.run_id)
            if job.canceled.is_set():
                self._finish(job, "Canceled", at_work=job.nodes)
            else:
                text = str(problem) if known else f"{type(problem).__name__}: {problem}"
                self._finish(job, "Failed", _error(text, "UserError" if known else "ServiceError"), job.nodes)

    def _prepare(self, job: Job) -> None:
        runs = self.workspace.runs
        run = self._record(job)
        if job.canceled.is_set():
            raise images.CanceledError
        asked = images.Asked(
            environment=job.definition.environment,
            log=self.workspace.artifacts.folder(run) / images.BUILD_LOG,
            canceled=job.canceled,
            preparing=lambda: runs.move(job.run_id, "Preparing"),
        )
        job.image = self.images.get(self.client, asked)
        if job.image.derived:
            runs.update(job.run_id, properties={"AzureML.DerivedImageName": job.image.derived})
        with self._lock:
            if job.canceled.is_set():
                raise images.CanceledError
            runs.move(job.run_id, "Queued")
            self._waiting.append(job)
            self._waiting.sort(key=lambda each: each.number)
        self._dispatch()

    def _dispatch(self) -> None:
        """Starts the jobs that are first in their cluster's queue and find enough nodes free."""
        with self._lock:
            held: set[str] = set()
            for job in [] if self._closing else list(self._waiting):
                name = job.compute.name
                compute = self.workspace.computes.get(name) or job.compute
                used = sum(each.definition.nodes for each in self._running if each.compute.name == name)
                if name in held or used + job.definition.nodes > compute.max_nodes:
                    held.add(name)  # those behind it wait with it
                    continue
                self._waiting.remove(job)
                self._running.append(job)
                threading.Thread(target=self._guarded, args=(job, self._run), name=f"job-{job.run_id}").start()

    def _run(self, job: Job) -> None:
        at_work = job.nodes = self._nodes(job)
        at_work.create()
        if job.canceled.is_set():
            raise images.CanceledError
        self._follow(job, at_work)

    def _nodes(self, job: Job) -> Nodes:
        image = job.image or Image(id="", variables={})  # of a job whose containers are made already
        assignment = Assignment(
            workspace=self.workspace,
            run=self._record(job),
            definition=job.definition,
            compute=job.compute,
            image=image,
        )
        return Nodes(self.client, assignment)

    def _record(self, job: Job) -> Run:
        run = self.workspace.runs.get(job.run_id)
        if run is None:
            raise KeyError(job.run_id)
        return run

    def _follow(self, job: Job, at_work: Nodes) -> None:
        """From the start of its processes to the run's last status."""
        runs, run_id = self.workspace.runs, job.run_id
        runs.move(run_id, "Running")
        runs.update(run_id, properties=PROCESSES, tags=_target_status(job.definition.nodes))
        at_work.start()
        failed, expired = self._wait(job, at_work)
        runs.move(run_id, "Finalizing")
        if failed or expired or job.canceled.is_set():
            at_work.stop()
        at_work.join()
        at_work.collect()
        if job.canceled.is_set():
            self._finish(job, "Canceled", _error(STOPPED, "ServiceError") if self._closing else None, at_work)
        elif expired:
            limit = f"The run lasted longer than its maxRunDurationSeconds, {job.definition.max_seconds} s."
            self._finish(job, "Canceled", _error(limit), at_work)
        elif failed:
            self._finish(job, "Failed", _error(_failure(job.definition, failed, at_work)), at_work)
        else:
            self._finish(job, "Completed", at_work=at_work)

    def _wait(self, job: Job, at_work: Nodes) -> tuple[Ended | None, bool]:
        """(the first process that failed, whether the time was over); neither, once all have ended or on a cancel."""
        left = job.definition.processes
        deadline = _deadline(self._record(job), job.definition)
        look = time.monotonic() + LOGS_SECONDS
        while left and not job.canceled.is_set():
            try:
                ended = at_work.ended.get(timeout=TICK)
            except queue.Empty:
                ended = None
            if ended and job.definition.accepts(ended.code):
                left -= 1
            elif time.time() > deadline:
                return None, True
            elif ended:
                return ended, False
            elif (begun := time.monotonic()) > look:
                with contextlib.suppress(ParityError):
                    at_work.collect_logs()
                lasted = time.monotonic() - begun
                look = time.monotonic() + max(LOGS_SECONDS, LOGS_SHARE * lasted)
        return None, False

    def _recover(self) -> None:
        try:
            submitted = [run for run in self.workspace.runs.all() if run.definition]
            if not submitted:
                return
            workspace_id = self.workspace.identity.workspace_id
            in_engine = labels.runs(self.client, workspace_id)
            for run in reversed(submitted):
                if run.over and run.id in in_engine:
                    labels.remove(self.client, labels.of(workspace_id, run.id))
                elif not run.over:
                    self._take_up(run)
        except Exception:
            log.exception("taking up what was under way")
        finally:
            self._recovered.set()

    def _take_up(self, run: Run) -> None:
        """A run that was under way: followed on where its containers are, else begun anew or brought to its end."""
        asked = definition.read(run.definition)
        compute = self.workspace.computes.get(asked.target)
        own = labels.of(self.workspace.identity.workspace_id, run.id)
        if compute is None:
            labels.remove(self.client, own)
            self.submit(run.id)  # fails it, in the service's words
            return
        with self._lock:
            if run.id in self._jobs:  # submitted meanwhile
                return
            job = self._begin(run, asked, compute)
            begun = run.status in ("Running", "Finalizing", "CancelRequested")
            if begun:
                self._running.append(job)
        if run.status == "CancelRequested":
            job.canceled.set()
        if begun:
            threading.Thread(target=self._guarded, args=(job, self._go_on), name=f"job-{run.id}").start()
        else:
            labels.remove(self.client, own)
            self._preparing.submit(self._guarded, job, self._prepare)

    def _go_on(self, job: Job) -> None:
        at_work = job.nodes = self._nodes(job)
        if at_work.find():
            self._follow(job, at_work)
        elif job.canceled.is_set():
            raise images.CanceledError
        else:
            raise RunError(GONE)


def _deadline(run: Run, asked: Definition) -> float:
    """When the service cancels it, in seconds since the epoch."""
    started = times.parse(run.started or "")
    return started.timestamp() + asked.max_seconds if started and asked.max_seconds else math.inf


def _failure(asked: Definition, failed: Ended, at_work: Nodes) -> str:
    """In the words of the service, with what a person looks for next: the last lines, and where the rest is."""
    if failed.error:
        return f"The job could not be followed: {failed.error}"
    where = ""
    if asked.processes > 1:
        rank = failed.node * asked.per_node + failed.local
        where = f" on node {failed.node}, rank {rank}"
    message = f"Execution failed. User process '{asked.program}'{where} exited with status code {failed.code}."
    message += f" Please check log file '{at_work.log_name(failed)}' for error details."
    said = at_work.said(failed)
    return f"{message} Error: {said}" if said else message


def _target_status(count: int) -> dict[str, str]:
    status = {"AllocationState": "steady", "PreparingNodeCount": 0, "RunningNodeCount": count}
    return {"_aml_system_ComputeTargetStatus": json.dumps({**status, "CurrentNodeCount": count})}


def _error(message: str, code: str = "UserError") -> dict[str, Any]:
    return answers.error(message, code=code, component="execution")
