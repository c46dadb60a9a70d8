"""Trains a small convolutional network on CIFAR-10: in one process, or in as many as torchrun starts."""

import argparse
import contextlib
import math
import os
import signal
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import data
import errors
from checkpoints import Checkpoints, load, write
from metrics import Metrics
from model import Net
from processes import Group

DECISIVE = ("batch_size", "learning_rate", "momentum", "seed", "bf16")  # what a run that goes on must have alike


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "data"
    add = parser.add_argument
    add("--data-path", type=Path, default=default, help="the folder that holds cifar-10-batches-py")
    add("--output-dir", type=Path, default=Path("outputs"), help="where the model, metrics and checkpoints go")
    add("--epochs", type=positive, default=2)
    add("--batch-size", type=positive, default=4, help="images of a step, over all processes")
    add("--learning-rate", type=float, default=0.001)
    add("--momentum", type=float, default=0.9)
    add("--seed", type=int, default=0, help="fixes the first weights and the order of the images")
    add("--log-every", type=positive, default=2000, help="batches from one line to the next")
    add("--checkpoint-every", type=positive, default=5000, help="steps from one checkpoint to the next")
    add("--keep", type=positive, default=2, help="how many checkpoints stay")
    add("--resume", default="auto", help="auto: from the last checkpoint, if any; never; or a checkpoint's path")
    add("--on-nan", choices=("stop", "go"), default="stop", help="what to do once the loss is no number")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto is a GPU where there is one")
    add("--bf16", action="store_true", help="compute in bfloat16 where that is safe")
    add("--deterministic", action=argparse.BooleanOptionalAction, default=True, help="same numbers each time")
    add("--peer-timeout", type=positive, default=300, help="seconds that a process waits for another one")
    args = parser.parse_args()
    if args.batch_size < (size := int(os.environ.get("WORLD_SIZE", 1))):
        parser.error(f"--batch-size {args.batch_size} is less than an image for each of {size} processes")
    return args


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def main():
    args = options()
    with errors.told(), errors.of_disk(args.output_dir), Group(args.device, args.peer_timeout) as group:
        share = math.ceil(args.batch_size / group.size)
        with group.watched(), errors.of_memory(share, group.device):
            settle(args, group, share)
            Training(args, group).run()


def settle(args, group, share):
    """Fixes what would make two runs differ, and what is fastest here. share: images of a step in this process."""
    torch.manual_seed(args.seed)
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not
        torch.use_deterministic_algorithms(True, warn_only=True)  # names what has no such algorithm on this device
        torch.utils.deterministic.fill_uninitialized_memory = False
    # Measured: at 4 images oneDNN costs a sixth, at 8 nothing, from 16 on it gives half and more. Where cores are
    # shared, a second thread made training 13 times slower.
    torch.backends.mkldnn.enabled = share >= 8
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if group.first and (group.size > 1 or group.device.type == "cuda"):
        print(f"{group}; a global batch of {args.batch_size} images", flush=True)


class Training:
    """One run, from its first step or a checkpoint's to its end. step: how many are done, over all epochs.

    losses: of each step since the last line, this process's share of it, on the device: asking for a number waits for
    the GPU.
    """

    def __init__(self, args, group):
        self.args, self.group = args, group
        self.images, self.labels = (each.to(group.device) for each in data.load(args.data_path, data.TRAIN))
        self.test = [each.to(group.device) for each in data.load(args.data_path, data.TEST)]
        self.per_epoch = math.ceil(len(self.images) / args.batch_size)
        self.steps = args.epochs * self.per_epoch
        self.net = Net().to(group.device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=args.learning_rate, momentum=args.momentum)
        self.precision = torch.autocast(group.device.type, torch.bfloat16) if args.bf16 else contextlib.nullcontext()
        self.checkpoints = Checkpoints(args.output_dir / "checkpoints", args.keep)
        self.step, self.losses = 0, []

    def run(self):
        stopping = []
        if self.group.size == 1:  # of several, all must stop at the same step: the last checkpoint is theirs
            signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
        self.resume()
        metrics = contextlib.nullcontext()
        if self.group.first:
            path = self.args.output_dir / "metrics.jsonl"
            metrics = Metrics(path, self.steps, self.step, again=["test_accuracy"])
        with metrics as self.metrics:
            for epoch in range(self.step // self.per_epoch, self.args.epochs):
                order = data.order(len(self.images), self.args.seed, epoch).to(self.group.device)
                for batch, chosen in enumerate(order.split(self.args.batch_size), start=1):
                    if epoch * self.per_epoch + batch <= self.step:  # done before the checkpoint
                        continue
                    if batch == 1:
                        self.losses.clear()
                    self.take(chosen)
                    if batch % self.args.log_every == 0:
                        self.report(epoch, batch)
                    if stopping or self.step % self.args.checkpoint_every == 0:
                        self.save()
                    if stopping:
                        self.say(f"Stopped by SIGTERM at step {self.step:,} of {self.steps:,}")
                        sys.exit(128 + signal.SIGTERM)
            self.say("Finished Training")
            accuracy = self.evaluate()
            self.say(f"Test accuracy: {accuracy:.1%}")
            if self.group.first:
                self.metrics.log("test_accuracy", accuracy, self.step)
                write(self.args.output_dir / "model.pt", self.net.cpu().state_dict())

    def take(self, chosen):
        """One step. chosen: the numbers of the global batch's images."""
        own = self.group.share(chosen)
        self.optimizer.zero_grad()
        with self.precision:
            scores = self.net(data.normalized(self.images[own]))
            # summed over all processes, the mean of the global batch
            loss = cross_entropy(scores, self.labels[own], reduction="sum") / len(chosen)
        loss.backward()
        self.group.sum_gradients(self.net)
        self.optimizer.step()
        self.step += 1
        self.losses.append(loss.detach().double())

    def report(self, epoch, batch):
        """A line, and a point of the metrics."""
        loss = self.means().mean().item()
        self.say(f"epoch={epoch + 1}, batch={batch:5}: loss {loss:.2f}")
        if self.group.first:
            self.metrics.log("loss", loss, self.step)
        self.losses.clear()

    def means(self):
        """The loss of each step since the last line, over all processes; LossError at one that is no number."""
        means = self.group.sum(torch.stack(self.losses))
        wrong = (~means.isfinite()).nonzero()
        if len(wrong):
            step = self.step - len(means) + wrong[0].item() + 1
            epoch, batch = divmod(step - 1, self.per_epoch)
            found = f"the loss is {means[wrong[0]].item()} at step {step:,} (epoch {epoch + 1}, batch {batch + 1})"
            if self.args.on_nan == "stop":
                raise errors.LossError(f"{found}: lower --learning-rate, look at that batch, or --on-nan go")
            self.say(f"warning: {found}, going on", file=sys.stderr)
        return means

    def hold(self, means):
        """Keeps losses that are summed over all processes already: the first one has them, the others nothing."""
        self.losses = list(means if self.group.first else torch.zeros_like(means))

    def save(self):
        """Writes a checkpoint."""
        means = self.means() if self.losses else torch.empty(0)
        self.hold(means)
        random = self.group.gather(random_state(self.group.device))
        if self.group.first:
            self.checkpoints.save(
                self.step,
                {
                    "options": {name: getattr(self.args, name) for name in DECISIVE},
                    "losses": means.tolist(),
                    "model": self.net.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "random": random,
                },
            )

    def resume(self):
        """Goes on from a checkpoint, which the first process has, as --resume says."""
        path, state = self.group.from_first(self.found() if self.group.first else None)
        if state is None:
            return
        for name, value in state["options"].items():
            if value != getattr(self.args, name):
                option = f"--{name.replace('_', '-')}"
                raise errors.CheckpointError(
                    f"{path} was made with {option} {value}, not {getattr(self.args, name)}: --resume never begins anew"
                )
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.group.rank < len(state["random"]):
            restore_random(state["random"][self.group.rank])
        self.step = state["step"]
        self.hold(torch.tensor(state["losses"], dtype=torch.double, device=self.group.device))
        self.say(f"Going on from step {self.step:,} of {self.steps:,}: {path}")

    def found(self):
        """(path, state) of the checkpoint to go on from, or (None, None)."""
        if self.args.resume == "auto":
            return self.checkpoints.last()
        if self.args.resume != "never":
            return self.args.resume, load(Path(self.args.resume))
        self.checkpoints.clear()
        return None, None

    @torch.inference_mode()
    def evaluate(self):
        """The share of test images whose class the network gets right, 0 to 1."""
        images, labels = self.test
        right = torch.zeros((), dtype=torch.int64, device=self.group.device)
        for chosen in self.group.share(torch.arange(len(images), device=self.group.device)).split(1000):
            with self.precision:
                scores = self.net(data.normalized(images[chosen]))
            right += (scores.argmax(dim=1) == labels[chosen]).sum()
        return self.group.sum(right).item() / len(images)

    def say(self, text, file=sys.stdout):
        """Prints a line, once for all processes."""
        if self.group.first:
            print(text, file=file, flush=True)


def random_state(device):
    """The state of the random numbers of this process, on the processor and on its GPU."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None}


def restore_random(state):
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


if __name__ == "__main__":
    main()
