"""The real stand-in channel and pip's real index, so this needs Debian's packages and PyPI; no engine."""

import pytest

from tools import offline
from tools.environment import locking
from tools.environment.lock import Lock, stale
from tools.environment.spec import EnvironmentSpec
from tools.settings import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "environments").mkdir()
    return Settings(root=folder)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv(offline.VARIABLE, "always")


@pytest.fixture
def spec(settings):
    path = settings.root / "environments" / "small.yml"
    path.write_text("dependencies: [python=3.11, six, pip, pip: [python-dateutil<3]]\n")
    return EnvironmentSpec.load(path)


def test_conda_packages_come_from_the_stand_in_and_pips_from_its_index(settings, spec):
    lock = locking.resolve(settings, spec)
    conda = {package.name for package in lock.packages if package.manager == "conda"}
    wheels = [package for package in lock.packages if package.manager == "pip"]
    assert conda == {"python", "pip", "six"}
    assert [package.name for package in wheels] == ["python-dateutil"]  # its six is conda's
    assert wheels[0].url.startswith("https://")
    assert wheels[0].filename.endswith(".whl")
    assert lock.stand_ins == (offline.CHANNEL,)
    assert stale(lock.path, spec, ("linux-64",)) is None


def test_a_second_lock_and_an_update_of_what_is_newest_have_the_same_bytes(settings, spec):
    path = locking.resolve(settings, spec).path
    before = path.read_bytes()
    assert locking.lock(settings, spec).read_bytes() == before
    assert locking.lock(settings, spec, update=["python-dateutil", "six"]).read_bytes() == before


def test_a_requirements_file_locks_too(settings, tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("python-dateutil<3  # no version of its six\n")
    lock = Lock.read(locking.lock(settings, EnvironmentSpec.load(path)))
    assert [package.name for package in lock.packages if package.manager == "pip"] == ["python-dateutil", "six"]
