"""What is missing on this machine, each with the command that mends it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import engine, files, offline, project
from .errors import ParityError
from .offline import StandIn
from .settings import Settings

LEAST_FREE = 10_000_000_000  # bytes; an image with torch, its layers and its packages take 6 to 8 GB
SECONDS = offline.PROBE_SECONDS + 0.5  # for all checks together: they run side by side
AZURE = ("https://login.microsoftonline.com", "https://management.azure.com")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was looked at. ok: nothing needs mending; stand_in: what replaces it; command: what mends or betters it."""

    name: str
    ok: bool
    detail: str
    stand_in: str | None = None
    command: str | None = None

    def __str__(self) -> str:
        if self.stand_in:
            mark = "stand-in"
        elif self.ok:
            mark = "ok" if self.command is None else "note"
        else:
            mark = "missing"
        lines = [f"{mark:<9}{self.name}: {self.detail}"]
        if self.stand_in:
            lines.append(f"{'':9}using {self.stand_in}")
        if self.command:
            lines.append(f"{'':9}next: {self.command}")
        return "\n".join(lines)


def checks(settings: Settings) -> Iterator[Check]:
    """Every check, in a fixed order, in SECONDS at most; whatever has not answered by then is missing."""
    questions: dict[str, Callable[[Settings], Check]] = {
        "engine": _engine,
        "python": _python,
        "disk": _disk,
        "source": _source,
        "lock": _lock,
        "container registry": _registry,
        "conda channel": _channel,
        "package index": _index,
        "data set": _data,
        "azureml-core": _sdk,
        "azure": _azure,
        "workspace": _workspace,
    }
    answers: dict[str, Check] = {}
    threads = {
        name: threading.Thread(target=_answer, args=(name, ask, settings, answers), daemon=True)
        for name, ask in questions.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + SECONDS
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        yield answers.get(name) or Check(
            name=name, ok=False, detail=f"no answer within {SECONDS:.1f} s", command="try again"
        )


def _answer(name: str, ask: Callable[[Settings], Check], settings: Settings, answers: dict[str, Check]) -> None:
    try:
        answers[name] = ask(settings)
    except ParityError as error:
        answers[name] = Check(name=name, ok=False, detail=error.found, command=error.command)


# --- this machine


def _engine(settings: Settings) -> Check:
    where, client = engine.located()
    with engine.errors("asking for its version"):
        version = client.version()
    product = (version.get("Platform") or {}).get("Name", "")
    name = "Podman" if any("podman" in part["Name"].lower() for part in version.get("Components") or []) else "Docker"
    runs = engine.platform(client)
    gpu = "with GPU" if engine.has_gpu(client) else "no GPU"
    detail = (
        f"{name} {version['Version']}{f' ({product})' if 'Desktop' in product else ''} at {where.url}, {runs}, {gpu}"
    )
    if runs != settings.image.platform:
        return Check(
            name="engine",
            ok=True,
            detail=f"{detail}; images for {settings.image.platform} run in emulation, slowly",
            command=f"platform = {runs!r} in parity.toml, if Azure ML is to run that too",
        )
    return Check(name="engine", ok=True, detail=detail)


def _python(settings: Settings) -> Check:
    version = f"{platform.python_version()} in {sys.prefix}"
    own = [(folder / ".venv").resolve() for folder in (settings.root, project.TOOLKIT)]
    inside = Path(sys.prefix).resolve() in own
    return Check(
        name="python", ok=True, detail=version, command=None if inside else "make setup (pinned packages in .venv)"
    )


def _disk(settings: Settings) -> Check:
    places = [settings.root]
    with contextlib.suppress(Exception):  # the engine has a check of its own
        places.append(Path(engine.connect().info()["DockerRootDir"]))
    free = {path: shutil.disk_usage(path).free for path in places if path.exists()}
    detail = ", ".join(f"{files.human(size)} free for {path}" for path, size in free.items())
    low = min(free.values()) < LEAST_FREE
    return Check(
        name="disk",
        ok=True,
        detail=detail,
        command=f"make room: an image with torch takes {files.human(LEAST_FREE)}; docker system df" if low else None,
    )


# --- the project


def _source(settings: Settings) -> Check:
    there = settings.source.is_dir() and any(settings.source.iterdir())
    if there:
        return Check(name="source", ok=True, detail=str(settings.source))
    return Check(
        name="source",
        ok=False,
        detail=f"no files in {settings.source}",
        command="set source in [run] of parity.toml to the folder of your script",
    )


def _lock(settings: Settings) -> Check:
    from .environment import lock, locking, spec

    found = spec.EnvironmentSpec.load(
        spec.find(settings, settings.environment.spec), python=settings.environment.python
    )
    platforms = (settings.image.platform,)
    path, stand_in = locking.lock_path(settings, found), locking.lock_path(settings, found, stand_in=True)
    name = path.relative_to(settings.root)
    why = lock.stale(path, found, platforms)
    if why is None:
        return Check(name="lock", ok=True, detail=f"{name} is fresh")
    if offline.policy() != "never" and lock.stale(stand_in, found, platforms) is None:
        used = str(stand_in.relative_to(settings.root))
        return Check(name="lock", ok=True, detail=f"{name}: {why}", stand_in=used)
    return Check(name="lock", ok=False, detail=f"{name}: {why}", command="make lock")


# --- the network


def _service(name: str, where: str, reached: bool, stand_in: StandIn) -> Check:
    if reached:
        refused = offline.policy() == "always"
        return Check(name=name, ok=True, detail=f"{where} answers", stand_in=stand_in.replacement if refused else None)
    detail = f"{where} does not answer"
    if offline.policy() == "never":
        return Check(name=name, ok=False, detail=detail, command=f"check the network, or: unset {offline.VARIABLE}")
    return Check(name=name, ok=True, detail=detail, stand_in=stand_in.replacement)


def _registry(settings: Settings) -> Check:
    from .image import base, upstream

    reference = base.reference(settings)
    return _service(
        "container registry",
        f"the registry of {reference}",
        upstream.has_or_reaches(engine.connect(), reference),
        offline.BASE,
    )


def _channel(settings: Settings) -> Check:
    from .environment import solver, spec

    found = spec.EnvironmentSpec.load(
        spec.find(settings, settings.environment.spec), python=settings.environment.python
    )
    urls = [url for name in found.channels for url in solver.channel_addresses(name) if url.startswith("http")]
    reached = all(offline.answers(f"{url}noarch/repodata.json") for url in urls)
    return _service("conda channel", ", ".join(found.channels), reached, offline.CHANNEL)


def _index(settings: Settings) -> Check:
    from .environment import index

    configured = index.configured()
    if configured is None:
        return Check(name="package index", ok=False, detail="this Python has no pip", command="make setup")
    url = configured.urls[0]
    if offline.answers(url.replace("$", "")):
        return Check(name="package index", ok=True, detail="pip's index answers")
    return Check(
        name="package index",
        ok=False,
        detail="pip's index does not answer",
        command=f"check the network, then: {sys.executable} -m pip config debug",
    )


def _data(settings: Settings) -> Check:
    from . import data

    if settings.data_path is None:
        return Check(name="data set", ok=True, detail="none: data.path is empty")
    if settings.data.dataset == "none":
        return Check(name="data set", ok=True, detail=f"yours, in {settings.data_path}")
    return _service("data set", "CIFAR-10's host", offline.answers(data.CIFAR_10.url), offline.DATA)


def _azure(settings: Settings) -> Check:
    if all(offline.answers(url) for url in AZURE):
        return Check(name="azure", ok=True, detail="Azure's sign-in and management answer")
    return Check(
        name="azure",
        ok=True,
        detail="Azure's sign-in or management does not answer; only run-remote, data-push and register need it",
        command="make rehearse (no Azure); for Azure: look at this network's proxy, then make doctor again",
    )


def _sdk(settings: Settings) -> Check:
    if importlib.util.find_spec("azureml") is None:
        return Check(
            name="azureml-core",
            ok=True,
            detail="not installed; make rehearse and run-remote do it",
            command="make setup-azure",
        )
    version = importlib.metadata.version("azureml-core")
    return Check(name="azureml-core", ok=True, detail=f"{version} in {sys.prefix}")


def _workspace(settings: Settings) -> Check:
    chosen, config = settings.azureml, settings.root / settings.azureml.config
    if chosen.workspace:
        return Check(name="workspace", ok=True, detail=f"{chosen.workspace} of resource group {chosen.resource_group}")
    if config.is_file():
        return Check(name="workspace", ok=True, detail=str(config))
    return Check(
        name="workspace",
        ok=True,
        detail=f"no {config}; run-remote needs it, make rehearse does not",
        command=f"download config.json from your workspace's page in the Azure portal, into {config.parent}/",
    )
