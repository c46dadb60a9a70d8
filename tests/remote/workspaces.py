"""A rehearsal workspace of its own project, and scripts for the real azureml-core that run against it."""

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The small environment: python, and a pure and a compiled package.
SMALL = "channels: [conda-forge]\ndependencies: [python=3.11, tqdm, markupsafe]\n"
SETTINGS = """
[environment]
spec = "environments/small.yml"
[run]
command = "python train.py"
[data]
dataset = "none"
"""


class Rehearsal:
    """A project's folder and the workspace that it rehearses in; started by the first script."""

    def __init__(self, root: Path, *, settings: str = SETTINGS) -> None:
        """root: a new folder, which gets the caches of this checkout, but a rehearsal workspace of its own."""
        self.root = root
        self.home = root / "home"  # where azureml-core keeps its notes
        self._variables: dict[str, str] | None = None
        (root / "environments").mkdir(parents=True)
        (root / "environments" / "small.yml").write_text(SMALL)
        (root / "docker").symlink_to(ROOT / "docker")
        for shared in ("cache", "offline"):
            (ROOT / ".parity" / shared).mkdir(parents=True, exist_ok=True)
            (root / ".parity").mkdir(exist_ok=True)
            (root / ".parity" / shared).symlink_to(ROOT / ".parity" / shared)
        (root / "parity.toml").write_text(settings)
        self.home.mkdir()

    def parity(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A verb, as a person types it in the project's folder."""
        return subprocess.run(
            [sys.executable, "-m", "tools", *arguments],
            cwd=self.root,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def variables(self) -> dict[str, str]:
        """What `rehearsal env` prints; the workspace is started for it. config.json lies in the project afterwards."""
        if self._variables is None:
            done = self.parity("rehearsal", "env")
            assert done.returncode == 0, done.stderr
            exports = re.findall(r"^export (\w+)=(.*)$", done.stdout, re.MULTILINE)
            self._variables = {name: shlex.split(value)[0] for name, value in exports}
            config = self.root / ".azureml" / "config.json"
            config.parent.mkdir(exist_ok=True)
            config.write_text(self.parity("rehearsal", "config").stdout)
        return self._variables

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.variables()["MSI_ENDPOINT"].partition("/msi/")[0]

    @property
    def state(self) -> Path:
        """Where its state lies."""
        return self.root / ".parity" / "rehearsal"

    def token(self) -> str:
        """A person's token, for calls that no SDK makes."""
        return str(self.answer("print(json.dumps(ws._auth.get_authentication_header()['Authorization'][7:]))"))

    def folder(self, files: Mapping[str, str | bytes]) -> Path:
        """A new folder in the project, with these files by name: a source directory."""
        sources = self.root / "sources"
        made = sources / str(len(list(sources.glob("*"))))
        made.mkdir(parents=True)
        for name, content in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
        return made

    def start(self, text: str, *, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        """The script, running; cwd: the project's folder or one below it, where Workspace.from_config() works."""
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text)],
            cwd=cwd or self.root,
            env={**os.environ, **self.variables(), "HOME": str(self.home), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def script(
        self, text: str, *, cwd: Path | None = None, timeout: float = 240, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """The script, done: what it said and its exit code."""
        process = self.start(text, cwd=cwd, **variables)
        try:
            output, error = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, error)

    def answer(self, text: str, **options: Any) -> Any:
        """The JSON in the last line of the script's stdout. `json` and `ws`, the workspace, are there already."""
        opening = "import json\nfrom azureml.core import Workspace\nws = Workspace.from_config()\n"
        done = self.script(opening + textwrap.dedent(text), **options)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout.strip().splitlines()[-1])

    def pid(self) -> int:
        """The service's process, to be killed."""
        self.variables()
        return int(json.loads((self.state / "endpoint.json").read_text())["process"].split("/")[1])

    def stop(self) -> None:
        """Ends the service; the next script starts it again, at another address."""
        self.parity("rehearsal", "stop")
        self._variables = None

    def forget(self) -> None:
        """Asks for the variables again: after the service was killed, which starts it again."""
        self._variables = None
