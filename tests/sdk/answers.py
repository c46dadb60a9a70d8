"""Runs in the SDKs' environment: answers questions about snapshots with the SDKs' own functions."""

import contextlib
import io
import json
import logging
import os
import sys
import time
from types import SimpleNamespace

from azure.ai.ml._utils import _asset_utils as v2
from azureml._base_sdk_common.merkle_tree import DirTreeJsonEncoder, DirTreeNode, create_merkletree
from azureml._base_sdk_common.merkle_tree_differ import compute_diff
from azureml._base_sdk_common.project_snapshot_cache import ContentSnapshotCache
from azureml._base_sdk_common.snapshot_dto import SnapshotDto
from azureml._project.ignore_file import get_project_ignore_file
from azureml._restclient.snapshots_client import SnapshotsClient
from nobody import as_nobody

CACHE = ContentSnapshotCache(SimpleNamespace(workspace_id="6a1f"))
CLIENT = SimpleNamespace(_logger=logging.getLogger())
CLIENT._logger.disabled = True


def tree_v1(path):
    return create_merkletree(path, get_project_ignore_file(path).is_file_excluded)


def files_v1(path):
    found, folders = [], [("", tree_v1(path))]
    while folders:
        prefix, folder = folders.pop()
        for child in folder.children:
            if child.is_file():
                found.append(prefix + child.name)
            else:
                folders.append((f"{prefix}{child.name}/", child))
    return sorted(found)


def files_v2(path):
    """What is listed; what the two hashes of a submission then fail on, fails here."""
    rules = v2.get_ignore_file(path)
    listed = [name for _, name in v2.get_upload_files_from_folder(path, ignore_file=rules)]
    v2.get_content_hash(path, rules)
    v2.get_object_hash(path, rules)
    return sorted(listed)


def check_v1(path):
    """Both limits, as azureml-core checks them before it sends anything: the message of a refusal, or None."""
    excluded = get_project_ignore_file(path).is_file_excluded
    SnapshotsClient._validate_snapshot_size(CLIENT, path, excluded, True)
    count = changed_v1(path)
    SnapshotsClient._validate_snapshot_file_count(CLIENT, path, count, True)
    return count


def changed_v1(path):
    try:
        before, _ = CACHE.get_latest_snapshot()
    except AttributeError:  # no note yet: it would ask the service, which knows of none either
        before = DirTreeNode("", "Directory", "")
    entries = compute_diff(before, tree_v1(path))
    return len([each for each in entries if each.operation_type in ("added", "modified") and each.is_file])


def note_v1(path):
    """What azureml-core notes of a snapshot once it is sent."""
    CACHE.update_cache(SnapshotDto(json.dumps(tree_v1(path), cls=DirTreeJsonEncoder), "5f2c"))


def forget_v1():
    CACHE.remove_latest()


def unprivileged(question, path):
    return as_nobody(QUESTIONS[question], path)


def timed(name, path):
    """Seconds that it takes."""
    rules, ignored = v2.get_ignore_file(path), get_project_ignore_file(path).is_file_excluded
    start = time.perf_counter()
    if name in ("v1", "v1-size"):
        SnapshotsClient._validate_snapshot_size(CLIENT, path, ignored, False)
    if name == "v1":
        tree_v1(path)
    if name == "v2":
        v2.get_content_hash(path, rules)
    return time.perf_counter() - start


QUESTIONS = {
    each.__name__: each for each in (files_v1, files_v2, check_v1, changed_v1, note_v1, forget_v1, unprivileged, timed)
}

if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                answer = {"result": QUESTIONS[question](*arguments)}
        except (Exception, RecursionError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
