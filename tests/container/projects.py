"""A project's folder and the verbs in it, as a person types them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import docker

from tools import data, settings
from tools.environment import locking
from tools.environment.spec import EnvironmentSpec
from tools.image import build
from tools.runs.spec import Input, Resources, RunSpec
from tools.snapshot import take

ROOT = Path(__file__).parents[2]
# The small environment: python, and a pure and a compiled package.
SMALL = "channels: [conda-forge]\ndependencies: [python=3.11, tqdm, markupsafe]\n"
SETTINGS = '[environment]\nspec = "environments/small.yml"\n'


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project's folder. `parity("image")` runs a verb in it."""

    root: Path

    def parity(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tools", *arguments],
            cwd=self.root,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tools", *arguments],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def folder(self, run_id: str) -> Path:
        return self.root / "runs" / run_id.strip()

    def spec(self, client: docker.DockerClient, *, nodes: int = 1) -> RunSpec:
        """What run-local makes of it, before any container is."""
        loaded = settings.load(self.root)
        asked = EnvironmentSpec.load(self.root / loaded.environment.spec)
        prepared = data.prepare(loaded)
        return RunSpec(
            image=build.build(loaded, asked, locking.resolve(loaded, asked), client=client),
            snapshot=take(loaded.source, "v1", memory=loaded.cache / "snapshots"),
            command=loaded.run.command,
            arguments=(),
            inputs=(Input(name="data", path=prepared.path, digest=prepared.digest),),
            environment_variables=loaded.run.environment_variables,
            resources=Resources(shm_bytes=loaded.resources.shm_bytes, gpu=False, nodes=nodes),
            stand_ins=(),
        )


def example(root: Path) -> Project:
    """A copy of examples/scikit-learn in the new folder `root`, with this checkout's caches."""
    made_there = shutil.ignore_patterns(".parity", "runs", "__pycache__")
    shutil.copytree(ROOT / "examples" / "scikit-learn", root, ignore=made_there)
    link_caches(root)
    return Project(root=root)


def link_caches(root: Path) -> None:
    """Gives the project in `root`, which need not be there yet, this checkout's caches and a state of its own."""
    (root / ".parity").mkdir(parents=True)
    for shared in ("cache", "offline"):
        (ROOT / ".parity" / shared).mkdir(parents=True, exist_ok=True)
        (root / ".parity" / shared).symlink_to(ROOT / ".parity" / shared)
