"""What belongs to a run, or was uploaded for a model: plain files in a folder of each container."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from . import paths
from .answers import Refusal
from .runs import Run, Runs

RUN_ORIGIN = "ExperimentRun"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")
PART = re.compile(r"\..*\.part")  # being written (files.written_whole)


class Artifacts:
    """All containers of artifacts, each of which is named by an origin and a name of its own."""

    def __init__(self, runs: Runs, *, folder: Path) -> None:
        """folder: where they lie."""
        self.runs, self._folder = runs, folder

    def folder(self, run: Run) -> Path:
        """Where the files of a run lie: outputs/..., logs/..., user_logs/std_log.txt, azureml-logs/..."""
        return self._folder / RUN_ORIGIN / run.uuid

    def container(self, origin: str, container: str) -> Path:
        """The folder of that container. Refusal if it is one of a run that there is not."""
        if origin == RUN_ORIGIN:
            run = self.runs.get(container.removeprefix("dcid.")) if container.startswith("dcid.") else None
            if run is None:
                raise Refusal(404, f"Data container {container} not found.", component="artifact")
            return self.folder(run)
        for name in (origin, container):
            if not NAME.fullmatch(name):
                raise Refusal(400, f"{name!r} cannot be the name of a container.", component="artifact")
        return self._folder / origin / container

    def names(self, run: Run) -> list[str]:
        """The names of a run's files, sorted."""
        return names(self.folder(run))

    def path(self, run: Run, name: str) -> Path:
        """The place of a run's file, whether it is there or not. Refusal for a name that no file can have."""
        return paths.inside(self.folder(run), name)


def names(folder: Path, prefix: str = "") -> list[str]:
    """The files below the folder, sorted: all, or those with this path, or below it. No links, nothing half-written."""
    wanted = prefix.strip("/")
    top = paths.inside(folder, wanted) if wanted else folder
    if wanted and top.is_file() and not top.is_symlink():
        return [wanted]
    found = []
    for root, _, files in os.walk(top):
        for name in files:
            path = Path(root) / name
            if not PART.fullmatch(name) and stat.S_ISREG(path.lstat().st_mode):
                found.append(path.relative_to(folder).as_posix())
    return sorted(found)
