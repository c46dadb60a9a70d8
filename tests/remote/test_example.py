"""examples/scikit-learn, which has no data set, on both targets."""

import json
from pathlib import Path

from projects import example


def test_the_example_is_the_same_here_and_in_a_rehearsal(tmp_path: Path) -> None:
    made = example(tmp_path / "project")
    done = made.parity("parity")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[-1] == "Parity: all that decides it is equal, and 10 metric points are identical."
    records = [json.loads(path.read_text()) for path in sorted((made.root / "runs").glob("2*/run.json"))]
    assert [record["target"] for record in records] == ["local", "rehearsal"]
    assert [record["ingredients"]["inputs"] for record in records] == [[], []]
    assert not (made.root / "data").exists()
