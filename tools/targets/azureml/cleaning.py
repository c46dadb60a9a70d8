"""What this project made in a workspace, and its end: by the tag that each of its runs has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...settings import Settings
from .failures import errors
from .following import ENDED
from .submission import PROJECT

if TYPE_CHECKING:
    from azureml.core import Workspace

# What azureml-core has no call for; deleting the workspace or its resource group takes them too
KEPT = "runs and their files, snapshots, registered environments, and data in datastores"


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something to end. kind: "run" or "experiment"; end: "cancel" or "archive"; detail: what it is, for a person."""

    kind: str
    name: str
    end: str
    detail: str
    thing: Any = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.end:<8}{self.kind} {self.name}: {self.detail}"


def find(workspace: Workspace, settings: Settings) -> list[Leftover]:
    """The project's runs that still go on, and the experiments whose runs are all the project's."""
    from azureml.core import Experiment

    found = []
    with errors("listing the experiments"):
        experiments = Experiment.list(workspace)
    for experiment in sorted(experiments, key=lambda each: str(each.name)):
        with errors(f"listing the runs of the experiment {experiment.name}"):
            ours = list(experiment.get_runs(tags={PROJECT: settings.image.name}))
            if not ours:
                continue
            others = sum(run.tags.get(PROJECT) != settings.image.name for run in experiment.get_runs())
        found += list(_going_on(ours))
        if not others:
            found.append(
                Leftover(
                    kind="experiment",
                    name=experiment.name,
                    end="archive",
                    detail=f"{len(ours)} runs, all of {PROJECT} = {settings.image.name}",
                    thing=experiment,
                )
            )
    return found


def end(leftover: Leftover) -> None:
    """Cancels a run, or archives an experiment: it is hidden from then on, and what it holds is kept."""
    with errors(f"ending the {leftover.kind} {leftover.name}"):
        if leftover.end == "cancel":
            leftover.thing.cancel()
        else:
            leftover.thing.archive()


def _going_on(runs: list[Any]) -> Iterator[Leftover]:
    for run in runs:
        if run.status not in ENDED:
            yield Leftover(
                kind="run",
                name=run.id,
                end="cancel",
                detail=f"{run.status}, on {run.get_details()['target']}",
                thing=run,
            )
