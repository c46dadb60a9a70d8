"""The variables that `conda activate` would set, for the image's config: a container has no activation to lose.

Packages bring them in etc/conda/env_vars.d/*.json and in shell scripts. The scripts are read, not run: plain
`export NAME=value` lines count; a package whose script does more is named, so that its variables can be set by hand.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from .staging import PREFIX

# value: quoted or bare, of literals and $CONDA_PREFIX alone
_EXPORT = re.compile(
    r"""export\s+([A-Za-z_]\w*)=(?:"([^"`\\]*)"|'([^']*)'|((?:\$\{CONDA_PREFIX\}|[^\s"'`\\;&|<>(){}*?~])*))(?:\s+#.*|\s*)$"""
)
_PREFIX = re.compile(r"\$(?:CONDA_PREFIX\b|\{CONDA_PREFIX\})")

log = logging.getLogger(__name__)


def variables(folder: Path) -> dict[str, str]:
    """What the packages linked in `folder` set on activation, in the order that conda would."""
    found: dict[str, str] = {}
    for path in sorted((folder / "etc/conda/env_vars.d").glob("*.json")):
        found |= {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    for path in sorted((folder / "etc/conda/activate.d").glob("*.sh")):
        exported = dict(_exports(path.read_text(encoding="utf-8", errors="replace")) or ())
        if not exported:
            log.warning(
                "%s does more than export variables, and is not run: if you need what it sets, put it under "
                "[run.environment_variables]",
                path.relative_to(folder),
            )
        found |= exported
    return found


def _exports(script: str) -> Iterator[tuple[str, str]] | None:
    """The variables of a script that does nothing but export; None for any other script."""
    pairs = []
    for line in script.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _EXPORT.match(text)
        if not match:
            return None
        name, double, single, bare = match.groups()
        value = single if single is not None else _PREFIX.sub(PREFIX, double if double is not None else bare)
        if single is None and "$" in value:
            return None
        pairs.append((name, value))
    return iter(pairs)
