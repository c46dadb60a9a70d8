"""From a spec to its lock: conda-lock with rattler as its solver, whole or for single packages, and its stand-in."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files, offline
from ..errors import LockError, SpecError, nearest
from . import condalock, solver
from .condalock import Order
from .lock import Lock, stale
from .spec import FOLDER, LOCK_SUFFIX, EnvironmentSpec

if TYPE_CHECKING:
    from ..settings import Settings

log = logging.getLogger(__name__)


def lock_path(settings: Settings, spec: EnvironmentSpec, *, stand_in: bool = False) -> Path:
    """Where the lock of `spec` lies; that of a stand-in channel is never committed."""
    folder = settings.state / "offline" if stand_in else settings.root / FOLDER
    return folder / f"{spec.name}{LOCK_SUFFIX}"


def resolve(settings: Settings, spec: EnvironmentSpec) -> Lock:
    """The lock for an image: the one there is if it answers the spec, else a new one.

    Nothing is asked of the network where a fresh lock of the real channels exists (unless PARITY_OFFLINE=always).
    Errors: as `lock`.
    """
    platforms = (settings.image.platform,)
    path = lock_path(settings, spec)
    why = stale(path, spec, platforms)
    if why or offline.policy() == "always":
        path = lock_path(settings, spec, stand_in=_out_of_reach(spec))
        why = stale(path, spec, platforms)
    if why:
        path = _lock(settings, spec, platforms, why=why)
    return Lock.read(path)


def check(settings: Settings, spec: EnvironmentSpec) -> str | None:
    """Why `make image` would lock first, in words, or None; no network is asked and nothing is solved."""
    paths = [lock_path(settings, spec), lock_path(settings, spec, stand_in=True)]
    path = next((path for path in paths if path.exists()), paths[0])
    return stale(path, spec, (settings.image.platform,))


def lock(
    settings: Settings, spec: EnvironmentSpec, *, update: Sequence[str] = (), platforms: Sequence[str] = ()
) -> Path:
    """Locks `spec` for `platforms` (default: the image's) and gives the lock's path; same input, same bytes.

    update: names of packages; only these move, to where a fresh lock would have them, and what they force along.
    The spec's channels are replaced by a stand-in where they cannot be reached. Errors: SolveError if no set of
    packages answers the spec, with the solver's reason; LockError if a name of `update` is not in the lock, or
    conda-lock fails; SpecError for a match spec that is none; OfflineError. The old lock is then as it was.
    """
    return _lock(settings, spec, tuple(platforms) or (settings.image.platform,), update=tuple(update))


def _lock(
    settings: Settings,
    spec: EnvironmentSpec,
    platforms: tuple[str, ...],
    *,
    update: tuple[str, ...] = (),
    why: str = "",
) -> Path:
    from filelock import FileLock

    _check_match_specs(spec)
    stand_in = _out_of_reach(spec)
    path = lock_path(settings, spec, stand_in=stand_in)
    with files.disk_errors(settings.root, "make room, then: make lock"), contextlib.ExitStack() as stack:
        settings.state.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(settings.state / "locking.lock"))
        old = Lock.read(path) if update and path.exists() else None
        move = _known(update, old, path, spec)
        log.info("Locking %s%s", spec.path, f" ({why})" if why else f" (only {', '.join(move)})" if move else "")
        order = Order(spec=spec, channels=spec.channels, platforms=platforms, old=old, move=move)
        if stand_in:
            order = _with_stand_in(settings, order)
        content = condalock.lock(order, settings.state)
        with files.written_whole(path) as file:
            file.write(content)
    return path


def _out_of_reach(spec: EnvironmentSpec) -> bool:
    """Whether a stand-in is to be used: a channel of the spec does not answer. Channels of files are always there."""
    addresses = [address for name in spec.channels for address in solver.channel_addresses(name)]
    asked = [f"{address}noarch/repodata.json" for address in addresses if address.startswith("http")]
    return bool(asked) and offline.needed(offline.CHANNEL, lambda: all(offline.answers(url) for url in asked))


def _check_match_specs(spec: EnvironmentSpec) -> None:
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    for text in spec.dependencies:
        try:
            MatchSpec(text, strict=True)
        except InvalidMatchSpecError as error:
            reason = str(error).splitlines()[0]
            raise SpecError(f"{spec.path}: dependencies: {text}: {reason}", expected="e.g. numpy>=2,<3") from error


def _known(update: tuple[str, ...], old: Lock | None, path: Path, spec: EnvironmentSpec) -> tuple[str, ...]:
    """The names to move, as the lock spells them."""
    from packaging.utils import canonicalize_name

    if not update:
        return ()
    if old is None:
        raise LockError(f"{path}: no lock to update", command="make lock")
    if old.spec is None or json.loads(old.spec)["channels"] != list(spec.channels):
        raise LockError(f"{spec.path}: other channels than its lock's: an update would mix them", command="make lock")
    names = {package.name for package in old.packages}
    spelled = [name.lower() if name.lower() in names else canonicalize_name(name) for name in update]
    if unknown := next((name for name in spelled if name not in names), None):
        raise LockError(
            f"{path}: no package {unknown}{nearest(unknown, names)}",
            expected=f"one of the {len(names)} packages in it; a new one goes into {spec.path}",
        )
    return tuple(sorted(set(spelled)))


def _with_stand_in(settings: Settings, order: Order) -> Order:
    """The same order against a channel made here, which holds the versions that are not to move."""
    from ..offline import channel

    directory = settings.state / "offline" / "channel"
    for platform in order.platforms:
        old = order.old.for_platform(platform) if order.old else ()
        pins = {each.name: each.version for each in old if each.manager == "conda" and each.name not in order.move}
        made = channel.make(order.spec, directory, pins=pins, platform=platform)
    return replace(order, channels=(made.url,), stand_ins=(offline.CHANNEL,), lookup=made.lookup)
