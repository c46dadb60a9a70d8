"""To be written."""

from __future__ import annotations

from starlette.routing import BaseRoute

from ..workspace import Workspace


def routes(workspace: Workspace) -> list[BaseRoute]:
    """To be written."""
    return []
