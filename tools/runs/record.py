"""RunRecord: what a run leaves under runs/<id>/, whatever became of it.

run.json (schema 1): every ingredient of the RunSpec by its digest, times, status, exit code, host and stand-ins.
stdout.log: what the command printed. outputs/ and logs/: what it wrote. metrics.jsonl: a copy of outputs/metrics.jsonl.
witness*.json: copies of those in outputs/parity/. user_logs/: of several nodes or processes, what each printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import files, processes
from . import launch, ranks
from .contract import NOTES, Contract

if TYPE_CHECKING:
    from .spec import RunSpec  # to read a record takes nothing of what makes one

SCHEMA = 1
METRICS = "metrics.jsonl"

Status = Literal["preparing", "running", "completed", "failed", "canceled", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. folder: runs/<id>; times are UTC, ISO 8601; ingredients: as run.json has them.

    remote: where it is in a workspace of Azure ML, None for a local run.
    """

    folder: Path
    uuid: str
    target: str
    status: Status
    created: str
    ingredients: Mapping[str, Any]
    host: Mapping[str, Any]
    started: str | None = None
    ended: str | None = None
    exit_code: int | None = None
    error: str | None = None
    remote: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """The run's name; names sort by time."""
        return self.folder.name

    @property
    def contract(self) -> Contract:
        """Where the run finds its things in the container."""
        return Contract(run_id=self.id, run_uuid=self.uuid)

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.folder / "stdout.log"

    def to_json(self) -> dict[str, Any]:
        """The content of run.json."""
        table = asdict(self)
        del table["folder"]
        return {"schema": SCHEMA, "id": self.id, **table}

    def write(self, **changes: Any) -> Record:
        """The record with these changes, on disk."""
        record = replace(self, **changes)
        files.write_text(self.folder / "run.json", json.dumps(record.to_json(), indent=2, sort_keys=True) + "\n")
        return record


def create(runs: Path, spec: RunSpec, *, target: str, host: Mapping[str, Any]) -> Record:
    """A new record in a folder of its own, on disk before anything starts."""
    moment = datetime.now(timezone.utc)
    folder = runs / f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond // 1000:03d}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    record = Record(
        folder=folder,
        uuid=uuid.uuid4().hex,
        target=target,
        status="preparing",
        created=now(),
        ingredients=_ingredients(spec),
        host={**_this_machine(), **host},
    )
    return record.write()


def read(folder: Path) -> Record:
    """The record in `folder`; ValueError or OSError where there is none."""
    table = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if table.pop("schema", None) != SCHEMA:
        raise ValueError(f"{folder / 'run.json'} is not of schema {SCHEMA}")
    del table["id"]
    return Record(folder=folder, **table)


def now() -> str:
    """The present moment, UTC, ISO 8601 with milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def keep(record: Record) -> None:
    """Puts what every run has, wherever it ran, where every run has it: copies of the metrics and of the witness's
    notes, and of several processes what each printed.
    """
    outputs = record.folder / "outputs"
    for written in (outputs / METRICS, *(record.folder / NOTES).glob("witness*.json")):
        if written.is_file() and not written.is_symlink():
            shutil.copyfile(written, record.folder / written.name)
    if launch.shape(record.ingredients["resources"]):
        ranks.split(record.folder)


def _ingredients(spec: RunSpec) -> dict[str, Any]:
    image = spec.image
    return {
        "image": {
            "reference": image.reference,
            "id": image.id,
            "fingerprint": image.fingerprint,
            "platform": image.platform,
            "lock_sha256": image.lock_sha256,
        },
        "snapshot": {
            "digest": spec.snapshot.digest,
            "files": len(spec.snapshot.files),
            "bytes": spec.snapshot.size,
            "executable": [file.path for file in spec.snapshot.files if file.executable],
        },
        "command": spec.command,
        "arguments": list(spec.arguments),
        "inputs": [{"name": each.name, "path": str(each.path), "digest": each.digest} for each in spec.inputs],
        # a value may be a secret: its hash is enough to compare two runs
        "environment_variables": {
            name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
            for name, value in sorted(spec.environment_variables.items())
        },
        "resources": asdict(spec.resources),
        "start": {"run": spec.start.run_id, "digest": spec.start.digest} if spec.start else None,
        "stand_ins": [asdict(each) for each in spec.stand_ins],
    }


def _this_machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "process": processes.this(),  # by which a run whose tool was killed is told
    }
