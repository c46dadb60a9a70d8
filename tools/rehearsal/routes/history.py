"""The run history (v1.0): runs under each of the three roots that their addresses may have."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from starlette.routing import BaseRoute, Route

from .. import queries, times
from ..answers import SCOPE, Call, Refusal, answering
from ..history import EXTRA, details_dto, error_response, order_of, run_dto, value_of
from ..runs import ENDED, ORDER, Experiment, Run
from ..tokens import JOB_SECONDS
from ..workspace import Workspace
from . import experiments

BASE = f"/history/v1.0{SCOPE}"
ROOTS = ("", "/experiments/{experiment}", "/experimentids/{experiment_id}")
ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII)  # runId of snapshotrun (execution.json of 2019-12-01)
EVENT = "Microsoft.MachineLearning.Run."
STATUSES = {
    "Start": "Running",
    **{name: name for name in ("Queued", "CancelRequested", "Completed", "Failed", "Canceled")},
}
SEEN_SECONDS = 3.0


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Experiments, runs and queries."""
    return [*experiments.routes(workspace), *History(workspace).routes()]


class History:
    """Runs, as clients see and change them."""

    def __init__(self, workspace: Workspace) -> None:
        """workspace: whose runs."""
        self.workspace, self.runs = workspace, workspace.runs
        self._told: set[str] = set()  # runs whose end a client was told
        self._lock = threading.Lock()

    def routes(self) -> list[BaseRoute]:
        """All calls on runs."""
        of_run: list[tuple[str, str, Callable[[Call, Run], Any]]] = [
            ("GET", "", self.get),
            ("GET", "/details", self.details),
            ("GET", "/children", self.children),
            ("PATCH", "/tags", self.change_tags),
            ("DELETE", "/tags", self.remove_tags),
            ("POST", "/events", self.event),
            ("POST", "/cancel", self.cancel),
            ("GET", "/token", self.token),
            ("GET", "/metricsingest/wait", lambda call, run: {}),  # what was answered is kept already
        ]
        of_root: list[tuple[str, str, Callable[[Call], Any]]] = [
            ("PATCH", "/runs/{run}", self.change),
            ("POST", "/runs:query", self.query),
            ("PATCH", "/batch/runs", self.change_many),
            ("POST", "/batch/events", self.events),
        ]
        found = [
            Route(f"{BASE}{root}/runs/{{run}}{tail}", answering(self._with_run(function)), methods=[method])
            for root in ROOTS
            for method, tail, function in of_run
        ]
        found += [
            Route(f"{BASE}{root}{tail}", answering(function), methods=[method])
            for root in ROOTS
            for method, tail, function in of_root
        ]
        return [*found, Route(f"{BASE}/computes/{{compute}}/runs", answering(self.of_compute), methods=["GET"])]

    def get(self, call: Call, run: Run) -> dict[str, Any]:
        """RunDto."""
        if run.over:
            self._tell(run)
        return run_dto(self.workspace, run)

    def details(self, call: Call, run: Run) -> dict[str, Any]:
        """RunDetailsDto, whose logs are in it.

        wait_for_completion(show_output=True) prints no log of a run that has ended when it first asks. At Azure a run
        lasts for minutes; here it may be over by then. So the first answer after the end of a job, if nobody was told
        of it, still says Finalizing, and the log is read with the second.
        """
        if run.over and run.definition and _seconds_since(run.ended) < SEEN_SECONDS and self._tell(run):
            run = replace(run, status="Finalizing", ended=None, error=None)
        return details_dto(self.workspace, run)

    def children(self, call: Call, run: Run) -> dict[str, Any]:
        """Those whose parent it is."""
        return self._page(self.runs.all(parent=run.id), _query(call))

    def query(self, call: Call) -> dict[str, Any]:
        """Runs of an experiment, or of all where none is named."""
        body = call.body
        asked = queries.Query(
            filter=body.get("filter"),
            orderby=body.get("orderby") or body.get("orderBy"),
            top=body.get("top"),
            token=body.get("continuationToken"),
        )
        return self._page(self.runs.all(experiment=self._experiment(call)), asked)

    def of_compute(self, call: Call) -> dict[str, Any]:
        """Runs on a compute target."""
        wanted = call.path["compute"]
        return self._page([run for run in self.runs.all() if run.target == wanted], _query(call))

    def change(self, call: Call) -> dict[str, Any]:
        """RunDto with what the body says of it; the run is made if there is none of that id."""
        return run_dto(self.workspace, self._put(call, call.path["run"], call.body))

    def change_many(self, call: Call) -> dict[str, Any]:
        """The same for several runs: Run.create_children."""
        found = [self._put(call, str(body.get("runId")), body) for body in call.body.get("runs") or []]
        return {"runs": {run.id: run_dto(self.workspace, run) for run in found}, "errors": {}}

    def change_tags(self, call: Call, run: Run) -> dict[str, Any]:
        """DeleteOrModifyTags: {valuesToModify: {name: value}, keysToDelete: [name]}."""
        self.runs.remove_tags(run.id, call.body.get("keysToDelete") or [])
        return self._shown(self.runs.update(run.id, tags=call.body.get("valuesToModify") or {}))

    def remove_tags(self, call: Call, run: Run) -> dict[str, Any]:
        """The body is a list of names."""
        return self._shown(self.runs.remove_tags(run.id, list(call.body)))

    def event(self, call: Call, run: Run) -> dict[str, Any]:
        """What happened to a run moves its status."""
        self._happened(run, call.body)
        return {}

    def events(self, call: Call) -> dict[str, Any]:
        """The same for several runs, each of which is named by its event."""
        for body in call.body.get("events") or []:
            self._happened(self._run(call, str((body.get("data") or {}).get("RunId"))), body)
        return {"errors": []}

    def cancel(self, call: Call, run: Run) -> dict[str, Any]:
        """Cancels it, whether it has a job or not."""
        self._cancel(run)
        return self._shown(self.runs.get(run.id))

    def token(self, call: Call, run: Run) -> dict[str, Any]:
        """A job's token once more: for itself, or for a person."""
        if call.run_id not in (None, run.id):
            raise Refusal(403, f"the job of {call.run_id} has no token of {run.id}", component="run-history")
        end = datetime.now(timezone.utc) + timedelta(seconds=JOB_SECONDS)
        return {"token": self.workspace.tokens.job(run.id), "expiryTimeUtc": times.written(end)}

    def _with_run(self, function: Callable[[Call, Run], Any]) -> Callable[[Call], Any]:
        return lambda call: function(call, self._run(call, call.path["run"]))

    def _run(self, call: Call, id: str) -> Run:  # noqa: A002 - the service's word
        """The run, if it belongs to the experiment of the address."""
        experiment, run = self._experiment(call), self.runs.get(id)
        if run is None or (experiment is not None and run.experiment_id != experiment.id):
            where = f" in experiment {experiment.name}" if experiment else ""
            raise Refusal(404, f"Run {id} was not found{where}.", component="run-history")
        return run

    def _experiment(self, call: Call) -> Experiment | None:
        """That of the address; None where it names none."""
        found: Experiment | None = None
        if name := call.path.get("experiment"):
            found = self.runs.experiment(name) or self.runs.archived_experiment(name)
        elif id := call.path.get("experiment_id"):  # noqa: A001
            found = self.runs.experiment_of_id(id)
        else:
            return None
        if found is None:
            raise Refusal(404, f"Experiment {name or id} was not found.", component="run-history")
        return found

    def _put(self, call: Call, id: str, body: dict[str, Any]) -> Run:  # noqa: A002
        if self.runs.get(id) is None:
            if not ID.fullmatch(id):
                raise Refusal(400, f"{id!r} is no run id: {ID.pattern} is expected", code="ValidationError")
            name = call.path.get("experiment")
            if name is None:
                experiment = self._experiment(call)
                if experiment is None:
                    raise Refusal(404, f"Run {id} was not found.", component="run-history")
                name = experiment.name
            self.runs.create(
                id,
                name,
                status="NotStarted",
                type=str(body.get("runType") or ""),
                parent=body.get("parentRunId"),
                target=body.get("target"),
            )
        run = self._run(call, id)
        said = {
            "name": body.get("name"),
            "description": body.get("description"),
            "target": body.get("target"),
            "hidden": body.get("hidden"),
            "type": body.get("runType"),
            "tags": body.get("tags"),
            "properties": body.get("properties"),
            "snapshot": (body.get("properties") or {}).get("ContentSnapshotId"),
            "extra": {name: body[name] for name in EXTRA if body.get(name) is not None},
        }
        changed = self.runs.update(id, **{column: value for column, value in said.items() if value is not None})
        if (status := body.get("status")) in (*ORDER, *ENDED):
            changed = self.runs.move(id, status)
        return changed or run

    def _happened(self, run: Run, body: dict[str, Any]) -> None:
        name, data = str(body.get("name", "")).removeprefix(EVENT), body.get("data") or {}
        if name == "Canceled":
            self._cancel(run)
        elif name in STATUSES:
            self.runs.move(run.id, STATUSES[name])
        elif name == "Error":
            self.runs.update(run.id, error=error_response(data.get("ErrorResponse") or {}))
        elif name == "Warning":
            warning = {"source": data.get("Source"), "message": data.get("Message")}
            self.runs.update(run.id, warnings=[*run.warnings, warning])

    def _cancel(self, run: Run) -> None:
        if run.definition and not run.over:
            self.workspace.jobs.cancel(run.id)
        else:
            self.runs.move(run.id, "Canceled")

    def _page(self, found: Sequence[Run], asked: queries.Query) -> dict[str, Any]:
        page = queries.page(found, asked, key=lambda run: run.id, lookup=value_of, order=order_of)
        value = [run_dto(self.workspace, run) for run in page.items]
        return {"value": value, "continuationToken": page.token, "nextLink": None}

    def _tell(self, run: Run) -> bool:
        """Whether the run's end is told for the first time."""
        with self._lock:
            first = run.id not in self._told
            self._told.add(run.id)
        return first

    def _shown(self, run: Run | None) -> dict[str, Any]:
        if run is None:
            raise Refusal(404, "The run was not found.", component="run-history")
        return run_dto(self.workspace, run)


def _query(call: Call) -> queries.Query:
    """As a GET asks for a page."""
    top = call.query.get("$top", "")
    return queries.Query(
        filter=call.query.get("$filter"),
        orderby=call.query.get("$orderby"),
        top=int(top) if top.isdecimal() else None,
        token=call.query.get("$continuationtoken") or call.query.get("$continuationToken"),
    )


def _seconds_since(moment: str | None) -> float:
    parsed = times.parse(moment or "")
    return time.time() - parsed.timestamp() if parsed else float("inf")
