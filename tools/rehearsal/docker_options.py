"""What a job may ask of the engine: its shared memory, and the arguments of `docker run` that mean something here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SIZES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True, kw_only=True)
class DockerOptions:
    """Read from a submission. ulimits: (name, soft, hard); variables: those given by --env."""

    shm_bytes: int
    gpus: bool = False
    host_ipc: bool = False
    ulimits: tuple[tuple[str, int, int], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def read(shm_size: str, arguments: Iterable[str]) -> DockerOptions:
    """The options. ValueError names an argument that is not served, and those that are; the last of a kind counts."""
    size, gpus, host_ipc = shm_size, False, False
    ulimits: dict[str, tuple[str, int, int]] = {}
    variables: dict[str, str] = {}
    rest = iter([word for argument in arguments for word in shlex.split(argument)])
    for word in rest:
        option, joined, value = word.partition("=")
        if not joined:
            value = next(rest, "")
        if option == "--shm-size":
            size = value
        elif option == "--gpus":
            gpus = True
        elif option == "--ipc" and value == "host":
            host_ipc = True
        elif option == "--ulimit" and re.fullmatch(r"\w+=-?\d+(:-?\d+)?", value):
            name, _, limits = value.partition("=")
            soft, _, hard = limits.partition(":")
            ulimits[name] = (name, int(soft), int(hard or soft))
        elif option in ("-e", "--env") and value.partition("=")[0]:
            name, _, variables[name] = value.partition("=")
        else:
            raise ValueError(
                f"docker argument {word!r} is not served; "
                "--shm-size, --gpus, --ipc=host, --ulimit NAME=SOFT:HARD and --env NAME=VALUE are"
            )
    return DockerOptions(
        shm_bytes=_bytes(size), gpus=gpus, host_ipc=host_ipc, ulimits=tuple(ulimits.values()), variables=variables
    )


def _bytes(size: str) -> int:
    match = re.fullmatch(r"(\d+)([bkmg]?)b?", size.strip().lower())
    if not match:
        raise ValueError(f"shm_size {size!r} is no size; a number and b, k, m or g are, e.g. 2g")
    return int(match[1]) * SIZES[match[2]]
