"""`register`: the image as an Environment of the workspace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from . import shared

if TYPE_CHECKING:
    from ..settings import Settings


def register(
    env: shared.Env = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether a registration is needed (exit code 1).")
    ] = False,
    as_json: shared.Json = False,
) -> None:
    """Register the image with Azure ML.

    It becomes a version of the Environment NAME-SPEC, by its digest in [image] registry; in a rehearsal without one, by
    its id. Where the newest version has the same fingerprint, nothing is registered. Prints name:version.
    """
    from .. import engine, registration
    from ..environment import locking
    from ..image import build, push
    from ..targets.azureml import workspace

    settings, spec = shared.spec(env)
    by_id = not settings.image.registry and _rehearsed(settings)
    repository = settings.image.name if by_id else "/".join(push.address(settings))
    if check and (reason := locking.check(settings, spec)):
        shared.say(f"needed: the lock is stale: {reason}\n  next:     make lock ENV={spec.name}")
        raise typer.Exit(1)
    client = engine.ensure() if by_id else shared.engine_if_any()
    planned = build.plan(settings, shared.lock(settings, spec), client=client)
    wanted = registration.candidate(planned, spec, repository=repository)
    opened = workspace.connect(settings)
    if check:
        found, why = registration.check(opened, wanted)
        if why:
            shared.say(f"needed: {why}\n  next:     make register ENV={spec.name}")
            raise typer.Exit(1)
    else:
        found = registration.register(opened, wanted, lambda: registration.digest(planned, client if by_id else None))
    if found:
        shared.answer({**shared.table(found), "labels": wanted.labels} if as_json else found.reference)


def _rehearsed(settings: Settings) -> bool:
    """Whether this process is pointed to the project's rehearsal workspace."""
    from ..rehearsal import service

    running = service.running(settings) if "MSI_ENDPOINT" in os.environ else None
    return running is not None and os.environ["MSI_ENDPOINT"] == service.variables(settings, running)["MSI_ENDPOINT"]
