"""Records of runs as the targets leave them, to be changed one thing at a time."""

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.runs import record as records
from tools.runs.record import Record

Table = dict[str, Any]


def digest(text: str) -> str:
    return (text.encode().hex() * 64)[:64]


INGREDIENTS: Table = {
    "image": {
        "reference": "parity:env-0123456789ab",
        "id": f"sha256:{digest('image')}",
        "fingerprint": digest("fingerprint"),
        "platform": "linux-64",
        "lock_sha256": digest("lock"),
    },
    "snapshot": {"digest": digest("snapshot"), "files": 2, "bytes": 300, "executable": []},
    "command": "python train.py --data {data}",
    "arguments": ["--epochs", "1"],
    "inputs": [{"name": "data", "path": "/home/me/data", "digest": digest("data")}],
    "environment_variables": {"OMP_NUM_THREADS": f"sha256:{digest('4')}"},
    "resources": {"shm_bytes": 2 << 30, "gpu": False, "nodes": 1},
    "stand_ins": [],
}

WITNESS: Table = {
    "schema": 1,
    "milliseconds": 20.0,
    "python": {
        "executable": "/opt/env/bin/python",
        "version": "3.11.2 (main)",
        "prefix": "/opt/env",
        "path": ["/opt/env/lib/python3.11"],
        "pythonpath": "",
        "site_packages": "/opt/env/lib/python3.11/site-packages",
    },
    "packages": {
        "sha256": digest("packages"),
        "python": {"numpy": "2.4.6", "tqdm": "4.67.1", "torch": "2.13.0+cpu"},
        "conda": {"numpy": "2.4.6 py311_1", "tqdm": "4.67.1 py_0", "pytorch": "2.13.0 cpu_1"},
    },
    "files": {
        "train.py": {"bytes": 200, "sha256": digest("train")},
        "utils.py": {"bytes": 100, "sha256": digest("utils")},
    },
    "inputs": {"data": "1 files, 6 bytes, names and sizes sha256:00"},
    "variables": {"names": ["HOME", "OMP_NUM_THREADS", "PATH"], "set": {"OMP_NUM_THREADS": digest("4")}},
    "process": {
        "directory": "/mnt/azureml/cr/j/RUN/exe/wd",
        "uid": 0,
        "gid": 0,
        "groups": [0],
        "umask": "022",
        "home": "/root",
        "host_name": "CONTAINER",
    },
    "limits": {"shm_bytes": 2 << 30, "memory_bytes": None, "processors": None, "usable_processors": 2},
    "machine": {
        "architecture": "x86_64",
        "cpu": "One",
        "cpu_flags": ["avx", "avx2"],
        "cpus": 2,
        "kernel": "6.1",
        "memory_bytes": 8 << 30,
        "threads": {"OMP_NUM_THREADS": "4"},
    },
    "gpu": {"driver": "", "devices": [], "visible": ""},
    "locale": {"zone": ["UTC", "UTC"], "LANG": "C.UTF-8", "PYTHONHASHSEED": "", "TZ": ""},
}

TORCH: Table = {"version": "2.13.0+cpu", "build": "MKL", "threads": 4, "interop_threads": 2, "deterministic": False}


@dataclass(kw_only=True)
class Recorded:
    """A run before it is written. points: (name, step, value)."""

    ingredients: Table = field(default_factory=lambda: copy.deepcopy(INGREDIENTS))
    witness: Table | None = field(default_factory=lambda: copy.deepcopy(WITNESS))
    torch: Table | None = field(default_factory=lambda: copy.deepcopy(TORCH))
    points: Iterable[tuple[str, int, Any]] = tuple(("loss", step, 1 / step) for step in range(1, 101))
    target: str = "local"
    status: str = "completed"
    host: Table = field(default_factory=dict)
    remote: Table | None = None

    def write(self, runs: Path, number: int = 0) -> Record:
        """The record in a folder of its own; number: the later, the larger."""
        folder = runs / f"20261123-1541{number // 1000:02}-{number % 1000:03}-{number:04x}"
        folder.mkdir(parents=True)
        record = Record(
            folder=folder,
            uuid=f"{number + 1:032x}",
            target=self.target,
            status=self.status,  # type: ignore[arg-type]
            created="2026-11-23T15:41:05.733+00:00",
            started="2026-11-23T15:41:06.343+00:00",
            ended="2026-11-23T15:42:37.134+00:00" if self.status not in ("preparing", "running") else None,
            exit_code={"completed": 0, "failed": 3}.get(self.status),
            ingredients=self.ingredients,
            host={"cpus": 2, **self.host},
            remote=self.remote,
        ).write()
        for name, table in (("witness", self.witness), ("witness-torch", self.torch)):
            if table is not None:
                (folder / f"{name}.json").write_text(json.dumps(table))
        lines = [
            json.dumps({"name": name, "step": step, "value": value, "time": 1795448478.0 + step})
            for name, step, value in self.points
        ]
        if lines:
            (folder / records.METRICS).write_text("\n".join(lines) + "\n")
        return record


def pair(runs: Path, change: Callable[[Recorded], object] = lambda _: None) -> tuple[Record, Record]:
    """A local and a remote run of one spec, the second with a change."""
    other = Recorded(target="azureml", remote={"run_id": "second", "tags": {"team": "vision"}})
    change(other)
    return Recorded().write(runs, 1), other.write(runs, 2)
