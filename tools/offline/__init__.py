"""What stands in where Docker Hub, conda-forge or a data set cannot be reached.

Nothing is replaced silently: each stand-in is said in one line, and stands in the lock's metadata, the image's labels
and the run's record. PARITY_OFFLINE=never refuses them, =always uses them without asking the network.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from ..errors import OfflineError, SettingsError, nearest

VARIABLE = "PARITY_OFFLINE"
PROBE_SECONDS = 3.0

Policy = Literal["auto", "always", "never"]
Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """Something that replaces a service. kind is its key in labels and records."""

    kind: Literal["base", "channel", "data"]
    missing: str
    replacement: str


BASE = StandIn(kind="base", missing="the container registry", replacement="a base of Debian packages, by mmdebstrap")
CHANNEL = StandIn(
    kind="channel", missing="the conda channel", replacement="a channel made from Debian's python and PyPI's wheels"
)
DATA = StandIn(
    kind="data", missing="CIFAR-10's host", replacement="scikit-learn's handwritten digits in CIFAR-10's file format"
)


def policy() -> Policy:
    """What PARITY_OFFLINE says; SettingsError if it is none of auto, always, never."""
    value = os.environ.get(VARIABLE, "auto")
    allowed = ("auto", "always", "never")
    if value not in allowed:
        raise SettingsError(f"{VARIABLE}={value}: allowed: {', '.join(allowed)}{nearest(value, allowed)}")
    return cast(Policy, value)


def needed(stand_in: StandIn, reached: Callable[[], bool]) -> bool:
    """Whether `stand_in` is to be used; `reached` asks the real service, within PROBE_SECONDS.

    Errors: OfflineError where it would be needed and PARITY_OFFLINE=never.
    """
    rule = policy()
    if rule == "always":
        _say(stand_in, f"{VARIABLE}=always")
        return True
    if reached():
        return False
    if rule == "never":
        raise OfflineError(
            f"{stand_in.missing} cannot be reached, and {VARIABLE}=never refuses {stand_in.replacement}",
            command=f"make doctor, or allow the stand-in: unset {VARIABLE}",
        )
    _say(stand_in, f"{stand_in.missing} cannot be reached")
    return True


@functools.cache
def _say(stand_in: StandIn, reason: str) -> None:
    """Once a run, however often it is asked."""
    log.warning("stand-in: %s; using %s (refuse with %s=never)", reason, stand_in.replacement, VARIABLE)


def in_time(ask: Callable[[], Answer], otherwise: Answer) -> Answer:
    """What `ask` says within PROBE_SECONDS, else `otherwise`: a dead network's name look-up heeds no time-out."""
    said: list[Answer] = []
    thread = threading.Thread(target=lambda: said.append(ask()), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return said[0] if said else otherwise


@functools.cache
def answers(url: str) -> bool:
    """Whether an HTTP server answers at `url` within PROBE_SECONDS, with anything but an error of its own (5xx)."""
    return in_time(lambda: _answers(url), False)


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.head(url, timeout=PROBE_SECONDS, follow_redirects=True).status_code < 500
    except httpx.HTTPError:
        return False
