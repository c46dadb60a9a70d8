"""The content service: snapshots of source directories (v2.0, of which there is no public specification)."""

from __future__ import annotations

import functools
import re
from typing import Any

from starlette.routing import BaseRoute, Route

from ..answers import SCOPE, Call, Refusal, answering
from ..blobs import StorageError
from ..workspace import Workspace

ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def routes(workspace: Workspace) -> list[BaseRoute]:
    """All that the SDK asks for to send a source directory, and to get it back."""

    def route(method: str, version: str, path: str, function: Any) -> Route:
        endpoint = answering(functools.partial(function, workspace))
        return Route(f"/content/{version}{SCOPE}/snapshots/{path}", endpoint, methods=[method])

    return [
        route("GET", "v1.0", "latest/metadata", latest),
        route("POST", "v2.0", "getblob", room),
        route("POST", "v2.0", "{id}", create),
        route("POST", "v2.0", "{id}/zip", archive),
    ]


def latest(workspace: Workspace, call: Call) -> dict[str, Any]:
    """No parent: a client that remembers none sends everything."""
    return {"id": None, "root": {}}


def room(workspace: Workspace, call: Call) -> dict[str, Any]:
    """Where to upload each of the files."""
    names = call.body.get("FileNames") or []
    places = workspace.snapshots.room(names)
    nodes = [
        {"fullName": name, "blobUri": workspace.blobs.uri(place, "w")}
        for name, place in zip(names, places, strict=True)
    ]
    return {"fileNodes": nodes}


def create(workspace: Workspace, call: Call) -> dict[str, Any]:
    """The snapshot, once its files were uploaded."""
    snapshot, body = call.path["id"], call.body
    if not ID.fullmatch(snapshot):
        raise Refusal(400, f"{snapshot} is no snapshot id: a UUID is expected", code="ValidationError")
    nodes = (body.get("FileRevisionList") or {}).get("FileNodes") or []
    try:
        new = {node["FullName"]: workspace.blobs.written_to(node["BlobUri"]) for node in nodes}
    except (StorageError, KeyError, TypeError) as problem:
        raise Refusal(400, f"FileNodes names a file that was not uploaded here ({problem})") from problem
    if any(place.parent != workspace.snapshots.folder for place in new.values()):
        raise Refusal(400, "FileNodes names a file that was not uploaded for a snapshot")
    workspace.snapshots.create(
        snapshot,
        parent=body.get("ParentSnapshotId"),
        tree=body.get("DirTreeNode") or {},
        new=new,
        properties=body.get("Properties") or {},
    )
    return {"id": snapshot, "parentSnapshotId": body.get("ParentSnapshotId")}


def archive(workspace: Workspace, call: Call) -> dict[str, Any]:
    """Its files in one archive."""
    snapshot = call.path["id"]
    if not workspace.snapshots.exists(snapshot):
        raise Refusal(404, f"Snapshot {snapshot} does not exist.", component="project")
    return {"zipSasUri": workspace.blobs.uri(workspace.snapshots.zip(snapshot), "r")}
