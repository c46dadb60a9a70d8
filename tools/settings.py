"""parity.toml -> frozen, typed values. The only place that reads configuration.

Every key has a default, so an empty file is a valid one; `parity.toml` in this repository documents each in place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from . import project
from .errors import SettingsError, nearest
from .project import FILE as FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(?:[._-][a-z0-9]+)*$")]
# A host with a dot or a port, or localhost, as Docker tells a registry from a folder of its Hub; then folders
Registry = Annotated[
    str,
    Field(pattern=r"^$|^(?:localhost(?::\d+)?|[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::\d+)?|[a-z0-9-]+:\d+)(?:/[a-z0-9._-]+)*$"),
]
Size = Annotated[str, Field(pattern=r"^[1-9]\d*[bkmg]$")]
Platform = Literal["linux-64", "linux-aarch64"]
# A datastore of the workspace and a folder in it
DatastorePath = Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9_-]+(?:/[A-Za-z0-9_@=+,. -]+)+$")]
Experiment = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$")]  # as azureml-core 1.61 has it


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30}[size[-1]]


class Environment(_Section):
    """[environment]: which packages the image holds."""

    spec: str = "environments/pytorch.yml"
    python: Annotated[str, Field(pattern=r"^3\.\d+$")] = "3.11"


class Image(_Section):
    """[image]: what the packages become."""

    name: Name = "parity"
    registry: Registry = ""
    platform: Platform = "linux-64"
    unscripted: Annotated[tuple[str, ...], Field(strict=False)] = ()
    cache_limit: Size = "20g"


class Run(_Section):
    """[run]: what runs in the container."""

    source: str = "trainer"
    command: str = "python train.py --data-path {data} --output-dir outputs"
    environment_variables: dict[str, str] = {}

    @field_validator("environment_variables")
    @classmethod
    def _names(cls, variables: dict[str, str]) -> dict[str, str]:
        for name in variables:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not a name of an environment variable (letters, digits and _)")
        return variables


class Data(_Section):
    """[data]: the data set, outside the source directory. An empty path: there is none, and `remote` says nothing."""

    path: str = "data"
    dataset: Literal["cifar-10", "none"] = "cifar-10"
    remote: DatastorePath = "workspaceblobstore/parity/data"

    @field_validator("remote")
    @classmethod
    def _folders(cls, remote: str) -> str:
        if any(part in (".", "..") for part in remote.split("/")):
            raise ValueError(f"{remote!r}: neither . nor .. is a folder of a datastore")
        return remote

    @model_validator(mode="after")
    def _none(self) -> Data:
        if not self.path and self.dataset != "none":
            raise ValueError(
                f'path = "" means that the run has no data set, but dataset = "{self.dataset}": '
                'set dataset = "none" too, or name a folder as path'
            )
        return self

    @property
    def datastore(self) -> tuple[str, str]:
        """`remote` as (datastore, path in it); two empty strings where it is not set."""
        name, _, path = self.remote.partition("/")
        return name, path


class Resources(_Section):
    """[resources]: what a run gets, the same on every target."""

    shm_size: Size = "2g"
    gpu: Literal["auto", "none"] = "auto"
    nodes: Annotated[int, Field(ge=1)] = 1
    processes: Annotated[int, Field(ge=1)] = 1

    @property
    def shm_bytes(self) -> int:
        """The size of /dev/shm in bytes."""
        return _bytes(self.shm_size)


class AzureML(_Section):
    """[azureml]: the workspace, and where in it runs go. The three names, all or none, take the place of `config`."""

    config: str = ".azureml/config.json"
    subscription: str = ""
    resource_group: str = ""
    workspace: str = ""
    experiment: Experiment = "parity"
    compute: str = "cpu-cluster"
    auth: Literal["auto", "cli", "service-principal", "msi", "interactive"] = "auto"

    @model_validator(mode="after")
    def _whole(self) -> AzureML:
        names = {"subscription": self.subscription, "resource_group": self.resource_group, "workspace": self.workspace}
        missing = [name for name, value in names.items() if not value]
        if missing and len(missing) < len(names):
            raise ValueError(f"{', '.join(missing)} must be set too, or none of {', '.join(names)}")
        return self


class Snapshot(_Section):
    """[snapshot]: which files of the source directory go."""

    rules: Literal["v1", "v2"] = "v1"


class Compare(_Section):
    """[compare]: when the metrics of two runs are taken as the same."""

    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Settings(_Section):
    """All settings of a project. `root` is the folder of parity.toml; every path in the settings is relative to it."""

    root: Path
    environment: Environment = Environment()
    image: Image = Image()
    run: Run = Run()
    data: Data = Data()
    resources: Resources = Resources()
    azureml: AzureML = AzureML()
    snapshot: Snapshot = Snapshot()
    compare: Compare = Compare()

    @model_validator(mode="after")
    def _command_has_its_data(self) -> Settings:
        if "{data}" in self.run.command and not self.data.path:
            raise ValueError(
                'run.command reads {data}, but data.path = "" means that the run has no data set: '
                "take {data} out of the command, or name a folder as path under [data]"
            )
        return self

    def for_platform(self, platform: str) -> Settings:
        """The same settings for another platform; SettingsError if it is none of those that [image] platform takes."""
        try:
            image = Image.model_validate({**self.image.model_dump(), "platform": platform})
        except ValidationError as error:
            allowed = get_args(Platform)
            raise SettingsError(
                f"--platform {platform}: allowed: {', '.join(allowed)}{nearest(platform, allowed)}"
            ) from error
        return self.model_copy(update={"image": image})

    def sized(self, *, nodes: int | None, processes: int | None) -> Settings:
        """The same settings with as many nodes, and processes on each; None leaves them as they are."""
        asked = {"nodes": nodes, "processes": processes}
        changes = {name: number for name, number in asked.items() if number is not None}
        return self.model_copy(update={"resources": self.resources.model_copy(update=changes)})

    @property
    def state(self) -> Path:
        """What is made here and never committed."""
        return self.root / project.STATE

    @property
    def cache(self) -> Path:
        """Packages, layers and bases, by content."""
        return self.state / "cache"

    @property
    def cache_limit(self) -> int:
        """What the cache may hold, in bytes."""
        return _bytes(self.image.cache_limit)

    @property
    def runs(self) -> Path:
        """The records, one folder a run."""
        return self.root / project.RUNS

    @property
    def data_path(self) -> Path | None:
        """The data set's folder on this machine; None where the run has no data set."""
        return self.root / self.data.path if self.data.path else None

    @property
    def source(self) -> Path:
        """The source directory, from which snapshots are taken."""
        return self.root / self.run.source


def load(directory: Path | None = None) -> Settings:
    """The settings of the project that `directory` (default: the current one) lies in.

    Errors: SettingsError with file, key, what was found, what is allowed and the nearest name.
    """
    root = project.find(directory)
    path = root / FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}", command=f"mend {FILE}, then try again") from error
    if "root" in table:
        raise SettingsError(f"{path}: unknown key: root", command=f"remove it from {FILE}")
    try:
        return Settings(root=root, **table)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, detail) for detail in error.errors())) from error


def _explain(path: Path, detail: Any) -> str:
    """One line for one of pydantic's complaints: file, key, what was found, what is allowed, the nearest name."""
    keys = [str(part) for part in detail["loc"]]
    where = f"{path}: {'.'.join(keys)}" if keys else str(path)
    if detail["type"] == "extra_forbidden":
        section = Settings.model_fields[keys[0]].annotation if len(keys) > 1 else Settings
        known = sorted(set(getattr(section, "model_fields", {})) - {"root"})
        return f"{where}: unknown key; allowed: {', '.join(known)}{nearest(keys[-1], known)}"
    found, context = detail["input"], detail.get("ctx", {})
    if detail["type"] == "literal_error":
        allowed = re.findall(r"'([^']+)'", context["expected"])
        return f"{where} = {found!r}: allowed: {', '.join(allowed)}{nearest(str(found), allowed)}"
    if detail["type"] == "string_pattern_mismatch":
        return f"{where} = {found!r}: must match {context['pattern']}"
    if detail["type"] == "greater_than_equal":
        return f"{where} = {found!r}: must be {context['ge']} or more"
    if detail["type"] == "value_error":
        return f"{where}: {context['error']}"
    return f"{where} = {found!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}, found {type(found).__name__}"
