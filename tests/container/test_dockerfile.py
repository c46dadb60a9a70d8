import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import ejected
import pytest
from projects import Project

from tools import files, settings
from tools.environment import locking
from tools.environment.lock import Package
from tools.environment.spec import EnvironmentSpec
from tools.image.staging import PREFIX

TAG = "parity-test-ejected:1"
LIST = f"ls {PREFIX}/conda-meta | grep json"
IMPORT = f"{PREFIX}/bin/python -c 'import tqdm, markupsafe; print(tqdm.__version__, markupsafe._speedups.__file__)'"
COMPILED = f"ls {PREFIX}/lib/python3*/site-packages/tqdm/__pycache__"


def wheel(folder: Path) -> Package:
    """What pip has to install: a module of one line."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "SAID = 'installed by pip'\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.dist-info/RECORD,,\n")
    return Package(
        name="tiny",
        version="1.0",
        build="",
        manager="pip",
        url=path.as_uri(),
        sha256=files.sha256(path),
        md5=None,
        platform="linux-64",
        dependencies=(),
    )


@pytest.fixture(scope="module")
def built(client: docker.DockerClient, small: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    loaded = settings.load(small.root)
    spec = EnvironmentSpec.load(small.root / loaded.environment.spec)
    lock = locking.resolve(loaded, spec)
    lock = replace(lock, packages=(*lock.packages, wheel(tmp_path_factory.mktemp("wheels"))))
    arguments = ejected.images(client, loaded, lock)
    ejected.build(client, loaded, lock, arguments, TAG)
    yield TAG
    ejected.remove(client)


@pytest.mark.parametrize("command", [LIST, IMPORT, COMPILED], ids=["packages", "import", "bytecode"])
def test_the_ejected_dockerfile_gives_the_same_environment(
    client: docker.DockerClient, image: str, built: str, command: str
) -> None:
    answers = [
        client.containers.run(name, ["bash", "-c", f"set -o pipefail; {command}"], remove=True, network_mode="none")
        for name in (image, built)
    ]
    assert answers[0]
    assert answers[0] == answers[1]


def test_the_ejected_image_has_the_same_variables(client: docker.DockerClient, image: str, built: str) -> None:
    ours, theirs = (set(client.images.get(name).attrs["Config"]["Env"]) for name in (image, built))
    assert theirs <= ours
    assert any(each.startswith(f"PATH={PREFIX}/bin:") for each in theirs)


def test_the_ejected_dockerfile_installs_the_wheels_of_the_lock(client: docker.DockerClient, built: str) -> None:
    command = [f"{PREFIX}/bin/python", "-c", "import tiny; print(tiny.SAID)"]
    assert client.containers.run(built, command, remove=True, network_mode="none") == b"installed by pip\n"
