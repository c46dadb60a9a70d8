"""Files with an address of their own, as in Azure Blob Storage: plain files, written whole or block by block."""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from .. import files
from .store import Store
from .tokens import Permission, Tokens

APPENDED_BYTES = 100_000_000  # of a file that grows by appends, which is a log; the rest is let go, and said
LAST_WORDS = f"\n[more than {APPENDED_BYTES // 1_000_000} MB: the rest is not kept]\n".encode()
SCHEMA = "CREATE TABLE IF NOT EXISTS appended (path TEXT PRIMARY KEY, blocks INTEGER NOT NULL);"


class StorageError(Exception):
    """A request that storage answers with an error. code: one of Azure Storage's ("Blob service error codes")."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """status: 4xx."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Blobs:
    """The files below the workspace's folder, by signed addresses."""

    def __init__(self, store: Store, *, folder: Path, tokens: Tokens, url: str) -> None:
        """url: the address of all services."""
        self.store, self.folder, self.tokens, self.url = store, folder, tokens, url
        self._root = folder.resolve()
        self._appending = threading.Lock()
        store.define(SCHEMA)

    def uri(self, path: Path, permission: Permission) -> str:
        """An address for that file, good for hours. Its name is in it as hex digits: the SDK quotes others twice.

        To upload, the SDK takes the host apart at its dots, and builds https://ACCOUNT.blob.REST again. With
        ACCOUNT.blob. as user information before an @, which nobody reads, the rest may be an IP address.
        """
        name = str(path.relative_to(self.folder)).encode().hex()
        scheme, _, host = self.url.partition("://")
        account = "parity.blob.x@" if permission == "w" else ""
        return f"{scheme}://{account}{host}/blobs/{name}?{urlencode(self.tokens.sign_file(name, permission))}"

    def path(self, name: str, permission: Permission, query: Mapping[str, str]) -> Path:
        """The file of a signed address: its last part and its query. StorageError if it does not allow that."""
        if not self.tokens.check_file(name, permission, query):
            raise StorageError(403, "AuthenticationFailed", "The address is not signed for this, or has expired.")
        return self._decoded(name)

    def written_to(self, uri: str) -> Path:
        """The file of an address that was given out to write to. StorageError if it is none."""
        parts = urlsplit(uri)
        return self.path(parts.path.rpartition("/")[2], "w", dict(parse_qsl(parts.query)))

    def stage(self, path: Path, block: str) -> Path:
        """Where a block of the file lies until the list of its blocks is known. block: its id, in base64."""
        try:
            identity = base64.b64decode(block, validate=True)
        except (binascii.Error, ValueError):
            raise StorageError(400, "InvalidQueryParameterValue", "blockid is not base64.") from None
        if not 0 < len(identity) <= 64:
            raise StorageError(400, "InvalidQueryParameterValue", "blockid has more than 64 bytes, or none.")
        return self._staged(path) / identity.hex()

    def commit(self, path: Path, blocks: Sequence[str]) -> None:
        """The file out of the blocks of that list; those that are not on it are dropped."""
        sources = [self.stage(path, block) for block in blocks]
        if not all(source.exists() for source in sources):
            raise StorageError(400, "InvalidBlockList", "A block of the list was not uploaded.")
        with files.written_whole(path) as target:
            for source in sources:
                with source.open("rb") as file:
                    shutil.copyfileobj(file, target, files.CHUNK)
        shutil.rmtree(self._staged(path), ignore_errors=True)

    def begin_appending(self, path: Path) -> None:
        """Makes an empty file that grows by appends; one that is there is emptied."""
        with self._appending, self.store.transaction() as database, files.written_whole(path):
            database.execute("INSERT OR REPLACE INTO appended VALUES (?, 0)", (str(path.relative_to(self.folder)),))

    def append(self, path: Path, content: bytes, position: int | None) -> tuple[int, int]:
        """(where the content begins, number of blocks so far). position: where it must begin, None for the end.

        Past APPENDED_BYTES the content is let go: the SDK writes what is refused into the very log that it sends, and
        that log would grow without end.
        """
        name = str(path.relative_to(self.folder))
        with self._appending, self.store.transaction() as database:
            row = self.store.row("SELECT blocks FROM appended WHERE path = ?", name)
            if row is None or not path.exists():
                raise StorageError(404, "BlobNotFound", "There is no append blob of that name.")
            size = path.stat().st_size
            if size < APPENDED_BYTES:
                if position is not None and position != size:
                    raise StorageError(412, "AppendPositionConditionNotMet", f"The blob has {size} bytes.")
                if size + len(content) >= APPENDED_BYTES:
                    content = content[: APPENDED_BYTES - size] + LAST_WORDS
                with path.open("ab") as file:
                    file.write(content)
            database.execute("UPDATE appended SET blocks = blocks + 1 WHERE path = ?", (name,))
        return size if position is None else position, row["blocks"] + 1

    def appended(self, path: Path) -> int | None:
        """The number of blocks of a file that grows by appends; None for any other."""
        row = self.store.row("SELECT blocks FROM appended WHERE path = ?", str(path.relative_to(self.folder)))
        return row["blocks"] if row else None

    def _decoded(self, name: str) -> Path:
        path = self.folder / bytes.fromhex(name).decode()
        if not path.resolve().is_relative_to(self._root):  # a link that a job has put there
            raise StorageError(403, "AuthorizationFailure", "The file is a link out of the workspace.")
        return path

    def _staged(self, path: Path) -> Path:
        return self.folder / "blocks" / hashlib.sha256(str(path).encode()).hexdigest()
