"""The verbs that talk to a workspace of Azure ML: `run-remote`, `rehearse`, `data-push`, `clean-remote`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ImageError, RehearsalError
from . import following, shared
from .runs import take_snapshot, terminable

if TYPE_CHECKING:
    from azureml.core import Workspace

    from ..environment.spec import EnvironmentSpec
    from ..image.build import Image
    from ..runs.record import Record
    from ..runs.spec import Input, RunSpec
    from ..settings import Settings
    from ..snapshot import Snapshot
    from ..targets.azureml.compute import Compute

Detach = Annotated[bool, typer.Option("--detach", help="Only submit; follow it later with: runs attach ID.")]


def run_remote(
    context: typer.Context,
    env: shared.Env = None,
    nodes: shared.Nodes = None,
    processes: shared.Processes = None,
    detach: Detach = False,
    as_json: shared.Json = False,
) -> None:
    """Run the command in the image, on Azure ML.

    What follows -- is put behind the command. Prints the address of the run's page, shows its log, and brings what it
    wrote into runs/ID, as run-local does. The exit code is the command's own. Ctrl-C asks whether to cancel it.
    """
    from ..targets import azureml

    asked = shared.Asked(env=env, arguments=tuple(context.args), nodes=nodes, processes=processes)
    _run(asked, target=azureml.REMOTE, detach=detach, as_json=as_json)


def rehearse(
    context: typer.Context,
    env: shared.Env = None,
    nodes: shared.Nodes = None,
    processes: shared.Processes = None,
    detach: Detach = False,
    as_json: shared.Json = False,
) -> None:
    """Run-remote, against a workspace on this machine.

    The same SDK submits the same image, snapshot and command, to a workspace on the loopback that runs them on this
    machine's engine; no account is needed. It is started for this, and ended after it. It cannot show Azure's quotas,
    networks and drivers.
    """
    from ..targets import azureml

    asked = shared.Asked(env=env, arguments=tuple(context.args), nodes=nodes, processes=processes)
    _run(asked, target=azureml.REHEARSAL, detach=detach, as_json=as_json)


def data_push(as_json: shared.Json = False) -> None:
    """Upload the data set to the workspace.

    It goes to [data] remote, file by file; what is there already, by its content, is not sent. Prints datastore/folder.
    """
    from .. import data
    from ..settings import load
    from ..targets.azureml import data as remote_data
    from ..targets.azureml import workspace

    settings = load()
    prepared = data.prepare(settings)
    pushed = remote_data.push(workspace.connect(settings), settings, prepared)
    shared.answer(shared.table(pushed) if as_json else pushed.address)


def clean_remote(
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: shared.Json = False,
) -> None:
    """End what this project made in the workspace.

    Lists its runs that go on and the experiments that hold only its runs, by tag; after a yes cancels and archives
    them. azureml-core has no way to delete runs, snapshots, registered environments and data.
    """
    from ..settings import load
    from ..targets.azureml import cleaning, workspace

    settings = load()
    found = cleaning.find(workspace.connect(settings), settings)
    if as_json:
        shared.answer(
            [{"kind": each.kind, "name": each.name, "end": each.end, "detail": each.detail} for each in found]
        )
    else:
        for each in found:
            shared.answer(str(each))
    if not found:
        shared.say("This project left nothing in the workspace that could be ended")
    elif yes or (sys.stdin.isatty() and typer.confirm(f"Cancel and archive these {len(found)}?", err=True)):
        for each in found:
            cleaning.end(each)
        shared.say(f"Done. azureml-core cannot delete {cleaning.KEPT}: delete the workspace for that")
    else:
        shared.say("Nothing was changed; next: make clean-remote ARGS=--yes")


@dataclass
class Place:
    """Where runs go. keep: whether a workspace that was started for this goes on after it."""

    workspace: Workspace
    keep: bool = False


@contextlib.contextmanager
def place_of(target: str, settings: Settings) -> Iterator[Place]:
    """The workspace of a target. A rehearsal's is started if need be, and then ended after."""
    from ..targets import azureml
    from ..targets.azureml import workspace

    if target != azureml.REHEARSAL:
        yield Place(workspace.connect(settings))
        return
    from ..rehearsal import identity, service
    from ..rehearsal.workspace import folder

    endpoint, started = service.ensure(settings)
    # public means alone: what a person's shell gets from `rehearsal env`, before azureml is imported
    before = dict(os.environ)
    os.environ.update(service.variables(settings, endpoint))
    names = identity.load(folder(settings) / "identity.json")
    chosen = {"subscription": names.subscription, "resource_group": names.resource_group, "workspace": names.name}
    there = settings.azureml.model_copy(update={**chosen, "auth": "msi"})
    place = None
    try:
        place = Place(workspace.connect(settings.model_copy(update={"azureml": there})))
        yield place
    finally:
        os.environ.clear()  # what comes after may need the usual authorities again
        os.environ.update(before)
        if started and not (place and place.keep):
            try:
                service.stop(settings)
            except RehearsalError as error:  # it must not hide how the run ended
                shared.say(f"warning: {error}")


def run_there(
    asked: shared.Asked, *, target: str, announce: Callable[[str], None], detach: bool = False
) -> tuple[Record, bool]:
    """(the record of a run in a workspace, whether it has ended); announce: gets the address of its page.

    All that can be refused comes first, the cheapest first.
    """
    from ..targets import azureml
    from ..targets.azureml import compute, submission

    settings = asked.settings()
    submission.check(settings)
    taken = take_snapshot(settings)
    spec = shared.environment(settings, asked.env)
    with place_of(target, settings) as place:
        workspace = place.workspace
        chosen = compute.find(workspace, settings)
        image, address = _image(settings, spec, target)
        run_spec = _run_spec(settings, workspace, taken, asked.arguments, image, chosen, target)
        with terminable():
            run, record = azureml.submit(workspace, settings, run_spec, chosen, image=address, target=target)
        announce(azureml.portal(run))
        sys.stdout.flush()
        done = None if detach else following.follow(run, record)
        place.keep = done is None
    return done or record, done is not None


def _run(asked: shared.Asked, *, target: str, detach: bool, as_json: bool) -> None:
    announce = shared.say if as_json else shared.answer
    record, ended = run_there(asked, target=target, announce=announce, detach=detach)
    if detach:
        shared.say(f"Run {record.id} is submitted; next: python -m tools runs attach {record.id}")
        if as_json:
            shared.answer(record.to_json())
    else:
        following.end(record if ended else None, record.id, as_json=as_json)


def _image(settings: Settings, spec: EnvironmentSpec, target: str) -> tuple[Image, str]:
    """The image, and by what name the workspace gets it: where it was pushed to, with its digest.

    A rehearsal's jobs run on this machine's engine, which also knows an image by its id.
    """
    from .. import engine
    from ..image import build, push
    from ..targets import azureml

    if target == azureml.REHEARSAL:
        image = shared.image(settings, spec, engine.ensure())
        pushed = push.recorded(settings, image.id) if settings.image.registry else None
        return image, pushed.reference if pushed else f"{settings.image.name}@{image.id}"
    host, path = push.address(settings)
    locked = shared.lock(settings, spec)
    planned = build.plan(settings, locked, client=None)
    found = push.find(planned)
    if found is None:
        problem = f"{planned.reference} is not in the registry {host}/{path}, from which Azure ML would get it"
        if not (sys.stdin.isatty() and typer.confirm(f"{problem}. Push it now?", err=True)):
            raise ImageError(problem, expected="the image of this lock", command="make push, then: make run-remote")
        found = push.push(settings, spec, locked, client=shared.engine_if_any())
    image = build.Image(
        reference=planned.reference,
        id=found.image_id,
        fingerprint=planned.fingerprint,
        platform=planned.platform,
        lock_sha256=locked.sha256,
        stand_ins=planned.stand_ins,
        witnessed=planned.python is not None,
    )
    return image, found.reference


def _run_spec(
    settings: Settings,
    workspace: Workspace,
    snapshot: Snapshot,
    arguments: tuple[str, ...],
    image: Image,
    compute: Compute,
    target: str,
) -> RunSpec:
    from ..runs.spec import Resources, RunSpec

    inputs, stand_ins = _inputs(settings, workspace, target)
    return RunSpec(
        image=image,
        snapshot=snapshot,
        command=settings.run.command,
        arguments=arguments,
        inputs=inputs,
        environment_variables=settings.run.environment_variables,
        resources=Resources(
            shm_bytes=settings.resources.shm_bytes,
            gpu=settings.resources.gpu == "auto" and bool(compute.gpus),
            nodes=settings.resources.nodes,
            processes=settings.resources.processes,
        ),
        stand_ins=(*image.stand_ins, *stand_ins),
    )


def _inputs(settings: Settings, workspace: Workspace, target: str) -> tuple[tuple[Input, ...], tuple[Any, ...]]:
    """The data set as a run finds it in the workspace; a rehearsal's workspace gets it first."""
    from .. import data
    from ..runs.spec import Input
    from ..targets import azureml
    from ..targets.azureml import data as remote_data

    if settings.data_path is None or not settings.data.remote:
        return (), ()
    # what lies in the workspace alone needs no copy here
    here = target == azureml.REHEARSAL or settings.data_path.exists()
    prepared = data.prepare(settings) if here else None
    if prepared is not None and target == azureml.REHEARSAL:
        remote_data.push(workspace, settings, prepared)
    digest = remote_data.check(workspace, settings, prepared)
    return (
        (Input(name="data", path=settings.data_path, digest=digest),),
        prepared.stand_ins if prepared else (),
    )
