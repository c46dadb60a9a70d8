"""What a difference means: whether it breaks parity, may change numbers or is harmless, why, and how it is removed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .facts import Key

Weight = Literal["breaks parity", "may change numbers", "harmless"]
WEIGHTS: tuple[Weight, ...] = ("breaks parity", "may change numbers", "harmless")
BREAKS, NUMBERS, HARMLESS = WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """weight, a reason in one line, and the command or setting that removes the difference, if there is one.

    subject: what a verdict calls it, {name} being the fact's; "" leaves it to the ones that it follows from.
    """

    weight: Weight
    reason: str
    how: str | None = None
    subject: str = "{group} {name}"


# By "GROUP/NAME" of a fact, the first that matches; in the order in which a person should hear of them
_RULES: tuple[tuple[str, Meaning], ...] = (
    (
        "image/id",
        Meaning(
            weight=BREAKS,
            reason="another image: its packages, its base or its settings are not the same",
            how="run both from one lock (git checkout environments/, make image)",
            subject="image",
        ),
    ),
    (
        "image/fingerprint",
        Meaning(weight=BREAKS, reason="the images were not made from the same lock, base and settings", subject=""),
    ),
    (
        "image/platform",
        Meaning(weight=BREAKS, reason="built for another processor", how="[image] platform", subject="platform"),
    ),
    (
        "image/lock_sha256",
        Meaning(weight=HARMLESS, reason="the lock's text; the packages that it names are in the fingerprint"),
    ),
    ("image/*", Meaning(weight=HARMLESS, reason="a name; the image itself is compared by its id")),
    (
        "package/*",
        Meaning(
            weight=BREAKS,
            reason="another version or build of a package",
            how="run both from one lock (git checkout environments/, make image)",
            subject="package {name}",
        ),
    ),
    (
        "snapshot/digest",
        Meaning(
            weight=BREAKS,
            reason="other code was sent",
            how="run both from one state of the source directory and its ignore files: make snapshot",
            subject="snapshot",
        ),
    ),
    (
        "file/*",
        Meaning(
            weight=BREAKS,
            reason="the working directory did not have the same files when the command began",
            how="send the same files; .amlignore and .gitignore decide which: make snapshot",
            subject="file {name}",
        ),
    ),
    (
        "snapshot/executable",
        Meaning(weight=HARMLESS, reason="executable bits; neither target keeps any"),
    ),
    ("snapshot/*", Meaning(weight=BREAKS, reason="more or less was sent", subject="")),
    (
        "command/command",
        Meaning(weight=BREAKS, reason="another command", how="[run] command in parity.toml", subject="command"),
    ),
    (
        "command/arguments",
        Meaning(
            weight=BREAKS,
            reason="other arguments",
            how='give both the same: make run-local ARGS="..."',
            subject="arguments",
        ),
    ),
    (
        "input/*",
        Meaning(
            weight=BREAKS,
            reason="other data was read, or none",
            how="make data here, make data-push for the workspace",
            subject="input {name}",
        ),
    ),
    (
        "inputs/*",
        Meaning(
            weight=BREAKS,
            reason="the command did not find the same files where the data should be",
            how="make data here, make data-push for the workspace",
            subject="input {name} as the command saw it",
        ),
    ),
    ("input path/*", Meaning(weight=HARMLESS, reason="where the data lies; its content is compared by its digest")),
    (
        "start/*",
        Meaning(
            weight=BREAKS,
            reason="one went on from what another run left in outputs/",
            how="run both from the start, or both with the same RESUME=run",
            subject="what lay in {name} at the start",
        ),
    ),
    (
        "variable/*",
        Meaning(
            weight=BREAKS,
            reason="a variable that the run sets has another value, or is set for one run only",
            how="{name} in [run.environment_variables] of parity.toml",
            subject="variable {name}",
        ),
    ),
    (
        "variable seen/*",
        Meaning(
            weight=BREAKS,
            reason="a variable that was set did not reach the command as it was",
            how="nothing in the image or the workspace may set {name} too",
            subject="variable {name} as the command saw it",
        ),
    ),
    (
        "resources/shm_bytes",
        Meaning(
            weight=BREAKS,
            reason="shared memory of another size was asked for",
            how="[resources] shm_size in parity.toml",
            subject="shared memory",
        ),
    ),
    (
        "resources/gpu",
        Meaning(
            weight=BREAKS,
            reason="one run asked for GPUs",
            how='[resources] gpu = "none" keeps both on the processor; or use a GPU on both sides',
            subject="GPU request",
        ),
    ),
    (
        "resources/nodes",
        Meaning(weight=BREAKS, reason="another number of machines", how="[resources] nodes", subject="nodes"),
    ),
    (
        "resources/processes",
        Meaning(
            weight=BREAKS,
            reason="another number of processes on each machine",
            how="[resources] processes",
            subject="processes",
        ),
    ),
    ("resources/*", Meaning(weight=BREAKS, reason="something else was asked for", how="[resources] in parity.toml")),
    (
        "limits/shm_bytes",
        Meaning(
            weight=BREAKS,
            reason="shared memory was not of the same size in the container",
            how="[resources] shm_size in parity.toml",
            subject="shared memory as seen",
        ),
    ),
    (
        "process/uid|process/gid",
        Meaning(
            weight=BREAKS,
            reason="the command ran as another user; both targets run it as root",
            how="take away what changes the user: docker run --user, USER of a base, userns-remap of the engine",
            subject="{name}",
        ),
    ),
    (
        "process/directory",
        Meaning(weight=BREAKS, reason="the command ran in another directory", subject="working directory"),
    ),
    (
        "python/path|python/pythonpath",
        Meaning(
            weight=BREAKS,
            reason="modules are looked for elsewhere",
            how="PYTHONPATH in [run.environment_variables] of parity.toml",
            subject="Python's path",
        ),
    ),
    ("python/*", Meaning(weight=BREAKS, reason="another Python ran", how="run both from one image", subject="Python")),
    (
        "machine/architecture",
        Meaning(weight=BREAKS, reason="another kind of processor", how="[image] platform", subject="architecture"),
    ),
    ("torch/version|torch/build", Meaning(weight=BREAKS, reason="another torch", how="run both from one image")),
    (
        "threads/*",
        Meaning(
            weight=NUMBERS,
            reason="the number of threads decides in which order sums are made",
            how='{name} = "1" in [run.environment_variables] of parity.toml',
            subject="{name}",
        ),
    ),
    (
        "torch/threads|torch/interop_threads",
        Meaning(
            weight=NUMBERS,
            reason="the number of threads decides in which order sums are made",
            how="torch.set_num_threads(N) in the script, or OMP_NUM_THREADS in [run.environment_variables]",
        ),
    ),
    (
        "torch/deterministic|torch/mkldnn|torch/default_dtype",
        Meaning(weight=NUMBERS, reason="the script set torch otherwise", how="set it alike in both"),
    ),
    ("torch/*", Meaning(weight=NUMBERS, reason="other kernels may be chosen")),
    (
        "gpu/*",
        Meaning(
            weight=NUMBERS,
            reason="another GPU or driver chooses other kernels",
            how='the same kind of GPU on both sides, or [resources] gpu = "none"',
        ),
    ),
    (
        "machine/cpu|machine/cpu_flags",
        Meaning(weight=NUMBERS, reason="another processor: math libraries choose their kernels by its flags"),
    ),
    (
        "machine/cpus|limits/processors|limits/usable_processors",
        Meaning(
            weight=NUMBERS,
            reason="libraries start a thread a processor, and sums are made in another order",
            how='OMP_NUM_THREADS = "1" in [run.environment_variables] makes it the same everywhere',
        ),
    ),
    (
        "locale/PYTHONHASHSEED",
        Meaning(
            weight=NUMBERS,
            reason="the order of sets of texts depends on it",
            how='PYTHONHASHSEED = "0" in [run.environment_variables]',
        ),
    ),
    (
        "locale/zone|locale/TZ",
        Meaning(weight=HARMLESS, reason="dates as they are shown"),
    ),
    (
        "locale/*",
        Meaning(
            weight=NUMBERS,
            reason="how texts are read and sorted",
            how="{name} in [run.environment_variables] of parity.toml",
        ),
    ),
    (
        "name of variable/*",
        Meaning(
            weight=NUMBERS,
            reason="set in one container only; a library may read it",
            how="{name} in [run.environment_variables] of parity.toml",
            subject="variable {name}",
        ),
    ),
    ("process/home", Meaning(weight=NUMBERS, reason="libraries keep settings and caches there", how="HOME")),
    ("process/host_name", Meaning(weight=HARMLESS, reason="the machine's name")),
    ("process/*", Meaning(weight=HARMLESS, reason="who may read the files that the run writes")),
    (
        "limits/memory_bytes|machine/memory_bytes",
        Meaning(weight=HARMLESS, reason="whether a run fits, not its numbers"),
    ),
    ("limits/*", Meaning(weight=HARMLESS, reason="a limit that decides whether a run fails, not its numbers")),
    ("machine/kernel", Meaning(weight=HARMLESS, reason="the machine's operating system")),
    ("stand-in/*", Meaning(weight=HARMLESS, reason="what came of it, image or data, is compared by itself")),
    (
        "run/status|run/exit code",
        Meaning(weight=BREAKS, reason="the runs did not end the same way", subject="how the runs ended"),
    ),
    ("run/*", Meaning(weight=HARMLESS, reason="the two runs that are compared")),
    ("host/*", Meaning(weight=HARMLESS, reason="the machine that started the run; the container does not see it")),
)
_OTHER = Meaning(weight=NUMBERS, reason="seen in the container; what it does is not known here")


def _matcher(pattern: str) -> Callable[[str], object]:
    """What says whether "GROUP/NAME" is one of the pattern's, which | separates; a * at the end stands for the rest."""
    parts = [re.escape(each.removesuffix("*")) + (".*" if each.endswith("*") else "") for each in pattern.split("|")]
    return re.compile("|".join(parts), re.DOTALL).fullmatch


_MATCHERS = tuple((_matcher(pattern), meaning) for pattern, meaning in _RULES)


def of(key: Key) -> tuple[int, Meaning]:
    """The place of a fact's rule among the rules, and what a difference in that fact means."""
    text = f"{key.group}/{key.name}"
    for place, (matches, meaning) in enumerate(_MATCHERS):
        if matches(text):
            return place, meaning
    return len(_MATCHERS), _OTHER
