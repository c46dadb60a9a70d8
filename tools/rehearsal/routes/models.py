"""Models over the wire, as azureml-core 1.61 asks for them (modelmanagement/v1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..answers import SCOPE, Call, answering
from ..models import NAME
from ..workspace import Workspace

# What may be changed of a model once it is registered
CHANGEABLE = {"description", "kvTags", "properties", "sampleInputData", "sampleOutputData", "resourceRequirements"}
KEPT = (*CHANGEABLE, "framework", "frameworkVersion", "mimeType", "url", "unpack", "runId", "experimentName")


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Assets say which files a model has; models name them."""
    found = _Models(workspace)
    base = f"/modelmanagement/v1.0{SCOPE}"
    return [
        Route(f"{base}/assets", answering(found.put_asset), methods=["POST"]),
        Route(f"{base}/assets/{{id}}", answering(found.asset), methods=["GET"]),
        Route(f"{base}/models", answering(found.list), methods=["GET"]),
        Route(f"{base}/models", answering(found.put), methods=["POST"]),
        Route(f"{base}/models/{{id}}", answering(found.get), methods=["GET"]),
        Route(f"{base}/models/{{id}}", answering(found.change), methods=["PATCH"]),
        Route(f"{base}/models/{{id}}", answering(found.delete), methods=["DELETE"]),
    ]


class _Models:
    def __init__(self, workspace: Workspace) -> None:
        self.models, self.tenant = workspace.models, workspace.identity.tenant

    def put_asset(self, call: Call) -> Any:
        """Says which artifacts, by id or prefix, belong together."""
        artifacts = call.body.get("artifacts") or []
        if not all(isinstance(each, dict) and (each.get("id") or each.get("prefix")) for each in artifacts):
            return _refused(400, "each artifact of an asset has an id or a prefix")
        return self.models.put_asset(call.body)

    def asset(self, call: Call) -> Any:
        """An asset."""
        return self.models.asset(call.path["id"]) or _refused(404, f"there is no asset {call.path['id']}")

    def put(self, call: Call) -> Any:
        """Registers a model."""
        body = call.body
        name, url = str(body.get("name") or ""), str(body.get("url") or "")
        if not NAME.fullmatch(name):
            return _refused(400, f"{name!r} is no name of a model: letters, digits, _ . and -")
        if self.models.asset(url.removeprefix("aml://asset/")) is None:
            return _refused(400, f"{url!r} is no asset of this workspace")
        if body.get("datasets"):
            return _refused(400, "the rehearsal workspace has no datasets that a model could name")
        kept = {key: body.get(key) for key in KEPT}
        # Where nothing is given, the SDK wants tables all the same
        kept |= {"kvTags": kept["kvTags"] or {}, "properties": kept["properties"] or {}, "datasets": []}
        creator = {"userObjectId": None, "userTenantId": self.tenant, "userName": "rehearsal"}
        return self.models.put(name, {**kept, "createdBy": creator, "parentModelId": None, "derivedModelIds": []})

    def list(self, call: Call) -> dict[str, Any]:
        """Those that fit, the newest first, on one page."""
        query = call.query
        found = [each for each in self.models.all() if _fits(each, query)]
        if query.get("latestVersionOnly", "").lower() == "true":
            newest: dict[str, dict[str, Any]] = {}
            for each in found:
                newest.setdefault(each["name"], each)
            found = [*newest.values()]
        return {"value": found, "continuationToken": None, "nextLink": None}

    def get(self, call: Call) -> Any:
        """A model."""
        return self.models.get(call.path["id"]) or self._missing(call)

    def change(self, call: Call) -> Any:
        """A JSON Patch whose every path is a part of the model's description (RFC 6902: add, replace, remove)."""
        changes = {}
        for step in call.body if isinstance(call.body, list) else []:
            key = str(step.get("path", "")).removeprefix("/")
            if key not in CHANGEABLE or step.get("op") not in ("add", "replace", "remove"):
                return _refused(400, f"{step.get('op')} {key} of a model is not served")
            changes[key] = step.get("value")
        return self.models.change(call.path["id"], changes) or self._missing(call)

    def delete(self, call: Call) -> Any:
        """Takes it away."""
        return None if self.models.delete(call.path["id"]) else self._missing(call)

    def _missing(self, call: Call) -> Response:
        return _refused(404, f"there is no model {call.path['id']}")


def _fits(model: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    exact = {"name": "name", "framework": "framework", "runId": "runId"}
    return (
        all(model[key] == query[asked] for asked, key in exact.items() if asked in query)
        and "datasetId" not in query  # no model has one
        and _carries(model["kvTags"], query.get("tags", ""))
        and _carries(model["properties"], query.get("properties", ""))
    )


def _carries(table: Mapping[str, str], wanted: str) -> bool:
    """Whether the table has all of these: KEY or KEY=VALUE, between commas."""
    for part in filter(None, wanted.split(",")):
        key, equals, value = part.partition("=")
        if key not in table or (equals and table[key] != value):
            return False
    return True


def _refused(status: int, message: str) -> Response:
    """The model management service has an error body of its own (ModelErrorResponse)."""
    details = [{"code": "NotFound" if status == 404 else "BadRequest", "message": message}]
    body = {"code": details[0]["code"], "statusCode": status, "message": message, "details": details, "correlation": {}}
    return JSONResponse(body, status_code=status)
