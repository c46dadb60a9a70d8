"""A container of the project's image that stays, with the trainer and a small data set: each start costs less."""

import json
import textwrap
from dataclasses import dataclass
from typing import Any

import docker
from docker.types import Mount
from projects import ROOT

TRAIN, TEST = 4_000, 1_000  # images of the small data set
SMALL = f"""
import pathlib, pickle
for name, count in [*((f"data_batch_{{each}}", {TRAIN // 5}) for each in range(1, 6)), ("test_batch", {TEST})]:
    source, target = (pathlib.Path(root, "cifar-10-batches-py", name) for root in ("/data", "/small"))
    batch = pickle.loads(source.read_bytes(), encoding="bytes")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(pickle.dumps({{key: batch[key][:count] for key in (b"data", b"labels")}}))
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended. output: both streams."""

    code: int
    output: str

    @property
    def lines(self) -> list[str]:
        """The lines of the log that tell a loss."""
        return [line for line in self.output.splitlines() if "epoch=" in line]


class Lab:
    """The container. /trainer and /data are this checkout's, /small is the small data set, /disk has 900 kB."""

    def __init__(self, client: docker.DockerClient, image: str) -> None:
        self.container = client.containers.run(
            image,
            ["sleep", "infinity"],
            mounts=[Mount(f"/{name}", str(ROOT / name), "bind", read_only=True) for name in ("trainer", "data")],
            tmpfs={"/disk": "size=900k"},
            shm_size="1g",
            init=True,
            detach=True,
        )
        self.script(SMALL)

    def run(self, *command: str, **variables: str) -> Done:
        """A command in a folder of its own."""
        done = self.container.exec_run(
            ["/bin/bash", "-c", 'cd "$(mktemp -d)" && exec "$@"', "-", *command], environment=variables
        )
        return Done(code=done.exit_code, output=done.output.decode())

    def train(self, output: str, *options: str, processes: int = 1, **variables: str) -> Done:
        """The trainer on the small data set, which writes to that folder."""
        start = ["python"] if processes == 1 else ["torchrun", "--standalone", f"--nproc-per-node={processes}"]
        options = ("--data-path", "/small", "--output-dir", output, *options)
        return self.run(*start, "/trainer/train.py", *options, **variables)

    def script(self, text: str, **variables: str) -> str:
        """What a Python script prints; the trainer's modules can be imported."""
        done = self.run("python", "-c", textwrap.dedent(text), PYTHONPATH="/trainer", **variables)
        assert done.code == 0, done.output
        return done.output

    def metrics(self, output: str, name: str = "loss") -> list[tuple[int, float]]:
        """(step, value) of each point of the metrics."""
        lines = self.run("cat", f"{output}/metrics.jsonl").output.splitlines()
        points: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [(point["step"], point["value"]) for point in points if point["name"] == name]
