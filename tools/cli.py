"""The command line: one short function a verb, and the only place that prints a result or exits.

stdout carries the answer alone (an image reference, a run id, a path, or JSON); everything for people goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from . import __version__
from .errors import EngineError, ParityError, SnapshotError

if TYPE_CHECKING:
    import docker

    from .environment.lock import Lock
    from .environment.spec import EnvironmentSpec
    from .image.build import Image
    from .runs.spec import RunSpec
    from .settings import Settings
    from .snapshot import Snapshot
    from .snapshot.report import Report

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="parity",
    help="One container, the same on this machine and on Azure ML.",
    epilog="Settings: parity.toml. Each verb does what it needs first, and nothing twice.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

images = typer.Typer(rich_markup_mode=None, epilog="Example: python -m tools image --env pytorch-aml --json")
app.add_typer(images, name="image")

Env = Annotated[
    str | None,
    typer.Option("--env", metavar="NAME|PATH", help="Environment: environments/NAME.yml, or a spec's path."),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one verb and exits: 0 done, 1 no, 2 wrong usage, else the error's own code (tools/errors.py)."""
    code = 0
    try:
        app(arguments, prog_name=Path(sys.argv[0]).name.replace("__main__.py", "python -m tools"))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        if isinstance(stop.__context__, typer.Abort):  # Ctrl-C
            code = INTERRUPTED
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
        _answer(__version__)
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


@app.command(epilog="Example: python -m tools engine")
def engine() -> None:
    """Find a container engine, or install Docker.

    Where none answers, and you are root on Debian or Ubuntu, docker.io is installed and started; PARITY_ENGINE=never
    refuses that. Prints the version.
    """
    from . import engine

    client = engine.ensure()
    with engine.errors("asking for its version"):
        _answer(f"{client.version()['Version']}")


@app.command(epilog="Example: python -m tools lock --env pytorch --update torchvision")
def lock(
    env: Env = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the lock is stale (exit code 1).")] = False,
    update: Annotated[
        list[str] | None, typer.Option("--update", metavar="PACKAGE", help="Move only this package.")
    ] = None,
) -> None:
    """Lock an environment: every package by sha256.

    Prints the lock's path. Nothing is written where the spec cannot be solved.
    """
    from .environment import locking

    settings, spec = _spec(env)
    if check:
        reason = locking.check(settings, spec)
        if reason:
            _say(f"stale: {reason}\n  next:     make lock ENV={spec.name}")
            raise typer.Exit(1)
        return
    _answer(str(locking.lock(settings, spec, update=tuple(update or ()))))


@images.callback(invoke_without_command=True)
def image(context: typer.Context, env: Env = None, as_json: Json = False) -> None:
    """Build the image, if the engine lacks it.

    Locks first if the lock is stale. Prints the image's reference. The commands below tell what an image is made of.
    """
    from . import engine

    context.obj = env
    if context.invoked_subcommand is None:
        settings, spec = _spec(env)
        built = _image(settings, spec, engine.ensure())
        _answer(_table(built) if as_json else built.reference)


@images.command(epilog="Example: python -m tools image show --against parity:env-0123456789ab")
def show(
    context: typer.Context,
    reference: Annotated[str | None, typer.Argument(help="An image of the engine; default: this project's.")] = None,
    against: Annotated[str | None, typer.Option(metavar="IMAGE", help="What a pull costs where this one is.")] = None,
    as_json: Json = False,
) -> None:
    """Show an image's layers, packages and sizes."""
    from . import engine
    from .image import overview

    client = engine.ensure()
    if reference is None:
        reference = _image(*_spec(context.obj), client).reference
    seen = overview.of(client, reference, earlier=against)
    if as_json:
        _answer(_table(seen))
    else:
        _answer("\n".join(overview.lines(seen, earlier=against)))


@images.command(epilog="Example: python -m tools image diff parity:env-0123456789ab parity:env-ba9876543210")
def diff(one: Annotated[str, typer.Argument()], two: Annotated[str, typer.Argument()]) -> None:
    """Say what tells two images apart.

    First the layers, then their files, then the bytes of the first file that differs. The exit code is 1 if anything
    does. An image is a reference of the engine, or an archive of docker save.
    """
    from . import engine
    from .image import difference

    told = False
    for line in difference.between(one, two, client=engine.ensure):
        told = True
        _answer(line)
    raise typer.Exit(1 if told else 0)


@images.command(epilog="Example: python -m tools image sbom > sbom.json")
def sbom(context: typer.Context) -> None:
    """Write a CycloneDX list of what is in the image."""
    from .image import build, sbom

    settings, spec = _spec(context.obj)
    locked = _lock(settings, spec)
    planned = build.plan(settings, locked, client=_engine_if_any())
    _answer(sbom.document(locked, planned.fingerprint, planned.platform).rstrip("\n"))


@images.command(epilog="Example: python -m tools image dockerfile > Dockerfile")
def dockerfile(context: typer.Context) -> None:
    """Write a Dockerfile for the same lock, to build elsewhere.

    Its environment has the same packages. The image is another one at each build, and it is slower to make and pull.
    """
    from .image import dockerfile

    settings, spec = _spec(context.obj)
    _answer(dockerfile.text(settings, _lock(settings, spec)).rstrip("\n"))


@app.command(epilog="Example: python -m tools push --env pytorch")
def push(
    env: Env = None,
    platforms: Annotated[
        list[str] | None, typer.Option("--platform", help="linux-64 or linux-aarch64; twice for one index of both.")
    ] = None,
    without_engine: Annotated[bool, typer.Option("--without-engine", help="Build and push with no engine.")] = False,
    by_engine: Annotated[bool, typer.Option("--by-engine", help="Let the engine push, with its proxies.")] = False,
    as_json: Json = False,
) -> None:
    """Push the image to [image] registry.

    Builds it first, if the registry lacks it. Prints registry/name@sha256:..., by which any machine gets the same
    image. The layers go from the cache to the registry; an engine only tries a new image out.
    """
    from .image import push

    settings, spec = _spec(env)
    push.address(settings)  # before any work
    client = None if without_engine else _engine_if_any()
    pushed = []
    for platform in dict.fromkeys(platforms or [settings.image.platform]):
        chosen = settings.for_platform(platform)
        pushed.append(push.push(chosen, spec, _lock(chosen, spec), client=client, by_engine=by_engine))
    if len(pushed) == 1:
        _answer(_table(pushed[0]) if as_json else pushed[0].reference)
    else:
        reference = push.index(settings, pushed)
        _answer({"reference": reference, "images": [_table(each) for each in pushed]} if as_json else reference)


@app.command(epilog="Example: python -m tools data")
def data(as_json: Json = False) -> None:
    """Get the data set, outside the source directory.

    Prints the folder, which [data] path in parity.toml names.
    """
    from . import data, settings

    prepared = data.prepare(settings.load())
    _answer(_table(prepared) if as_json else str(prepared.path))


@app.command(epilog="Example: python -m tools snapshot --fix")
def snapshot(
    source: Annotated[
        Path | None, typer.Argument(show_default=False, help="A folder; [run] source in parity.toml if left out.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Show lines for .amlignore; write them after a yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: write without asking.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Draw it too, as a treemap.")] = None,
    as_json: Json = False,
) -> None:
    """What would be uploaded, and what should not be.

    Prints number and size of the files against Azure ML's limits, and for all that does not belong in a snapshot the
    line or command that mends it. The exit code is 21 if Azure ML would refuse it. It never deletes or moves a file.
    """
    from . import snapshot
    from .settings import load
    from .snapshot import fix as fixes
    from .snapshot import treemap

    settings = load()

    def look() -> tuple[Report, list[str]]:
        ignored: list[str] = []
        memory = settings.cache / "snapshots"
        folder = source or settings.source
        return snapshot.inspect(folder, settings.snapshot.rules, memory=memory, ignored=ignored.append)[0], ignored

    report, ignored = look()
    proposed = fixes.of(report)
    if fix:
        _say(proposed.diff() or "No line is missing.")
        if proposed.diff() and (yes or typer.confirm(f"Write {proposed.file}?", err=True)):
            proposed.write()
            report, ignored = look()
    elif proposed.diff():
        _say("Lines for .amlignore are known: make snapshot ARGS=--fix shows them, and asks before it writes them")
    if html:
        treemap.write(report, ignored, html, cache=settings.cache)
        _say(f"Drawn: {html}")
    _answer(report.to_json() if as_json else report.text())
    raise typer.Exit(SnapshotError.exit_code if report.verdict == "over" else 0)


@app.command(
    epilog="Example: python -m tools run-local -- --epochs 1",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run_local(
    context: typer.Context,
    env: Env = None,
    as_json: Json = False,
) -> None:
    """Run the command in the image, on this machine.

    What follows -- is put behind the command. Builds the image and gets the data first, if need be. Prints the run's
    id; its record is in runs/ID. The exit code is the command's own.
    """
    from . import engine
    from .targets import local

    taken = _snapshot()  # before any work: an over-limit one is refused
    settings, spec = _spec(env)
    client = engine.ensure()
    run_spec = _run_spec(settings, spec, taken, tuple(context.args), client)
    with _terminable():
        local.recover(client, settings.runs)
        record = local.run(client, run_spec, settings.runs, show=_pass_on)
    where = os.path.relpath(record.folder)
    _say(f"Run {record.id} {record.status}: {where}/run.json, stdout.log, outputs/")
    _answer(record.to_json() if as_json else record.id)
    raise typer.Exit(INTERRUPTED if record.status == "canceled" else record.exit_code or 0)


@app.command(epilog="Example: python -m tools doctor --json")
def doctor(as_json: Json = False) -> None:
    """What is missing here, and what to type.

    The exit code is 1 if something must be mended.
    """
    from . import doctor, settings

    checks = list(doctor.checks(settings.load()))
    if as_json:
        _answer([_table(check) for check in checks])
    else:
        for check in checks:
            _answer(str(check))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def _spec(env: str | None) -> tuple[Settings, EnvironmentSpec]:
    from . import settings
    from .environment import spec

    loaded = settings.load()
    path = spec.find(loaded, env or loaded.environment.spec)
    return loaded, spec.EnvironmentSpec.load(path, python=loaded.environment.python)


def _lock(settings: Settings, spec: EnvironmentSpec) -> Lock:
    from .environment import locking

    return locking.resolve(settings, spec)


def _image(settings: Settings, spec: EnvironmentSpec, client: docker.DockerClient) -> Image:
    from .image import build

    return build.build(settings, spec, _lock(settings, spec), client=client)


def _engine_if_any() -> docker.DockerClient | None:
    """The engine; None where none answers and PARITY_ENGINE=never forbids to start one."""
    from . import engine

    try:
        return engine.ensure()
    except EngineError:
        if os.environ.get(engine.VARIABLE) != "never":
            raise
        return None


def _snapshot() -> Snapshot:
    from . import snapshot
    from .settings import load

    settings = load()
    return snapshot.take(settings.source, settings.snapshot.rules, memory=settings.cache / "snapshots")


def _run_spec(
    settings: Settings,
    spec: EnvironmentSpec,
    snapshot: Snapshot,
    arguments: tuple[str, ...],
    client: docker.DockerClient,
) -> RunSpec:
    """Everything that the run needs, the cheapest first, so that a mistake is met before the work."""
    from . import data, engine
    from .runs.spec import Input, Resources, RunSpec

    image = _image(settings, spec, client)
    prepared = data.prepare(settings)
    return RunSpec(
        image=image,
        snapshot=snapshot,
        command=settings.run.command,
        arguments=arguments,
        inputs=(Input(name="data", path=prepared.path, digest=prepared.digest),),
        environment_variables=settings.run.environment_variables,
        resources=Resources(
            shm_bytes=settings.resources.shm_bytes,
            gpu=settings.resources.gpu == "auto" and engine.has_gpu(client),
        ),
        stand_ins=(*image.stand_ins, *prepared.stand_ins),
    )


class _Lines(logging.Formatter):
    """What people read: the message alone, marked where it is a warning."""

    def format(self, record: logging.LogRecord) -> str:
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        if record.levelno == logging.DEBUG:
            mark = "+ "
        return f"{mark}{record.getMessage()}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _answer(answer: Any) -> None:
    print(answer if isinstance(answer, str) else json.dumps(answer, indent=2, default=str))  # noqa: T201


def _pass_on(output: bytes) -> None:
    sys.stderr.buffer.write(output)
    sys.stderr.buffer.flush()


def _table(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: its container goes with it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
