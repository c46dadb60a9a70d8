"""The stand-in for CIFAR-10, made from the wheel that the package index really has."""

from pathlib import Path

import numpy as np
import pytest

from tools import data, offline, settings
from tools.offline import digits

# With numpy 1.26, 2.0, 2.2 and 2.4 the same; a change here changes the digest of every stand-in made before.
DIGEST = "5e24ce568f027e17715ab66600d87ae1601d661c191c40bf2696a556d3ef31ed"


def test_the_stand_in_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(offline.VARIABLE, "always")
    prepared = data.prepare(settings.Settings(root=tmp_path))
    assert prepared.digest == DIGEST
    assert prepared.stand_ins == (offline.DATA,)


def test_the_digits_are_scikit_learns(tmp_path: Path) -> None:
    originals = digits.fetch(tmp_path)
    assert originals.shape == (1797, 65)
    assert np.bincount(originals[:, -1]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
