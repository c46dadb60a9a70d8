"""examples/scikit-learn: another library, no data set and no docker/ folder, through the same verbs."""

import json
import subprocess
from pathlib import Path

import pytest
from projects import ROOT, Project, example, link_caches


@pytest.fixture(scope="module")
def scikit_learn(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return example(tmp_path_factory.mktemp("example") / "project")


@pytest.fixture(scope="module")
def run(scikit_learn: Project) -> Path:
    """The folder of a run of it."""
    done = scikit_learn.parity("run-local")
    assert done.returncode == 0, done.stderr
    return scikit_learn.folder(done.stdout)


def make(project: Project, verb: str, *more: str) -> str:
    """The stdout of a verb of this checkout's Makefile, for that project."""
    command = ["make", verb, f"PROJECT={project.root}", *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(folder: Path) -> list[float]:
    return [point["value"] for point in metrics(folder)]


def test_it_trains_and_its_model_and_metrics_come_back(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["exit_code"]) == ("completed", 0)
    assert record["ingredients"]["image"]["reference"].startswith("parity-scikit-learn:env-")
    assert [set(point) for point in metrics(run)] == [{"name", "step", "value", "time"}] * 10
    accuracies = [point["value"] for point in metrics(run) if point["name"] == "accuracy"]
    assert sum(accuracies) / len(accuracies) > 0.97
    assert (run / "outputs" / "model.joblib").stat().st_size > 1000


def test_it_gets_no_input_and_nothing_is_fetched_for_one(scikit_learn: Project, run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    witness = json.loads((run / "witness.json").read_text())
    assert record["ingredients"]["inputs"] == []
    assert witness["inputs"] == {}
    assert "data" not in [each["kind"] for each in record["ingredients"]["stand_ins"]]
    assert not (scikit_learn.root / "data").exists()


def test_its_numbers_are_the_same_again_and_others_with_another_seed(scikit_learn: Project, run: Path) -> None:
    again = scikit_learn.parity("run-local")
    other = scikit_learn.parity("run-local", "--", "--seed", "7")
    assert numbers(scikit_learn.folder(again.stdout)) == numbers(run)
    assert numbers(scikit_learn.folder(other.stdout)) != numbers(run)


def test_what_was_made_in_its_folder_is_neither_sent_nor_in_git(scikit_learn: Project, run: Path) -> None:
    witness = json.loads((run / "witness.json").read_text())
    assert sorted(witness["files"]) == [".amlignore", "train.py"]

    def git(*arguments: str) -> list[str]:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=scikit_learn.root, capture_output=True, text=True, check=True).stdout.split()

    git("init", "--quiet")
    git("add", "--all")
    spec = "environments/scikit-learn.yml"
    assert git("ls-files") == [".gitignore", spec, "parity.toml", "src/.amlignore", "src/train.py"]


def test_make_runs_its_verbs_in_another_project(scikit_learn: Project, run: Path) -> None:
    before = set((ROOT / "runs").glob("*"))
    reference = json.loads((run / "run.json").read_text())["ingredients"]["image"]["reference"]
    assert make(scikit_learn, "image").strip() == reference
    assert f"{scikit_learn.root}/.parity/" in make(scikit_learn, "lock")
    assert "Snapshot of src" in make(scikit_learn, "snapshot")
    assert f"{scikit_learn.root}/src" in make(scikit_learn, "doctor")
    made = make(scikit_learn, "run-local", "ARGS=--folds 3").strip()
    assert len(metrics(scikit_learn.folder(made))) == 6
    assert "Parity: " in make(scikit_learn, "compare", f"A={run.name}", f"B={run.name}")
    assert make(scikit_learn, "report", f"RUNS={run.name} {made}").strip() == str(run.parent / "report.html")
    assert set((ROOT / "runs").glob("*")) == before


def test_the_project_that_the_guide_begins_runs(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "your-own-trainer.md").read_text()
    typed = guide.partition("```console\n$ mkdir")[2].partition("```")[0]
    script = "mkdir" + typed.replace("\n$ ", "\n").replace("PROJECT=mine", f"-C {ROOT} PROJECT={tmp_path}/mine")
    link_caches(tmp_path / "mine")
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (answer,) = (tmp_path / "mine" / "runs").glob("*/outputs/answer")
    assert answer.read_text() == "42"


def test_its_base_is_the_toolkits(scikit_learn: Project) -> None:
    done = scikit_learn.parity("image", "dockerfile")
    assert done.returncode == 0, done.stderr
    base = (ROOT / "docker" / "Dockerfile").read_text().partition("\nFROM ")[2].split()[0]
    assert f"ARG BASE={base}\n" in done.stdout
    assert "scikit-learn" in done.stdout
