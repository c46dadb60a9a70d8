"""The execution service: submissions and cancels. Its paths and bodies: execution.json of 2019-12-01."""

from __future__ import annotations

import json
import re
import uuid

from starlette.routing import BaseRoute, Route

from ...errors import ParityError
from .. import definition
from ..answers import SCOPE, Call, Refusal, answering
from ..workspace import Workspace

BASE = f"/execution/v1.0{SCOPE}/experiments/{{experiment}}"
RUN_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII)
LOCAL = ("localrun", "localprepare", "startlocalrun")


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Start a run from a snapshot, and cancel it."""
    execution = _Execution(workspace)
    return [
        Route(f"{BASE}/snapshotrun", answering(execution.start), methods=["POST"]),
        Route(f"{BASE}/runId/{{run}}/cancel", answering(execution.cancel), methods=["POST"]),
        *(Route(f"{BASE}/{name}", answering(execution.local), methods=["POST"]) for name in LOCAL),
    ]


class _Execution:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def start(self, call: Call) -> dict[str, str]:
        """A run is made and begun; the same one asked for again, whose answer was lost, is not begun twice."""
        runs, jobs = self.workspace.runs, self.workspace.jobs
        run_id = call.query.get("runId") or f"{call.path['experiment']}_{uuid.uuid4().hex[:12]}"
        if not RUN_ID.fullmatch(run_id):
            raise Refusal(400, f"{run_id!r} is no id of a run: letters, digits, _ and -", component="execution")
        asked = definition.read(call.body)
        shown = definition.shown(call.body)
        if known := runs.get(run_id):
            if json.loads(json.dumps(shown)) == known.definition and known.experiment == call.path["experiment"]:
                return {"runId": run_id}
            raise Refusal(400, f"There is a run {run_id} already.", component="execution")
        if asked.parent and runs.get(asked.parent) is None:
            raise Refusal(400, f"Run {asked.parent}, the parent, not found.", component="execution")
        try:
            jobs.check(asked)
        except ParityError as problem:  # no engine answers
            raise Refusal(400, str(problem), component="execution") from problem
        with self.workspace.store.transaction():  # what is acknowledged is known whole
            made = runs.create(
                run_id,
                call.path["experiment"],
                status="Starting",
                parent=asked.parent,
                target=asked.target,
                definition=shown,
                snapshot=asked.snapshot,
            )
            if made is None:
                return {"runId": run_id}
            target = {"_azureml.ComputeTargetType": "amlctrain", "ContentSnapshotId": asked.snapshot or ""}
            runs.update(run_id, properties={"azureml.runsource": "experiment", **target})
        jobs.submit(run_id)
        return {"runId": run_id}

    def cancel(self, call: Call) -> dict[str, str]:
        """A cancel is asked for; one of a run that is over changes nothing."""
        run = self.workspace.runs.get(call.path["run"])
        if run is None:
            raise Refusal(404, f"Run {call.path['run']} not found.", component="execution")
        self.workspace.jobs.cancel(run.id)
        return {"runId": run.id}

    def local(self, call: Call) -> None:
        """Refused: such a run's processes are the submitter's own, outside of any image."""
        raise Refusal(
            400,
            "target 'local' is not served: the rehearsal runs every job in a container. "
            "Submit to a compute target, e.g. compute_target='cpu-cluster', or use make run-local",
            component="execution",
        )
