import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chromium
import httpx
import pytest
from recorded import Recorded

from tools import tracking
from tools.runs.record import Record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ask(server: str) -> Callable[..., Any]:
    """The server's own API."""

    def ask(path: str, **body: Any) -> Any:
        answer = httpx.post(f"{server}/api/2.0/mlflow/{path}", json=body, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    return ask


def run_of(address: str) -> str:
    return address.rpartition("/")[2]


def get(server: str, path: str, **query: str) -> Any:
    return httpx.get(f"{server}/api/2.0/{path}", params=query, timeout=60).raise_for_status()


def written(runs: Path, number: int = 1, **parts: Any) -> Record:
    record = Recorded(**parts).write(runs, number)
    record.log.write_text("epoch 1\n")
    return record


def test_a_run_arrives_whole(server: str, tmp_path: Path) -> None:
    points = [("loss", step, 1 / step) for step in range(1, 2502)]
    points += [("loss", 3000, None), ("accuracy (%)", 10, 0.5)]
    record = written(tmp_path, points=points, target="azureml", remote={"portal": "https://portal/run"})
    (exported,) = tracking.export([record], f"{server}/", experiment="whole")
    assert exported.new
    run = get(server, "mlflow/runs/get", run_id=run_of(exported.address)).json()["run"]
    assert run["info"]["run_name"] == record.id
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] - run["info"]["start_time"] == 90_791
    params = {each["key"]: each["value"] for each in run["data"]["params"]}
    assert params["image.id"] == record.ingredients["image"]["id"]
    assert params["command"] == record.ingredients["command"]
    assert params["command.arguments"] == "--epochs 1"
    assert params["torch.threads"] == "4"
    tags = {each["key"]: each["value"] for each in run["data"]["tags"]}
    assert tags["parity.target"] == "azureml"
    assert tags["azureml.portal"] == "https://portal/run"
    seen = get(server, "mlflow/metrics/get-history", run_id=run_of(exported.address), metric_key="loss").json()[
        "metrics"
    ]
    assert [(each["step"], each["timestamp"]) for each in seen[:2]] == [(1, 1795448479000), (2, 1795448480000)]
    assert [float(each["value"]) for each in seen[:-1]] == [1 / step for step in range(1, 2502)]
    assert math.isnan(float(seen[-1]["value"]))
    (accuracy,) = get(
        server, "mlflow/metrics/get-history", run_id=run_of(exported.address), metric_key="accuracy ___"
    ).json()["metrics"]
    assert (accuracy["step"], accuracy["value"]) == (10, 0.5)


def test_its_files_arrive_as_they_are(server: str, tmp_path: Path) -> None:
    record = written(tmp_path)
    (exported,) = tracking.export([record], server, experiment="files")
    run = get(server, "mlflow/runs/get", run_id=run_of(exported.address)).json()["run"]
    place = run["info"]["artifact_uri"].partition(":/")[2].strip("/")
    for name in ("run.json", "witness.json", "witness-torch.json", "stdout.log", "metrics.jsonl"):
        content = get(server, f"mlflow-artifacts/artifacts/{place}/{name}").content
        assert content == (record.folder / name).read_bytes()


def test_a_run_that_is_there_is_not_written_again(server: str, ask: Callable[..., Any], tmp_path: Path) -> None:
    record = written(tmp_path)
    first, second = (next(tracking.export([record], server, experiment="twice")) for _ in range(2))
    assert (first.new, second.new, first.address == second.address) == (True, False, True)


def test_an_export_that_broke_off_is_done_anew(server: str, ask: Callable[..., Any], tmp_path: Path) -> None:
    record = written(tmp_path, status="failed")
    experiment = ask("experiments/create", name="broken")["experiment_id"]
    tags = [{"key": tracking.RUN_TAG, "value": record.id}]
    half = ask("runs/create", experiment_id=experiment, start_time=1, tags=tags)["run"]["info"]["run_id"]
    (exported,) = tracking.export([record], server, experiment="broken")
    assert exported.new
    (run,) = ask("runs/search", experiment_ids=[experiment])["runs"]
    assert run["info"]["run_id"] == run_of(exported.address) != half
    assert run["info"]["status"] == "FAILED"


def test_the_verb_prints_the_addresses_of_the_runs(server: str, tmp_path: Path) -> None:
    (tmp_path / "parity.toml").touch()
    written(tmp_path / "runs", 1)
    written(tmp_path / "runs", 2, target="azureml", remote={})
    done = subprocess.run(
        [sys.executable, "-m", "tools", "runs", "export", "--mlflow", server, "last-local", "last-remote"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    addresses = done.stdout.split()
    assert len(addresses) == 2
    assert all(address.startswith(f"{server}/#/experiments/") for address in addresses)


def test_mlflows_own_page_compares_them(server: str, tmp_path: Path) -> None:
    executable = chromium.find()
    if executable is None:
        pytest.skip("no chromium here, and it cannot be installed; next: apt-get install chromium")
    other = Recorded(target="azureml", points=[("loss", step, 2 / step) for step in range(1, 101)])
    other.ingredients["image"]["reference"] = "parity:env-ba9876543210"
    records = [written(tmp_path, 1), other.write(tmp_path, 2)]
    exported = list(tracking.export(records, server, experiment="side by side"))
    experiment = exported[0].address.split("/")[-3]
    runs = quote(json.dumps([run_of(each.address) for each in exported]))
    page = chromium.Page(executable)
    try:
        page.open(f"{server}/#/compare-runs?runs={runs}&experiments={quote(json.dumps([experiment]))}")
        page.wait("document.body.innerText.includes('image.reference')", seconds=60)
        shown = page.evaluate("document.body.innerText")
    finally:
        page.close()
    for text in ("Comparing 2 Runs", *(each.id for each in records), "parity:env-ba9876543210", "loss"):
        assert text in shown
