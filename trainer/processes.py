"""The processes of a run, as torchrun starts them; one that is started plainly is a group of its own.

Each step, every process works on its share of the global batch, and all take the same step.
"""

import contextlib
import gc
import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from errors import DeviceError, PeerError

ANSWER_SECONDS = 3.0  # in which the others say that they are there, once something failed
LOST = ("Connection closed", "Connection reset", "Timed out", "timed out", "Broken pipe", "gloo")


class Group:
    """All processes of the run. rank: this one's number; size: how many; device: where this one computes."""

    def __init__(self, device, timeout):
        """device: "auto", "cpu" or "cuda"; timeout: seconds that a process waits for another one."""
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.timeout = timeout
        self.device = _device(device)
        if self.size > 1:
            backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
            try:
                dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
            except RuntimeError as error:
                reason = str(error).partition(". ")[0]
                raise PeerError(f"rank {self.rank} did not meet the others within {timeout:g} s ({reason})") from error

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        if self.size > 1 and kind is None:
            # its threads can abort the interpreter's end: measured, one process in ten without the first of these lines
            gc.collect()
            dist.destroy_process_group()

    def __str__(self):
        """For people."""
        kind = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "processor"
        return f"{self.size} processes, each on a {kind}" if self.size > 1 else f"One process on a {kind}"

    @property
    def first(self):
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def share(self, batch):
        """The part of a global batch for this process; of the last one in an epoch it may be smaller, or empty."""
        return batch[self.rank :: self.size] if self.size > 1 else batch

    def sum_gradients(self, net):
        """Makes each gradient the sum over all processes.

        All in one buffer, always in the same order: so a run that goes on from a checkpoint rounds as one that never
        stopped. A large network takes DistributedDataParallel, which begins to send while it still computes, and lays
        its buffers out anew after the first step.
        """
        if self.size > 1:
            gradients = [parameter.grad for parameter in net.parameters()]
            total = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = total.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def sum(self, values):
        """The sum over all processes, element by element."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_first(self, value):
        """What the first process has."""
        said = [value]
        if self.size > 1:
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def gather(self, value):
        """What each process has, by rank."""
        found = [value]
        if self.size > 1:
            found = [None] * self.size
            dist.all_gather_object(found, value)
        return found

    @contextlib.contextmanager
    def watched(self):
        """Turns the end of a talk between processes into a line that says who is gone."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not any(word in str(error) for word in LOST):
                raise
            raise PeerError(self._missing(str(error).partition(". ")[0])) from error

    def _missing(self, reason):
        """Who does not answer, by the store through which the processes met."""
        said = f"rank {self.rank} waited up to {self.timeout:g} s for the others ({reason})"
        try:
            store = dist.TCPStore(
                os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=ANSWER_SECONDS)
            )
            store.set(f"here/{self.rank}", "")
            time.sleep(ANSWER_SECONDS)
            gone = [str(rank) for rank in range(self.size) if not store.check([f"here/{rank}"])]
        except RuntimeError:
            return f"{said}: the first node does not answer any more"
        return f"{said}: no answer from rank {', '.join(gone)}; see what it printed last" if gone else said


def _device(wanted):
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local, found = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= found:
        raise DeviceError(
            f"process {local} of this node has no GPU: the node has {found}; --device cpu, or fewer processes"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
