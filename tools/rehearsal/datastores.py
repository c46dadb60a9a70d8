"""To be written."""

from __future__ import annotations

from .store import Store


class Datastores:
    """To be written."""

    def __init__(self, store: Store) -> None:
        self.store = store
