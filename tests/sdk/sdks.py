"""The real SDKs of Azure ML, in an environment of their own, asked from here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".parity" / "sdk"
REQUIREMENTS = ROOT / "requirements" / "sdk.txt"


def python() -> Path:
    """The Python of the SDKs' environment, which is made at the first use."""
    done = FOLDER / "sdk.done"
    if not done.exists() or done.stat().st_mtime < REQUIREMENTS.stat().st_mtime:
        subprocess.run(
            [ROOT / "requirements" / "install.sh", "sdk", FOLDER],
            env={**os.environ, "PYTHON": sys.executable},
            check=True,
        )
    return FOLDER / "bin" / "python"


class Sdk:
    """A process in which the SDKs' own functions answer: a line of JSON for each."""

    def __init__(self, home: Path) -> None:
        """home: where azureml-core keeps its notes."""
        self.home = home
        self.process = subprocess.Popen(
            [python(), Path(__file__).parent / "answers.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HOME": str(home)},
            text=True,
        )

    def ask(self, question: str, *arguments: Any) -> Any:
        """The function's result; SdkError with what it raised."""
        self.process.stdin.write(json.dumps([question, *arguments]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise SdkError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


class SdkError(Exception):
    """What the SDK raised."""
