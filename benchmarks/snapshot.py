"""Verdict and hash of a snapshot, beside the SDKs' own functions and a bare walk, in one run, from a warm page cache.

    .venv/bin/python benchmarks/snapshot.py

azureml-core: its size check and its tree of hashes, which it makes before it sends anything. azure-ai-ml: its content
hash. floor: os.scandir and hashlib.sha256 alone, over all that lies there; for verdicts the walk without the hashes.
The trees are made in a temporary folder, and removed.
"""

import hashlib
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "sdk")]

from sdks import Sdk  # noqa: E402

from tools import snapshot  # noqa: E402
from tools.snapshot import limits  # noqa: E402

RUNS = 7
CIFAR = {
    "cifar-10-python.tar.gz": 170_498_071,
    **{f"cifar-10-batches-py/data_batch_{number}": 31_035_704 for number in range(1, 6)},
    "cifar-10-batches-py/test_batch": 31_035_526,
}


def fastest(works: dict[str, Callable[[], float | None]]) -> dict[str, float]:
    """Seconds of each one's fastest run, by turns: what else this machine does only adds to it."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(RUNS):
        for name, work in works.items():
            start = time.perf_counter()
            own = work()  # the SDKs take the time in their own process
            best[name] = min(best[name], own or time.perf_counter() - start)
    return best


def many(folder: Path, count: int, size: int) -> None:
    content = os.urandom(size)
    for number in range(count):
        path = folder / f"{number // 100:04}" / f"{number % 100:02}.py"
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(number.to_bytes(4, "big") + content[4:])


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)


def floor(folder: Path, *, hashes: bool) -> None:
    waiting = [str(folder)]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            if entry.is_dir():
                waiting.append(entry.path)
            elif not hashes:
                entry.stat()
            else:
                digest = hashlib.sha256()
                with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - bare on purpose
                    while data := file.read(1 << 16):
                        digest.update(data)


def peak(folder: Path, rules: str) -> float:
    """MB of memory that a process of its own takes at most."""
    code = "import pathlib, sys; from tools import snapshot; snapshot.inspect(pathlib.Path(sys.argv[1]), sys.argv[2])"
    child = subprocess.Popen([sys.executable, "-c", code, folder, rules], cwd=ROOT)
    _, _, usage = os.wait4(child.pid, 0)
    return usage.ru_maxrss / 1000


def row(name: str, best: dict[str, float], bar: str) -> None:
    ours = best.pop("ours")
    beside = ", ".join(f"{other} {seconds:.3f} s ({seconds / ours:.1f}x)" for other, seconds in best.items())
    print(f"{name:<46} {ours:7.4f} s   {beside}{f'   [{bar}]' if bar else ''}", flush=True)


def hashing(sdk: Sdk, folder: Path, name: str, rules: str, memory: Path, bars: tuple[str, str] = ("", "")) -> None:
    time.sleep(2.1)  # younger files are not remembered
    snapshot.take(folder, rules, memory=memory)
    sdks = {"azure-ai-ml": lambda: sdk.ask("timed", "v2", str(folder))}
    if rules == "v1":
        sdks["azureml-core"] = lambda: sdk.ask("timed", "v1", str(folder))
    cold = {"ours": lambda: snapshot.take(folder, rules) and None, "floor": lambda: floor(folder, hashes=True)}
    row(f"{name}, no hash known", fastest({**cold, **sdks}), bars[0])
    warm = {
        "ours": lambda: snapshot.take(folder, rules, memory=memory) and None,
        "floor": lambda: floor(folder, hashes=False),
    }
    row(f"{name}, hashes known", fastest({**warm, **sdks}), bars[1])


def verdict(sdk: Sdk, folder: Path, name: str) -> None:
    works = {
        "ours": lambda: snapshot.inspect(folder) and None,
        "floor": lambda: floor(folder, hashes=False),
        "azureml-core": lambda: sdk.ask("timed", "v1-size", str(folder)),
    }
    row(f"{name}, refused", fastest(works), "0.3 s")


def main() -> None:
    logging.disable()  # the SDK's refusals, and our warnings
    print("The figure is ours, then the others' and how many times ours they take; bars in [ ].")
    with tempfile.TemporaryDirectory(prefix="parity-benchmark-") as name:
        work = Path(name)
        sdk = Sdk(work)
        memory = work / "memory"
        os.environ[limits.NO_FILE_LIMIT] = "1"
        many(work / "small", 20_000, 2048)
        hashing(sdk, work / "small", "20,000 files of 2 KB", "v1", memory, ("azureml-core 3x", "azureml-core 8x"))
        (work / "ignored").mkdir()
        many(work / "ignored" / "src", 200, 2048)
        many(work / "ignored" / "data", 200_000, 1)
        (work / "ignored" / ".amlignore").write_text("data/\n")
        hashing(sdk, work / "ignored", "200 files, 200,000 in an ignored data/", "v1", memory)
        del os.environ[limits.NO_FILE_LIMIT]
        large = work / "large" / "model.bin"
        sparse(large, 1)
        with large.open("wb") as file:
            for _ in range(1000):
                file.write(os.urandom(1 << 20))
        hashing(sdk, large.parent, "1 file of 1 GB, v2", "v2", memory)
        verdict(sdk, large.parent, "1 file of 1 GB")
        for path, size in CIFAR.items():
            sparse(work / "tutorial" / "data" / path, size)
        (work / "tutorial" / "train.py").write_text("print()\n")
        verdict(sdk, work / "tutorial", "CIFAR-10 in data/")
        (work / "ignored" / ".amlignore").unlink()
        verdict(sdk, work / "ignored", "200,000 files in data/")
        sdk.close()
        (work / "ignored" / ".amlignore").write_text("data/\n")
        print(f"memory: 200,000 ignored files {peak(work / 'ignored', 'v1'):.0f} MB", end="")
        (work / "ignored" / ".amlignore").unlink()
        print(f", refused {peak(work / 'ignored', 'v1'):.0f} MB, sent {peak(work / 'ignored', 'v2'):.0f} MB   [100 MB]")
        print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


if __name__ == "__main__":
    main()
