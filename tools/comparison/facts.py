"""What is known of a run, fact by fact: the ingredients of its record, and what its witnesses saw in the container.

Two runs' facts stand under the same keys. Whatever a run has a value of its own of (its id, its uuid, the paths below
them) is replaced by the word RUN first, so that it never tells two runs apart.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..runs.record import Record

WITNESS = "witness"
WITNESS_SCHEMA = 1
UUID = re.compile(r"(?<=/)[0-9a-f]{32}(?=/|$)")  # of a run, in Azure ML's paths
# Variables that Azure ML and its distributed launchers set, with another value or number in each run
PER_RUN = re.compile(
    r"^(AZ_BATCH|AZ_BATCHAI|AZUREML|AZURE_ML|MLFLOW|PARITY|OMPI|PMIX|OBO|MSI|IDENTITY|RSLEX|HOSTNAME$|OLDPWD$|PWD$|SHLVL$"
    r"|TF_CONFIG$|MASTER_ADDR$|MASTER_PORT$|NODE_RANK$|RANK$|LOCAL_RANK$|WORLD_SIZE$|LOCAL_WORLD_SIZE$|_$)"
)
# What the record says in full: an ingredient that it does not name was not asked for
ORDERED = ("image", "snapshot", "command", "input", "input path", "start", "variable", "resources", "stand-in", "host")
# Groups of the witness's note, by the groups of facts that come of them; the others keep their names
GROUPS = {
    "packages": ("package",),
    "files": ("file",),
    "variables": ("variable seen", "name of variable"),
    "machine": ("machine", "threads"),
}
# Beside the snapshot, Azure ML's runtime leaves files of its own in the working directory
NOT_OURS = ("azureml-setup/", "azureml-logs/", "user_logs/", "system_logs/", "logs/", "outputs/")


class Key(NamedTuple):
    """The name of a fact. node: the machine of the run that it was seen on, from 0."""

    group: str
    name: str
    node: int = 0

    def __str__(self) -> str:
        """For people."""
        words = self.group if not self.name or self.name == self.group else f"{self.group} {self.name}"
        return f"{words} (node {self.node})" if self.node else words


class Missing:
    """The value of a fact that a run does not have."""

    def __repr__(self) -> str:
        """As people read it."""
        return "absent"


class Unknown:
    """The value of a fact that nobody saw: the run may have it or not."""

    def __repr__(self) -> str:
        """As people read it."""
        return "not known"


MISSING, UNKNOWN = Missing(), Unknown()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All of one run. groups: whose every fact is known, so that what is not among the values is absent.

    gaps: what should have been seen and was not, in words.
    """

    values: Mapping[Key, Any]
    groups: frozenset[tuple[str, int]]
    gaps: tuple[str, ...]

    def get(self, key: Key) -> Any:
        """A value, MISSING or UNKNOWN."""
        return self.values.get(key, MISSING if (key.group, key.node) in self.groups else UNKNOWN)


def of(record: Record) -> Facts:
    """Everything that the record and its witnesses say."""
    values = {Key(group, name): value for group, name, value in _recorded(record)}
    groups = {(group, 0) for group in ORDERED}
    gaps = []
    nodes = record.ingredients["resources"].get("nodes", 1)
    for node in range(nodes):
        whose = f" of node {node}" if nodes > 1 else ""
        try:
            note = _note(record.folder / f"{WITNESS}{f'-{node}' if node else ''}.json")
        except FileNotFoundError:
            gaps.append(f"no witness{whose}")
            continue
        except (OSError, ValueError) as error:
            gaps.append(f"a witness{whose} that cannot be read ({error})")
            continue
        for name, table in note.items():
            if isinstance(table.get("unknown"), str):
                gaps.append(f"no witnessed {name}{whose} ({table['unknown']})")
                continue
            groups |= {(group, node) for group in GROUPS.get(name, (name,))}
            values.update({Key(group, fact, node): value for group, fact, value in _witnessed(name, table)})
    if torch := _torch(record.folder):
        groups.add(("torch", 0))
        values.update({Key("torch", name): value for name, value in torch.items()})
    own = (record.uuid, record.id)
    return Facts(
        values={key: _without(value, own) for key, value in values.items()},
        groups=frozenset(groups),
        gaps=tuple(gaps),
    )


def _recorded(record: Record) -> Iterator[tuple[str, str, Any]]:
    table = record.ingredients
    yield from (("image", name, value) for name, value in table["image"].items())
    yield from (("snapshot", name, value) for name, value in table["snapshot"].items())
    yield "command", "command", table["command"]
    yield "command", "arguments", shlex.join(table["arguments"])
    for each in table["inputs"]:
        yield "input", each["name"], UNKNOWN if each.get("digest") is None else f"sha256:{each['digest']}"
        yield "input path", each["name"], each.get("path")
    if start := table.get("start"):
        yield "start", "outputs", f"sha256:{start['digest']}"
    yield from (("variable", name, value) for name, value in table["environment_variables"].items())
    yield from (("resources", name, value) for name, value in table["resources"].items())
    for name in ("nodes", "processes"):
        yield "resources", name, table["resources"].get(name, 1)
    yield from (("stand-in", each["kind"], each["replacement"]) for each in table["stand_ins"])
    yield from (("host", name, value) for name, value in record.host.items() if name != "process")
    yield "run", "target", record.target
    yield "run", "created", record.created
    if record.status in ("completed", "failed"):
        yield "run", "status", record.status
        yield "run", "exit code", UNKNOWN if record.exit_code is None else record.exit_code


def _note(path: Path) -> dict[str, dict[str, Any]]:
    """The groups of a witness's note. ValueError where it is none."""
    note = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(note, dict) or note.get("schema") != WITNESS_SCHEMA:
        raise ValueError(f"{path.name} is not of schema {WITNESS_SCHEMA}")
    return {name: table for name, table in note.items() if isinstance(table, dict)}


def _witnessed(name: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The facts of a group of the note, each with its own group here."""
    if name == "packages":
        yield from (("package", each, value) for each, value in _packages(table).items())
    elif name == "files":
        for path, fact in table.items():
            if not path.startswith(NOT_OURS):
                digest = f" sha256:{fact['sha256']}" if "sha256" in fact else ""
                yield "file", path, f"{fact['bytes']} bytes{digest}"
    elif name == "variables":
        yield from (("variable seen", each, f"sha256:{value}") for each, value in table["set"].items())
        yield from (("name of variable", each, "set") for each in table["names"] if not PER_RUN.match(each))
    elif name == "machine":
        yield from (("threads", each, value) for each, value in table["threads"].items())
        yield from (("machine", each, value) for each, value in table.items() if each != "threads")
    else:
        yield from ((name, each, value) for each, value in table.items())


def _packages(table: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """One version of each package: Python's own word, with conda's build; conda's version too where it says another."""
    python, conda = table["python"], table["conda"]
    found = dict(conda)
    for name, version in python.items():
        built = conda.get(name, "")
        if built.split(" ")[0] != version:
            found[name] = f"{version} (conda: {built})" if built else version
    return found


def _torch(folder: Path) -> dict[str, Any]:
    """What torch was in the first process; nothing where it was not used, or nobody looked."""
    try:
        table = json.loads((folder / f"{WITNESS}-torch.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _without(value: Any, own: tuple[str, ...]) -> Any:
    """A value without the run's own names."""
    if isinstance(value, str):
        for name in own:
            value = value.replace(name, "RUN")
        return UUID.sub("RUN", value)
    if isinstance(value, list):
        return [_without(each, own) for each in value]
    return value
