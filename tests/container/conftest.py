"""A real engine, found or started as `make engine` does, and projects that share this checkout's caches."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import docker
import pytest
from projects import ROOT, Project

from tools import engine


@pytest.fixture(scope="session")
def client() -> docker.DockerClient:
    return engine.ensure()


@pytest.fixture(scope="session")
def image() -> str:
    """The image of environments/pytorch.yml: built, and its reference printed."""
    done = Project(root=ROOT).parity("image")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, image: str) -> Callable[..., Project]:
    """Makes a project whose source directory holds the given files; it has `image` already."""

    def make(files: Mapping[str, str], *, settings: str = "") -> Project:
        shutil.copytree(ROOT / "environments", tmp_path / "environments")
        (tmp_path / ".parity").symlink_to(ROOT / ".parity")
        (tmp_path / "docker").symlink_to(ROOT / "docker")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "numbers").write_text("1 2 3\n")
        text = f'[run]\ncommand = "python train.py --data {{data}}"\n[data]\ndataset = "none"\n{settings}'
        (tmp_path / "parity.toml").write_text(text)
        for name, content in files.items():
            path = tmp_path / "trainer" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return Project(root=tmp_path)

    return make
