"""The verb `report`, of two runs of 100,000 points each: seconds of the whole process, and the size of the page.

    .venv/bin/python benchmarks/report.py

Beside it: the same points, all of them, on a page with plotly.js inlined and nothing else, made by as little Python as
can be. Without an engine, since asking one takes as long as it likes. All is made in a temporary folder, and removed.
"""

import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

import reported  # noqa: E402

from tools import charts  # noqa: E402

POINTS = 100_000
RUNS = 5
CACHE = ROOT / ".parity" / "cache"
WHOLE = """
import json, pathlib, sys
library, page, *runs = map(pathlib.Path, sys.argv[1:])
traces = []
for run in runs:
    points = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    traces.append({"x": [each["step"] for each in points], "y": [each["value"] for each in points]})
script = f"Plotly.newPlot(document.body, {json.dumps(traces)})"
page.write_text(f"<script>{library.read_text()}</script><body><script>{script}</script>")
"""


def points(seed: int) -> list[tuple[str, int, float]]:
    draw = random.Random(seed)
    return [("loss", step, 2.3 * math.exp(-step / 2e4) + draw.gauss(0.1, 0.02)) for step in range(POINTS)]


def fastest(commands: dict[str, list[str | Path]], folder: Path) -> dict[str, float]:
    """Seconds of each one's fastest run, by turns: what else this machine does only adds to it."""
    best = dict.fromkeys(commands, math.inf)
    variables = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock", "PYTHONPATH": str(ROOT)}
    for _ in range(RUNS):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, env=variables, check=True, stdout=subprocess.DEVNULL)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="parity-benchmark-") as name:
        folder = Path(name)
        (folder / "parity.toml").touch()
        (folder / ".parity").mkdir()
        (folder / ".parity" / "cache").symlink_to(CACHE)
        for number in (1, 2):
            reported.run(folder / "runs", f"run-{number}", metrics=points(number))
        library = folder / "plotly.js"
        library.write_text(charts.library(CACHE))
        charts.texts(charts.UPLOT, CACHE)
        pages = {"ours": folder / "report.html", "whole": folder / "whole.html"}
        runs = [folder / "runs" / f"run-{number}" for number in (1, 2)]
        commands: dict[str, list[str | Path]] = {
            "ours": [sys.executable, "-m", "tools", "report", "run-1", "run-2", "--output", pages["ours"]],
            "whole": [sys.executable, "-c", WHOLE, library, pages["whole"], *runs],
        }
        seconds = fastest(commands, folder)
        sizes = {name: page.stat().st_size / 1e6 for name, page in pages.items()}
    print(f"report of 2 runs with {POINTS:,} points each: {seconds['ours']:.2f} s   [3 s]")
    print(f"  all points with plotly.js: {seconds['whole']:.2f} s ({seconds['whole'] / seconds['ours']:.1f}x)")
    print(f"its page: {sizes['ours']:.2f} MB   [6 MB]")
    print(f"  all points with plotly.js: {sizes['whole']:.2f} MB ({sizes['whole'] / sizes['ours']:.0f}x)")


if __name__ == "__main__":
    main()
