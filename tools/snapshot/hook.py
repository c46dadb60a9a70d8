#!/usr/bin/env python3
"""The check alone, as a git pre-commit hook: Python 3.10 and nothing else, no settings, no cache.

Arguments: the source directories, the current folder if none is named. It exits with 21 if Azure ML would refuse one of
them, and says why; else it says what does not belong in them, and exits with 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # it is run by its path, from another repository

from tools import snapshot
from tools.errors import SnapshotError


def main(arguments: list[str]) -> int:
    """Checks each folder and prints what there is to say; returns the exit code."""
    code = 0
    for folder in arguments or ["."]:
        try:
            report, _ = snapshot.inspect(Path(folder).absolute())
        except SnapshotError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - it is a program of its own
            code = error.exit_code
            continue
        if report.verdict != "within" or report.offenders:
            print(report.text())  # noqa: T201
        if report.verdict == "over":
            code = SnapshotError.exit_code
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
