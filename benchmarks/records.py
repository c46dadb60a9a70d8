"""What a person waits for with many runs and long ones: whole commands, the start of Python included.

    .venv/bin/python benchmarks/records.py

It makes a project in a temporary folder: 10,000 records, and a local and a remote run with 100,000 metric points each.
Beside each verb stands `python -m tools --version`, which is what any verb costs.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

from recorded import Recorded  # noqa: E402

RUNS = 7
RECORDS, POINTS = 10_000, 100_000


def once(folder: Path, *arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # compare answers by its exit code
    )
    return time.perf_counter() - begun


def fastest(folder: Path, *arguments: str) -> float:
    """Seconds of the fastest run: what else this machine does only adds to it."""
    return min(once(folder, *arguments) for _ in range(RUNS))


def project(folder: Path) -> Path:
    (folder / "parity.toml").touch()
    record = Recorded(points=[], witness=None, torch=None)
    for number in range(RECORDS - 2):
        record.write(folder / "runs", number)
    points = [("loss", step, 1 / (step + 1)) for step in range(POINTS)]
    Recorded(points=points).write(folder / "runs", RECORDS)
    apart = [*points[: POINTS // 2], *((name, step, value + 1e-9) for name, step, value in points[POINTS // 2 :])]
    Recorded(points=apart, target="azureml", remote={}).write(folder / "runs", RECORDS + 1)
    old = time.time() - 60  # as records are, but for the newest
    for path in (folder / "runs").iterdir():
        os.utime(path / "run.json", (old, old))
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name))
        first = once(folder, "runs", "list")
        rows = [
            ("any verb", fastest(folder, "--version"), ""),
            (f"the first runs list of {RECORDS:,}", first, ""),
            (f"runs list, {RECORDS:,} records", fastest(folder, "runs", "list"), "0.5 s"),
            ("the same, by a filter", fastest(folder, "runs", "list", "--status", "failed"), "0.5 s"),
            ("the same, all of them shown", fastest(folder, "runs", "list", "--limit", "0"), ""),
            (f"compare, {POINTS:,} points each", fastest(folder, "compare"), "1 s"),
            ("the same, as JSON", fastest(folder, "compare", "--json"), "1 s"),
        ]
    print(f"{platform.machine()}, {os.cpu_count()} cores; the fastest of {RUNS}")
    for title, seconds, bar in rows:
        print(f"{title:36} {seconds:6.2f} s   {f'bar: {bar}' if bar else ''}".rstrip())


if __name__ == "__main__":
    main()
