"""Checkpoints: all that training needs to go on as if it had never stopped."""

import io
import os
import sys

import torch

from errors import CheckpointError

FORMAT = 1


class Checkpoints:
    """The last few of a run, one file each; a file is there whole or not at all."""

    def __init__(self, folder, keep):
        """keep: how many stay."""
        self.folder, self.keep = folder, keep

    def files(self):
        """All that are there, the oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step, state):
        """Writes one, then removes the oldest. A full disk costs a warning: those that are there stay good."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write(self.folder / f"step-{step:010}.pt", {"format": FORMAT, "step": step, **state})
        except OSError as error:
            last = (self.files() or ["none"])[-1]
            print(
                f"warning: no checkpoint at step {step:,} ({error.strerror}); the last good one: {last}",
                file=sys.stderr,
                flush=True,
            )
            return
        for old in self.files()[: -self.keep]:
            old.unlink()

    def last(self):
        """(path, state) of the last one that can be read; (None, None) where there is none."""
        for path in reversed(self.files()):
            try:
                return path, load(path)
            except CheckpointError as error:
                print(f"warning: {error}; trying the one before", file=sys.stderr, flush=True)
        return None, None

    def clear(self):
        """Removes all: they belong to a run that is not gone on with."""
        for path in self.files():
            path.unlink()


def write(path, value):
    """Writes what torch.save takes under another name first, so that a killed run leaves no half a file."""
    content = io.BytesIO()  # of a full disk, torch.save itself tells nothing that could be told on
    torch.save(value, content)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def load(path):
    """The state in a file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file, anything
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this trainer")
    return state
