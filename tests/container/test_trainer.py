"""The trainer of this repository, in its own container, on its own data set."""

import json
import re
from pathlib import Path

import pytest
from projects import ROOT, Project


def clone(root: Path, *names: str) -> Project:
    """These parts of this checkout, with records of their own."""
    (ROOT / "data").mkdir(exist_ok=True)
    for name in ("environments", "docker", "trainer", ".parity", *names):
        (root / name).symlink_to(ROOT / name)
    return Project(root=root)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return clone(tmp_path_factory.mktemp("checkout"), "data", "parity.toml")


def losses(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("epoch=")]


def test_the_tutorials_run_prints_its_twelve_lines_and_learns(checkout: Project) -> None:
    done = checkout.parity("run-local")
    assert done.returncode == 0, done.stderr
    folder = checkout.folder(done.stdout)
    lines = (folder / "stdout.log").read_text().splitlines()
    expected = [(epoch, batch) for epoch in (1, 2) for batch in range(2000, 12001, 2000)]
    assert len(lines) == 14
    for line, (epoch, batch) in zip(lines, expected, strict=False):
        assert re.fullmatch(rf"epoch={epoch}, batch={batch:5}: loss \d\.\d\d", line)
    assert lines[12] == "Finished Training"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    shown = [float(line.rpartition(" ")[2]) for line in lines[:12]]
    assert [round(point["value"], 2) for point in metrics if point["name"] == "loss"] == shown
    assert shown[-1] < shown[0] / 5
    (accuracy,) = (point["value"] for point in metrics if "accuracy" in point["name"])
    assert accuracy > 0.93
    assert (folder / "outputs" / "model.pt").stat().st_size > 62_006 * 4


def test_two_runs_of_one_image_print_the_same_losses_and_another_seed_others(checkout: Project) -> None:
    short = ["run-local", "--", "--epochs", "1", "--batch-size", "500", "--log-every", "10"]
    runs = [checkout.parity(*short, *more) for more in ([], [], ["--seed", "7"])]
    first, again, other = (losses(checkout.folder(done.stdout) / "stdout.log") for done in runs)
    assert len(first) == 10
    assert first == again
    assert first != other


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    made = clone(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "other").touch()
    (tmp_path / "parity.toml").write_text('[data]\ndataset = "none"\n')
    done = made.parity("run-local")
    assert done.returncode == 2
    log = (made.folder(done.stdout) / "stdout.log").read_text()
    assert "make data" in log
    assert "Traceback" not in log
