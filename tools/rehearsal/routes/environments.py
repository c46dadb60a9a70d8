"""Environments over the wire, as azureml-core 1.61 asks for them (environment/v1.0); no specification is public."""

from __future__ import annotations

from typing import Any

from starlette.routing import BaseRoute, Route

from ..answers import SCOPE, Call, Refusal, answering
from ..environments import NAME, RESERVED, Unchangeable
from ..workspace import Workspace

COMPONENT = "environment-management"
# As a user reported it of the service (MicrosoftDocs/azure-docs, 65770)
CURATED = (
    "Environment name can not start with the prefix AzureML. To alter a curated environment first create a copy of it."
)


def routes(workspace: Workspace) -> list[BaseRoute]:
    """By name the newest version; by name and version that one."""
    rooms = _Environments(workspace)
    base = f"/environment/v1.0{SCOPE}/environments"
    found: list[BaseRoute] = [
        Route(f"{base}/", answering(rooms.list)),
        Route(base, answering(rooms.list)),
        Route(f"{base}/{{name}}/versions", answering(rooms.versions)),
        Route(f"{base}/{{name}}/labels/{{label}}", answering(rooms.labeled)),
    ]
    for one in (f"{base}/{{name}}", f"{base}/{{name}}/versions/{{version}}"):
        found += [
            Route(one, answering(rooms.get), methods=["GET"]),
            Route(one, answering(rooms.put), methods=["PUT"]),
            Route(f"{one}/metadata", answering(rooms.label), methods=["PUT"]),
        ]
    return found


class _Environments:
    def __init__(self, workspace: Workspace) -> None:
        self.environments = workspace.environments

    def list(self, call: Call) -> dict[str, Any]:
        """The newest version of each, on one page."""
        return {"value": self.environments.all(), "continuationToken": None}

    def versions(self, call: Call) -> dict[str, Any]:
        """All versions of one."""
        return {"value": self.environments.versions(call.path["name"]), "continuationToken": None}

    def get(self, call: Call) -> dict[str, Any]:
        """A definition."""
        name, version = call.path["name"], call.path.get("version")
        return self._found(self.environments.get(name, version), name, f"version {version}" if version else "")

    def labeled(self, call: Call) -> dict[str, Any]:
        """The version with a label."""
        name, label = call.path["name"], call.path["label"]
        return self._found(self.environments.labeled(name, label), name, f"label {label}")

    def put(self, call: Call) -> dict[str, Any]:
        """Registers one. The SDK writes the names of the first level in either case; the answer is in camelCase."""
        name, version = call.path["name"], call.path.get("version")
        if name.lower().startswith(RESERVED):
            raise Refusal(400, CURATED, component=COMPONENT)
        if not NAME.fullmatch(name):
            raise Refusal(400, f"Environment name {name!r}: expected letters, digits, _ . and -", component=COMPONENT)
        if not isinstance(call.body, dict):
            raise Refusal(400, "an environment definition is a JSON object", component=COMPONENT)
        definition = {key[:1].lower() + key[1:]: value for key, value in call.body.items()}
        try:
            return self.environments.put(name, version, definition)
        except Unchangeable as problem:
            raise Refusal(400, str(problem), component=COMPONENT) from problem

    def label(self, call: Call) -> dict[str, Any]:
        """Environment.label: gives a version its labels."""
        found = self.get(call)
        labels = call.body.get("Labels") or []
        self.environments.label(found["name"], found["version"], [str(each) for each in labels])
        return found

    def _found(self, definition: dict[str, Any] | None, name: str, which: str) -> dict[str, Any]:
        if definition is not None:
            return definition
        asked = f"Environment {name}" + (f" with {which}" if which else "")
        there = ", ".join(each["version"] for each in self.environments.versions(name))
        hint = f"; its versions: {there}" if there else ""
        if name.lower().startswith(RESERVED):
            hint = "; curated environments are Azure's own, and are not in a rehearsal"
        raise Refusal(404, f"{asked} was not found{hint}.", component=COMPONENT)
