"""An image from a lock, beside a conventional multi-stage Dockerfile that installs the same lock, in one run.

    .venv/bin/python benchmarks/image.py        (about eight minutes; needs docker-registry)

The Dockerfile is the one that `parity image dockerfile` writes. Where neither a registry nor micromamba can be reached,
its stages start from the stand-in base and an installer on rattler, as the tests have it (tests/container/ejected.py).
It removes the images that this toolkit made from the engine, so that cold is cold, and nothing else.
"""

import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "container"))

import ejected  # noqa: E402
import services  # noqa: E402

from tools import engine, settings  # noqa: E402
from tools.environment.lock import Lock  # noqa: E402
from tools.image import store  # noqa: E402

SPEC = "channels: [conda-forge]\ndependencies: [python=3.11, pytorch, torchvision, tqdm={version}]\n"
VERSIONS = ("4.66.5", "4.67.1")  # of the package that is bumped
IMPORT = "import time; t = time.perf_counter(); import torch, torchvision; print(time.perf_counter() - t)"
BARS = {"bump": "10 times faster", "pushed": "8 times fewer", "cold": "not slower", "size": "not larger"}


@dataclass(kw_only=True)
class Contender:
    """One way to build. figures: seconds or bytes by name."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """A project with the benchmark's spec, its own empty cache, and a base that is there already."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "environments").mkdir()
        shutil.copytree(ROOT / "docker", root / "docker")
        (root / ".parity" / "cache").mkdir(parents=True)
        (root / ".parity" / "cache" / "base").symlink_to(ROOT / ".parity" / "cache" / "base")
        (root / ".parity" / "offline").symlink_to(ROOT / ".parity" / "offline")
        yield root


def configure(root: Path, version: str, registry: str) -> None:
    (root / "environments" / "bench.yml").write_text(SPEC.format(version=version))
    text = f'[environment]\nspec = "environments/bench.yml"\n[image]\nname = "parity-bench"\nregistry = "{registry}"\n'
    (root / "parity.toml").write_text(text)


def parity(root: Path, *verb: str) -> str:
    done = subprocess.run([sys.executable, "-m", "tools", *verb], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def forget(client: docker.DockerClient) -> None:
    for image in client.images.list(filters={"label": store.FINGERPRINT}):
        client.images.remove(image.id, force=True)


def stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "storage").rglob("*") if path.is_file())


def imports(client: docker.DockerClient, reference: str) -> float:
    command = ["/opt/env/bin/python", "-c", IMPORT]
    return statistics.median(float(client.containers.run(reference, command, remove=True)) for _ in range(3))


def ours(client: docker.DockerClient, root: Path, locks: list[Path], registry: str, storage: Path) -> Contender:
    side = Contender(name="parity")
    lock = ROOT / ".parity" / "offline" / "bench.conda-lock.yml"
    for version, path, what in zip(VERSIONS, locks, ("cold", "bump"), strict=True):
        configure(root, version, registry)
        shutil.copy(path, lock)
        side.figures[what] = timed(lambda: parity(root, "image"))
        before = stored(storage)
        side.figures["push"] = timed(lambda: parity(root, "push"))
        side.figures["pushed"] = stored(storage) - before
    side.figures["none"] = timed(lambda: parity(root, "image"))
    reference = parity(root, "image")
    side.figures["size"] = client.images.get(reference).attrs["Size"]
    side.figures["import"] = imports(client, reference)
    return side


def theirs(client: docker.DockerClient, root: Path, locks: list[Path], registry: str, storage: Path) -> Contender:
    side = Contender(name="Dockerfile")
    loaded = settings.load(root)
    arguments = ejected.images(client, loaded, Lock.read(locks[0]))
    tag = f"{registry}/conventional:1"
    for path, what in zip(locks, ("cold", "bump"), strict=True):
        lock = Lock.read(path)
        side.figures[what] = timed(lambda lock=lock: ejected.build(client, loaded, lock, arguments, tag))
        before = stored(storage)
        side.figures["push"] = timed(lambda: client.images.push(tag))
        side.figures["pushed"] = stored(storage) - before
    lock = Lock.read(locks[1])
    side.figures["none"] = timed(lambda: ejected.build(client, loaded, lock, arguments, tag))
    side.figures["size"] = client.images.get(tag).attrs["Size"]
    side.figures["import"] = imports(client, tag)
    client.images.remove(tag, force=True)
    ejected.remove(client)
    return side


def main() -> None:
    client = engine.ensure()
    subprocess.run(["make", "image"], cwd=ROOT, check=True, capture_output=True)  # the base and the channel are there
    with project() as root, tempfile.TemporaryDirectory() as name, services.registry(Path(name) / "r") as registry:
        locks = []
        for version in VERSIONS:
            configure(root, version, registry)
            locks.append(Path(shutil.copy(parity(root, "lock"), root / f"{version}.conda-lock.yml")))
        forget(client)
        sides = [side(client, root, locks, registry, Path(name) / "r") for side in (ours, theirs)]
        forget(client)
    (ROOT / ".parity" / "offline" / "bench.conda-lock.yml").unlink()
    show(sides, client)


def show(sides: list[Contender], client: docker.DockerClient) -> None:
    rows = [
        ("cold", "cold build", 1.0, "s"),
        ("bump", "bump of one small package", 1.0, "s"),
        ("none", "nothing changed", 1.0, "s"),
        ("pushed", "pushed after the bump", 1e6, "MB"),
        ("push", "that push", 1.0, "s"),
        ("size", "image size", 1e6, "MB"),
        ("import", "import torch, torchvision", 1.0, "s"),
    ]
    print(f"{platform.machine()}, {os.cpu_count()} cores, engine {client.version()['Version']}")
    print(f"| {'':26} | {sides[0].name:>12} | {sides[1].name:>12} | ratio | bar |")
    print(f"|{'-' * 28}|{'-' * 13}:|{'-' * 13}:|------:|-----|")
    for key, title, unit, name in rows:
        one, two = (side.figures[key] / unit for side in sides)
        print(f"| {title:26} | {one:9.2f} {name:2} | {two:9.2f} {name:2} | {two / one:5.1f} | {BARS.get(key, '')} |")


if __name__ == "__main__":
    main()
