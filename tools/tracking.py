"""Runs on an MLflow tracking server, whose page lists and compares them beside others.

It speaks the server's REST API (MLflow's documentation, "REST API", 2.0), so the toolkit needs no mlflow. Another store
(a folder, a database) is written through a server in front of it. Signing in is as with MLflow's own client:
MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from . import progress
from .comparison import facts, metrics
from .comparison.facts import MISSING, UNKNOWN
from .errors import RunError, TrackingError
from .runs.record import METRICS, Record

if TYPE_CHECKING:
    import httpx

API = "api/2.0/mlflow"
RUN_TAG = "parity.run"  # by which a run that is there already is known
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # the API's limits of one request
PARAM_LENGTH = 500  # characters; what servers before 2.10 take
ENDS = {"completed": "FINISHED", "failed": "FAILED", "canceled": "KILLED", "interrupted": "KILLED"}
# What a page of runs is sorted and compared by; files and packages go with the record, as artifacts
GROUPS = ("run", "image", "snapshot", "command", "input", "variable", "resources", "stand-in", "python", "torch")
SEEN = ("process", "limits", "machine", "threads", "gpu", "locale")
ARTIFACTS = ("run.json", "witness*.json", "stdout.log", METRICS)
PROXIED = "mlflow-artifacts"  # the scheme of artifacts that the server itself takes
TIMEOUT = 60.0  # seconds; a server that starts its database takes some

log = logging.getLogger(__name__)


class Exported(NamedTuple):
    """A run on the server. new: it was not there before."""

    address: str
    new: bool


def export(records: Sequence[Record], uri: str, *, experiment: str) -> Iterator[Exported]:
    """Writes runs to the server at `uri`, into an experiment of that name, which is made if it is not there.

    A run that is there stays as it is; what an export that broke off left is replaced. Errors: TrackingError where the
    server refuses or is none; RunError for a run that is not over.
    """
    import httpx

    for record in records:
        if record.status not in ENDS:
            raise RunError(f"run {record.id} is {record.status}", expected="a run that is over")
    if urlsplit(uri).scheme not in ("http", "https") or not urlsplit(uri).hostname:
        raise TrackingError(
            f"{uri!r} is no address of an MLflow server",
            expected="http://HOST:PORT or https://HOST:PORT",
            command="mlflow server --backend-store-uri STORE, then its address",
        )
    with httpx.Client(base_url=uri.rstrip("/") + "/", headers=_bearer(), auth=_login(), timeout=TIMEOUT) as client:
        server = Server(client, uri.rstrip("/"))
        place = server.experiment(experiment)
        for record in records:
            yield _export(server, place, record)


class Server:
    """A tracking server: its calls, each with the errors that a user can meet."""

    def __init__(self, client: httpx.Client, uri: str) -> None:
        self.client, self.uri = client, uri

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; TrackingError where it does not succeed."""
        import httpx

        try:
            answer = self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise TrackingError(
                f"{self.uri} does not answer: {error}", expected="a running MLflow server", command="mlflow server"
            ) from error
        if answer.is_error:
            raise TrackingError(f"{self.uri} refused {path}: {_said(answer)}")
        return answer

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """A call of the API; its answer."""
        try:
            return self.call("POST", f"{API}/{path}", json=body).json()
        except ValueError as error:
            raise TrackingError(f"{self.uri} is no MLflow server: {path} answers no JSON") from error

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made if it is not there."""
        found = self.post("experiments/search", {"filter": f"name = '{name}'", "max_results": 1})
        if experiments := found.get("experiments"):
            return str(experiments[0]["experiment_id"])
        return str(self.post("experiments/create", {"name": name})["experiment_id"])

    def runs(self, experiment: str, record: Record) -> list[dict[str, Any]]:
        """The runs there that are this record's."""
        wanted = {"experiment_ids": [experiment], "filter": f"tags.`{RUN_TAG}` = '{record.id}'", "max_results": 10}
        found: list[dict[str, Any]] = self.post("runs/search", wanted).get("runs", [])
        return [each["info"] for each in found]


def _export(server: Server, experiment: str, record: Record) -> Exported:
    for info in server.runs(experiment, record):
        if info["status"] != "RUNNING":
            return Exported(_address(server, experiment, info["run_id"]), new=False)
        server.post("runs/delete", {"run_id": info["run_id"]})  # an export that broke off
    started = _milliseconds(record.started or record.created)
    body = {"experiment_id": experiment, "run_name": record.id, "start_time": started, "tags": _tags(record)}
    info = server.post("runs/create", body)["run"]["info"]
    run = info["run_id"]
    params = list(_params(record))
    for batch in _batches(params, PARAMS_AT_ONCE):
        server.post("runs/log-batch", {"run_id": run, "params": batch})
    points = list(_points(record, started))
    with progress.task(f"Exporting {record.id}", total=len(points)) as task:
        for batch in _batches(points, METRICS_AT_ONCE):
            server.post("runs/log-batch", {"run_id": run, "metrics": batch})
            task.advance(len(batch))
    _artifacts(server, info["artifact_uri"], record)
    ended = _milliseconds(record.ended) if record.ended else started
    server.post("runs/update", {"run_id": run, "status": ENDS[record.status], "end_time": ended})
    return Exported(_address(server, experiment, run), new=True)


def _tags(record: Record) -> list[dict[str, str]]:
    tags = {RUN_TAG: record.id, "parity.target": record.target, "parity.status": record.status}
    tags["mlflow.source.name"] = record.ingredients["command"]
    remote = record.remote or {}
    tags.update({f"azureml.{name}": value for name, value in remote.items() if isinstance(value, str) and value})
    return [{"key": key, "value": value[:PARAM_LENGTH]} for key, value in tags.items()]


def _params(record: Record) -> Iterator[dict[str, str]]:
    """The ingredients, and of what was seen what decides numbers."""
    for key, value in facts.of(record).values.items():
        if key.group in (*GROUPS, *SEEN) and not key.node and value is not UNKNOWN and value is not MISSING:
            name = key.group if key.name == key.group else f"{key.group}.{key.name}"
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            if text:
                yield {"key": _name(name), "value": text[:PARAM_LENGTH]}


def _points(record: Record, started: int) -> Iterator[dict[str, Any]]:
    """The metrics as the API takes them; those without a time get the time of the run's start."""
    for point in metrics.lines(record.folder):
        value = point["value"]
        if value is None or isinstance(value, int | float):
            yield {
                "key": _name(point["name"]),
                "value": "NaN" if value is None or value != value else value,
                "timestamp": int(point["time"] * 1000) if point.get("time") else started,
                "step": point.get("step") or 0,
            }


def _artifacts(server: Server, uri: str, record: Record) -> None:
    parts = urlsplit(uri)
    if parts.scheme != PROXIED:
        log.warning("The server takes no files (its artifacts are at %s): %s stays here", uri, record.folder)
        return
    for path in _files(record.folder):
        place = quote(f"{parts.path.strip('/')}/{path.name}")
        with path.open("rb") as file:
            server.call("PUT", f"api/2.0/mlflow-artifacts/artifacts/{place}", content=file)


def _files(folder: Path) -> list[Path]:
    return [path for pattern in ARTIFACTS for path in sorted(folder.glob(pattern)) if path.is_file()]


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(text: str) -> str:
    """A name that the API takes: letters, digits and _ - . / and spaces."""
    return re.sub(r"[^\w./ -]", "_", text, flags=re.ASCII)[:250]


def _milliseconds(moment: str) -> int:
    """A time of a record in milliseconds since 1970. Azure ML's have more digits than Python 3.10 reads."""
    plain = moment[:23] if re.match(r".{19}\.\d{3}", moment) else moment[:19]
    return int(datetime.fromisoformat(plain).replace(tzinfo=timezone.utc).timestamp() * 1000)


def _address(server: Server, experiment: str, run: str) -> str:
    return f"{server.uri}/#/experiments/{experiment}/runs/{run}"


def _said(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['message']}".splitlines()[0]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}"


def _bearer() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _login() -> tuple[str, str] | None:
    user, word = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    return (user, word) if user and word else None
