"""The `conda` executable that conda-lock asks for, over rattler: no conda is needed, and one solver runs everywhere.

`python -m tools.environment.solver` answers what conda-lock 4 asks of conda when it locks: `--version`, and
`create --prefix P --dry-run --json --override-channels --channel URL.. SPEC..`, with the platform in CONDA_SUBDIR and
virtual packages (__glibc, __cuda, ..) in one more channel. It prints conda's JSON, the plan or a `{"message": ..}`.

Credentials of channels come from rattler's own store, RATTLER_AUTH_FILE or ~/.netrc; repodata is cached by rattler.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rattler import Channel, Gateway, RepoDataRecord
    from rattler.platform import Subdir

VERSION = "24.0.0"  # of the conda whose answers these are: the first with libmamba's semantics throughout
KEEP, MOVE = "PARITY_SOLVER_KEEP", "PARITY_SOLVER_MOVE"  # a lock whose packages stay, and the names that may move
REASON = "PARITY_SOLVER_REASON"  # a file for the reason of a failure, which conda-lock buries in its own output
_LONGEST_REASON = 25  # lines


@dataclass(frozen=True, kw_only=True)
class Request:
    """One `create`: match specs, channels by priority, a platform, and which of an older lock's packages stay.

    keep: (name, sha256) of packages. move: names that take the version which they would have in a fresh solve.
    """

    specs: tuple[str, ...]
    channels: tuple[str, ...]
    platform: str
    keep: frozenset[tuple[str, str]] = frozenset()
    move: tuple[str, ...] = ()


def channel_addresses(channel: str) -> list[str]:
    """The base addresses, each ending in "/", that a channel's name means; `defaults` is several."""
    from rattler import Channel

    if channel == "defaults":  # rattler knows no default channels; conda-lock carries conda's own list
        from conda_lock._vendor.conda.base.constants import DEFAULT_CHANNELS_UNIX

        return [Channel(address).base_url for address in DEFAULT_CHANNELS_UNIX]
    return [Channel(channel).base_url]


async def solve(request: Request) -> list[RepoDataRecord]:
    """The packages that satisfy the request, in no particular order. Errors: rattler's own, with their reasons."""
    import rattler

    gateway = rattler.Gateway(client=rattler.Client.default_client())
    channels = [rattler.Channel(address) for name in request.channels for address in channel_addresses(name)]

    async def solved(kept: Sequence[RepoDataRecord] = (), constraints: Sequence[str] = ()) -> list[RepoDataRecord]:
        return await rattler.solve(
            sources=channels,
            specs=list(request.specs),
            gateway=gateway,
            platforms=_subdirs(request),
            locked_packages=list(kept),
            constraints=list(constraints),
        )

    if not request.keep:
        return await solved()
    newest = await solved() if request.move else []
    moved = [f"{_name(record)} =={record.version} {record.build}" for record in newest if _name(record) in request.move]
    return await solved(await _records(gateway, channels, request), moved)


async def _records(gateway: Gateway, channels: list[Channel], request: Request) -> list[RepoDataRecord]:
    """What the channels say about the packages to keep; one that is in no channel any more may move."""
    names = sorted({name for name, _ in request.keep}.difference(request.move))
    found = await gateway.query(channels, _subdirs(request), names, recursive=False)
    return [
        record
        for records in found
        for record in records
        if record.sha256 and (_name(record), record.sha256.hex()) in request.keep
    ]


def _subdirs(request: Request) -> list[Subdir]:
    from rattler.platform import Subdir

    return [Subdir(request.platform), Subdir("noarch")]


def _name(record: RepoDataRecord) -> str:
    return record.name.normalized


def plan(records: Sequence[RepoDataRecord]) -> dict[str, Any]:
    """The records as `conda create --dry-run --json` shows a transaction."""
    actions = [_action(record) for record in sorted(records, key=_name)]
    return {"success": True, "dry_run": True, "actions": {"FETCH": actions, "LINK": actions}}


def _action(record: RepoDataRecord) -> dict[str, Any]:
    action = {
        "name": _name(record),
        "version": str(record.version),
        "channel": record.channel,
        "subdir": record.subdir,
        "url": record.url,
        "fn": record.file_name,
        "dist_name": re.sub(r"\.(conda|tar\.bz2)$", "", record.file_name),
        "depends": record.depends,
        "constrains": record.constrains,
    }
    hashes = {"md5": record.md5, "sha256": record.sha256}
    return action | {kind: digest.hex() for kind, digest in hashes.items() if digest}


def _request(options: argparse.Namespace) -> Request:
    from .lock import Lock

    platform = os.environ["CONDA_SUBDIR"]
    keep: frozenset[tuple[str, str]] = frozenset()
    if old := os.environ.get(KEEP):
        packages = [package for package in Lock.read(Path(old)).packages if package.platform == platform]
        keep = frozenset((package.name, package.sha256) for package in packages if package.manager == "conda")
    return Request(
        specs=tuple(options.specs),
        channels=tuple(options.channels),
        platform=platform,
        keep=keep,
        move=tuple(os.environ.get(MOVE, "").split()),
    )


def shortened(reason: str) -> str:
    """A solver's explanation, cut to what a person reads."""
    lines = [line.rstrip() for line in reason.splitlines() if line.strip()]
    if len(lines) > _LONGEST_REASON:
        lines = [*lines[:_LONGEST_REASON], f"... and {len(lines) - _LONGEST_REASON} more lines"]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="conda", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"conda {VERSION}")
    create = parser.add_subparsers(dest="verb", required=True).add_parser("create")
    create.add_argument("--prefix")
    for flag in ("--dry-run", "--json", "--override-channels"):
        create.add_argument(flag, action="store_true", required=True)
    create.add_argument("--channel", "-c", action="append", dest="channels", required=True)
    create.add_argument("specs", nargs="+")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers one call; 0, or 1 with `{"message": ..}`."""
    import asyncio

    options = _parser().parse_args(arguments)
    try:
        answer, code = plan(asyncio.run(solve(_request(options)))), 0
    except Exception as error:  # whatever it is, conda-lock is to hear it in conda's form
        told = {"error": type(error).__name__, "message": shortened(str(error))}
        if reason := os.environ.get(REASON):
            Path(reason).write_text(json.dumps(told), encoding="utf-8")
        answer, code = {"success": False, **told}, 1
    print(json.dumps(answer, sort_keys=True))  # noqa: T201 - its stdout is a protocol
    return code


def _leave(code: int) -> NoReturn:
    """Skips the interpreter's own end: py-rattler 0.28 sometimes crashes there, after its work is done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
