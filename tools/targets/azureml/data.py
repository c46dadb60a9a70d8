"""The data set in a datastore of the workspace: uploaded once, and known again by its content.

Beside the folder, as FOLDER.parity.json, lies a manifest: path, size and sha256 of each file that is there. It is
written anew after each batch, so that an upload goes on where it was broken off. Blob storage itself keeps an MD5 only
of files that were sent in one piece, and a run's record needs sha256; hence a manifest, which is also one request
instead of one for each file. What it cannot see is a file that someone changed by hand.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import files, progress
from ...data import DataFile, PreparedData
from ...errors import AzureError, SettingsError
from ...settings import FILE, Settings
from .failures import errors

if TYPE_CHECKING:
    from azureml.core import Workspace

SUFFIX = ".parity.json"
BATCH_BYTES = 64_000_000  # sent before the manifest says so; a broken upload repeats no more
BATCH_FILES = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A data set in a datastore. address: datastore/path; sent: bytes that were uploaded just now, in so many files."""

    address: str
    digest: str
    files: int
    sent_files: int
    sent: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the datastore's folder holds. digest: of the whole data set, None while it is not all there."""

    digest: str | None
    files: Mapping[str, tuple[int, str]]


def push(workspace: Workspace, settings: Settings, prepared: PreparedData) -> Pushed:
    """Uploads what [data] remote lacks of the data set.

    Errors: SettingsError where remote is not set; AzureError.
    """
    if not settings.data.remote:
        raise SettingsError(
            f"{FILE}: data.remote is not set, so there is nowhere to put the data",
            expected='a datastore and a folder, e.g. remote = "workspaceblobstore/parity/data" under [data]',
            command=f"set it in {FILE}, then: make data-push",
        )
    store, path = _datastore(workspace, settings)
    there = dict(_manifest(store, path).files)
    lacking = [file for file in prepared.files if there.get(file.path) != (file.size, file.sha256)]
    mine = {file.path for file in prepared.files}
    left_over = sorted(there.keys() - mine)
    if left_over:
        log.warning(
            "%s also holds %d files that %s does not (%s): a run sees them",
            *(settings.data.remote, len(left_over), prepared.path, left_over[0]),
        )
    size = sum(file.size for file in lacking)
    if lacking:
        log.info("Uploading %d files (%s) to %s", len(lacking), files.human(size), settings.data.remote)
    with progress.task("Uploading the data set", total=size, unit="bytes") as task:
        for batch in _batches(lacking):
            with errors(f"uploading to {settings.data.remote}"):
                store.upload_files(
                    [str(prepared.path / file.path) for file in batch],
                    relative_root=str(prepared.path),
                    target_path=path,
                    overwrite=True,
                    show_progress=False,
                )
            there |= {file.path: (file.size, file.sha256) for file in batch}
            whole = all(there.get(file.path) == (file.size, file.sha256) for file in prepared.files)
            _write(store, path, Manifest(digest=prepared.digest if whole and not left_over else None, files=there))
            task.advance(sum(file.size for file in batch))
    return Pushed(
        address=settings.data.remote,
        digest=prepared.digest,
        files=len(prepared.files),
        sent_files=len(lacking),
        sent=size,
    )


def check(workspace: Workspace, settings: Settings, prepared: PreparedData | None) -> str | None:
    """The digest of what a run would find at [data] remote, None where no manifest tells.

    prepared: the data set here, if there is one. Errors: AzureError where the two are not the same.
    """
    store, path = _datastore(workspace, settings)
    found = _manifest(store, path)
    if prepared is None:
        return found.digest
    lacking = [file for file in prepared.files if found.files.get(file.path) != (file.size, file.sha256)]
    if lacking:
        raise AzureError(
            f"{settings.data.remote} in the workspace lacks {len(lacking)} of the {len(prepared.files)} files of "
            f"{prepared.path}, or has others in their place ({lacking[0].path})",
            expected="the data set that this project has",
            command="make data-push",
        )
    return prepared.digest


def _datastore(workspace: Workspace, settings: Settings) -> tuple[Any, str]:
    name, path = settings.data.datastore
    from ...errors import nearest

    with errors(f"the datastore {name}"):
        stores = workspace.datastores
    if name not in stores:
        raise AzureError(
            f"the workspace {workspace.name} has no datastore {name!r}{nearest(name, stores)}",
            expected=f"one of its datastores: {', '.join(sorted(stores))}",
            command=f"set remote under [data] of {FILE}",
        )
    store = stores[name]
    if not hasattr(store, "upload_files"):
        raise AzureError(
            f"the datastore {name} is of a kind that azureml-core cannot upload to: {type(store).__name__}",
            expected="one of Azure Blob storage, as workspaceblobstore is",
            command=f"set remote under [data] of {FILE}",
        )
    return store, path


def _manifest(store: Any, path: str) -> Manifest:
    """The manifest beside the folder; an empty one where there is none."""
    name = f"{path}{SUFFIX}"
    with tempfile.TemporaryDirectory() as folder:
        with errors(f"reading {name} of the datastore {store.name}"):
            store.download(folder, prefix=name, overwrite=True, show_progress=False)
        try:
            table = json.loads(Path(folder, name).read_text(encoding="utf-8"))
            return Manifest(
                digest=table["digest"],
                files={file: (int(size), str(sha256)) for file, (size, sha256) in table["files"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Manifest(digest=None, files={})


def _write(store: Any, path: str, manifest: Manifest) -> None:
    name = f"{path}{SUFFIX}"
    text = json.dumps({"schema": 1, "digest": manifest.digest, "files": manifest.files}, indent=1, sort_keys=True)
    with tempfile.TemporaryDirectory() as folder, errors(f"writing {name} of the datastore {store.name}"):
        here = Path(folder, name)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(text + "\n", encoding="utf-8")
        store.upload_files([str(here)], relative_root=folder, overwrite=True, show_progress=False)


def _batches(lacking: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    batch: list[DataFile] = []
    for file in lacking:
        if batch and (len(batch) >= BATCH_FILES or sum(each.size for each in batch) + file.size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch
