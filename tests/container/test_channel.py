"""The stand-in channel of the real spec, made from Debian's and PyPI's packages, solved and linked by rattler."""

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.environment.spec import EnvironmentSpec
from tools.offline import channel, python

ROOT = Path(__file__).parents[2]


def linked(made: channel.Channel, specs: Sequence[str], folder: Path) -> Path:
    """The packages that a solver takes for the specs, in an environment at `folder`/env."""
    from rattler import Channel, MatchSpec, Subdir, install, solve

    async def steps() -> None:
        platforms = [Subdir("linux-64"), Subdir("noarch")]
        asked = [MatchSpec(text) for text in specs]
        records = await solve(sources=[Channel(made.url)], specs=asked, platforms=platforms)
        await install(
            records,
            folder / "env",
            cache_dir=folder / "cache",
            platform=platforms[0],
            show_progress=False,
            execute_link_scripts=False,
        )

    asyncio.run(steps())
    return folder / "env"


def run(prefix: Path, code: str) -> str:
    """What the environment's Python prints, with nothing of this process's variables."""
    command = [prefix / "bin/python", "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True).stdout


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.conda")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> channel.Channel:
    spec = EnvironmentSpec.load(ROOT / "environments/pytorch.yml")
    return channel.make(spec, tmp_path_factory.mktemp("made") / "channel")


@pytest.fixture(scope="module")
def environment(made: channel.Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked(made, ["python=3.11", "pytorch", "torchvision"], tmp_path_factory.mktemp("linked"))


def test_python_has_its_whole_library_and_finds_it_in_its_own_folder(environment: Path) -> None:
    origins = run(
        environment,
        """
        import bz2, ctypes, curses, curses.panel, dbm.ndbm, decimal, hashlib, lzma, pyexpat, readline, uuid, venv, zlib
        import sqlite3, ssl, sys, sysconfig
        sqlite3.connect(":memory:").execute("select 1")
        ssl.create_default_context()
        libraries = [line.split()[-1] for line in open("/proc/self/maps") if ".so" in line]
        print(*sorted({sys.prefix, sysconfig.get_path("purelib"), *libraries}), sep="\\n")
        """,
    ).split()
    system = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
    assert [path for path in origins if not path.startswith(str(environment)) and Path(path).name not in system] == []
    assert f"{environment}/lib/python3.11/site-packages" in origins


def test_python_makes_virtual_environments_with_pip(environment: Path, tmp_path: Path) -> None:
    subprocess.run([environment / "bin/python", "-m", "venv", tmp_path / "venv"], check=True)
    found = subprocess.check_output([tmp_path / "venv/bin/pip", "--version"], text=True)
    assert str(tmp_path / "venv/lib/python3.11/site-packages/pip") in found


def test_pip_installs_into_the_environment_itself(made: channel.Channel, environment: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests/unit"))
    import tiny_wheel

    wheel = tiny_wheel.make(tmp_path, entry_points="[console_scripts]\ntiny = tiny:main\n")
    prefix = linked(made, ["python=3.11"], tmp_path)
    command = [sys.executable, "-m", "pip", "--python", prefix / "bin/python", "install", "--no-index", wheel]
    subprocess.run(command, check=True, env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
    assert run(prefix, "import tiny; print(tiny.__file__)").startswith(f"{prefix}/lib/python3.11/site-packages/")
    assert (prefix / "bin/tiny").exists()


def test_torch_and_torchvision_train_a_step_without_cuda(environment: Path, tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(
        textwrap.dedent(
            """
            import torch, torchvision
            from torchvision.datasets import CIFAR10, FakeData
            from torchvision.transforms import Compose, RandomCrop, ToTensor, v2

            if __name__ == "__main__":
                data = FakeData(8, (3, 32, 32), 10, transform=Compose([RandomCrop(32, padding=4), ToTensor()]))
                images, labels = next(iter(torch.utils.data.DataLoader(data, batch_size=8, num_workers=2)))
                model = torchvision.models.resnet18(num_classes=10)
                torch.nn.functional.cross_entropy(model(v2.RandomHorizontalFlip()(images)), labels).backward()
                try:
                    torchvision.ops.nms(torch.rand(2, 4), torch.rand(2), 0.5)
                except RuntimeError as error:
                    print("no operators:", str(error)[:38])
                print(torch.__version__, torchvision.__version__, torch.cuda.is_available(), CIFAR10.__name__)
            """
        )
    )
    done = subprocess.run(
        [environment / "bin/python", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    operators, versions = done.stdout.splitlines()
    assert operators == "no operators: Couldn't load custom C++ ops. This can"
    torch, vision, cuda, dataset = versions.split()
    assert torch.endswith("+cpu")
    assert "cu" not in vision
    assert (cuda, dataset) == ("False", "CIFAR10")


def test_pip_check_is_clean_and_every_recorded_file_is_there(environment: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "check"]
    assert "No broken requirements" in subprocess.check_output(command, text=True)
    code = """
    from importlib.metadata import distributions
    found = list(distributions())
    print(len(found), [str(file) for each in found for file in each.files if not file.locate().exists()])
    """
    count, missing = run(environment, code).split(maxsplit=1)
    assert int(count) >= 13
    assert missing.strip() == "[]"


def test_a_second_python_has_the_same_bytes(made: channel.Channel, tmp_path: Path) -> None:
    again = python.make(tmp_path, subdir="linux-64")
    assert digests(tmp_path)[again.name] == digests(made.path)[again.name]


def test_one_more_package_moves_no_other(made: channel.Channel, tmp_path: Path) -> None:
    before = digests(made.path)
    spec = tmp_path / "more.yml"
    spec.write_text("dependencies: [python=3.11, pytorch, torchvision, tqdm]\n")
    channel.make(EnvironmentSpec.load(spec), made.path)
    after = digests(made.path)
    assert before.items() <= after.items()
    assert [name.split("-")[0] for name in after.keys() - before.keys()] == ["tqdm"]
