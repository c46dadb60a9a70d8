"""GPU environments, locked without a GPU: this repository's own specs, from a channel that is made like conda-forge.

Its packages need and constrain what conda-forge's do (the recipes of pytorch-cpu and cuda-version; libtorch 2.9.1 and
pytorch-gpu 2.10 as published): PyTorch's CUDA builds need __cuda and have the higher build numbers, cuda-version
constrains __cuda to its own major version, and each build is tied to its libtorch, so that CPU and CUDA never mix.
"""

import os
import subprocess
import sys
from pathlib import Path

import fake_engine
import pytest
from tiny_channel import TinyChannel

from tools.environment import locking
from tools.environment.lock import Lock
from tools.environment.spec import EnvironmentSpec
from tools.settings import Settings

ROOT = Path(__file__).parents[2]
GLIBC = "__glibc >=2.17,<3.0.a0"


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> TinyChannel:
    made = TinyChannel(tmp_path_factory.mktemp("channel") / "c")

    def add(name: str, version: str, build: str, *depends: str, **options: object) -> None:
        made.add(name, version, build=build, depends=[GLIBC, *depends], subdir="linux-64", **options)

    add("python", "3.11.9", "0")
    for version in ("12.8", "12.9", "13.0"):
        constrains = [f"__cuda >={version.partition('.')[0]}", f"cudatoolkit {version}|{version}.*"]
        made.add("cuda-version", version, constrains=constrains)
    for cuda, builds in {"12.9": "cuda129", "13.0": "cuda130"}.items():
        needed = f"cuda-version >={cuda},<{int(cuda.partition('.')[0]) + 1}"
        add("cuda-cudart", f"{cuda}.79", "0", needed)
        both = [needed, f"cuda-cudart >={cuda}.79"]
        constrains = ["pytorch-gpu 2.10.0", f"pytorch 2.10.0 {builds}_mkl_*_300", "pytorch-cpu <0.0a0"]
        add("libtorch", "2.10.0", f"{builds}_mkl_h1_300", *both, number=300, constrains=constrains)
        torch = ["__cuda", "python >=3.11,<3.12.0a0", f"libtorch 2.10.0 {builds}_mkl_h1_300", *both]
        constrains = ["pytorch-gpu 2.10.0", "pytorch-cpu <0.0a0"]
        add("pytorch", "2.10.0", f"{builds}_mkl_py311_h1_300", *torch, number=300, constrains=constrains)
        vision = ["python >=3.11,<3.12.0a0", "pytorch * cuda*", "pytorch >=2.10.0,<2.11.0a0", *both]
        add("torchvision", "0.25.0", f"{builds}_py311_h1_1", *vision, number=1)
    made.add("pytorch-gpu", "2.10.0", depends=["pytorch 2.10.0 cuda*_mkl*300"], build="cuda_mkl_300", number=300)
    constrains = ["pytorch-cpu 2.10.0", "pytorch-gpu <0.0a0"]
    add("libtorch", "2.10.0", "cpu_mkl_h1_100", number=100, constrains=constrains)
    torch = ["python >=3.11,<3.12.0a0", "libtorch 2.10.0 cpu_mkl_h1_100"]
    add("pytorch", "2.10.0", "cpu_mkl_py311_h1_100", *torch, number=100, constrains=constrains)
    made.add("pytorch-cpu", "2.10.0", depends=["pytorch 2.10.0 cpu_mkl*100"], build="cpu_mkl_100", number=100)
    add(
        "torchvision",
        "0.25.0",
        "cpu_py311_h1_0",
        "python >=3.11,<3.12.0a0",
        "pytorch * cpu*",
        "pytorch >=2.10.0,<2.11.0a0",
    )
    return made


@pytest.fixture
def locked(channel: TinyChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Locks one of this repository's specs from the channel; gives name -> file name of each package."""
    monkeypatch.delenv("CONDA_OVERRIDE_CUDA", raising=False)

    def locked(name: str) -> dict[str, str]:
        path = tmp_path / "environments" / f"{name}.yml"
        path.parent.mkdir(exist_ok=True)
        text = (ROOT / "environments" / path.name).read_text()
        assert text.count("- conda-forge\n") == 1
        path.write_text(text.replace("- conda-forge\n", f"- {channel.url}\n"))
        lock = Lock.read(locking.lock(Settings(root=tmp_path), EnvironmentSpec.load(path)))
        return {package.name: package.filename for package in lock.packages}

    return locked


def test_the_cuda_spec_gives_the_cuda_builds_of_the_version_that_it_names(locked) -> None:
    assert locked("pytorch-cuda") == {
        "cuda-cudart": "cuda-cudart-12.9.79-0.conda",
        "cuda-version": "cuda-version-12.9-0.conda",
        "libtorch": "libtorch-2.10.0-cuda129_mkl_h1_300.conda",
        "python": "python-3.11.9-0.conda",
        "pytorch": "pytorch-2.10.0-cuda129_mkl_py311_h1_300.conda",
        "pytorch-gpu": "pytorch-gpu-2.10.0-cuda_mkl_300.conda",
        "torchvision": "torchvision-0.25.0-cuda129_py311_h1_1.conda",
    }


def test_the_plain_spec_gives_the_cpu_builds_of_the_same_channel(locked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.9")  # as on a machine where someone wants the GPU for other work
    assert locked("pytorch") == {
        "libtorch": "libtorch-2.10.0-cpu_mkl_h1_100.conda",
        "python": "python-3.11.9-0.conda",
        "pytorch": "pytorch-2.10.0-cpu_mkl_py311_h1_100.conda",
        "torchvision": "torchvision-0.25.0-cpu_py311_h1_0.conda",
    }


@pytest.mark.parametrize("verb", ["lock", "image"])
def test_where_the_channel_is_out_of_reach_it_is_told_before_anything_is_fetched(verb: str, tmp_path: Path) -> None:
    (tmp_path / "parity.toml").touch()
    (tmp_path / "environments").symlink_to(ROOT / "environments")
    with fake_engine.short_folder() as folder, fake_engine.engine(folder / "e.sock"):
        nothing_answers = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": ""}
        done = subprocess.run(
            [sys.executable, "-m", "tools", verb, "--env", "pytorch-cuda"],
            cwd=tmp_path,
            env={**os.environ, **nothing_answers, "PARITY_OFFLINE": "always", "DOCKER_HOST": f"unix://{folder}/e.sock"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (23, "")
    assert done.stderr.splitlines()[-3:] == [
        f"error: {ROOT}/environments/pytorch-cuda.yml asks for CUDA; "
        "the stand-in for the conda channel has CPU builds only",
        "  expected: the conda channel, or a spec without CUDA",
        "  next:     make lock ENV=pytorch-cuda where the conda channel answers; it needs no GPU",
    ]
    assert list((tmp_path / ".parity").rglob("*.conda")) == []
