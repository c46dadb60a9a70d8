"""What a run of the workspace leaves, brought into its record's folder as a local run has it."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ... import files, progress
from ...runs import launch, ranks
from ...runs import record as records
from ...runs.record import METRICS, Record
from .failures import errors, message
from .following import driver_log

if TYPE_CHECKING:
    from azureml.core import Run

FOLDERS = ("outputs", "logs", "user_logs", "azureml-logs")
AT_ONCE = 8  # downloads
# The Common Runtime's words ("User process 'python' exited with status code 2.") and those of the runtime before it
EXIT_CODE = re.compile(r"exited with status code (\d+)|[Ee]xit [Cc]ode:?\s+(\d+)")
STATUSES: dict[str, records.Status] = {"Completed": "completed", "Failed": "failed", "Canceled": "canceled"}

log = logging.getLogger(__name__)


def collect(run: Run, details: Mapping[str, Any], record: Record) -> Record:
    """The record of a run that has ended, with its files and metrics beside it. details: as the SDK gives them.

    What is there already is replaced, so it may be done again.
    """
    with files.disk_errors(record.folder, f"make room, then: python -m tools runs attach {record.id}"):
        _download(run, record)
        records.keep(record)
        if not (record.folder / METRICS).exists():
            _metrics(run, record)
    status = STATUSES[details["status"]]
    code: int | None = 0 if status == "completed" else None
    said: str | None = None
    if status == "failed":
        code, said = _exit_code(details), failure(details)
        resources = record.ingredients["resources"]
        if launch.shape(resources) and (process := ranks.failure(record.folder, resources.get("processes", 1))):
            code, said = process.code, ranks.told(record.folder, process)
    return record.write(
        status=status,
        exit_code=code,
        error=said,
        started=_moment(details.get("startTimeUtc")) or record.started,
        ended=_moment(details.get("endTimeUtc")) or records.now(),
    )


def failure(details: Mapping[str, Any]) -> str:
    """Why the run failed, in a line, as the service has it."""
    said = message(details.get("error") or {}) or "the service gives no reason; see its logs"
    return said.strip().splitlines()[0].strip()


def _exit_code(details: Mapping[str, Any]) -> int | None:
    found = EXIT_CODE.search(json.dumps(details.get("error")))
    return int(found.group(1) or found.group(2)) if found else None


def _moment(text: str | None) -> str | None:
    """A time of the service (UTC, up to seven decimals, Z) as records have it."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?", text or "")
    return f"{found.group(1)}.{(found.group(2) or '').ljust(3, '0')[:3]}+00:00" if found else None


def _download(run: Run, record: Record) -> None:
    with errors("listing the run's files"):
        names: list[str] = run.get_file_names()
    log_name = driver_log(names)
    wanted = {}
    for name in names:
        if name == log_name:
            wanted[name] = record.log
        elif name.split("/")[0] in FOLDERS:
            if _inside(name):
                wanted[name] = record.folder / name
            else:
                log.warning("%r was not collected: it is no path below the run's folder", name)
    with (
        progress.task("Collecting files", total=len(wanted)) as task,
        ThreadPoolExecutor(AT_ONCE) as pool,
        errors("downloading the run's files"),
    ):

        def fetch(name: str) -> None:
            _fetch(run, name, wanted[name])
            task.advance()

        list(pool.map(fetch, wanted))


def _fetch(run: Run, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        run.download_file(name, output_file_path=str(part))
        part.touch()  # of an empty file the SDK makes none
        os.replace(part, path)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)


def _inside(name: str) -> bool:
    """Whether a name from the service is a path below the folder that it is put into."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name and "\0" not in name


def _metrics(run: Run, record: Record) -> None:
    """What the run logged to the workspace, as lines of metrics.jsonl; step: the number in the order of logging."""
    with errors("reading the run's metrics"):
        logged: Mapping[str, Any] = run.get_metrics()
    lines = []
    for name, values in logged.items():
        series = values if isinstance(values, list) else [values]
        lines += [
            json.dumps({"name": name, "step": step, "value": value}, default=str) for step, value in enumerate(series)
        ]
    if lines:
        files.write_text(record.folder / METRICS, "\n".join(lines) + "\n")
