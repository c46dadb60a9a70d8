"""How a route is written, and how the service refuses: the error body of Azure ML's data plane, all keys of it."""

from __future__ import annotations

import functools
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .identity import PROVIDER, REGION
from .store import now

# Where the names of the subscription, the resource group and the workspace stand in every path of the data plane
SCOPE = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{PROVIDER}/workspaces/{{workspace}}"

log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - the answer to a request, not a fault of ours
    """A request that is answered with an error. Never 408, 429 or 5xx: the SDK would ask again and again."""

    def __init__(self, status: int, message: str, *, code: str = "UserError", component: str = "rehearsal") -> None:
        """status: 4xx; message: what was found, and what to do."""
        super().__init__(message)
        self.status, self.message, self.code, self.component = status, message, code, component

    def response(self) -> Response:
        """The whole body, with `details` a list: without it the SDK fails on its own error."""
        return JSONResponse(
            error(self.message, code=self.code, component=self.component),
            status_code=self.status,
            headers={"x-ms-response-type": "error"},
        )


def error(message: str, *, code: str = "UserError", component: str = "rehearsal") -> dict[str, Any]:
    """ErrorResponse (execution.json of 2019-12-01, and a 400 of the service as a user pasted it)."""
    root = {"code": code, "severity": None, "message": message, "messageFormat": None, "messageParameters": None}
    rest: dict[str, Any] = dict.fromkeys(("referenceCode", "detailsUri", "target", "innerError"))
    return {
        "error": {**root, **rest, "details": [], "debugInfo": None},
        "correlation": {"operation": secrets.token_hex(16), "request": secrets.token_hex(8)},
        "environment": REGION,
        "location": REGION,
        "time": now(),
        "componentName": component,
    }


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, read whole. path: the names in the route; run_id: of the job that asks, None for a person."""

    request: Request
    path: Mapping[str, str]
    query: Mapping[str, str]
    content: bytes
    run_id: str | None

    @property
    def body(self) -> Any:
        """The content as JSON; {} where there is none."""
        if not self.content.strip():
            return {}
        try:
            return json.loads(self.content)
        except ValueError as problem:
            raise Refusal(400, f"the body is not JSON: {problem}", code="ValidationError") from problem


def answering(function: Callable[[Call], Any]) -> Callable[[Request], Awaitable[Response]]:
    """A function as a route: what it returns is sent as JSON (None as {}), a Response as it is, a Refusal as an error.

    It runs in a thread of its own, so that it may wait for the store or the engine.
    """

    @functools.wraps(function)
    async def endpoint(request: Request) -> Response:
        call = Call(
            request=request,
            path=request.path_params,
            query=request.query_params,
            content=await request.body(),
            run_id=getattr(request.state, "run_id", None),
        )
        try:
            answer = await run_in_threadpool(function, call)
        except Refusal as refusal:
            return refusal.response()
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return Refusal(400, "the rehearsal workspace failed; its log says where", code="ServiceError").response()
        return answer if isinstance(answer, Response) else JSONResponse({} if answer is None else answer)

    return endpoint
