"""What the verbs share: their options, how they answer, and the steps that several of them begin with."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EngineError

if TYPE_CHECKING:
    import docker

    from ..environment.lock import Lock
    from ..environment.spec import EnvironmentSpec
    from ..image.build import Image
    from ..settings import Settings

Env = Annotated[
    str | None,
    typer.Option("--env", metavar="NAME|PATH", help="Environment: environments/NAME.yml, or a spec's path."),
]
Nodes = Annotated[int | None, typer.Option("--nodes", metavar="N", min=1, help="Machines; else [resources] nodes.")]
Processes = Annotated[
    int | None, typer.Option("--processes", metavar="N", min=1, help="Processes on each; else [resources] processes.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person asks of a run on the command line. arguments: put behind the command; None: as the settings say."""

    env: str | None
    arguments: tuple[str, ...]
    nodes: int | None = None
    processes: int | None = None

    def settings(self) -> Settings:
        """The settings with what is asked; SettingsError where the command cannot be started so."""
        from .. import settings
        from ..runs import launch

        loaded = settings.load().sized(nodes=self.nodes, processes=self.processes)
        launch.line(loaded.run.command, loaded.resources.nodes, loaded.resources.processes)
        return loaded


def spec(env: str | None) -> tuple[Settings, EnvironmentSpec]:
    from .. import settings

    loaded = settings.load()
    return loaded, environment(loaded, env)


def environment(settings: Settings, env: str | None) -> EnvironmentSpec:
    from ..environment import spec

    path = spec.find(settings, env or settings.environment.spec)
    return spec.EnvironmentSpec.load(path, python=settings.environment.python)


def lock(settings: Settings, spec: EnvironmentSpec) -> Lock:
    from ..environment import locking

    return locking.resolve(settings, spec)


def image(settings: Settings, spec: EnvironmentSpec, client: docker.DockerClient) -> Image:
    from ..image import build

    return build.build(settings, spec, lock(settings, spec), client=client)


def engine_if_any() -> docker.DockerClient | None:
    """The engine; None where none answers and PARITY_ENGINE=never forbids to start one."""
    from .. import engine

    try:
        return engine.ensure()
    except EngineError:
        if os.environ.get(engine.VARIABLE) != "never":
            raise
        return None


def say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def answer(answer: Any) -> None:
    print(answer if isinstance(answer, str) else json.dumps(answer, indent=2, default=str))  # noqa: T201


def table(value: Any) -> dict[str, Any]:
    return asdict(value)
