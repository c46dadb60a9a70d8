"""The real SDKs of Azure ML, in a process of their own, asked from here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Sdk:
    """A process in which the SDKs' own functions answer: a line of JSON for each."""

    def __init__(self, home: Path) -> None:
        """home: where azureml-core keeps its notes."""
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "answers.py"],
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
