"""A real MLflow server on the loopback, from an environment of its own that is made on first use and kept."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tools import files

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("mlflow.txt")
PATIENCE = 180.0  # seconds, on a busy machine; an idle one takes ten


def interpreter() -> Path:
    """The Python of the environment with MLflow."""
    content = REQUIREMENTS.read_bytes() + sys.version.encode()
    folder = ROOT / ".parity" / "tests" / f"mlflow-{hashlib.sha256(content).hexdigest()[:12]}"
    python, done = folder / "bin" / "python", folder / "done"
    with files.locked(folder.with_suffix(".lock"), "another test run installs MLflow"):
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install = [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--no-compile",
            ]
            subprocess.run([*install, "--requirement", REQUIREMENTS], check=True)
            done.touch()
    return python


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a database and a folder for artifacts, both empty."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [interpreter(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE
    try:
        while not _answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False
