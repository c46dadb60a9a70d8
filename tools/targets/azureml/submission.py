"""A RunSpec as azureml-core takes it: Environment, ScriptRunConfig, submit.

The run's id in the workspace is the record's own, chosen before anything is sent: after a tool was killed while it
submitted, the run is found again.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ... import snapshot as snapshots
from ...errors import AzureError, RunError, SettingsError
from ...runs.spec import RunSpec
from ...settings import FILE, Settings
from .failures import errors

if TYPE_CHECKING:
    from azureml.core import Environment, Run, ScriptRunConfig, Workspace
    from azureml.core.runconfig import PyTorchConfiguration

PROJECT = "parity.project"  # the tag by which a project's runs are found
MEGABYTE = 2**20

log = logging.getLogger(__name__)


def check(settings: Settings) -> None:
    """SettingsError for settings that Azure ML, or azureml-core, cannot take; asks no one."""
    if settings.image.platform != "linux-64":
        raise SettingsError(
            f"{FILE}: image.platform = {settings.image.platform!r}, and Azure ML runs linux-64 (linux/amd64) only",
            command=f'set platform = "linux-64" under [image] of {FILE}',
        )
    if settings.snapshot.rules != "v1":
        raise SettingsError(
            f"{FILE}: snapshot.rules = {settings.snapshot.rules!r}, but azureml-core, which submits, follows v1",
            command=f'set rules = "v1" under [snapshot] of {FILE}',
        )
    if "{data}" in settings.run.command and not settings.data.remote:
        raise SettingsError(
            f"{FILE}: run.command reads {{data}}, and data.remote says nowhere in the workspace",
            expected='a datastore and a folder, e.g. remote = "workspaceblobstore/parity/data" under [data]',
            command=f"set it in {FILE}, then: make data-push",
        )


def tags(settings: Settings, spec: RunSpec, image: str) -> dict[str, str]:
    """What each run says of itself. image: registry/name@sha256:..."""
    found = {
        PROJECT: settings.image.name,
        "parity.image": image.partition("@")[2],
        "parity.fingerprint": spec.image.fingerprint,
        "parity.snapshot": spec.snapshot.digest,
        "parity.lock": spec.image.lock_sha256,
    }
    if commit := _commit(settings.root):
        found["parity.commit"] = commit
    return found


def submit(
    workspace: Workspace, settings: Settings, spec: RunSpec, *, run_id: str, image: str, tags: Mapping[str, str]
) -> Run:
    """Sends the snapshot and starts the run. It goes on from here, whatever becomes of this process.

    Errors: AzureError; RunError where a file of the source directory changed since the snapshot was taken, also while
    it was sent: then the run is canceled.
    """
    _unchanged(settings, spec)
    log.debug("%s", _equal_script(spec, settings, image))
    with errors("submitting the run"):
        from azureml.core import Experiment

        experiment = Experiment(workspace, settings.azureml.experiment)
        run = experiment.submit(_configuration(settings, spec, image), tags=dict(tags), run_id=run_id)
    try:
        _unchanged(settings, spec)
    except RunError:
        with errors("canceling the run"):
            run.cancel()
        raise
    return run


def find(workspace: Workspace, run_id: str) -> Run | None:
    """The run of that id; None if the workspace has none."""
    from .failures import status

    try:
        with errors(f"the run {run_id}"):
            return workspace.get_run(run_id)
    except AzureError as error:
        if status(error.__cause__) == 404 or "not found" in str(error.__cause__).lower():
            return None
        raise


def _configuration(settings: Settings, spec: RunSpec, image: str) -> ScriptRunConfig:
    from azureml.core import ScriptRunConfig
    from azureml.core.runconfig import DataReferenceConfiguration, DockerConfiguration

    configuration = ScriptRunConfig(
        source_directory=str(spec.snapshot.source),
        command=spec.line,
        compute_target=settings.azureml.compute,
        environment=_environment(settings, spec, image),
        distributed_job_config=_distributed(spec),
        docker_runtime_config=DockerConfiguration(use_docker=True, shm_size=_shm(spec.resources.shm_bytes)),
    )
    configuration.run_config.environment_variables = spec.variables
    datastore, path = settings.data.datastore
    configuration.run_config.data_references = {
        each.name: DataReferenceConfiguration(datastore_name=datastore, path_on_datastore=path, mode="mount")
        for each in spec.inputs
    }
    return configuration


def _distributed(spec: RunSpec) -> PyTorchConfiguration | None:
    """Several nodes with one process each, which finds the others by variables; it starts the node's own processes."""
    from azureml.core.runconfig import PyTorchConfiguration

    if spec.resources.nodes == 1:
        return None
    return PyTorchConfiguration("Nccl" if spec.resources.gpu else "Gloo", node_count=spec.resources.nodes)


def _environment(settings: Settings, spec: RunSpec, image: str) -> Environment:
    """The image as it is: nothing is installed into it, and nothing is built."""
    from azureml.core import Environment

    environment = Environment(f"{settings.image.name}-env-{spec.image.fingerprint[:12]}".replace(".", "-"))
    environment.docker.base_image = image
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = "python"
    environment.environment_variables.clear()  # of the SDK's example; a run's own do not belong to the environment
    return environment


def _shm(size: int) -> str:
    """A size as Docker reads it; size: bytes."""
    return f"{size // MEGABYTE}m" if size % MEGABYTE == 0 else f"{size}b"


def _unchanged(settings: Settings, spec: RunSpec) -> None:
    """RunError if the source directory does not hold the snapshot any more: the SDK sends what it finds there."""
    _, present = snapshots.inspect(spec.snapshot.source, settings.snapshot.rules, memory=settings.cache / "snapshots")
    if present is not None and present.digest == spec.snapshot.digest:
        return
    before = {file.path: file.sha256 for file in spec.snapshot.files}
    now = {file.path: file.sha256 for file in present.files} if present else {}
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    where = spec.snapshot.source / changed[0] if changed else spec.snapshot.source
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    raise RunError(f"{where}{more} changed while the run was submitted", command="try again")


def _equal_script(spec: RunSpec, settings: Settings, image: str) -> str:
    """What a person would write; the values of variables stay out, since they may be secrets."""
    return (
        f"ScriptRunConfig(source_directory={str(spec.snapshot.source)!r}, command={spec.line!r}, "
        f"compute_target={settings.azureml.compute!r}, environment=Environment of {image})"
    )


def _commit(root: Path) -> str | None:
    """The commit that is checked out; None outside of git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
