"""The artifact service (v2.0): the files of runs and models. The path stands in the route, or in the query `path`."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route

from ... import files
from .. import artifacts, paths, times
from ..answers import SCOPE, Call, Refusal, answering, error
from ..workspace import Workspace

BASE = f"/artifact/v2.0{SCOPE}/artifacts"
CONTAINER = "{origin}/{container}"


def routes(workspace: Workspace) -> list[BaseRoute]:
    """The forms of azureml-core (verb first) and those of the published specification (verb last)."""

    def route(method: str, path: str, function: Callable[[Workspace, Call], Any]) -> Route:
        return Route(f"{BASE}/{path}", answering(functools.partial(function, workspace)), methods=[method])

    return [
        route("POST", f"batch/metadata/{CONTAINER}", create),
        route("GET", f"prefix/contentinfo/{CONTAINER}/{{path:path}}", addresses),
        route("GET", f"prefix/contentinfo/{CONTAINER}", addresses),
        route("GET", f"contentinfo/{CONTAINER}/{{path:path}}", address),
        route("GET", f"{CONTAINER}/contentinfo", address),
        route("GET", f"write/{CONTAINER}/{{path:path}}", address_to_write),
        route("GET", f"metadata/{CONTAINER}/{{path:path}}", describe),
        route("GET", f"{CONTAINER}/metadata", describe),
        route("POST", f"content/{CONTAINER}/{{path:path}}", upload),
        route("POST", f"{CONTAINER}/content", upload),
        route("GET", CONTAINER, names),
        route("GET", f"{CONTAINER}/{{path:path}}", names),
    ]


def create(workspace: Workspace, call: Call) -> dict[str, Any]:
    """Addresses to upload to. A file that is there is never written over: its entry is an error, as in the service."""
    folder = _folder(workspace, call)
    made: dict[str, Any] = {"artifacts": {}, "artifactContentInformation": {}, "errors": {}}
    for entry in call.body.get("paths") or []:
        name = str(entry["path"]).replace("\\", "/")
        if (place := paths.inside(folder, name)).exists():
            text = f"Resource Conflict: ArtifactId {_id(call, name)} already exists."
            made["errors"][name] = error(text, component="artifact")
        else:
            made["artifacts"][name] = _artifact(call, name, None)
            made["artifactContentInformation"][name] = _information(call, name, workspace.blobs.uri(place, "w"))
    return made


def names(workspace: Workspace, call: Call) -> dict[str, Any]:
    """All files of a container, or those below a path."""
    folder = _folder(workspace, call)
    found = artifacts.names(folder, _path(call))
    return {"value": [_artifact(call, name, folder / name) for name in found], "continuationToken": None}


def addresses(workspace: Workspace, call: Call) -> dict[str, Any]:
    """The addresses of all files below a path."""
    folder = _folder(workspace, call)
    value = [
        _information(call, name, workspace.blobs.uri(folder / name, "r"))
        for name in artifacts.names(folder, _path(call))
    ]
    return {"value": value, "continuationToken": None}


def address(workspace: Workspace, call: Call) -> dict[str, Any]:
    """The address of a file, to read it."""
    path = _existing(workspace, call)
    return _information(call, _path(call), workspace.blobs.uri(path, "r"))


def address_to_write(workspace: Workspace, call: Call) -> dict[str, Any]:
    """The address of a file, to write it: the SDK asks for it when that which it was given has expired."""
    path = paths.inside(_folder(workspace, call), _path(call))
    return _information(call, _path(call), workspace.blobs.uri(path, "w"))


def describe(workspace: Workspace, call: Call) -> dict[str, Any]:
    """What is known of a file."""
    return _artifact(call, _path(call), _existing(workspace, call))


def upload(workspace: Workspace, call: Call) -> dict[str, Any]:
    """A small file in one request, or with append=true a piece of one."""
    path = paths.inside(_folder(workspace, call), _path(call))
    before = path.read_bytes() if call.query.get("append", "").lower() == "true" and path.exists() else b""
    with files.written_whole(path) as file:
        file.write(before + call.content)
    return _artifact(call, _path(call), path)


def _folder(workspace: Workspace, call: Call) -> Path:
    return workspace.artifacts.container(call.path["origin"], call.path["container"])


def _path(call: Call) -> str:
    return str(call.path.get("path", "") or call.query.get("path", ""))


def _existing(workspace: Workspace, call: Call) -> Path:
    path = paths.inside(_folder(workspace, call), _path(call))
    if not path.is_file():
        raise Refusal(404, f"Artifact {_id(call, _path(call))} not found.", component="artifact")
    return path


def _id(call: Call, name: str) -> str:
    return f"{call.path['origin']}/{call.path['container']}/{name}"


def _artifact(call: Call, name: str, path: Path | None) -> dict[str, Any]:
    """ArtifactDto. path: of the file, None before it is uploaded."""
    status = path.stat() if path else None
    changed = datetime.fromtimestamp(status.st_mtime, timezone.utc) if status else datetime.now(timezone.utc)
    return {
        "artifactId": _id(call, name),
        "origin": call.path["origin"],
        "container": call.path["container"],
        "path": name,
        "etag": f'"{status.st_mtime_ns:x}"' if status else f'"{secrets.token_hex(8)}"',
        "createdTime": times.written(changed),
        "dataPath": None,
        "tags": {},
    }


def _information(call: Call, name: str, uri: str) -> dict[str, Any]:
    """ArtifactContentInformationDto."""
    return {"contentUri": uri, "origin": call.path["origin"], "container": call.path["container"], "path": name}
