"""`rehearsal`: the workspace on the loopback, for any script that is written for azureml-core."""

from __future__ import annotations

import typer

from ..errors import RehearsalError
from . import shared

rehearsal = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@rehearsal.callback()
def about() -> None:
    """An Azure ML workspace on this machine, for unmodified azureml-core.

    It runs what is submitted on this machine's engine. It listens on the loopback only, and needs no account.
    """


@rehearsal.command(epilog="Example: python -m tools rehearsal serve")
def serve() -> None:
    """Serve it until Ctrl-C."""
    from .. import settings
    from ..rehearsal import service

    service.serve(settings.load())


@rehearsal.command(epilog="Example: python -m tools rehearsal stop")
def stop() -> None:
    """End it; what it knows is kept."""
    from .. import settings
    from ..rehearsal import service

    shared.say("Stopped" if service.stop(settings.load()) else "It does not run")


@rehearsal.command(epilog='Example: eval "$(python -m tools rehearsal env)"')
def env() -> None:
    """Print the variables that point azureml-core to it.

    Starts it, if need be. A shell that reads them reaches no other workspace. Says where its pages are.
    """
    from .. import settings
    from ..rehearsal import service

    loaded = settings.load()
    endpoint, _ = service.ensure(loaded)
    shared.say(f"Its pages: {endpoint.studio}/")
    shared.answer(service.exports(service.variables(loaded, endpoint)))


@rehearsal.command(epilog="Example: mkdir -p .azureml && python -m tools rehearsal config > .azureml/config.json")
def config() -> None:
    """Print the workspace's config.json."""
    from .. import settings
    from ..rehearsal import identity, workspace

    loaded = settings.load()
    place = workspace.folder(loaded)
    try:
        shared.answer(identity.load(place / "identity.json").config)
    except (OSError, ValueError, TypeError) as error:
        raise RehearsalError(f"{place / 'identity.json'}: {error}", command=f"rm -r {place}") from error
