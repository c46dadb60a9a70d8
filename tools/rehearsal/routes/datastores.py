"""Datastores over the wire: what they are (datastore/v1.0), and their storage as azureml-core's Blob client uses it."""

from __future__ import annotations

import email.utils
from typing import Any
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..answers import SCOPE, Call, Refusal, answering
from ..blobs import StorageError
from ..workspace import Workspace
from . import blobs

PAGE = 5000  # blobs in one answer, as in Azure Storage
COMPONENT = "datastore"


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Storage has its permission in its addresses; the rest needs a token."""
    places = _Datastores(workspace)
    base = f"/datastore/v1.0{SCOPE}"
    storage = _Storage(workspace)
    return [
        Route(f"{base}/datastores", answering(places.list), methods=["GET"]),
        Route(f"{base}/datastores", answering(places.refuse), methods=["POST"]),
        Route(f"{base}/datastores/{{name}}", answering(places.get), methods=["GET"]),
        Route(f"{base}/datastores/{{name}}", answering(places.refuse), methods=["PUT", "DELETE"]),
        Route(f"{base}/default", answering(places.default), methods=["GET"]),
        Route(f"{base}/default/{{name}}", answering(places.set_default), methods=["PUT"]),
        Route(f"/dataset/v1.0{SCOPE}/datasets", answering(places.no_datasets), methods=["GET"]),
        Route("/dataset/{rest:path}", answering(places.refuse_dataset), methods=["GET", "POST", "PUT", "PATCH"]),
        Route("/storage/{name}", blobs.storing(storage.list), methods=["GET"]),
        Route("/storage/{name}/{blob:path}", blobs.storing(storage.blob), methods=["GET", "HEAD", "PUT"]),
    ]


class _Datastores:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.datastores = workspace, workspace.datastores

    def list(self, call: Call) -> dict[str, Any]:
        """All of them; with their signatures, unlike Azure ML, as there are no others to keep."""
        return {"value": [self._answer(name) for name in self.datastores.names()], "continuationToken": None}

    def get(self, call: Call) -> dict[str, Any]:
        """One of them."""
        name = call.path["name"]
        if self.datastores.folder(name) is None:
            raise Refusal(404, f"Could not find datastore {name}; {self._there()}.", component=COMPONENT)
        return self._answer(name)

    def default(self, call: Call) -> dict[str, Any]:
        """The one that is meant where none is named."""
        return self._answer(self.datastores.default)

    def set_default(self, call: Call) -> None:
        """The default stays what it is."""
        if call.path["name"] != self.datastores.default:
            raise Refusal(400, f"the default datastore cannot be changed here; {self._there()}", component=COMPONENT)

    def refuse(self, call: Call) -> None:
        """Storage elsewhere is not reached from here."""
        raise Refusal(
            400,
            f"a rehearsal reaches no storage but its own: datastores are neither registered nor changed; "
            f"{self._there()}, and Datastore.upload fills it",
            component=COMPONENT,
        )

    def no_datasets(self, call: Call) -> dict[str, Any]:
        """ws.datasets."""
        return {"value": [], "continuationToken": None}

    def refuse_dataset(self, call: Call) -> None:
        """Datasets need azureml-dataprep's own programs to be read, which a job here does not have."""
        raise Refusal(
            400,
            "the rehearsal workspace has no datasets; a datastore's path does as a script's argument: "
            "ws.get_default_datastore().path('data').as_mount()",
            component="dataset",
        )

    def _there(self) -> str:
        return f"there is {', '.join(self.datastores.names())}"

    def _answer(self, name: str) -> dict[str, Any]:
        """DataStore (datastore.json of 2019-12-01). The SDK builds https://ACCOUNT.blob.ENDPOINT/CONTAINER of it.

        With ACCOUNT.blob.NAME as user information before the @, which nobody reads, the rest may be an IP address.
        """
        signature = self.datastores.signature(name)
        own = self.workspace.identity
        return {
            "name": name,
            "dataStoreType": "AzureBlob",
            "hasBeenValidated": True,
            "tags": {},
            "azureStorageSection": {
                "accountName": own.name,
                "containerName": name,
                "endpoint": f"loopback@127.0.0.1:{self.workspace.address.port}/storage",
                "protocol": "https",
                "credentialType": "Sas",
                "credential": signature,
                "isSas": True,
                "sasToken": signature,
                "blobCacheTimeout": 0,
                "subscriptionId": own.subscription,
                "resourceGroup": own.resource_group,
                "serviceDataAccessAuthIdentity": "None",
            },
        }


class _Storage:
    """Containers and their blobs; a container has the name of its datastore."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.datastores = workspace, workspace.datastores

    async def blob(self, request: Request) -> Response:
        """Writes, reads or measures one blob."""
        name = self._allowed(request)
        path = self.datastores.path(name, request.path_params["blob"])
        return await (blobs.put if request.method == "PUT" else blobs.get)(self.workspace.blobs, path, request)

    async def list(self, request: Request) -> Response:
        """List Blobs, in pages of 5,000."""
        name = self._allowed(request)
        query = request.query_params
        if query.get("comp") != "list":
            raise StorageError(400, "UnsupportedQueryParameter", "Of a container, the list is served: comp=list.")
        asked = query.get("maxresults", "")
        limit = min(int(asked), PAGE) if asked.isdecimal() and int(asked) else PAGE
        marker = query.get("marker", "")
        found: list[tuple[str, int, str]] = []
        for blob, path in self.datastores.blobs(name, query.get("prefix", "")):
            if blob <= marker:
                continue
            if len(found) == limit:
                return _listing(found, following=found[-1][0])
            status = path.stat()
            found.append((blob, status.st_size, email.utils.formatdate(status.st_mtime, usegmt=True)))
        return _listing(found, following="")

    def _allowed(self, request: Request) -> str:
        name: str = request.path_params["name"]
        if not self.datastores.allows(name, dict(request.query_params)):
            raise StorageError(403, "AuthenticationFailed", "The address is not signed for this, or has expired.")
        return name


def _listing(found: list[tuple[str, int, str]], *, following: str) -> Response:
    """EnumerationResults ("List Blobs"). following: the marker of the next page, none if this is the last."""
    items = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{changed}</Last-Modified><Etag>0x0</Etag>"
        f"<Content-Length>{size}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
        for name, size, changed in found
    )
    text = f"<Blobs>{items}</Blobs><NextMarker>{escape(following)}</NextMarker>"
    return Response(
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults>{text}</EnumerationResults>',
        media_type="application/xml",
        headers={"x-ms-version": blobs.VERSION},
    )
