"""To be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .workspace import Workspace


class Jobs:
    """To be written."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def recover(self) -> None:
        """To be written."""

    def close(self) -> None:
        """To be written."""
