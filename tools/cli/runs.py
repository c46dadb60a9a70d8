"""`snapshot` and `run-local`: what is sent, and running it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SnapshotError
from . import shared

if TYPE_CHECKING:
    import docker

    from ..environment.spec import EnvironmentSpec
    from ..runs.record import Record
    from ..runs.spec import RunSpec
    from ..settings import Settings
    from ..snapshot import Snapshot
    from ..snapshot.report import Report

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def snapshot(
    source: Annotated[
        Path | None, typer.Argument(show_default=False, help="A folder; [run] source in parity.toml if left out.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Show lines for .amlignore; write them after a yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: write without asking.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Draw it too, as a treemap.")] = None,
    as_json: shared.Json = False,
) -> None:
    """What would be uploaded, and what should not be.

    Prints number and size of the files against Azure ML's limits, and for all that does not belong in a snapshot the
    line or command that mends it. The exit code is 21 if Azure ML would refuse it. It never deletes or moves a file.
    """
    from .. import snapshot
    from ..settings import load
    from ..snapshot import fix as fixes
    from ..snapshot import treemap

    settings = load()

    def look() -> tuple[Report, list[str]]:
        ignored: list[str] = []
        memory = settings.cache / "snapshots"
        folder = source or settings.source
        return snapshot.inspect(folder, settings.snapshot.rules, memory=memory, ignored=ignored.append)[0], ignored

    report, ignored = look()
    proposed = fixes.of(report)
    if fix:
        shared.say(proposed.diff() or "No line is missing.")
        if proposed.diff() and (yes or typer.confirm(f"Write {proposed.file}?", err=True)):
            proposed.write()
            report, ignored = look()
    elif proposed.diff():
        shared.say("Next: make snapshot ARGS=--fix shows lines for .amlignore, and asks before it writes them")
    if html:
        treemap.write(report, ignored, html, cache=settings.cache)
        shared.say(f"Drawn: {html}")
    shared.answer(report.to_json() if as_json else report.text())
    raise typer.Exit(SnapshotError.exit_code if report.verdict == "over" else 0)


def run_local(
    context: typer.Context,
    env: shared.Env = None,
    nodes: shared.Nodes = None,
    processes: shared.Processes = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Begin with what that run left in its outputs/.")
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """Run the command in the image, on this machine.

    What follows -- is put behind the command. Builds the image and gets the data first, if need be. Prints the run's
    id; its record is in runs/ID. The exit code is the command's own; of several processes, of the first that failed.
    """
    asked = shared.Asked(env=env, arguments=tuple(context.args), nodes=nodes, processes=processes)
    record = run_here(asked, resume=resume)
    shared.answer(record.to_json() if as_json else record.id)
    raise typer.Exit(INTERRUPTED if record.status == "canceled" else record.exit_code or 0)


def run_here(asked: shared.Asked, *, resume: str | None = None) -> Record:
    """The record of a run on this machine's engine, which has ended; says where it is. resume: a run's name."""
    from .. import engine
    from ..runs import history, live
    from ..runs.spec import Start
    from ..targets import local

    settings = asked.settings()
    taken = take_snapshot(settings)  # before any work: an over-limit one is refused
    spec = shared.environment(settings, asked.env)
    client = engine.ensure()
    with terminable():
        local.recover(client, settings.runs)  # may be of the very run that is to be gone on with
    start = Start.of(history.find(settings.runs, resume).folder) if resume else None
    run_spec = replace(_run_spec(settings, spec, taken, asked.arguments, client), start=start)
    foot = live.terminal()
    with terminable():
        record = local.run(
            client,
            run_spec,
            settings.runs,
            show=foot.show if foot else pass_on,
            watch=foot.watching if foot else None,
        )
    say_where(record)
    return record


def say_where(record: Record) -> None:
    """Says how a run ended, and where its record is."""
    where = os.path.relpath(record.folder)
    shared.say(f"Run {record.id} {record.status}: {where}/run.json, stdout.log, outputs/")
    if record.error and record.exit_code is not None:
        shared.say(f"error: {record.error}")


def take_snapshot(settings: Settings) -> Snapshot:
    """The snapshot of [run] source; SnapshotError where Azure ML would refuse it."""
    from .. import snapshot

    return snapshot.take(settings.source, settings.snapshot.rules, memory=settings.cache / "snapshots")


def _run_spec(
    settings: Settings,
    spec: EnvironmentSpec,
    snapshot: Snapshot,
    arguments: tuple[str, ...],
    client: docker.DockerClient,
) -> RunSpec:
    """Everything that the run needs, the cheapest first, so that a mistake is met before the work."""
    from .. import data
    from ..runs.spec import Input, Resources, RunSpec

    image = shared.image(settings, spec, client)
    prepared = data.prepare(settings) if settings.data.path else None
    return RunSpec(
        image=image,
        snapshot=snapshot,
        command=settings.run.command,
        arguments=arguments,
        inputs=(Input(name="data", path=prepared.path, digest=prepared.digest),) if prepared else (),
        environment_variables=settings.run.environment_variables,
        resources=Resources(
            shm_bytes=settings.resources.shm_bytes,
            gpu=settings.resources.gpu == "auto" and _has_gpu(client, settings.resources.nodes),
            nodes=settings.resources.nodes,
            processes=settings.resources.processes,
        ),
        stand_ins=(*image.stand_ins, *(prepared.stand_ins if prepared else ())),
    )


def _has_gpu(client: docker.DockerClient, nodes: int) -> bool:
    """Whether the run gets GPUs. Several nodes would all have the same ones, which NCCL refuses."""
    from .. import engine

    found = engine.has_gpu(client)
    if found and nodes > 1:
        shared.say("warning: the nodes share this machine, so none gets its GPUs; for these: nodes = 1 and processes")
    return found and nodes == 1


def pass_on(output: bytes) -> None:
    """Shows what a run prints, as it comes."""
    sys.stderr.buffer.write(output)
    sys.stderr.buffer.flush()


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: its container goes with it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
