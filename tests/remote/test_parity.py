"""The verb `parity`: a run here and its rehearsal, compared; its exit code is the verdict."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from workspaces import SETTINGS, Rehearsal

TRAINS = """
import json, os, sys
numbers = open(sys.argv[sys.argv.index("--data") + 1] + "/numbers").read().split()
start = 2.0 if {everywhere} or "AZUREML_RUN_TOKEN" in os.environ else 1.0
with open("outputs/metrics.jsonl", "w") as file:
    for step in range(1, 6):
        value = start / (step + len(numbers))
        file.write(json.dumps({{"name": "loss", "step": step, "value": value, "time": step}}) + "\\n")
"""


@pytest.fixture
def place(another: Callable[..., Rehearsal], image: str) -> Rehearsal:
    made = another(settings=SETTINGS.replace("train.py", "train.py --data {data}"))
    (made.root / "data").mkdir()
    (made.root / "data" / "numbers").write_text("1 2 3\n")
    (made.root / "trainer").mkdir()
    return made


def write(place: Rehearsal, content: str) -> None:
    (place.root / "trainer" / "train.py").write_text(content)


def test_the_same_here_and_there_is_parity_on_one_page_and_what_differs_there_is_found(place: Rehearsal) -> None:
    write(place, TRAINS.format(everywhere=True))
    done = place.parity("parity", "--", "--more", "it's $HOME")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[-1].startswith("Parity: ")
    page = (place.root / "runs" / "report.html").read_text()
    here, there = sorted(path.name for path in (place.root / "runs").glob("2*"))
    assert here in page
    assert there in page
    records = [json.loads((place.root / "runs" / name / "run.json").read_text()) for name in (here, there)]
    assert [record["target"] for record in records] == ["local", "rehearsal"]
    assert records[0]["ingredients"]["image"]["id"] == records[1]["ingredients"]["image"]["id"]
    assert records[0]["ingredients"]["snapshot"] == records[1]["ingredients"]["snapshot"]

    write(place, TRAINS.format(everywhere=False))
    done = place.parity("parity", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"]) == (1, "no parity"), told["sentence"]
    assert "loss" in told["sentence"]


def test_a_command_that_fails_here_is_not_rehearsed(place: Rehearsal) -> None:
    write(place, "raise SystemExit(3)")
    done = place.parity("parity")
    assert (done.returncode, done.stdout) == (2, "")
    assert "exit code 3" in done.stderr
    (record,) = (place.root / "runs").glob("2*")
    assert f"cat {Path('runs') / record.name / 'stdout.log'}" in done.stderr
