"""The experiments of the run history (v1.0)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from starlette.routing import BaseRoute, Route

from .. import queries
from ..answers import SCOPE, Call, Refusal, answering
from ..history import experiment_dto, value_of_experiment
from ..runs import Experiment
from ..store import now
from ..workspace import Workspace

BASE = f"/history/v1.0{SCOPE}"
NAME = re.compile(r"[a-zA-Z0-9][\w-]{0,254}", re.ASCII)  # azureml-core 1.61, Experiment.__init__


def routes(workspace: Workspace) -> list[BaseRoute]:
    """All calls on experiments."""
    found = Experiments(workspace)
    calls: list[tuple[str, str, Callable[[Call], Any]]] = [
        ("GET", "/experiments/{experiment}", found.get),
        ("POST", "/experiments/{experiment}", found.create),
        ("POST", "/experiments:query", found.query),
        ("GET", "/experimentids/{experiment_id}", found.get_by_id),
        ("PATCH", "/experimentids/{experiment_id}", found.change),
        ("DELETE", "/experimentids/{experiment_id}", found.remove),
        ("POST", "/experimentids/{experiment_id}/tags:delete", found.remove_tags),
    ]
    return [Route(f"{BASE}{path}", answering(function), methods=[method]) for method, path, function in calls]


class Experiments:
    """Experiments, as clients see and change them."""

    def __init__(self, workspace: Workspace) -> None:
        """workspace: whose experiments."""
        self.runs = workspace.runs

    def get(self, call: Call) -> dict[str, Any]:
        """The active one of that name."""
        experiment = self.runs.experiment(call.path["experiment"])
        if experiment is None:
            raise _missing(call.path["experiment"])
        return experiment_dto(experiment)

    def get_by_id(self, call: Call) -> dict[str, Any]:
        """The one of that id, archived or not."""
        return experiment_dto(self._of_id(call))

    def create(self, call: Call) -> dict[str, Any]:
        """The active one of that name, made if need be."""
        name = call.path["experiment"]
        if not NAME.fullmatch(name):
            raise Refusal(400, f"{name!r} is no experiment name: {NAME.pattern} is expected", code="ValidationError")
        return experiment_dto(self.runs.ensure_experiment(name))

    def query(self, call: Call) -> dict[str, Any]:
        """A page of them; viewType: ActiveOnly (also where nothing is said), ArchivedOnly or All."""
        body = call.body
        view = str(body.get("viewType") or call.query.get("viewType") or "ActiveOnly").lower()
        shown = [
            experiment
            for experiment in self.runs.experiments()
            if view == "all" or (experiment.archived is not None) == (view == "archivedonly")
        ]
        page = queries.page(
            shown,
            queries.Query(
                filter=body.get("filter"),
                orderby=body.get("orderby") or body.get("orderBy"),
                top=body.get("top"),
                token=body.get("continuationToken"),
            ),
            key=lambda experiment: experiment.id,
            lookup=value_of_experiment,
            order=value_of_experiment,
        )
        value = [experiment_dto(experiment) for experiment in page.items]
        return {"value": value, "continuationToken": page.token, "nextLink": None}

    def change(self, call: Call) -> dict[str, Any]:
        """ModifyExperimentDto: name, description, tags (put beside those that it has), archive."""
        experiment, body = self._of_id(call), call.body
        changed = replace(
            experiment,
            name=body.get("name") or experiment.name,
            description=body.get("description") or experiment.description,
            tags={**experiment.tags, **(body.get("tags") or {})},
            archived={True: experiment.archived or now(), False: None}.get(body.get("archive"), experiment.archived),
        )
        if not self.runs.change_experiment(changed):
            raise Refusal(
                400,
                f"There is an active experiment {changed.name} already: "
                "archive or delete it, and then bring this one back.",
                component="run-history",
            )
        return experiment_dto(changed)

    def remove(self, call: Call) -> dict[str, Any]:
        """Only one without runs can be deleted, as the SDK's documentation has it (Experiment.delete)."""
        experiment = self._of_id(call)
        if not self.runs.remove_experiment(experiment):
            text = f"Only empty experiments can be deleted, and {experiment.name} has runs: archive it instead."
            raise Refusal(400, text, component="run-history")
        return {}

    def remove_tags(self, call: Call) -> dict[str, Any]:
        """DeleteTagsCommandDto: {tags: [name]}."""
        experiment, names = self._of_id(call), call.body.get("tags") or []
        tags = {name: value for name, value in experiment.tags.items() if name not in names}
        self.runs.change_experiment(replace(experiment, tags=tags))
        return {"errors": {}}

    def _of_id(self, call: Call) -> Experiment:
        experiment = self.runs.experiment_of_id(call.path["experiment_id"])
        if experiment is None:
            raise _missing(call.path["experiment_id"])
        return experiment


def _missing(name: str) -> Refusal:
    return Refusal(404, f"Experiment {name} was not found.", component="run-history")
