"""A real engine, found or started as `make engine` does, and projects that share this checkout's caches."""

from collections.abc import Callable, Mapping
from pathlib import Path

import docker
import pytest
from projects import ROOT, SETTINGS, SMALL, Project

from tools import engine


@pytest.fixture(scope="session")
def client() -> docker.DockerClient:
    return engine.ensure()


def bare(root: Path) -> Project:
    """A project with the small environment, and this checkout's caches."""
    (root / "environments").mkdir(parents=True)
    (root / "environments" / "small.yml").write_text(SMALL)
    (root / "docker").symlink_to(ROOT / "docker")
    (ROOT / ".parity").mkdir(exist_ok=True)
    (root / ".parity").symlink_to(ROOT / ".parity")
    (root / "parity.toml").write_text(SETTINGS)
    return Project(root=root)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has the image of the small environment: python, and a pure and a compiled package."""
    made = bare(tmp_path_factory.mktemp("small") / "project")
    done = made.parity("image")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def image(small: Project) -> str:
    """The reference of the small environment's image."""
    return small.parity("image").stdout.strip()


@pytest.fixture
def project(tmp_path: Path, small: Project) -> Callable[..., Project]:
    """Makes a project whose source directory holds the given files; it has the image of `small` already."""

    def make(files: Mapping[str, str], *, settings: str = "") -> Project:
        made = bare(tmp_path / "project")
        (made.root / "data").mkdir()
        (made.root / "data" / "numbers").write_text("1 2 3\n")
        text = f'{SETTINGS}[run]\ncommand = "python train.py --data {{data}}"\n[data]\ndataset = "none"\n{settings}'
        (made.root / "parity.toml").write_text(text)
        for name, content in files.items():
            path = made.root / "trainer" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return made

    return make
