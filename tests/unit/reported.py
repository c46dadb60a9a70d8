"""Runs for a report: records with a log, under any name, of any text."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import recorded

from tools.runs.record import METRICS, Record

WITNESS = copy.deepcopy(recorded.WITNESS) | {
    "packages": {
        "sha256": "0" * 64,
        "python": {"numpy": "2.4.6", "torch": "2.13.0", "six": "1.17.0"},
        "conda": {"python": "3.11.2 0"},
    },
    "files": {
        "train.py": {"bytes": 4000, "sha256": "a" * 64},
        "model.py": {"bytes": 1500, "sha256": "b" * 64},
        "configs/small.yml": {"bytes": 500, "sha256": "c" * 64},
        "configs/large.yml": {"bytes": 700, "sha256": "d" * 64},
    },
}


def run(
    runs: Path,
    name: str = "20261123-154105-733-8e1f",
    *,
    metrics: Iterable[tuple[str, float | None, float | None]] = (),
    log: bytes = b"Finished Training\n",
    witness: dict[str, Any] | None = WITNESS,
    variables: dict[str, str] | None = None,
    image: str = "f4" * 32,
    **changes: Any,
) -> Record:
    """A run of 91 seconds that completed. metrics: name, step and value of each point."""
    folder = runs / name
    folder.mkdir(parents=True)
    ingredients = copy.deepcopy(recorded.INGREDIENTS)
    ingredients["image"]["id"] = f"sha256:{image}"
    ingredients["environment_variables"] = variables or {}
    table: dict[str, Any] = {
        "uuid": "ef47edd57a164c909eaa6c8b6333629d",
        "target": "local",
        "status": "completed",
        "created": "2026-11-23T15:41:05.733+00:00",
        "started": "2026-11-23T15:41:06.000+00:00",
        "ended": "2026-11-23T15:42:37.000+00:00",
        "exit_code": 0,
        "host": {"system": "Linux", "cpus": 2},
        "ingredients": ingredients,
    }
    lines = (json.dumps({"name": name, "step": step, "value": value, "time": 0}) for name, step, value in metrics)
    (folder / METRICS).write_text("".join(f"{line}\n" for line in lines))
    (folder / "stdout.log").write_bytes(log)
    if witness is not None:
        (folder / "witness.json").write_text(json.dumps(witness))
    return Record(folder=folder, **{**table, **changes}).write()
