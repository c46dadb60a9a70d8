"""The pages that the portal's addresses open: the workspace, an experiment, a run. They only read.

run.get_portal_url() gives {studio}/runs/ID, an experiment's {studio}/experiments/id/ID or /experiments/NAME, a
workspace's {studio}, each with ?wsid=...&tid=... (azureml-core 1.61, azureml/core/_portal.py). {studio} ends in a
random word of this start; who has it may look. The pages need nothing but this service.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import charts
from ...errors import ParityError
from .. import views
from ..answers import Refusal
from ..runs import Run
from ..workspace import Workspace

HOSTS = ("127.0.0.1", "localhost")
ROWS = 200  # of a table of runs
FILES = 500  # of a run, that are listed
IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
SHOWN = 12  # images on a page
LOGS = ("user_logs/", "azureml-logs/", "logs/", "system_logs/")  # in the order in which they are offered
HEADERS = {
    # The chart library sets the style of what it draws; scripts come from this service's own files alone
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets a browser of this machine look: at 127.0.0.1 or localhost by name, under this start's word."""

    def __init__(self, app: ASGIApp, word: str) -> None:
        """word: the first part of each path."""
        self.app, self.word = app, word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = Headers(raw=message.get("headers", []))
                added = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key not in headers]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        host = Headers(scope=scope).get("host", "").rpartition(":")
        if (host[0] or host[2]) not in HOSTS:  # a name of another's that points here (DNS rebinding)
            answer: ASGIApp = PlainTextResponse("this is served at 127.0.0.1 and localhost alone\n", status_code=403)
        elif not secrets.compare_digest(f"{scope['path']}/".split("/")[1].encode(), self.word.encode()):
            answer = PlainTextResponse("not found\n", status_code=404)
        else:
            answer = self.app
        await answer(scope, receive, guarded)


class Studio:
    """The pages over one workspace. Each also answers ?live=1, with the parts of it that may change, as JSON."""

    def __init__(self, workspace: Workspace) -> None:
        """workspace: what they show."""
        self.workspace = workspace
        self.root = f"/{workspace.page_word}"
        self.templates = views.templates()

    def front(self, request: Request) -> Response:
        """All experiments, and the newest runs."""
        runs = self.workspace.runs.all()
        experiments = []
        for each in reversed(self.workspace.runs.experiments()):
            own = [run for run in runs if run.experiment_id == each.id]
            experiments.append((each, len(own), own[0] if own else None))
        parts = {"experiments": self._part("experiments", experiments=experiments), "runs": self._runs(runs)}
        return self._page(request, "workspace", parts)

    def experiment(self, request: Request) -> Response:
        """An experiment's runs, by its name or its id."""
        names = request.path_params
        known = self.workspace.runs
        if "id" in names:
            found = known.experiment_of_id(names["id"])
        else:
            found = known.experiment(names["name"]) or known.archived_experiment(names["name"])
        if found is None:
            return self._missing("This workspace has no such experiment.")
        runs = known.all(experiment=found)
        return self._page(request, "experiment", {"runs": self._runs(runs, experiments=False)}, experiment=found)

    def run(self, request: Request) -> Response:
        """A run: what became of it, what it logged and left, and what was submitted."""
        run = self.workspace.runs.get(request.path_params["run"])
        if run is None:
            return self._missing("This workspace has no such run.")
        names = self.workspace.artifacts.names(run)
        curves = views.curves_of(self.workspace.metrics.scalars(run.id).items())
        listed = [(name, path.stat().st_size) for name in names[:FILES] if (path := self._file(run, name))]
        here = f"{self.root}/runs/{quote(run.id, safe='')}"
        parts = {
            "facts": self._part("facts", run=run, error=_error(run)),
            "numbers": self._part("numbers", curves=curves),
            "images": self._part("images", here=here, images=[n for n in names if _image(n)][:SHOWN]),
            "files": self._part("files", here=here, files=listed, more=len(names) - len(listed)),
            "children": self._part("children", children=self.workspace.runs.all(parent=run.id)[:ROWS]),
            "notes": self._part("notes", run=run),
        }
        if "live" in request.query_params:
            logs = sorted((n for n in names if n.startswith(LOGS)), key=lambda n: (_place(n), n))
            return JSONResponse({"parts": parts, "over": run.over, "curves": curves, "logs": logs})
        snapshots = self.workspace.snapshots
        known = run.snapshot is not None and snapshots.exists(run.snapshot)
        snapshot = snapshots.files(run.snapshot) if known and run.snapshot else None
        told = {"curves": curves, "submission": views.submission(run), "snapshot": snapshot}
        return self._page(request, "run", parts, run=run, here=here, **told)

    def log(self, request: Request) -> Response:
        """?name=: a log from byte ?start= on, or its end, as JSON (views.Piece)."""
        run, path = self._asked(request)
        start = request.query_params.get("start", "")
        begin = int(start) if re.fullmatch(r"[0-9]{1,18}", start) else None
        piece = views.piece(path, begin, over=run.over)
        return JSONResponse(asdict(piece))

    def file(self, request: Request) -> Response:
        """?name=: a file of the run, to be saved; images also to be shown."""
        _, path = self._asked(request)
        return _download(path)

    def snapshot(self, request: Request) -> Response:
        """?name=: a file of the run's snapshot, to be saved."""
        run = self.workspace.runs.get(request.path_params["run"])
        if run is None or run.snapshot is None or not self.workspace.snapshots.exists(run.snapshot):
            raise HTTPException(404)
        wanted = request.query_params.get("name")
        for each in self.workspace.snapshots.files(run.snapshot):
            if each.path == wanted:
                return _download(each.location, each.path)
        raise HTTPException(404)

    def asset(self, request: Request) -> Response:
        """The pages' style and script, and the chart library."""
        name = request.path_params["name"]
        if name == "plotly.js":
            try:
                library = charts.library(self.workspace.settings.cache)
            except ParityError as error:
                raise HTTPException(404, str(error)) from error
            return Response(library, media_type="text/javascript", headers={"cache-control": "max-age=86400"})
        if name not in ("page.css", "page.js"):
            raise HTTPException(404)
        return FileResponse(Path(views.__file__).parent / "pages" / name)

    def _asked(self, request: Request) -> tuple[Run, Path]:
        run = self.workspace.runs.get(request.path_params["run"])
        path = self._file(run, request.query_params.get("name", "")) if run else None
        if run is None or path is None:
            raise HTTPException(404)
        return run, path

    def _file(self, run: Run, name: str) -> Path | None:
        try:
            path = self.workspace.artifacts.path(run, name)
        except Refusal:
            return None
        return path if path and path.is_file() else None

    def _runs(self, runs: list[Run], *, experiments: bool = True) -> Markup:
        heading = "Newest runs" if experiments else "Runs"
        more = max(0, len(runs) - ROWS)
        return self._part("runs", heading=heading, runs=runs[:ROWS], more=more, experiments=experiments)

    def _part(self, name: str, **values: Any) -> Markup:
        return Markup(self.templates.get_template(f"{name}.part.html").render(root=self.root, **values))  # noqa: S704

    def _page(self, request: Request, name: str, parts: Mapping[str, Markup], **values: Any) -> Response:
        if "live" in request.query_params:
            return JSONResponse({"parts": parts, "over": False})
        return self._html(name, live=True, parts=parts, **values)

    def _missing(self, what: str) -> Response:
        return self._html("missing", status=404, live=False, what=what)

    def _html(self, name: str, *, status: int = 200, **values: Any) -> Response:
        page = self.templates.get_template(f"{name}.html")
        named = {"root": self.root, "workspace": self.workspace.identity.name}
        return HTMLResponse(page.render(**named, **values), status_code=status)


def routes(workspace: Workspace) -> list[BaseRoute]:
    """The pages' routes, behind the guard."""
    studio = Studio(workspace)
    pages = {
        "": studio.front,
        "/": studio.front,
        "/experiments/id/{id}": studio.experiment,
        "/experiments/{name}": studio.experiment,
        "/runs/{run}": studio.run,
        "/runs/{run}/log": studio.log,
        "/runs/{run}/files": studio.file,
        "/runs/{run}/snapshot": studio.snapshot,
        "/assets/{name}": studio.asset,
    }
    return [Route(studio.root + path, page) for path, page in pages.items()]


def _error(run: Run) -> Mapping[str, Any] | None:
    """The code and the message of the run's error, in either spelling of the service."""
    body: Any = {str(key).lower(): value for key, value in (run.error or {}).items()}
    root = body.get("error", body)
    if not isinstance(root, Mapping) or not root:
        return None
    found = {str(key).lower(): value for key, value in root.items()}
    return {"code": str(found.get("code") or "Error"), "message": str(found.get("message") or "")}


def _download(path: Path, name: str | None = None) -> Response:
    kind = IMAGES.get(path.suffix.lower(), "application/octet-stream")
    name = Path(name or path.name).name
    return FileResponse(path, filename=name, media_type=kind, content_disposition_type="attachment")


def _image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGES


def _place(name: str) -> int:
    return next(place for place, prefix in enumerate(LOGS) if name.startswith(prefix))
