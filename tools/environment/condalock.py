"""One call of conda-lock, as a child process with rattler as its solver: what goes in and what comes out."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import offline, progress
from ..errors import LockError, ParityError, SolveError
from . import conda_file, index, solver
from .lock import SPEC_KEY, STAND_INS_KEY, Lock
from .spec import LOCK_SUFFIX, EnvironmentSpec

log = logging.getLogger(__name__)

# The CUDA of a spec that names no version: of a version only the major counts (NVIDIA's minor version compatibility).
_CUDA = "12.9"
_CUDA_VERSION = re.compile(r"^(?:cuda-version|cuda-toolkit|cudatoolkit|pytorch-cuda|cuda|__cuda)\W+(\d+(?:\.\d+)?)")
_CREDENTIALS = re.compile(r"://[^/\s@]+@")
_MESSAGE = re.compile(r"^(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception|NotFound|Problem)\w*: ", re.MULTILINE)
_TICK = 0.25  # seconds between two looks at the child


@dataclass(frozen=True, kw_only=True)
class Order:
    """What conda-lock gets: the spec, with the channels and the name table that a stand-in may replace.

    old: the lock that an update starts from, None for a fresh one. move: the names that may move in it.
    """

    spec: EnvironmentSpec
    channels: tuple[str, ...]
    platforms: tuple[str, ...]
    stand_ins: tuple[offline.StandIn, ...] = ()
    lookup: Path | None = None
    old: Lock | None = None
    move: tuple[str, ...] = ()


def lock(order: Order, folder: Path) -> bytes:
    """The content of the lock that conda-lock writes, checked. folder: for its files, which are gone afterwards.

    Errors: SolveError with the solver's reason; LockError if conda-lock fails otherwise, or if its lock would hold
    credentials or a hash that the spec does not allow.
    """
    spec = order.spec
    repositories = index.configured() if spec.pip else None
    with tempfile.TemporaryDirectory(dir=folder, prefix=".lock-") as name:
        work = Path(name)
        made = work / f"{spec.name}{LOCK_SUFFIX}"
        (work / f"{spec.name}.yml").write_text(_environment(order, repositories), encoding="utf-8")
        (work / "metadata.json").write_text(json.dumps(_metadata(order)), encoding="utf-8")
        if order.old:
            made.write_bytes(order.old.path.read_bytes())
        command = _command(order, _launcher(work), made.name)
        log.debug("%s", shlex.join(command))
        _run(command, work, _environment_variables(order, repositories, work), order)
        content = made.read_bytes()
        _check(Lock.read(made), content, spec)
    return content


def _environment(order: Order, repositories: index.Index | None) -> str:
    """The environment file for conda-lock: the user's spec, and what only conda-lock understands."""
    spec = order.spec
    lines = ["channels:", *(f"  - {json.dumps(channel)}" for channel in order.channels), "dependencies:"]
    for text in spec.dependencies:
        match_spec, hash_sign, selector = (conda_file.without_channel(text) if order.stand_ins else text).partition("#")
        lines.append(f"  - {json.dumps(match_spec.strip())}" + (f"  #{selector}" if hash_sign else ""))
    if spec.pip:
        lines += ["  - pip:", *(f"      - {json.dumps(text)}" for text in spec.pip)]
    if repositories:
        lines += ["pip-repositories:", *(f"  - {json.dumps(url)}" for url in repositories.urls)]
        lines.append("allow-pypi-requests: false")  # its JSON interface, which many mirrors lack
    return "\n".join(lines) + "\n"


def _metadata(order: Order) -> dict[str, str]:
    stand_ins = " ".join(stand_in.kind for stand_in in order.stand_ins)
    return {SPEC_KEY: order.spec.content} | ({STAND_INS_KEY: stand_ins} if stand_ins else {})


def _launcher(folder: Path) -> Path:
    """An executable named conda. (conda-lock treats one named mamba.. or ..micromamba otherwise.)"""
    root = Path(__file__).resolve().parents[2]
    path = folder / "conda"
    path.write_text(
        "#!/bin/sh\n"
        f"PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}} "
        f'exec {shlex.quote(sys.executable)} -m {solver.__name__} "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def _command(order: Order, conda: Path, made: str) -> list[str]:
    spec = order.spec
    named = next((match[1] for text in spec.dependencies if (match := _CUDA_VERSION.match(text))), _CUDA)
    command = [sys.executable, "-m", "conda_lock", "lock", "--conda", str(conda), "--no-mamba", "--log-level", "ERROR"]
    command += ["--file", f"{spec.name}.yml", "--lockfile", made, "--metadata-json", "metadata.json", "--strip-auth"]
    command += ["--with-cuda", named] if spec.cuda else ["--without-cuda"]
    command += [argument for platform in order.platforms for argument in ("--platform", platform)]
    command += ["--pypi_to_conda_lookup_file", order.lookup.as_uri()] if order.lookup else []
    by_pip = {package.name for package in order.old.packages if package.manager == "pip"} if order.old else set()
    return command + [argument for name in order.move if name in by_pip for argument in ("--update", name)]


def _environment_variables(order: Order, repositories: index.Index | None, work: Path) -> Mapping[str, str]:
    """Those of this process without what would change the answer, and with what the solver is to know."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("CONDA_", "MAMBA_", "POETRY_"))}
    ours[solver.REASON] = str(work / "reason.json")
    if order.old:
        ours |= {solver.KEEP: str(order.old.path.resolve()), solver.MOVE: " ".join(order.move)}
    return ours | (dict(repositories.environment) if repositories else {})


def _run(command: Sequence[str], work: Path, variables: Mapping[str, str], order: Order) -> None:
    """Runs conda-lock in `work`; its chatter is only shown, under -v, where it fails."""
    with (work / "output.txt").open("w+", encoding="utf-8", errors="replace") as output:
        child = subprocess.Popen(command, cwd=work, env=dict(variables), stdout=output, stderr=output)
        try:
            with progress.task(f"Solving {order.spec.name}", unit="seconds") as task:
                while child.poll() is None:
                    try:
                        child.wait(_TICK)
                    except subprocess.TimeoutExpired:
                        task.advance(_TICK)
        finally:
            child.kill()
            child.wait()
        if child.returncode != 0:
            output.seek(0)
            raise _failure(order.spec, work, output.read())


def _failure(spec: EnvironmentSpec, work: Path, output: str) -> ParityError:
    """SolveError with the reason of the conda or the pip solver; LockError with conda-lock's own last words."""
    log.debug("%s", output.rstrip())
    reason = work / "reason.json"
    if reason.is_file():
        told = json.loads(reason.read_text(encoding="utf-8"))
        if told["error"] == "GatewayError":
            return LockError(f"{spec.path}: its channels cannot be read:\n{told['message']}", command="make doctor")
        return SolveError(f"{spec.path} cannot be solved:\n{told['message']}", command=f"mend {spec.path}")
    starts = [match.start() for match in _MESSAGE.finditer(output)]
    words = solver.shortened(output[starts[-1] :] if starts else output)
    kind, _, message = words.partition(": ")
    if kind.endswith("SolverProblemError"):
        message = message.replace("-dummy-package-", spec.path.name)  # what conda-lock calls the spec
        return SolveError(f"{spec.path}: pip: cannot be solved:\n{message}", command=f"mend {spec.path}")
    return LockError(f"{spec.path}: conda-lock failed: {words}", command="make lock V=1")


def _check(lock: Lock, content: bytes, spec: EnvironmentSpec) -> None:
    """What conda-lock does not look at: credentials in addresses, packages to be compiled, hashes that are allowed."""
    if _CREDENTIALS.search(content.decode()):
        raise LockError(f"{spec.path}: its lock would hold credentials", expected="addresses without user and password")
    for package in lock.packages:
        if package.manager == "pip" and not package.filename.endswith(".whl"):
            raise LockError(
                f"{spec.path}: {package.name} {package.version} has no wheel for this platform: {package.filename}",
                expected="a wheel: an image is linked, nothing is compiled in it",
                command=f"take {package.name} from conda, or a version of it that has a wheel",
            )
        allowed = [digest for name, digest in spec.hashes if name == package.name and package.manager == "pip"]
        if allowed and package.sha256 not in allowed:
            raise LockError(
                f"{spec.path}: {package.filename} has the sha256 {package.sha256}",
                expected=f"one of its --hash options: {', '.join(allowed)}",
                command=f"mend the hashes of {package.name}, then: make lock",
            )
