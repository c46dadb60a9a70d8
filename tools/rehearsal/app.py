"""The routes of the workspace behind one check: who asks."""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import Refusal
from .routes import (
    arm,
    artifacts,
    blobs,
    computes,
    content,
    datastores,
    environments,
    execution,
    history,
    metrics,
    models,
    studio,
)
from .workspace import Workspace

# Files first: a snapshot is thousands of requests for them
ROOMS = (blobs, arm, computes, environments, history, content, execution, metrics, artifacts, datastores, models)
# Files have their permission in their address, and /ping has nothing to tell; the others check this start's word
OPEN = re.compile(r"/(ping$|blobs/|storage/|msi/|adfs/|discovery/)")


def service(workspace: Workspace) -> Starlette:
    """What answers the SDK."""
    routes = [Route("/ping", ping), *(route for room in ROOMS for route in room.routes(workspace))]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Known, workspace=workspace)],
        exception_handlers={404: unserved, 405: unserved},
    )
    app.router.redirect_slashes = False
    return app


def pages(workspace: Workspace) -> Starlette:
    """What answers a browser: pages that only read, under this start's own path."""
    guard = Middleware(studio.Guard, word=workspace.page_word)
    app = Starlette(routes=studio.routes(workspace), middleware=[guard])
    app.router.redirect_slashes = False
    return app


async def ping(request: Request) -> Response:
    """Whether it answers."""
    return JSONResponse({"parity": "rehearsal"})


async def unserved(request: Request, problem: Exception) -> Response:
    """A call that no route takes, named."""
    message = (
        f"the rehearsal workspace does not serve {request.method} {request.url.path}; "
        "docs/rehearsal.md lists what it does"
    )
    return Refusal(404 if request.method in ("GET", "HEAD") else 400, message, code="NotServed").response()


class Known:
    """Lets in who has a token of this start or of a job, and says on every answer that this is a rehearsal."""

    def __init__(self, app: ASGIApp, workspace: Workspace) -> None:
        """workspace: whose tokens count."""
        self.app, self.workspace = app, workspace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-aml-cluster", b"parity-rehearsal")]
            await send(message)

        if not OPEN.match(scope["path"]):
            kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
            bearer = self.workspace.tokens.check(token) if kind.lower() == "bearer" else None
            if bearer is None:
                refusal = Refusal(401, "no token of this rehearsal workspace; next: python -m tools rehearsal env")
                await refusal.response()(scope, receive, marked)
                return
            scope.setdefault("state", {})["run_id"] = bearer.run_id
        await self.app(scope, receive, marked)
