"""What submitting by this toolkit costs beside azureml-core alone, on a rehearsal workspace of this machine.

    .venv/bin/python benchmarks/remote.py

By turns in one run: `parity rehearse --detach` and a bare script of azureml-core that submits the same source directory
and image, each as a process from its start to its end, with the workspace running and the snapshot known; from the
submission to the container's first line; and the SDK's snapshot of 2,000 small files, to a workspace that knows none.
"""

import datetime
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 7
SMALL = "channels: [conda-forge]\ndependencies: [python=3.11, tqdm, markupsafe]\n"
SETTINGS = """
[environment]
spec = "environments/small.yml"
[run]
command = "python train.py"
[data]
dataset = "none"
remote = ""
"""
# It says when it began, by the clock that it shares with this process
TRAINER = "import time; print('started', time.time(), flush=True)\n"
BARE = """
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
ws = Workspace.from_config()
environment = Environment("bare")
environment.docker.base_image = "{image}"
environment.python.user_managed_dependencies = True
run = Experiment(ws, "bare").submit(
    ScriptRunConfig("trainer", command="python train.py", compute_target="cpu-cluster", environment=environment)
)
print(run.get_portal_url())
"""
SNAPSHOT = """
import time
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
ws = Workspace.from_config()
experiment = Experiment(ws, "files")
environment = Environment("bare")
environment.docker.base_image = "{image}"
environment.python.user_managed_dependencies = True
begun, used = time.perf_counter(), time.process_time()
experiment.submit(ScriptRunConfig("many", command="true", compute_target="cpu-cluster", environment=environment))
print(time.perf_counter() - begun, time.process_time() - used)
"""


def project(folder: Path) -> Path:
    for name in ("environments", "trainer", "many", "data", ".parity", ".azureml", "home"):
        (folder / name).mkdir()
    for name in ("cache", "offline"):
        (folder / ".parity" / name).symlink_to(ROOT / ".parity" / name)
    (folder / "docker").symlink_to(ROOT / "docker")
    (folder / "environments" / "small.yml").write_text(SMALL)
    (folder / "parity.toml").write_text(SETTINGS)
    (folder / "data" / "numbers").write_text("1 2 3\n")
    (folder / "trainer" / "train.py").write_text(TRAINER)
    for number in range(2000):
        (folder / "many" / f"{number:04}.txt").write_text(f"{number}\n" * 100)
    return folder


class Place:
    """A project whose rehearsal workspace runs."""

    def __init__(self, root: Path) -> None:
        self.root = project(root)
        self.environment = {**os.environ, "HOME": str(root / "home")}
        exports = re.findall(r"^export (\w+)=(.*)$", self.parity("rehearsal", "env"), re.MULTILINE)
        self.environment |= {name: shlex.split(value)[0] for name, value in exports}
        (root / ".azureml" / "config.json").write_text(self.parity("rehearsal", "config"))

    def parity(self, *arguments: str) -> str:
        return self.run("-m", "tools", *arguments)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout

    def newest(self) -> dict:
        return json.loads((max((self.root / "runs").iterdir()) / "run.json").read_text())


def timed(place: Place, *arguments: str) -> float:
    begun = time.perf_counter()
    place.run(*arguments)
    return time.perf_counter() - begun


def first_line(place: Place) -> float:
    """Seconds from the moment at which the run is submitted to the first line of its container."""
    place.parity("rehearse")
    record = place.newest()
    log = (place.root / "runs" / record["id"] / "stdout.log").read_text()
    submitted = datetime.datetime.fromisoformat(record["created"]).timestamp()
    return float(log.split()[1]) - submitted


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    place = Place(folder)
    try:
        place.parity("rehearse")  # the image, the lock and the snapshot are known from here on
        image = place.newest()["remote"]["image"]
        bare = BARE.format(image=image)
        place.run("-c", bare)
        pairs = [(timed(place, "-m", "tools", "rehearse", "--detach"), timed(place, "-c", bare)) for _ in range(RUNS)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(mine / other for mine, other in pairs)
        begins = statistics.median(first_line(place) for _ in range(RUNS))
        many, used = (float(each) for each in place.run("-c", SNAPSHOT.format(image=image)).split()[-2:])
    finally:
        place.parity("rehearsal", "stop")
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores; medians of {RUNS}")
    print(f"rehearse --detach, as a process           {ours:6.2f} s")
    print(f"azureml-core alone, as a process          {theirs:6.2f} s")
    print(f"times azureml-core alone                  {ratio:6.2f}     bar: 1.5")
    print(f"submission to the container's first line  {begins:6.2f} s   bar: 3 s")
    print(f"a snapshot of 2,000 new files, submitted  {many:6.2f} s   bar: 10 s")
    print(f"of it, azureml-core's own processor time  {used:6.2f} s")


if __name__ == "__main__":
    main()
