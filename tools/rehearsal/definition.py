"""RunDefinition: what a submission asks for, read as the execution service reads it.

Names count without case, and enums may be names or numbers: the service itself writes PascalCase and numbers in one
place, camelCase and names in another (startlocalrun of azure-ai-ml's recordings, and run details). What the workspace
does not do is refused here, in words, before a run is made.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import docker_options
from .answers import Refusal
from .docker_options import DockerOptions

# In the order of their numbers (execution.json, 2019-12-01)
FRAMEWORKS = ("Python", "PySpark", "Cntk", "TensorFlow", "PyTorch")
COMMUNICATORS = ("None", "ParameterServer", "Gloo", "Mpi", "Nccl", "ParallelTask")
MPI = {"mpi", "openmpi", "intelmpi"}
MODES = ("mount", "download", "upload")
RETURN_CODES = ("Zero", "ZeroOrGreater")
SHM = "2g"  # what the service gives where nothing is asked for
MAX_SECONDS = 2_592_000  # 30 days, the SDK's default
# Keys below these are names of the user's own, which are kept as they are
OWN_NAMES = {"environmentvariables", "datareferences", "data", "outputdata", "tags", "properties"}


@dataclass(frozen=True, kw_only=True)
class DataReference:
    """A folder of a datastore. mode: mount, download or upload; path_on_compute: where the script wants it, if said."""

    name: str
    datastore: str
    path: str
    mode: str
    path_on_compute: str | None


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The login of a private registry."""

    address: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The image to run in. conda: the specification of one that is to be made, None where the image brings all."""

    name: str
    version: str | None
    image: str | None
    registry: Registry | None
    interpreter: str
    conda: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One submission. processes: in all, evenly on the nodes; distribution: "pytorch", "mpi" or None.

    max_seconds: after which the service cancels; codes: the exit codes that are no failure, None for zero and above.
    """

    snapshot: str | None
    parent: str | None
    target: str
    script: str | None
    arguments: tuple[str, ...]
    command: str
    distribution: str | None
    nodes: int
    processes: int
    max_seconds: int | None
    codes: frozenset[int] | None
    environment: Environment
    variables: Mapping[str, str] = field(repr=False)
    docker: DockerOptions
    data: tuple[DataReference, ...]

    @property
    def per_node(self) -> int:
        """How many processes a node starts."""
        return self.processes // self.nodes

    @property
    def program(self) -> str:
        """What the service calls the user's process when it fails."""
        return self.environment.interpreter if self.script else "/bin/bash"

    def line(self, placeholders: Mapping[str, str]) -> str:
        """The command line for bash. placeholders: what stands for $AZUREML_DATAREFERENCE_x in arguments."""
        if not self.script:
            return self.command
        arguments = [_expand(each, placeholders) for each in self.arguments]
        return shlex.join([self.environment.interpreter, self.script, *arguments])

    def accepts(self, code: int) -> bool:
        """Whether a process that ends with this code did not fail."""
        return code >= 0 if self.codes is None else code in self.codes


def read(body: Any) -> Definition:
    """The definition in a request's body; Refusal 400 with what is wrong or not done here."""
    if not isinstance(body, Mapping) or not isinstance(_get(body, "configuration"), Mapping):
        raise _wrong("the body has no Configuration; a submission is a RunDefinition")
    configuration = _get(body, "configuration")
    script, command = _text(configuration, "script"), _command(configuration)
    if bool(script) == bool(command):
        raise _wrong("a run has either a script or a command" + (", this one has both" if script else ""))
    if script and (script.startswith("/") or ".." in script.split("/")):
        raise _wrong(f"script {script!r} does not lie in the source directory")
    target = _text(configuration, "target") or "local"
    if target == "local":
        raise _wrong(
            "target 'local' is not served: the rehearsal runs every job in a container; "
            "submit to a compute target, e.g. cpu-cluster, or use make run-local"
        )
    environment = _get(configuration, "environment") or {}
    distribution, nodes, processes = _distribution(configuration)
    data = _data_references(configuration)
    return Definition(
        snapshot=_text(body, "snapshotId"),
        parent=_text(body, "parentRunId"),
        target=target,
        script=script,
        arguments=tuple(_argument(each) for each in _get(configuration, "arguments") or ()),
        command=command,
        distribution=distribution,
        nodes=nodes,
        processes=processes,
        max_seconds=_number(configuration, "maxRunDurationSeconds"),
        codes=_codes(_get(configuration, "commandReturnCodeConfig") or {}),
        environment=_environment(environment),
        variables={**_variables(environment), **_variables(configuration)},
        docker=_docker(configuration, environment),
        data=data,
    )


def shown(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same RunDefinition as run details show it: camelCase, enums by name, the service's defaults, no password."""
    told: dict[str, Any] = _camel(body)
    configuration = told.setdefault("configuration", {})
    for key, names in (("framework", FRAMEWORKS), ("communicator", COMMUNICATORS)):
        configuration[key] = _enum(configuration.get(key), names) or names[0]
    configuration["command"] = _command(configuration)
    defaults: dict[str, Any] = {
        "script": None,
        "arguments": [],
        "useAbsolutePath": False,
        "nodeCount": 1,
        "maxRunDurationSeconds": MAX_SECONDS,
        "dataReferences": {},
        "data": {},
        "outputData": {},
        "mpi": {"processCountPerNode": 1},
        "pyTorch": {"communicationBackend": "nccl", "processCount": None},
        "tensorflow": {"workerCount": 1, "parameterServerCount": 1},
        "docker": {"useDocker": True, "sharedVolumes": True, "shmSize": SHM, "arguments": []},
        "history": {"outputCollection": True, "directoriesToWatch": ["logs"], "enableMLflowTracking": True},
    }
    if "pytorch" in configuration:  # as the SDK writes it
        configuration["pyTorch"] = configuration.pop("pytorch")
    for key, value in defaults.items():
        if isinstance(value, dict):
            configuration[key] = {**value, **(configuration.get(key) or {})}
        else:
            configuration.setdefault(key, value)
    registry = ((configuration.get("environment") or {}).get("docker") or {}).get("baseImageRegistry")
    if registry and registry.get("password"):
        registry["password"] = None  # a secret has no place in a record
    return told


def _get(table: Mapping[str, Any], name: str) -> Any:
    """The value of that name, whatever its case."""
    wanted = name.lower()
    return next((value for key, value in table.items() if key.lower() == wanted), None)


def _text(table: Mapping[str, Any], name: str) -> str | None:
    value = _get(table, name)
    if value is not None and not isinstance(value, str):
        raise _wrong(f"{name} is {value!r}, and should be text")
    return value or None


def _number(table: Mapping[str, Any], name: str) -> int | None:
    value = _get(table, name)
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise _wrong(f"{name} is {value!r}, and should be a number") from None


def _enum(value: Any, names: Sequence[str]) -> str | None:
    """The name of an enum's value, which is sent as its name in any case or as its number; unknown names stay."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return next((name for name in names if name.lower() == str(value).lower()), None if value is None else str(value))


def _command(configuration: Mapping[str, Any]) -> str:
    """`command` is one line; a list, as older SDKs keep it, is joined by spaces."""
    value = _get(configuration, "command") or ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _argument(value: Any) -> str:
    """An argument as the command line has it; JSON keeps numbers as numbers, and what is whole stays whole."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str | int):
        return str(value)
    raise _wrong(f"argument {value!r} is neither text nor a number")


def _expand(argument: str, placeholders: Mapping[str, str]) -> str:
    """$AZUREML_DATAREFERENCE_x anywhere in an argument, as the service expands it before the call."""

    def put(match: re.Match[str]) -> str:
        return placeholders.get(match[1] or match[2], match[0])

    return re.sub(r"\$(?:AZUREML_DATAREFERENCE_(\w+)|{AZUREML_DATAREFERENCE_(\w+)})", put, argument)


def _distribution(configuration: Mapping[str, Any]) -> tuple[str | None, int, int]:
    """(how processes find each other, nodes, processes in all)."""
    framework = _enum(_get(configuration, "framework"), FRAMEWORKS) or "Python"
    communicator = str(_enum(_get(configuration, "communicator"), COMMUNICATORS) or "None").lower()
    given = _number(configuration, "nodeCount")
    nodes = 1 if given is None else given
    if nodes < 1:
        raise _wrong(f"nodeCount is {nodes}")
    if communicator in MPI:
        per_node = _number(_get(configuration, "mpi") or {}, "processCountPerNode") or 1
        return "mpi", nodes, nodes * per_node
    if framework == "PyTorch":
        processes = _number(_get(configuration, "pytorch") or {}, "processCount") or nodes
        if processes < nodes or processes % nodes:
            raise _wrong(f"process_count is {processes}, and {nodes} nodes cannot share them evenly")
        return "pytorch", nodes, processes
    if framework != "Python" or communicator not in ("none", "gloo", "nccl"):
        raise _wrong(
            f"framework {framework} with communicator {communicator} is not served; Python, PyTorch and MPI jobs are"
        )
    return None, nodes, nodes


def _codes(table: Mapping[str, Any]) -> frozenset[int] | None:
    named = _get(table, "successfulReturnCodes")
    if named:
        return frozenset(int(code) for code in named)
    return None if _enum(_get(table, "returnCode"), RETURN_CODES) == "ZeroOrGreater" else frozenset({0})


def _environment(table: Mapping[str, Any]) -> Environment:
    name = _text(table, "name") or "environment"
    if name.startswith("AzureML"):  # the service's own words
        raise Refusal(
            400,
            "Environment name can not start with the prefix AzureML. "
            "To alter a curated environment first create a copy of it.",
            component="execution",
        )
    python, docker = _get(table, "python") or {}, _get(table, "docker") or {}
    conda = None if _get(python, "userManagedDependencies") else _get(python, "condaDependencies")
    image = _text(docker, "baseImage")
    if conda is None and (_get(docker, "baseDockerfile") or _get(docker, "buildContext")):
        raise _wrong(
            f"environment {name} is a Dockerfile, which the rehearsal does not build; "
            "build it, push it, and give docker.base_image its digest"
        )
    if conda is None and not image:
        raise _wrong(f"environment {name} names neither an image (docker.base_image) nor conda packages")
    login = _get(docker, "baseImageRegistry") or {}
    address, username, password = (_get(login, key) for key in ("address", "username", "password"))
    return Environment(
        name=name,
        version=_text(table, "version"),
        image=image,
        registry=Registry(address=address or "", username=username, password=password) if username else None,
        interpreter=_text(python, "interpreterPath") or "python",
        conda=conda,
    )


def _variables(table: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in (_get(table, "environmentVariables") or {}).items()}


def _docker(configuration: Mapping[str, Any], environment: Mapping[str, Any]) -> DockerOptions:
    """The run's own docker section comes before the environment's, as in the SDK, which sends the same in both."""
    sections = [_get(configuration, "docker") or {}, _get(environment, "docker") or {}]
    size = next((found for each in sections if (found := _text(each, "shmSize"))), SHM)
    arguments = [str(argument) for each in sections for argument in _get(each, "arguments") or ()]
    try:
        return docker_options.read(size, arguments)
    except ValueError as problem:
        raise _wrong(str(problem)) from problem


def _data_references(configuration: Mapping[str, Any]) -> tuple[DataReference, ...]:
    for key in ("data", "outputData"):
        if _get(configuration, key):
            raise _wrong(
                f"{key} (datasets of azureml-dataprep) is not served; "
                "take a data reference: datastore.path('FOLDER').as_mount()"
            )
    references = []
    for name, table in (_get(configuration, "dataReferences") or {}).items():
        mode = (_enum(_get(table, "mode"), MODES) or "mount").lower()
        path = (_text(table, "pathOnDataStore") or "").strip("/")
        if not re.fullmatch(r"\w+", name) or mode not in MODES or ".." in path.split("/"):
            raise _wrong(f"data reference {name}: {mode} of {path!r} is not one that can be taken")
        references.append(
            DataReference(
                name=name,
                datastore=_text(table, "dataStoreName") or "",
                path="" if path == "." else path,
                mode=mode,
                path_on_compute=_text(table, "pathOnCompute"),
            )
        )
    return tuple(references)


def _camel(value: Any, *, own: bool = False) -> Any:
    """The same with keys in camelCase, but for the names that are the user's own. own: whether these keys are."""
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    told = {}
    for key, each in value.items():
        lower = key.lower()
        if lower == "condadependencies":
            told["condaDependencies"] = each
        else:
            told[key if own else key[:1].lower() + key[1:]] = _camel(each, own=lower in OWN_NAMES)
    return told


def _wrong(message: str) -> Refusal:
    return Refusal(400, message, code="ValidationError", component="execution")
