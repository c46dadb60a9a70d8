"""Images a second of the trainer, beside the tutorial's own loop: the same network, data, order and mathematics.

    .venv/bin/python benchmarks/trainer.py

Both run by turns in one container of the project's image, on one processor. The tutorial's loop turns each image into a
tensor by itself (ToTensor, Normalize) in the two worker processes of a DataLoader. Rates are taken from one line of the
log to another, so that neither start nor evaluation counts.
"""

import argparse
import contextlib
import io
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
PLACE = Path("/parity")  # where the container has this project
RUNS = 3


def main() -> None:
    from docker.types import Mount

    from tools import engine

    client = engine.ensure()
    subprocess.run(["make", "data"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    image = subprocess.run(["make", "image"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    container = client.containers.run(
        image,
        ["python", f"{PLACE}/benchmarks/trainer.py", "--inside"],
        mounts=[
            Mount(f"{PLACE}/{name}", str(ROOT / name), "bind", read_only=True)
            for name in ("benchmarks", "trainer", "data")
        ],
        cpuset_cpus="0",
        shm_size="2g",
        detach=True,
    )
    try:
        for piece in container.logs(stream=True):
            print(piece.decode(), end="", flush=True)
        raise SystemExit(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def inside() -> None:
    """The figures, in the container."""
    import torch

    sys.path.insert(0, str(PLACE / "trainer"))
    torch.set_num_threads(1)
    print(f"{platform.machine()}, one processor, torch {torch.__version__}; medians of {RUNS}, by turns")
    pairs = [(tutorial(), trainer()) for _ in range(RUNS)]
    row("the tutorial's loop, batch 4", 4 * statistics.median(theirs.rate for theirs, _ in pairs), "images/s")
    row("the trainer, batch 4", 4 * statistics.median(ours.rate for _, ours in pairs), "images/s")
    row("times the tutorial's", statistics.median(o.rate / t.rate for t, o in pairs), "bar: 2, aim: 3")
    parted = sum(theirs.losses != ours.losses for theirs, ours in pairs)
    row("pairs whose printed losses differ", parted, f"of {RUNS}, bar: 0; {', '.join(pairs[0][1].losses)}")
    spent: dict[str, float] = {}
    with timed(spent):
        large = trainer("--batch-size", "128", every=60)
    row("the trainer, batch 128", 128 * large.rate, "images/s")
    row("of it, in forward, backward and step", sum(spent.values()) / large.seconds, "bar: 0.8")


def row(title: str, value: float, note: str) -> None:
    print(f"{title:38} {value:10,.2f}   {note}", flush=True)


class EnoughError(Exception):
    """There are as many lines as are needed."""


class Lines:
    """The losses of a run as it prints them, and how fast it went from the first line to the last."""

    def __init__(self, every: int) -> None:
        self.every, self.wanted = every, 6
        self.losses: list[str] = []
        self.times: list[float] = []

    def add(self, loss: float) -> None:
        self.times.append(time.perf_counter())
        self.losses.append(f"{loss:.2f}")
        if len(self.losses) == self.wanted:
            raise EnoughError

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]

    @property
    def rate(self) -> float:
        """Steps a second."""
        return self.every * (self.wanted - 1) / self.seconds


def tutorial(every: int = 1000) -> Lines:
    """The tutorial's loop, with the trainer's first weights and order."""
    import torch
    from PIL import Image
    from torchvision.transforms import Compose, Normalize, ToTensor

    import data
    from model import Net

    warnings.filterwarnings("ignore", message="This DataLoader will create")  # two workers on one processor
    images, labels = data.load(PLACE / "data", data.TRAIN)
    transform = Compose([ToTensor(), Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])

    class Images(torch.utils.data.Dataset):
        arrays = images.permute(0, 2, 3, 1).numpy()

        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, number: int) -> tuple[Any, int]:
            return transform(Image.fromarray(self.arrays[number])), int(labels[number])

    torch.backends.mkldnn.enabled = False  # as the trainer at this batch: the same kernels, and no slower for this loop
    torch.manual_seed(0)
    net, loss_function = Net(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    order = data.order(len(labels), 0, 0).tolist()
    loader = torch.utils.data.DataLoader(Images(), batch_size=4, sampler=order, num_workers=2)
    lines, running = Lines(every), 0.0
    with contextlib.suppress(EnoughError):
        for step, (inputs, targets) in enumerate(loader, start=1):
            optimizer.zero_grad()
            loss = loss_function(net(inputs), targets)
            loss.backward()
            optimizer.step()
            running += loss.item()
            if step % every == 0:
                lines.add(running / every)
                running = 0.0
    return lines


def trainer(*options: str, every: int = 1000) -> Lines:
    """The trainer itself."""
    import train
    from metrics import Metrics

    lines = Lines(every)
    with tempfile.TemporaryDirectory() as folder:
        command = ["train.py", "--data-path", f"{PLACE}/data", "--output-dir", folder, "--log-every", str(every)]
        with (
            mock.patch.object(Metrics, "log", lambda metrics, name, value, step: lines.add(value)),
            mock.patch.object(sys, "argv", [*command, *options]),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(EnoughError),
        ):
            train.main()
    return lines


@contextlib.contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Adds up the seconds of forward, backward and step, from the first line of the log on."""
    import torch

    import train
    from model import Net

    def measured(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **more)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return wrapped

    report = train.Training.report

    def reported(self: Any, epoch: int, batch: int) -> None:
        first = self.step == self.args.log_every
        report(self, epoch, batch)
        if first:
            spent.clear()

    with (
        mock.patch.object(Net, "forward", measured("forward", Net.forward)),
        mock.patch.object(train, "cross_entropy", measured("loss", train.cross_entropy)),
        mock.patch.object(torch.Tensor, "backward", measured("backward", torch.Tensor.backward)),
        mock.patch.object(torch.optim.SGD, "step", measured("step", torch.optim.SGD.step)),
        mock.patch.object(train.Training, "report", reported),
    ):
        yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().inside:
        inside()
    else:
        main()
