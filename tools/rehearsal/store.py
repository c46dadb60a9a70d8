"""What the workspace knows, in one SQLite file: what was acknowledged is still there after kill -9."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import RehearsalError

FORMAT = 1  # of all tables: raise it with any change of one


class Store:
    """The database. Each part of the workspace defines its own tables; any thread may use it."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it. RehearsalError if it is of another format."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")  # a commit survives the process, and costs no fsync
        self._connection.execute("PRAGMA synchronous = NORMAL")
        (known,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and known != FORMAT:
            raise RehearsalError(
                f"{path} was written by another version of the toolkit (format {known}, and this one has {FORMAT})",
                command=f"rm -r {path.parent}    (the rehearsal workspace begins anew)",
            )
        self._connection.execute(f"PRAGMA user_version = {FORMAT}")
        self._depth = 0

    def define(self, schema: str) -> None:
        """Makes the tables that are not there yet; schema: CREATE ... IF NOT EXISTS statements."""
        with self._lock:
            self._connection.executescript(schema)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's changes or none; one block at a time, and a block within another is part of it."""
        with self._lock:
            if not self._depth:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._connection
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if not self._depth:
                self._connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a SELECT."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a SELECT."""
        with self._lock:
            first: sqlite3.Row | None = self._connection.execute(query, values).fetchone()
        return first

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()


def now() -> str:
    """The present moment as the service writes it: seven decimals and +00:00."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")
