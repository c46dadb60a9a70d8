"""Rehearsal workspaces: one for all tests, and new ones for those that stop or kill it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workspaces import SETTINGS, Rehearsal

from tools import engine


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """The workspace that tests share: none may stop it, or count on its being empty."""
    made = Rehearsal(tmp_path_factory.mktemp("rehearsal") / "project")
    yield made
    made.stop()


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Callable[..., Rehearsal]]:
    """Makes workspaces for one test alone, which may stop or kill them."""
    made: list[Rehearsal] = []

    def make(*, settings: str = SETTINGS) -> Rehearsal:
        made.append(Rehearsal(tmp_path / f"project-{len(made)}", settings=settings))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture(scope="session")
def image(rehearsal: Rehearsal) -> str:
    """The reference of the small environment's image, on a real engine."""
    engine.ensure()
    done = rehearsal.parity("image")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
