"""The same lock gives the same image id: whoever builds it, wherever, in whatever order, after whatever accident."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml
from projects import ROOT, SETTINGS, SMALL, Project
from services import empty_engine

NOBODY = 65534
NAME = "parity-again"  # of the images made here

# What `python -m tools image` does before any engine is asked: the id is known then.
ASSEMBLE = """
import logging, os, sys
logging.basicConfig(level=logging.INFO)
from tools import settings
from tools.environment import locking, spec
from tools.image import build
project = settings.load()
asked = spec.EnvironmentSpec.load(spec.find(project, "small"))
print(build.assemble(build.plan(project, locking.resolve(project, asked), client=None)).id, flush=True)
os._exit(0)
"""


def checkout(root: Path, lock: Path) -> Project:
    """A project with the small environment and its lock; nothing else is cached."""
    (root / "environments").mkdir(parents=True)
    (root / "environments" / "small.yml").write_text(SMALL)
    shutil.copytree(ROOT / "docker", root / "docker")
    (root / "parity.toml").write_text(f'{SETTINGS}[image]\nname = "{NAME}"\n')
    (root / ".parity" / "cache").mkdir(parents=True)
    (root / ".parity" / "offline").mkdir()
    shutil.copy(lock, root / ".parity" / "offline" / lock.name)
    return Project(root=root)


def share_base(project: Project) -> None:
    (project.root / ".parity" / "cache" / "base").symlink_to(ROOT / ".parity" / "cache" / "base")


@pytest.fixture(scope="module")
def lock(small: Project) -> Path:
    """The lock of the small environment; its packages lie in this checkout's stand-in channel."""
    return small.root / ".parity" / "offline" / "small.conda-lock.yml"


@pytest.fixture(scope="module")
def reference(
    lock: Path, tmp_path_factory: pytest.TempPathFactory, client: docker.DockerClient
) -> Iterator[tuple[Project, str]]:
    """A project that built the image, and the image's id."""
    made = checkout(tmp_path_factory.mktemp("first"), lock)
    share_base(made)
    done = made.parity("image", "--json", PARITY_OFFLINE="always")
    assert done.returncode == 0, done.stderr
    yield made, json.loads(done.stdout)["id"]
    forget(client)


def forget(client: docker.DockerClient) -> None:
    """Takes the names given here from their images, and with the last name the image goes."""
    for image in client.images.list(NAME):
        for tag in image.tags:
            if tag.startswith(f"{NAME}:"):
                client.images.remove(tag)


def assembled(made: Project, *, user: int = os.getuid(), umask: int = 0o022, **variables: str) -> str:
    """The image id in a process of another user, umask and environment."""
    if user != os.getuid():
        subprocess.run(["chown", "-R", str(user), str(made.root)], check=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(made.root), "PARITY_OFFLINE": "always", **variables}
    someone = become(user) if user != os.getuid() else []
    done = subprocess.run(
        [*someone, sys.executable, "-c", ASSEMBLE],
        cwd=made.root,
        env=environment,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def shuffled(lock: Path, target: Path) -> Path:
    """The same lock with its packages in another order, and fetched from another place."""
    table = yaml.safe_load(lock.read_text())
    random.Random(0).shuffle(table["package"])
    mirror = target / "mirror"
    mirror.mkdir()
    for package in table["package"]:
        path = Path(package["url"].removeprefix("file://"))
        shutil.copy(path, mirror)
        package["url"] = (mirror / path.name).as_uri()
    other = target / "small.conda-lock.yml"
    other.write_text("# a comment of someone else's\n" + yaml.safe_dump(table))
    return other


def somebody() -> int:
    """Another user, who must be able to read the toolkit where it lies."""
    can = subprocess.run([*become(NOBODY), sys.executable, "-c", "import tools.image.build"], cwd="/", check=False)
    if can.returncode == 0:
        return NOBODY
    warnings.warn(f"built as no other user: {ROOT} is closed to them", stacklevel=2)
    return os.getuid()


def become(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that everyone may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can build as someone else")
def test_another_clone_user_umask_locale_zone_seed_order_and_mirror_give_the_same_id(
    reference: tuple[Project, str], lock: Path, public_path: Path
) -> None:
    first, image_id = reference
    other = checkout(public_path / "another" / "clone", shuffled(lock, public_path))
    shutil.copytree(ROOT / ".parity" / "cache" / "base", other.root / ".parity" / "cache" / "base")
    variables = {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "12345"}
    found = assembled(other, user=somebody(), umask=0o077, **variables)
    if found != image_id:
        (other.root / "parity.toml").write_text((other.root / "parity.toml").read_text().replace(NAME, "parity-other"))
        built = json.loads(other.parity("image", "--json", PARITY_OFFLINE="always").stdout)["reference"]
        pytest.fail(first.parity("image", "diff", image_id, built).stdout)


def test_diff_names_the_first_file_that_differs(reference: tuple[Project, str], client: docker.DockerClient) -> None:
    made, image_id = reference
    container = client.containers.run(
        image_id, ["sh", "-c", "printf x >> /opt/env/lib/python3.11/this.py; touch /new"], detach=True
    )
    container.wait()
    other = container.commit(repository=NAME, tag="touched")
    container.remove()
    try:
        same = made.parity("image", "diff", image_id, image_id)
        assert (same.returncode, same.stdout) == (0, "")
        told = made.parity("image", "diff", image_id, other.id)
        assert told.returncode == 1
        assert "only in" in told.stdout
    finally:
        client.images.remove(other.id, force=True)


def test_a_build_killed_at_any_point_leaves_a_state_that_gives_the_same_id(
    reference: tuple[Project, str], lock: Path, tmp_path: Path
) -> None:
    _, image_id = reference
    made = checkout(tmp_path / "clone", lock)
    share_base(made)
    begun = time.monotonic()
    assert assembled(made) == image_id
    whole = time.monotonic() - begun
    shutil.rmtree(made.root / ".parity" / "cache")
    (made.root / ".parity" / "cache").mkdir()
    share_base(made)
    for point in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", ASSEMBLE],
            cwd=made.root,
            env={**os.environ, "PARITY_OFFLINE": "always"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(whole * (point + 1) / 11)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert assembled(made) == image_id


@pytest.fixture(scope="module")
def other_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[docker.DockerClient, str]]:
    """An engine that has no layer from anywhere, so that it must be given those of the cache; and its address."""
    folder = tmp_path_factory.mktemp("engine") / "dockerd"
    with empty_engine(folder) as client:
        yield client, f"unix://{folder / 'docker.sock'}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start an engine of its own")
@pytest.mark.parametrize("victim", ["packages/*/*.conda", "layers/*/layer.tar"])
@pytest.mark.parametrize("harm", ["flipped", "truncated"])
def test_a_damaged_cache_is_named_and_mended(
    reference: tuple[Project, str],
    other_engine: tuple[docker.DockerClient, str],
    lock: Path,
    tmp_path: Path,
    victim: str,
    harm: str,
) -> None:
    _, image_id = reference
    other_client, address = other_engine
    made = checkout(tmp_path / "clone", lock)
    share_base(made)
    cache = made.root / ".parity" / "cache"
    assert assembled(made) == image_id
    forget(other_client)
    path = max(cache.glob(victim), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(flipped if harm == "flipped" else content[:middle])
    done = made.parity("image", "--json", PARITY_OFFLINE="always", DOCKER_HOST=address)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == image_id
    if (victim, harm) != ("layers/*/layer.tar", "truncated"):  # a tar of another size was never taken for finished
        assert "damaged" in done.stderr


def test_nothing_of_the_machine_that_built_it_is_in_the_image(
    reference: tuple[Project, str], client: docker.DockerClient, tmp_path: Path
) -> None:
    made, image_id = reference
    attributes = json.dumps(client.images.get(image_id).attrs)
    words = [str(made.root), str(ROOT), str(tmp_path.parent)]
    assert [word for word in words if word in attributes] == []
    for tar in (made.root / ".parity" / "cache" / "layers").glob("*/layer.tar"):
        content = tar.read_bytes()
        assert [word for word in words if word.encode() in content] == [], tar


def test_two_builds_at_once_on_one_checkout_agree(reference: tuple[Project, str], lock: Path, tmp_path: Path) -> None:
    _, image_id = reference
    made = checkout(tmp_path / "clone", lock)
    share_base(made)
    builds = [
        subprocess.Popen(
            [sys.executable, "-c", ASSEMBLE],
            cwd=made.root,
            env={**os.environ, "PARITY_OFFLINE": "always"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outcomes = [(*build.communicate(), build.returncode) for build in builds]
    assert [(out.strip(), code) for out, _, code in outcomes] == [(image_id, 0)] * 2, outcomes
    assert sorted("another build is at work" in said for _, said, _ in outcomes) == [False, True]
