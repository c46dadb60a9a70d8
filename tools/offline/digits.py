"""Real handwritten digits in CIFAR-10's own file format, where CIFAR-10 itself cannot be had.

The digits are the 1,797 images of 8x8 that scikit-learn carries in its wheel (sklearn/datasets/data/digits.csv.gz; UCI,
"Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998). Each becomes about forty colour images of
32x32, every one turned, scaled, shifted and coloured differently. All arithmetic is on integers and all chance comes
from PCG64's raw bits, whose stream numpy guarantees (NEP 19), so every machine writes the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files, progress
from ..errors import HashMismatchError, OfflineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

MEMBER = "sklearn/datasets/data/digits.csv.gz"
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"  # the same in 1.3.2 and in 1.9.1

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
PER_BATCH = 10_000  # images in a batch, as in CIFAR-10
NAMES = (b"zero", b"one", b"two", b"three", b"four", b"five", b"six", b"seven", b"eight", b"nine")
TEST_EVERY = 5  # each fifth original of a class is for testing only

SIDE = 32  # pixels of an image's side
FINE = 8  # points per pixel of an original: what an image's pixels are taken from
MARGIN = 7  # pixels of paper around an original, so that the corners of a turned, shifted image fall inside
ONE = 1 << 12  # 1.0 in fixed point
CHUNK = 500  # images drawn at a time: the work stays in the processor's cache


def fetch(cache: Path) -> NDArray[np.uint8]:
    """The original digits, 1797x65: 64 grey values (0 to 16) row by row, then the class.

    cache: a folder that keeps them for the next time. Errors: OfflineError if pip cannot get scikit-learn's wheel,
    HashMismatchError if its digits are not the known ones.
    """
    import numpy as np

    kept = cache / "digits.csv.gz"
    content = kept.read_bytes() if kept.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        content = _from_wheel()
        found = hashlib.sha256(content).hexdigest()
        if found != SHA256:
            raise HashMismatchError(MEMBER, expected=SHA256, found=found, where="scikit-learn's wheel")
        with files.written_whole(kept) as file:
            file.write(content)
    rows = gzip.decompress(content).decode().splitlines()
    return np.array([[int(value) for value in row.split(",")] for row in rows], dtype=np.uint8)


def _from_wheel() -> bytes:
    """digits.csv.gz out of the wheel that pip chooses, which pip has checked against the index's hash."""
    log.info("Fetching scikit-learn's wheel for its handwritten digits")
    with tempfile.TemporaryDirectory() as folder:
        pip = ("-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        command = [sys.executable, *pip, "--no-deps", "--only-binary=:all:", "--dest", folder, "scikit-learn"]
        log.debug("%s", " ".join(command))
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            raise OfflineError(
                f"scikit-learn's wheel cannot be fetched: {(reasons or ['pip failed'])[0]}",
                expected="a package index that pip reaches, for the digits that stand in for CIFAR-10",
                command="python -m pip download --no-deps scikit-learn",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(MEMBER)


def write(directory: Path, digits: NDArray[np.uint8], *, per_batch: int = PER_BATCH) -> None:
    """Writes data_batch_1 to data_batch_5, test_batch and batches.meta into `directory`.

    digits: as `fetch` gives them. per_batch: images in each file. No original is in both training and test images.
    """
    import numpy as np

    log.info("Drawing %s images from %s handwritten digits", f"{per_batch * len(BATCHES):,}", f"{len(digits):,}")
    by_class = np.argsort(digits[:, -1], kind="stable")
    testing = by_class[::TEST_EVERY]
    training = np.setdiff1d(by_class, testing)
    canvases = enlarged(digits[:, :-1])
    meta = {b"num_cases_per_batch": per_batch, b"label_names": list(NAMES), b"num_vis": 3 * SIDE * SIDE}
    with files.written_whole(directory / "batches.meta") as file:
        file.write(pickled(meta))
    with progress.task("Drawing images", total=per_batch * len(BATCHES), unit="images") as task:
        for number, name in enumerate(BATCHES):
            originals = testing if name == "test_batch" else training
            bits = np.random.PCG64(number)
            # Every original comes equally often, in an order that is the batch's own.
            order = np.argsort(bits.random_raw(per_batch), kind="stable")
            chosen = originals[(order + number * per_batch) % len(originals)]
            images = []
            for start in range(0, per_batch, CHUNK):
                part = chosen[start : start + CHUNK]
                images.append(render(canvases, part, bits))
                task.advance(len(part))
            with files.written_whole(directory / name) as file:
                file.write(pickled(_batch(name, np.concatenate(images), digits[chosen, -1].tolist())))


def _batch(name: str, images: NDArray[np.uint8], labels: list[int]) -> dict[bytes, object]:
    """What CIFAR-10's file of that name holds."""
    title = "testing batch 1 of 1" if name == "test_batch" else f"training batch {name[-1]} of 5"
    return {
        b"batch_label": title.encode(),
        b"labels": labels,
        b"data": images,
        b"filenames": [b"%s_%06d.png" % (NAMES[label], index) for index, label in enumerate(labels)],
    }


def render(canvases: NDArray[np.uint8], chosen: NDArray[np.intp], bits: np.random.PCG64) -> NDArray[np.uint8]:
    """N colour images (Nx3072: red, green and blue planes, row by row) of the N canvases that `chosen` names.

    canvases: as `enlarged` gives them. bits: where each image's turn (up to 15 degrees), size (2.5 to 3.6 image pixels
    an original pixel), place (up to 3 pixels off the centre), two colours and noise come from.
    """
    import numpy as np

    count, width = len(chosen), canvases.shape[-1]
    draws = bits.random_raw((count, 10))

    def between(column: int, low: int, high: int) -> NDArray[np.int32]:
        values: NDArray[np.int32] = (draws[:, column] % np.uint64(high - low + 1)).astype(np.int32) + np.int32(low)
        return values

    # The image's point (x, y) shows the canvas's point (cos x - sin y, sin x + cos y), both seen from their centres.
    angles = range(-15, 16)
    cosines = np.array([round(ONE * math.cos(math.radians(angle))) for angle in angles], dtype=np.int32)
    sines = np.array([round(ONE * math.sin(math.radians(angle))) for angle in angles], dtype=np.int32)
    turn, tenths = between(0, 0, len(angles) - 1), between(1, 25, 36)
    cosine = (cosines[turn] * (10 * FINE) // tenths)[:, None, None]
    sine = (sines[turn] * (10 * FINE) // tenths)[:, None, None]
    doubled = np.arange(1 - SIDE, SIDE, 2, dtype=np.int32)  # twice the distance to the centre, so that it is whole
    x = doubled[None, None, :] - 2 * between(2, -3, 3)[:, None, None]
    y = doubled[None, :, None] - 2 * between(3, -3, 3)[:, None, None]
    across = (cosine * x - sine * y) // (2 * ONE) + width // 2
    down = (sine * x + cosine * y) // (2 * ONE) + width // 2
    ink = np.take(canvases.reshape(-1), (chosen * width * width)[:, None, None] + down * width + across)

    # Paper is dark and ink light in every channel, so that no digit drowns.
    paper = np.stack([between(column, 0, 90) for column in (4, 5, 6)], axis=1)[:, :, None]
    pen = np.stack([between(column, 165, 255) for column in (7, 8, 9)], axis=1)[:, :, None]
    noise = bits.random_raw(count * 3 * SIDE * SIDE // 8).astype("<u8").view(np.uint8).reshape(count, 3, -1) >> 4
    image = paper + ((pen - paper) * ink.reshape(count, 1, -1).astype(np.int32) >> 8)
    pixels: NDArray[np.uint8] = np.clip(image + noise - 8, 0, 255).astype(np.uint8)
    return pixels.reshape(count, -1)


def enlarged(originals: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Nx64 grey values (0 to 16) as N square canvases, FINE points a pixel, blended between pixels, MARGIN around.

    Values are 0 (paper) to 240 (ink).
    """
    import numpy as np

    grey = np.pad(originals.reshape(-1, 8, 8).astype(np.int32), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    for axis in (1, 2):
        # A point between the centres of two pixels takes the more of each, the nearer it is.
        points = np.arange(grey.shape[axis] * FINE) * 2 - FINE + 1
        pixel, part = points // (2 * FINE), points % (2 * FINE)
        weight = part.reshape((-1, 1) if axis == 1 else (1, -1))
        near = np.take(grey, np.clip(pixel, 0, None), axis)
        far = np.take(grey, np.clip(pixel + 1, None, grey.shape[axis] - 1), axis)
        grey = near * (2 * FINE - weight) + far * weight
    return (grey * 15 // (2 * FINE) ** 2).astype(np.uint8)


def pickled(value: object) -> bytes:
    """A pickle as Python 2 wrote CIFAR-10's: byte strings stay strings of that time, so either decoding reads them.

    Python 3's own pickler cannot write these, and what it writes of an array depends on the version of numpy. Knows
    whole numbers, byte strings, lists, dictionaries and arrays of bytes with two axes.
    """
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: object) -> bytes:
    """Protocol 2's opcodes that push one value (CPython's Lib/pickletools.py describes each)."""
    import numpy as np

    match value:
        case int():
            return b"K" + struct.pack("<B", value) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
        case bytes() if len(value) < 256:
            return b"U" + struct.pack("<B", len(value)) + value
        case bytes():
            return b"T" + struct.pack("<I", len(value)) + value
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(part) for item in value.items() for part in item) + b"u"
        case np.ndarray():
            rows, columns = value.shape
            empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            shape = _opcodes(rows) + _opcodes(columns) + b"\x86"
            return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"
    raise TypeError(f"{type(value).__name__} is not in CIFAR-10's files")
