"""Datastores: named places for data, each a folder of plain files that a job can mount."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from .blobs import StorageError
from .tokens import Tokens

NAMES = ("workspaceblobstore",)  # of those that an Azure ML workspace brings along
UNFINISHED = re.compile(r"\..*\.part")  # what files.written_whole has not yet renamed
LONGEST = 1024  # characters in the name of a blob, as in Azure Storage


class Datastores:
    """The workspace's datastores. A blob's name is the path of its file in the datastore's folder."""

    default = NAMES[0]

    def __init__(self, folder: Path, *, tokens: Tokens) -> None:
        """folder: where they lie."""
        self._folder, self._tokens = folder, tokens

    def names(self) -> tuple[str, ...]:
        """Their names."""
        return NAMES

    def folder(self, name: str) -> Path | None:
        """Where the files of the datastore lie; None if there is none of that name."""
        if name not in NAMES:
            return None
        place = self._folder / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def path(self, name: str, blob: str) -> Path:
        """The file of a blob. StorageError if its name leads out of the datastore, or there is no such datastore."""
        place = self.folder(name)
        if place is None:
            raise StorageError(404, "ContainerNotFound", "The specified container does not exist.")
        if len(blob) > LONGEST or any(part in ("", ".", "..") for part in blob.split("/")) or "\0" in blob:
            raise StorageError(400, "InvalidResourceName", f"{blob!r} is no name of a blob: a path of at most 1,024.")
        path = place / blob
        if not path.resolve().is_relative_to(place.resolve()):  # a link that a job has put there
            raise StorageError(403, "AuthorizationFailure", "The blob is a link out of the datastore.")
        return path

    def blobs(self, name: str, prefix: str = "") -> Iterator[tuple[str, Path]]:
        """(name, file) of all blobs whose names begin so, in the order of their names."""
        place = self.folder(name)
        if place is None:
            raise StorageError(404, "ContainerNotFound", "The specified container does not exist.")
        found = ((str(path.relative_to(place)), path) for path in place.rglob("*") if path.is_file())
        for blob, path in sorted(found):
            if blob.startswith(prefix) and not UNFINISHED.fullmatch(path.name) and not path.is_symlink():
                yield blob, path

    def signature(self, name: str) -> str:
        """A query that lets its bearer read and write the datastore for some hours (a "SAS token")."""
        return urlencode(self._tokens.sign_file(_signed(name), "w"))

    def allows(self, name: str, query: dict[str, str]) -> bool:
        """Whether such a query is good for that datastore now."""
        return self._tokens.check_file(_signed(name), "w", query)


def _signed(name: str) -> str:
    return f"storage/{name}"
