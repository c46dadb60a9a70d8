"""`image`, what an image is made of, and `push`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import shared

images = typer.Typer(rich_markup_mode=None, epilog="Example: python -m tools image --env pytorch-aml --json")


@images.callback(invoke_without_command=True)
def image(
    context: typer.Context,
    env: shared.Env = None,
    platform: Annotated[str | None, typer.Option(help="linux-64 or linux-aarch64; default: [image] platform.")] = None,
    as_json: shared.Json = False,
) -> None:
    """Build the image, if the engine lacks it.

    Locks first if the lock is stale. Prints the image's reference. The commands below tell what an image is made of.
    """
    from .. import engine

    context.obj = env
    if context.invoked_subcommand is None:
        settings, spec = shared.spec(env)
        settings = settings.for_platform(platform) if platform else settings
        built = shared.image(settings, spec, engine.ensure())
        shared.answer(shared.table(built) if as_json else built.reference)


@images.command(epilog="Example: python -m tools image show --against parity:env-0123456789ab")
def show(
    context: typer.Context,
    reference: Annotated[str | None, typer.Argument(help="An image of the engine; default: this project's.")] = None,
    against: Annotated[str | None, typer.Option(metavar="IMAGE", help="What a pull costs where this one is.")] = None,
    as_json: shared.Json = False,
) -> None:
    """Show an image's layers, packages and sizes."""
    from .. import engine
    from ..image import overview

    client = engine.ensure()
    if reference is None:
        reference = shared.image(*shared.spec(context.obj), client).reference
    seen = overview.of(client, reference, earlier=against)
    if as_json:
        shared.answer(shared.table(seen))
    else:
        shared.answer("\n".join(overview.lines(seen, earlier=against)))


@images.command(epilog="Example: python -m tools image diff parity:env-0123456789ab parity:env-ba9876543210")
def diff(one: Annotated[str, typer.Argument()], two: Annotated[str, typer.Argument()]) -> None:
    """Say what tells two images apart.

    First the layers, then their files, then the bytes of the first file that differs. The exit code is 1 if anything
    does. An image is a reference of the engine, or an archive of docker save.
    """
    from .. import engine
    from ..image import difference

    told = False
    for line in difference.between(one, two, client=engine.ensure):
        told = True
        shared.answer(line)
    raise typer.Exit(1 if told else 0)


@images.command(epilog="Example: python -m tools image sbom > sbom.json")
def sbom(context: typer.Context) -> None:
    """Write a CycloneDX list of what is in the image."""
    from ..image import build, sbom

    settings, spec = shared.spec(context.obj)
    locked = shared.lock(settings, spec)
    planned = build.plan(settings, locked, client=shared.engine_if_any())
    shared.answer(sbom.document(locked, planned.fingerprint, planned.platform).rstrip("\n"))


@images.command(epilog="Example: python -m tools image dockerfile > Dockerfile")
def dockerfile(context: typer.Context) -> None:
    """Write a Dockerfile for the same lock, to build elsewhere.

    Its environment has the same packages. The image is another one at each build, and it is slower to make and pull.
    """
    from ..image import dockerfile

    settings, spec = shared.spec(context.obj)
    shared.answer(dockerfile.text(settings, shared.lock(settings, spec)).rstrip("\n"))


def push(
    env: shared.Env = None,
    platforms: Annotated[
        list[str] | None, typer.Option("--platform", help="linux-64 or linux-aarch64; twice for one index of both.")
    ] = None,
    without_engine: Annotated[bool, typer.Option("--without-engine", help="Build and push with no engine.")] = False,
    by_engine: Annotated[bool, typer.Option("--by-engine", help="Let the engine push, with its proxies.")] = False,
    as_json: shared.Json = False,
) -> None:
    """Push the image to [image] registry.

    Builds it first, if the registry lacks it. Prints registry/name@sha256:..., by which any machine gets the same
    image. The layers go from the cache to the registry; an engine only tries a new image out.
    """
    from ..image import push

    settings, spec = shared.spec(env)
    push.address(settings)  # before any work
    client = None if without_engine else shared.engine_if_any()
    pushed = []
    for platform in dict.fromkeys(platforms or [settings.image.platform]):
        chosen = settings.for_platform(platform)
        pushed.append(push.push(chosen, spec, shared.lock(chosen, spec), client=client, by_engine=by_engine))
    if len(pushed) == 1:
        shared.answer(shared.table(pushed[0]) if as_json else pushed[0].reference)
    else:
        reference = push.index(settings, pushed)
        shared.answer(
            {"reference": reference, "images": [shared.table(each) for each in pushed]} if as_json else reference
        )
