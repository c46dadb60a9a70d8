"""Metrics as JSON lines, mirrored to Azure ML and MLflow where the run has them."""

import contextlib
import json
import math
import os
import sys
import time


class Metrics:
    """Writes each value to a file first, which needs no network, then to the services that the run has.

    A service that fails is warned about once and left out from then on: training never stops for it.
    """

    def __init__(self, path, steps=None, since=0, again=()):
        """steps: how many there will be, for those who wait. since: the step that the run goes on from; what the file
        says up to there stays, but for the names in `again`, which are logged at the end of each run.
        """
        self.of = {"of": steps} if steps else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        partial = path.with_suffix(".partial")
        partial.write_text("".join(kept(path, since, again)), encoding="utf-8")
        partial.replace(path)
        self.file = path.open("a", encoding="utf-8")
        self.mirrors = {}
        for service, connect in {"Azure ML": azure_ml, "MLflow": mlflow_run}.items():
            with self.survived(service):
                if mirror := connect():
                    self.mirrors[service] = mirror

    def log(self, name, value, step):
        """Records one value. step: the number of batches trained so far, over all epochs."""
        known = value if math.isfinite(value) else None  # JSON has no NaN
        line = {"name": name, "step": step, **self.of, "value": known, "time": time.time()}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for service, mirror in list(self.mirrors.items()):
            with self.survived(service):
                mirror.log(name, value, step)

    @contextlib.contextmanager
    def survived(self, service):
        """Turns any error of a service into one warning, and leaves the service out from then on."""
        try:
            yield
        except Exception as error:
            self.mirrors.pop(service, None)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"warning: {service} gets no more metrics ({reason}); all are in {self.path}", file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()
        for service, mirror in list(self.mirrors.items()):
            with self.survived(service):
                mirror.flush()


def kept(path, since, again):
    """The lines of a file of metrics up to a step; one that was being written when the process ended is none."""
    if not since or not path.is_file():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    points = [(line, json.loads(line)) for line in lines]
    return [line for line, point in points if point["step"] <= since and point["name"] not in again]


class AzureML:
    """The run of Azure ML that this process is."""

    def __init__(self, run):
        self.run = run

    def log(self, name, value, step):
        self.run.log(name, value, step=step)

    def flush(self):
        self.run.flush()  # the SDK sends in the background and loses what is not sent when the process ends


class MLflow:
    """The active run of MLflow."""

    def __init__(self, mlflow):
        self.mlflow = mlflow

    def log(self, name, value, step):
        self.mlflow.log_metric(name, value, step=step)

    def flush(self):
        pass  # each value is sent before log_metric returns


def azure_ml():
    """A mirror, where the SDK is installed and this process is a run of Azure ML; else None."""
    if "AZUREML_RUN_TOKEN" not in os.environ:
        return None
    try:
        from azureml.core import Run
    except ImportError:
        return None
    return AzureML(Run.get_context(allow_offline=False))


def mlflow_run():
    """A mirror, where MLflow is installed and has a tracking URI; else None."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri or (uri.startswith("azureml:") and "azureml.core" in sys.modules):  # the latter is the very same run
        return None
    try:
        import mlflow
    except ImportError:
        return None
    return MLflow(mlflow)
