import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRAINER = Path(__file__).parents[2] / "trainer"


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Any:
    """trainer/metrics.py, on a machine with neither service."""
    for name in ("AZUREML_RUN_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("azureml", "azureml.core", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    spec = importlib.util.spec_from_file_location("trainer_metrics", TRAINER / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Service:
    """Both azureml.core.Run's and mlflow's side, noting what arrives; `failing` names the call that raises."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.failing = ""

    def call(self, name: str, *arguments: Any) -> None:
        if name == self.failing:
            raise ConnectionError("no route\nto host")
        self.received.append((name, *arguments))

    def get_context(self, allow_offline: bool = True) -> "Service":
        assert not allow_offline
        self.call("get_context")
        return self

    def log(self, name: str, value: float, description: str = "", step: int | None = None) -> None:
        self.call("log", name, value, step)

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        self.call("log", name, value, step)

    def flush(self) -> None:
        self.call("flush")


@pytest.fixture
def azure_ml(metrics: Any, monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    core = types.ModuleType("azureml.core")
    core.Run = service  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "azureml", types.ModuleType("azureml"))
    monkeypatch.setitem(sys.modules, "azureml.core", core)
    monkeypatch.setenv("AZUREML_RUN_TOKEN", "a token")
    return service


@pytest.fixture
def mlflow(metrics: Any, monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    module = types.ModuleType("mlflow")
    module.log_metric = service.log_metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    return service


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_value_is_a_line_that_is_on_disk_at_once(metrics: Any, tmp_path: Path) -> None:
    path = tmp_path / "outputs" / "metrics.jsonl"
    with metrics.Metrics(path) as log:
        log.log("loss", 2.19, 2000)
        (line,) = lines(path)
        assert {**line, "time": None} == {"name": "loss", "step": 2000, "value": 2.19, "time": None}
        log.log("loss", 1.82, 4000)
        assert [(line["step"], line["value"]) for line in lines(path)] == [(2000, 2.19), (4000, 1.82)]


def test_times_go_forward(metrics: Any, tmp_path: Path) -> None:
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
        log.log("loss", 1.0, 2)
    first, second = (line["time"] for line in lines(tmp_path / "m"))
    assert 1.7e9 < first <= second


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_beyond_all_numbers_is_still_json(metrics: Any, tmp_path: Path, value: float) -> None:
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", value, 1)
    assert lines(tmp_path / "m")[0]["value"] is None
    assert "NaN" not in (tmp_path / "m").read_text()


def test_without_a_service_nothing_is_said(metrics: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["azure_ml", "mlflow"])
def test_a_service_gets_every_value_with_its_step(
    metrics: Any, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    service: Service = request.getfixturevalue(name)
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 2.19, 2000)
        log.log("loss", 1.82, 4000)
    assert [call for call in service.received if call[0] == "log"] == [
        ("log", "loss", 2.19, 2000),
        ("log", "loss", 1.82, 4000),
    ]


def test_azure_ml_has_everything_before_the_process_ends_even_when_training_fails(
    metrics: Any, azure_ml: Service, tmp_path: Path
) -> None:
    def training_that_fails() -> None:
        with metrics.Metrics(tmp_path / "m") as log:
            log.log("loss", 1.0, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        training_that_fails()
    assert azure_ml.received[-1] == ("flush",)


@pytest.mark.parametrize("failing", ["get_context", "log", "flush"])
def test_a_failing_service_warns_once_and_stops_nothing(
    metrics: Any, azure_ml: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    azure_ml.failing = failing
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
        log.log("loss", 2.0, 2)
    assert [line["value"] for line in lines(tmp_path / "m")] == [1.0, 2.0]
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"warning: Azure ML gets no more metrics (ConnectionError: no route); all are in {tmp_path / 'm'}\n"


def test_one_failing_service_leaves_the_other_alone(
    metrics: Any, azure_ml: Service, mlflow: Service, tmp_path: Path
) -> None:
    azure_ml.failing = "log"
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
    assert mlflow.received == [("log", "loss", 1.0, 1)]


def test_outside_a_run_the_sdk_is_not_asked(
    metrics: Any, azure_ml: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZUREML_RUN_TOKEN")
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
    assert azure_ml.received == []


def test_mlflow_without_a_tracking_uri_is_left_alone(
    metrics: Any, mlflow: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
    assert mlflow.received == []


def test_azure_mls_own_run_is_not_told_twice(
    metrics: Any, azure_ml: Service, mlflow: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "azureml://westeurope.example/mlflow/v1.0/workspaces/w")
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
    assert ("log", "loss", 1.0, 1) in azure_ml.received
    assert mlflow.received == []


@pytest.mark.parametrize(
    "set_variable",
    [lambda m: m.setenv("AZUREML_RUN_TOKEN", "t"), lambda m: m.setenv("MLFLOW_TRACKING_URI", "http://x")],
)
def test_a_service_whose_sdk_is_not_installed_is_left_out_in_silence(
    metrics: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    set_variable: Callable[[pytest.MonkeyPatch], None],
) -> None:
    set_variable(monkeypatch)
    with metrics.Metrics(tmp_path / "m") as log:
        log.log("loss", 1.0, 1)
    assert len(lines(tmp_path / "m")) == 1
    assert capsys.readouterr() == ("", "")
