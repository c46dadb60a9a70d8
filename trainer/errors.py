"""What can go wrong, each with an exit code of its own: one line that says what, where, and what to do."""

import contextlib
import errno
import os
import sys

import torch
import torch.distributed as dist


class TrainerError(Exception):
    """Ends the run with a message for a person."""

    exit_code = 1


class DataError(TrainerError):
    """A file of the data set is missing or broken."""

    exit_code = 3


class LossError(TrainerError):
    """The loss is no number any more."""

    exit_code = 4


class MemoryFullError(TrainerError):
    """A batch does not fit into memory."""

    exit_code = 5


class PeerError(TrainerError):
    """Another process of the run does not answer."""

    exit_code = 6


class CheckpointError(TrainerError):
    """A checkpoint cannot be gone on from."""

    exit_code = 7


class DiskError(TrainerError):
    """What the run leaves cannot be written."""

    exit_code = 8


class DeviceError(TrainerError):
    """There is no such device, or not one for each process."""

    exit_code = 9


@contextlib.contextmanager
def told():
    """Ends the process with the error's exit code and its message on stderr; without a traceback where it is ours."""
    try:
        yield
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if dist.is_initialized():  # the threads of a group that is broken can hold up or abort the interpreter's end
            os._exit(error.exit_code)
        sys.exit(error.exit_code)


@contextlib.contextmanager
def of_memory(batch, device):
    """Turns what torch raises where memory is out into one line. batch: images of this process's share."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "can't allocate memory" not in str(error):  # as torch has it on the processor
            raise
        raise MemoryFullError(
            f"{device} has no memory for {batch} images at a time: lower --batch-size, or add processes"
        ) from error


@contextlib.contextmanager
def of_disk(path):
    """Turns a disk that is full or cannot be written into one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error
