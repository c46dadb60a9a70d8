"""Several nodes and processes, started by torchrun in the same way here and in a rehearsal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from workspaces import ROOT, Rehearsal

SETTINGS = """
[environment]
spec = "environments/pytorch.yml"
[run]
command = "python train.py"
[data]
path = ""
dataset = "none"
[resources]
nodes = 2
processes = 2
"""
TRAINS = """
import gc, json, os, sys, time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
weights = torch.zeros(8)
for step in range(1, 6):
    gradient = torch.sin(torch.arange(8.0) * (rank + step))
    dist.all_reduce(gradient)
    weights -= gradient / size
    if rank == 0:
        with open("outputs/metrics.jsonl", "a") as file:
            value = weights.norm().item()
            file.write(json.dumps({"name": "norm", "step": step, "value": value, "time": time.time()}) + "\\n")
print("rank", rank, "of", size, flush=True)
if "fail" in sys.argv and rank == 3:
    os._exit(5)
dist.all_reduce(weights)
gc.collect()
dist.destroy_process_group()  # without it PyTorch's threads abort one process in twenty at its end
"""


@pytest.fixture
def place(another: Callable[..., Rehearsal]) -> Rehearsal:
    made = another(settings=SETTINGS)
    shutil.copy(ROOT / "environments" / "pytorch.yml", made.root / "environments")
    (made.root / "trainer").mkdir()
    (made.root / "trainer" / "train.py").write_text(TRAINS)
    return made


def newest(place: Rehearsal) -> Path:
    return max((place.root / "runs").glob("2*"))


def test_two_nodes_of_two_processes_are_the_same_here_and_there(place: Rehearsal) -> None:
    done = place.parity("parity")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[-1].startswith("Parity: ")
    assert "5 metric points are identical" in done.stdout
    for folder in (place.root / "runs").glob("2*"):
        logs = [(folder / "user_logs" / f"rank_{rank}.txt").read_text() for rank in range(4)]
        assert logs == [f"rank {rank} of 4\n" for rank in range(4)]
        assert (folder / "witness-1.json").exists()

    failed = place.parity("rehearse", "--", "fail")
    record = json.loads((newest(place) / "run.json").read_text())
    assert (failed.returncode, record["exit_code"]) == (5, 5), failed.stderr
    assert record["error"] == "node 1, rank 3 exited with code 5; what it printed: user_logs/rank_3.txt"
    assert f"error: {record['error']}\n" in failed.stderr
