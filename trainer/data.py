"""CIFAR-10, read from its own files: the folder cifar-10-batches-py of its python version."""

import hashlib
import pickle

import numpy as np
import torch

from errors import DataError

FOLDER = "cifar-10-batches-py"
SUMS = "SHA256SUMS"  # as sha256sum writes it; `make data` leaves it beside the files
TRAIN = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
TEST = ["test_batch"]
HELP = "run `make data`, which tells how to mend it"


def load(path, names):
    """Images (N, 3, 32, 32), uint8, and labels (N,), int64, of the named files below `path`."""
    sums = checksums(path / FOLDER / SUMS)
    batches = [read(path / FOLDER / name, sums.get(name)) for name in names]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return torch.from_numpy(images), torch.from_numpy(labels)


def checksums(path):
    """The sha256 of each file by name; none where the data set has no such list."""
    if not path.is_file():
        return {}
    return {name: digest for digest, name in (line.split() for line in path.read_text().splitlines())}


def read(path, sha256=None):
    """Images and labels of one file, as numpy arrays. sha256: what the file must have."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `make data`, or say where it is with --data-path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {HELP}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise DataError(
            f"{path} is not the file that {SUMS} names: {len(content):,} bytes, sha256 {found}, not {sha256}: {HELP}"
        )
    try:
        batch = pickle.loads(content, encoding="bytes")
        images = batch[b"data"].reshape(-1, 3, 32, 32)
        labels = np.array(batch[b"labels"], dtype=np.int64)
        if len(images) != len(labels) or not 0 <= labels.min() <= labels.max() <= 9:
            raise ValueError(f"{len(images)} images, {len(labels)} labels from {labels.min()} to {labels.max()}")
    except Exception as error:  # a broken pickle can raise anything
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): {HELP}") from error
    return images, labels


def order(count, seed, epoch):
    """The numbers 0 to count - 1 in an epoch's own order; it hangs on seed and epoch alone, as DistributedSampler's."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))


def normalized(images):
    """Pixels of 0 to 255 as numbers from -1 to 1."""
    return images.float() / 127.5 - 1
