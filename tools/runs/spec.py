"""RunSpec: everything that decides what a run does, made once, from files, before any target is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import files
from ..errors import RunError
from ..image.build import Image
from ..offline import StandIn
from ..snapshot import Snapshot
from . import contract, launch


@dataclass(frozen=True, kw_only=True)
class Input:
    """A folder that the command reads. digest: the sha256 of its content, if it is known."""

    name: str
    path: Path
    digest: str | None


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run finds in its outputs/ at its start: all that another one left there.

    files: (path below `folder`, with "/", sha256 of the content); digest: over both.
    """

    run_id: str
    folder: Path
    files: tuple[tuple[str, str], ...]
    digest: str

    @classmethod
    def of(cls, run: Path) -> Start:
        """What a run left, but the notes of its witness; RunError where that is nothing. run: its folder.

        A link is its content, and left out where that lies outside.
        """
        folder = run / "outputs"
        inside = (
            path for path in sorted(folder.rglob("*")) if path.is_file() and folder.resolve() in path.resolve().parents
        )
        paths = [path.relative_to(run).as_posix() for path in inside]
        kept = [path for path in paths if not path.startswith(f"{contract.NOTES}/")]
        if not kept:
            raise RunError(
                f"run {run.name} left nothing in {folder} to go on from",
                expected="a run whose command writes checkpoints to outputs/",
                command="python -m tools runs list",
            )
        found = tuple((path.removeprefix("outputs/"), files.sha256(run / path)) for path in kept)
        lines = "".join(f"{sha256} {path}\n" for path, sha256 in found)
        return cls(run_id=run.name, folder=folder, files=found, digest=hashlib.sha256(lines.encode()).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the run gets. shm_bytes: the size of /dev/shm; gpu: all GPUs of a machine; nodes: machines, each with a
    container; processes: that torchrun starts on each.
    """

    shm_bytes: int
    gpu: bool
    nodes: int = 1
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run before it runs. command: as in the settings, with {name} for an input's path; arguments: put behind it."""

    image: Image
    snapshot: Snapshot
    command: str
    arguments: tuple[str, ...]
    inputs: tuple[Input, ...]
    environment_variables: Mapping[str, str] = field(repr=False)
    resources: Resources
    stand_ins: tuple[StandIn, ...]
    start: Start | None = None

    @property
    def line(self) -> str:
        """The command line of each node, for bash: torchrun where there are several processes, and the witness where
        the image has it.
        """
        names = [each.name for each in self.inputs]
        command = launch.line(self.command, self.resources.nodes, self.resources.processes)
        return contract.line(command, names, self.arguments, witnessed=self.image.witnessed)

    @property
    def variables(self) -> dict[str, str]:
        """The variables that the run sets, and for the witness their names."""
        return {**self.environment_variables, contract.WITNESSED: ",".join(sorted(self.environment_variables))}
