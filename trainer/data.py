"""CIFAR-10, read from its own files: the folder cifar-10-batches-py of its python version."""

import pickle

import numpy as np
import torch

TRAIN = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
TEST = ["test_batch"]


class DataError(Exception):
    """A file of the data set is missing or broken."""


def load(path, names):
    """Images (N, 3, 32, 32), uint8, and labels (N,), int64, of the named files below `path`."""
    batches = [read(path / "cifar-10-batches-py" / name) for name in names]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return torch.from_numpy(images), torch.from_numpy(labels)


def read(path):
    """Images and labels of one file, as numpy arrays."""
    try:
        with path.open("rb") as file:
            batch = pickle.load(file, encoding="bytes")
        images = batch[b"data"].reshape(-1, 3, 32, 32)
        labels = np.array(batch[b"labels"], dtype=np.int64)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `make data`, or say where it is with --data-path") from None
    except Exception as error:  # a broken pickle can raise anything
        raise DataError(f"{path} cannot be read ({error}): run `make data`, which tells how to mend it") from error
    return images, labels


def normalized(images):
    """Pixels of 0 to 255 as numbers from -1 to 1."""
    return images.float() / 127.5 - 1
