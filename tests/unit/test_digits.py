import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.errors import HashMismatchError, OfflineError
from tools.offline import digits

PER_BATCH = 60


@pytest.fixture(scope="module")
def originals() -> NDArray[np.uint8]:
    """200 made-up originals: every pixel of one has its own grey value, which tells it from all others."""
    number = np.arange(200)
    grey = (number[:, None] // 17 ** (np.arange(64)[None, :] % 2) + 3) % 17
    return np.column_stack([grey, number % 10]).astype(np.uint8)


def load(path: Path, encoding: str = "bytes") -> dict[Any, Any]:
    with path.open("rb") as file:
        content: dict[Any, Any] = pickle.load(file, encoding=encoding)
    return content


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, originals: NDArray[np.uint8]) -> Path:
    directory = tmp_path_factory.mktemp("digits")
    digits.write(directory, originals, per_batch=PER_BATCH)
    return directory


@pytest.mark.parametrize("encoding", ["bytes", "latin1"])
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", digits.BATCHES)
def test_a_batch_reads_as_cifar_10s_own_does_in_either_decoding(written: Path, name: str, encoding: str) -> None:
    batch = load(written / name, encoding)
    keys = ["batch_label", "labels", "data", "filenames"]
    assert list(batch) == (keys if encoding == "latin1" else [key.encode() for key in keys])
    label, labels, images, filenames = batch.values()
    assert len(label) > 0
    assert images.shape == (PER_BATCH, 3072)
    assert images.dtype == np.uint8
    assert all(type(value) is int and 0 <= value <= 9 for value in labels)
    assert len(labels) == len(set(filenames)) == PER_BATCH


def test_the_classes_have_names_in_order(written: Path) -> None:
    meta = load(written / "batches.meta")
    assert meta == {b"num_cases_per_batch": PER_BATCH, b"label_names": list(digits.NAMES), b"num_vis": 3072}
    assert meta[b"label_names"][3] == b"three"


def test_the_folder_holds_cifar_10s_files_and_nothing_else(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(["batches.meta", *digits.BATCHES])


def test_no_original_is_in_both_training_and_test_images(
    tmp_path: Path, originals: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[set[int]] = []
    real = digits.render

    def render(canvases: NDArray[np.uint8], chosen: NDArray[np.intp], bits: np.random.PCG64) -> NDArray[np.uint8]:
        drawn.append(set(chosen.tolist()))
        return real(canvases, chosen, bits)

    monkeypatch.setattr(digits, "render", render)
    digits.write(tmp_path, originals, per_batch=200)
    *training, testing = drawn
    assert set.union(*training).isdisjoint(testing)
    assert set.union(*training) | testing == set(range(len(originals)))


def test_every_class_is_both_trained_and_tested(written: Path) -> None:
    training = {label for name in digits.BATCHES[:-1] for label in load(written / name)[b"labels"]}
    assert training == set(load(written / "test_batch")[b"labels"]) == set(range(10))


def test_no_two_images_are_alike(written: Path) -> None:
    images = np.concatenate([load(written / name)[b"data"] for name in digits.BATCHES])
    assert len(np.unique(images, axis=0)) == len(images)


def test_a_digit_stands_in_the_middle_brighter_than_its_paper() -> None:
    original = np.zeros((1, 64), np.uint8)
    original.reshape(8, 8)[2:6, 2:6] = 16
    images = digits.render(digits.enlarged(original), np.zeros(50, np.intp), np.random.PCG64(1)).reshape(50, 3, 32, 32)
    assert (images[:, :, 14:18, 14:18].min(axis=(2, 3)) > images[:, :, :3, :3].max(axis=(2, 3))).all()


def test_a_digit_is_neither_mirrored_nor_upside_down() -> None:
    original = np.zeros((1, 64), np.uint8)
    original.reshape(8, 8)[:4, :4] = 16  # top left
    images = digits.render(digits.enlarged(original), np.zeros(50, np.intp), np.random.PCG64(2)).reshape(50, 3, 32, 32)
    brightness = images.mean(axis=(0, 1))
    quarters = [
        brightness[rows, columns].mean()
        for rows in (slice(16), slice(16, 32))
        for columns in (slice(16), slice(16, 32))
    ]
    assert quarters[0] > max(quarters[1:]) + 20


# The same with numpy 1.26, 2.0, 2.2 and 2.4: a change here changes every data set made by an earlier version.
GOLDEN = {
    "batches.meta": "b52e93f3a0344005b3ec4ddf12c3801e8996ff50833ef2da5823facd618c27aa",
    "data_batch_1": "64d9e1abd3f7371e022996356d81e9680d2a72c36aa4aa19e3bb0276a298b2b1",
    "data_batch_5": "34ffb97119375c3a04f2fe2d4c573b55e7cccac0350846bd7aca4ef95a747e86",
    "test_batch": "9013466f3eb33506a32157e79214b0858bf18fcdb65dd96c3011ffec8fcfad07",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_same_originals_give_the_same_bytes_on_every_machine(written: Path, name: str) -> None:
    assert hashlib.sha256((written / name).read_bytes()).hexdigest() == GOLDEN[name]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes its wheels from, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_digits_that_no_index_has_are_an_error_that_says_so(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"scikit-learn's wheel cannot be fetched: ERROR: "):
        digits.fetch(tmp_path / "cache")


def test_other_digits_than_the_known_ones_are_refused_and_not_kept(shop: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shop / "scikit_learn-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(digits.MEMBER, b"other digits")
        info = "scikit_learn-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: scikit-learn\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    with pytest.raises(HashMismatchError, match=hashlib.sha256(b"other digits").hexdigest()):
        digits.fetch(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_damaged_digits_in_the_cache_are_not_used(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "digits.csv.gz").write_bytes(b"damaged")
    with pytest.raises(OfflineError):
        digits.fetch(tmp_path)
