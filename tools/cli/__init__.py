"""The command line: one short function a verb, and the only place that prints a result or exits.

stdout carries the answer alone (an image reference, a run id, a path, or JSON); everything for people goes to stderr.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import ParityError
from . import history, images, parity, records, registration, rehearsal, remote, report, runs, shared

app = typer.Typer(
    name="parity",
    help="One container, the same on this machine and on Azure ML.",
    epilog="Settings: parity.toml. Each verb does what it needs first, and nothing twice.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one verb and exits: 0 done, 1 no, 2 wrong usage, else the error's own code (tools/errors.py)."""
    code = 0
    try:
        app(arguments, prog_name=Path(sys.argv[0]).name.replace("__main__.py", "python -m tools"))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        if isinstance(stop.__context__, typer.Abort):  # Ctrl-C
            code = runs.INTERRUPTED
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    if "rattler" in sys.modules:
        os._exit(code)  # py-rattler 0.28 can crash while the interpreter is taken down, after all work is done
    raise SystemExit(code)


def _version(asked: bool) -> None:
    if asked:
        shared.answer(__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the equal commands and more.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tools").setLevel(logging.DEBUG if verbose else logging.INFO)


def engine() -> None:
    """Find a container engine, or install Docker.

    Where none answers, and you are root on Debian or Ubuntu, docker.io is installed and started; PARITY_ENGINE=never
    refuses that. Prints the version.
    """
    from .. import engine

    client = engine.ensure()
    with engine.errors("asking for its version"):
        shared.answer(f"{client.version()['Version']}")


def lock(
    env: shared.Env = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the lock is stale (exit code 1).")] = False,
    update: Annotated[
        list[str] | None, typer.Option("--update", metavar="PACKAGE", help="Move only this package.")
    ] = None,
) -> None:
    """Lock an environment: every package by sha256.

    Prints the lock's path. Nothing is written where the spec cannot be solved.
    """
    from ..environment import locking

    settings, spec = shared.spec(env)
    if check:
        reason = locking.check(settings, spec)
        if reason:
            shared.say(f"stale: {reason}\n  next:     make lock ENV={spec.name}")
            raise typer.Exit(1)
        return
    shared.answer(str(locking.lock(settings, spec, update=tuple(update or ()))))


def data(as_json: shared.Json = False) -> None:
    """Get the data set, outside the source directory.

    Prints the folder, which [data] path in parity.toml names. An empty path: there is no data set to get.
    """
    from .. import data, settings

    prepared = data.prepare(settings.load())
    shared.answer(shared.table(prepared) if as_json else str(prepared.path))


def doctor(as_json: shared.Json = False) -> None:
    """What is missing here, and what to type.

    The exit code is 1 if something must be mended.
    """
    from .. import doctor, settings

    checks = list(doctor.checks(settings.load()))
    if as_json:
        shared.answer([shared.table(check) for check in checks])
    else:
        for check in checks:
            shared.answer(str(check))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


class _Lines(logging.Formatter):
    """What people read: the message alone, marked where it is a warning."""

    def format(self, record: logging.LogRecord) -> str:
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        if record.levelno == logging.DEBUG:
            mark = "+ "
        return f"{mark}{record.getMessage()}"


PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # what follows -- is the command's

# in the order in which a person meets them
app.command(epilog="Example: python -m tools engine")(engine)
app.command(epilog="Example: python -m tools lock --env pytorch --update torchvision")(lock)
app.add_typer(images.images, name="image")
app.command(epilog="Example: python -m tools push --env pytorch")(images.push)
app.command(epilog="Example: python -m tools data")(data)
app.command(epilog="Example: python -m tools snapshot --fix")(runs.snapshot)
app.command(epilog="Example: python -m tools run-local -- --epochs 1", context_settings=PASSED_ON)(runs.run_local)
app.command(epilog="Example: python -m tools run-remote -- --epochs 1", context_settings=PASSED_ON)(remote.run_remote)
app.command(epilog="Example: python -m tools rehearse -- --epochs 1", context_settings=PASSED_ON)(remote.rehearse)
app.command(epilog="Example: python -m tools parity -- --epochs 1", context_settings=PASSED_ON)(parity.parity)
app.command(epilog="Example: python -m tools data-push")(remote.data_push)
app.add_typer(history.history, name="runs")
app.command(epilog="Example: python -m tools compare last-local last-remote")(records.compare)
app.command(epilog="Example: python -m tools report last-local last-remote")(report.report)
app.command(epilog="Example: python -m tools clean-remote --yes")(remote.clean_remote)
app.add_typer(rehearsal.rehearsal, name="rehearsal")
app.command(epilog="Example: python -m tools register --check")(registration.register)
app.command(epilog="Example: python -m tools doctor --json")(doctor)
