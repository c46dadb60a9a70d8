"""The project's folder and what lies in it, for verbs that need no more of the settings than where they are."""

from __future__ import annotations

from pathlib import Path

from .errors import SettingsError

FILE = "parity.toml"
RUNS = "runs"  # the records, one folder a run
STATE = ".parity"  # what is made here and never committed
TOOLKIT = Path(__file__).resolve().parents[1]  # the checkout that these tools lie in, with their .venv and docker/


def find(directory: Path | None = None) -> Path:
    """The folder of the parity.toml above `directory` (default: the current one); SettingsError if there is none."""
    start = (directory or Path.cwd()).resolve()
    root = next((folder for folder in (start, *start.parents) if (folder / FILE).is_file()), None)
    if root is None:
        raise SettingsError(
            f"no {FILE} in {start} or above it",
            expected=f"a {FILE} in the project's folder; an empty one will do",
            command=f"cd to your project, or: touch {FILE}",
        )
    return root
