"""How long a person waits for `make image` and `make run-local`, beside a bare `docker run` of the same image.

    .venv/bin/python benchmarks/local.py          nothing changed; an emptied engine with warm caches
    .venv/bin/python benchmarks/local.py --cold   also a fresh clone, to the first log line

It removes the images that this toolkit made from the engine, so that empty is empty, and nothing else.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import docker

from tools import engine
from tools.image import store
from tools.runs import contract

ROOT = Path(__file__).parents[1]
RUNS = 5
START = "started"  # what the trainer of this benchmark prints first


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def make(verb: str, folder: Path = ROOT) -> str:
    return subprocess.run(["make", verb], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def until(line: str, command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds until the command prints a line that begins so; the command then runs to its end."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        seconds = next((time.perf_counter() - start for text in process.stdout if text.startswith(line)), float("nan"))
        process.stdout.read()
    return seconds


def project(folder: Path) -> Path:
    """A project beside this one, with its caches and a trainer that only says that it started."""
    shutil.copytree(ROOT / "environments", folder / "environments")
    for name in (".parity", ".venv", "docker", "Makefile", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    (folder / "data" / "numbers").write_text("1 2 3\n")
    (folder / "parity.toml").write_text('[run]\ncommand = "python train.py"\n[data]\ndataset = "none"\n')
    (folder / "trainer").mkdir()
    (folder / "trainer" / "train.py").write_text(f"print('{START}', flush=True)\n")
    return folder


def bare(reference: str) -> list[str]:
    inside = ["python", "-c", f"print('{START}', flush=True)"]
    if shutil.which("docker"):
        return ["docker", "run", "--rm", reference, *inside]
    script = (
        f"import docker; docker.from_env().containers.run({reference!r}, {inside!r}, remove=True); print({START!r})"
    )
    return [sys.executable, "-c", script]


def cold(folder: Path) -> float:
    clone, home = folder / "clone", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    return until("epoch=", ["make", "run-local"], clone, environment)


def witness(client: docker.DockerClient, reference: str) -> float:
    """Seconds that the witness puts before a command, in a container that runs already; the median of twenty runs."""
    files = " ".join(f"/opt/parity/{name}" for name in ("witness.py", "hook.py"))
    script = f"""
import statistics, subprocess, time
def seconds(command):
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start
subprocess.run("cp {files} .", shell=True, check=True)
shell = ["/bin/bash", "-c", "true"]
witnessed = [*{contract.WITNESS.split()!r}, "{contract.NOTES}/witness.json", *shell]
print(statistics.median(seconds(witnessed) - seconds(shell) for _ in range(20)))
"""
    said = client.containers.run(reference, ["python", "-c", script], working_dir="/home", remove=True)
    return float(said)


def forget(client: docker.DockerClient) -> None:
    """Takes every image of this toolkit out of the engine, and with them their layers."""
    for image in client.images.list(filters={"label": store.FINGERPRINT}):
        client.images.remove(image.id, force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="also time a fresh clone with an empty home")
    arguments = parser.parse_args()
    client = engine.ensure()
    reference = make("image")
    rows = [
        ("make image, nothing changed", statistics.median(timed(lambda: make("image")) for _ in range(RUNS)), "2 s")
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name))
        pairs = [
            (
                until(START, ["make", "run-local"], folder, dict(os.environ)),
                until(START, bare(reference), folder, dict(os.environ)),
            )
            for _ in range(RUNS)
        ]
    rows.append(("make run-local, to the trainer's start", statistics.median(ours for ours, _ in pairs), ""))
    rows.append(("bare docker run, to the same", statistics.median(theirs for _, theirs in pairs), ""))
    rows.append(("the difference", statistics.median(ours - theirs for ours, theirs in pairs), "1.5 s"))
    rows.append(("of it, the witness", witness(client, reference), "0.15 s"))
    forget(client)
    rows.append(("make image, engine emptied, caches warm", timed(lambda: make("image")), "25 s"))
    if arguments.cold:
        forget(client)
        with tempfile.TemporaryDirectory() as name:
            rows.append(("fresh clone, to the first log line", cold(Path(name)), "360 s"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, engine {client.version()['Version']}; median of {RUNS}")
    for title, seconds, bar in rows:
        print(f"{title:42} {seconds:8.2f} s   {f'bar: {bar}' if bar else ''}".rstrip())


if __name__ == "__main__":
    main()
