"""How a command becomes several processes.

On each node torchrun starts the processes, with the same line everywhere: it reads where they meet from MASTER_ADDR,
MASTER_PORT and NODE_RANK, which Azure ML sets (its guide to distributed training), and the local target too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ..errors import SettingsError
from . import ranks

_PYTHON = re.compile(r"python[\d.]*\s")


def line(command: str, nodes: int, processes: int) -> str:
    """The command of one node. nodes, processes: how many nodes, and how many processes on each.

    One process stays as it is, and so does a command that does not begin with python: it starts what it needs itself.
    Errors: SettingsError for such a command where a node is to have several processes, and for several commands in one,
    of which torchrun would start the first.
    """
    if nodes * processes == 1:
        return command
    begins = _PYTHON.match(command) is not None
    if (processes > 1 and not begins) or (begins and _compound(command)):
        raise SettingsError(
            f"{nodes * processes} processes: torchrun starts them, and only of one command that begins with python",
            expected=f'"python train.py ...", found {command!r}',
            command="change command under [run] of parity.toml, or let a script start what it needs: processes = 1",
        )
    if not begins:
        return command
    prefix = ranks.PREFIX.format(node="${NODE_RANK:-0}", rank="\\${rank}")  # torchrun puts the rank in
    variables = [f'TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE="{prefix}"']
    if processes > 1:  # torchrun's own default, without its warning
        variables.append("OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}")
    torchrun = (  # by its module, for -u: it does not flush what it passes on
        f"python -u -m torch.distributed.run --nnodes={nodes} --nproc-per-node={processes} "
        "--node-rank=${NODE_RANK:-0} --master-addr=${MASTER_ADDR:-127.0.0.1} --master-port=${MASTER_PORT:-29500} "
        "--tee=3 --no-python"
    )
    return " ".join([*variables, torchrun, command])


def _compound(command: str) -> bool:
    """Whether a shell makes several commands of it."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    try:
        return "\n" in command.strip() or not {"&", "&&", "||", ";"}.isdisjoint(words)
    except ValueError:  # an open quote, which bash tells
        return False


def shape(resources: Mapping[str, Any]) -> str | None:
    """For people, how many processes a run has and where; None of one. resources: as a record has them."""
    nodes, processes = resources.get("nodes", 1), resources.get("processes", 1)
    if nodes == 1:
        return f"{processes} processes" if processes > 1 else None
    return f"{nodes} nodes, {processes} processes on each" if processes > 1 else f"{nodes} nodes"
