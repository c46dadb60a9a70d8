"""The stand-in channel, made by the real pip of wheels in a folder; Debian's Python is a package without files here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_wheel
from packaging.requirements import Requirement
from rattler import PathsJson

from tools.environment.spec import EnvironmentSpec
from tools.errors import OfflineError
from tools.image import conda, wheels
from tools.image.conda import Recipe
from tools.image.versions import Target
from tools.offline import apt, channel, pypi, python, pytorch

TARGET = Target(python="3.11.2", subdir="linux-64")
LINUX = "cp311-cp311-manylinux_2_28_x86_64"


def configure(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Makes `folder` all that pip knows of, and Debian's Python a package without files."""
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        patch.setenv(f"PIP_{name}", value)
    for name in ("PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        patch.delenv(name, raising=False)

    def without_files(directory: Path, *, subdir: str) -> Path:
        return conda.write(Recipe(name="python", version=python.VERSION, build="0", subdir=subdir), [], directory)

    patch.setattr(python, "make", without_files)
    return folder


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of wheels that pip is configured for, and nothing else."""
    return configure(tmp_path / "shelf", monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[channel.Channel]:
    """A channel with a package of each kind."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        shelf = configure(folder / "shelf", patch)
        metadata = "Requires-Dist: small[fast]>=1\nRequires-Dist: other; os_name == 'nt'\n"
        tiny_wheel.make(shelf, metadata=metadata, entry_points="[console_scripts]\ntiny = tiny:main\n")
        fast = "Provides-Extra: fast\nRequires-Dist: speedy>=1; extra == 'fast'\n"
        tiny_wheel.make(shelf, name="small", tag=LINUX, metadata=fast)
        for name in ("speedy", "unasked"):
            tiny_wheel.make(shelf, name=name)
        for version in ("1.25.0", "1.26.4", "1.27.0"):
            tiny_wheel.make(shelf, name="ruled", version=version)
        for version in ("2.12.0+cpu", "2.13.0+cpu", "2.13.0", "2.14.0"):
            tiny_wheel.make(shelf, name="torch", version=version, tag=LINUX)
        tiny_wheel.make(shelf, name="typing_extensions", version="4.0")
        tiny_wheel.make(shelf, name="matplotlib", version="3.0")
        asked = ("python=3.11", "tiny  # [linux64]", "nowhere  # [aarch64]", "conda-forge::ruled=1.26", "pytorch")
        yield channel.make(spec(*asked, "typing_extensions", "matplotlib-base"), folder / "channel")


def spec(*dependencies: str, cuda: bool = False) -> EnvironmentSpec:
    path = Path("environments/tiny.yml")
    return EnvironmentSpec(
        name="tiny", path=path, channels=("conda-forge",), dependencies=dependencies, pip=(), cuda=cuda
    )


def packages(folder: Path) -> dict[str, str]:
    """name -> version of what the channel's indexes list."""
    tables = [json.loads(path.read_text()) for path in folder.glob("*/repodata.json")]
    return {each["name"]: each["version"] for table in tables for each in table["packages.conda"].values()}


def depends(folder: Path, name: str) -> list[str]:
    tables = [json.loads(path.read_text()) for path in folder.glob("*/repodata.json")]
    return next(
        each["depends"] for table in tables for each in table["packages.conda"].values() if each["name"] == name
    )


def test_the_channel_has_python_and_all_that_the_spec_needs_and_nothing_else(made: channel.Channel) -> None:
    found = packages(made.path)
    assert {"python", "tiny", "small", "speedy", "ruled", "pytorch", "matplotlib"} <= set(found)
    assert not {"unasked", "other", "nowhere"} & set(found)
    assert made.url == made.path.as_uri()


def test_a_version_rule_of_the_spec_decides(made: channel.Channel) -> None:
    assert packages(made.path)["ruled"] == "1.26.4"


def test_the_extra_of_a_requirement_is_installed_with_it(made: channel.Channel) -> None:
    assert {"small >=1", "speedy >=1"} <= set(depends(made.path, "tiny"))


def test_a_name_that_conda_spells_in_another_way_is_there_too(made: channel.Channel) -> None:
    assert depends(made.path, "typing_extensions") == ["typing-extensions ==4.0"]
    assert depends(made.path, "matplotlib-base") == ["matplotlib ==3.0"]


def test_the_newest_cpu_build_of_torch_is_taken_before_a_newer_cuda_build(made: channel.Channel) -> None:
    assert packages(made.path)["pytorch"] == "2.13.0"
    assert list(made.path.glob("linux-64/pytorch-2.13.0-cpu_*.conda"))


def test_conda_lock_reads_the_table_of_names(made: channel.Channel) -> None:
    from conda_lock.lookup import conda_name_to_pypi_name, pypi_name_to_conda_name

    url = made.lookup.as_uri()
    assert pypi_name_to_conda_name("torch", url) == "pytorch"
    assert conda_name_to_pypi_name("msgpack-python", url) == "msgpack"
    assert pypi_name_to_conda_name("numpy", url) == "numpy"


def test_nothing_is_done_again_and_what_is_gone_is_made_again_with_the_same_bytes(shelf: Path, tmp_path: Path) -> None:
    wheel = tiny_wheel.make(shelf)
    made = channel.make(spec("tiny"), tmp_path / "channel")
    (package,) = made.path.glob("noarch/tiny-*.conda")
    before, content = package.stat().st_mtime_ns, package.read_bytes()
    aside = wheel.rename(tmp_path / wheel.name)  # whoever asked pip again would fail
    channel.make(spec("tiny"), tmp_path / "channel")
    assert package.stat().st_mtime_ns == before
    aside.rename(wheel)
    package.unlink()
    channel.make(spec("tiny"), tmp_path / "channel")
    assert package.read_bytes() == content


def test_one_more_package_leaves_the_others_as_they_are(shelf: Path, tmp_path: Path) -> None:
    tiny_wheel.make(shelf)
    tiny_wheel.make(shelf, name="more")
    made = channel.make(spec("tiny"), tmp_path / "channel")
    (package,) = made.path.glob("noarch/tiny-*.conda")
    before = package.stat().st_mtime_ns
    channel.make(spec("tiny", "more"), tmp_path / "channel")
    assert package.stat().st_mtime_ns == before
    assert {"tiny", "more"} <= set(packages(made.path))


def test_a_pin_holds_a_package_that_the_spec_does_not_name(shelf: Path, tmp_path: Path) -> None:
    tiny_wheel.make(shelf, metadata="Requires-Dist: torch\n")
    for version in ("1.0+cpu", "2.0+cpu"):
        tiny_wheel.make(shelf, name="torch", version=version, tag=LINUX)
    pins = {"pytorch": "1.0", "libzlib": "1.3.1", "openssl": "3.5.0", "tzdata": "2025b"}
    assert packages(channel.make(spec("tiny"), tmp_path / "channel", pins=pins).path)["pytorch"] == "1.0"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (spec("python=3.12"), r"tiny\.yml: python=3\.12: .*has Python 3\.11\.2 only"),
        (spec("ffmpeg"), r"tiny\.yml: ffmpeg is no Python package"),
        (spec("tiny>=9"), r"tiny\.yml: no wheel of tiny>=9 for Python 3\.11\.2 on linux-64"),
        (spec("nowhere"), r"no wheel of nowhere"),
        (spec("pytorch-gpu", cuda=True), r"tiny\.yml asks for CUDA"),
    ],
    ids=lambda value: value.dependencies[0] if isinstance(value, EnvironmentSpec) else "",
)
def test_what_cannot_be_had_is_named(shelf: Path, tmp_path: Path, asked: EnvironmentSpec, said: str) -> None:
    tiny_wheel.make(shelf)
    with pytest.raises(OfflineError, match=said):
        channel.make(asked, tmp_path / "channel")
    assert not list((tmp_path / "channel").glob(".made/*"))


def test_a_torch_with_cuda_alone_is_refused_with_where_to_get_another(shelf: Path, tmp_path: Path) -> None:
    tiny_wheel.make(shelf, name="torch", version="2.13.0", tag=LINUX)
    tiny_wheel.make(shelf, metadata="Requires-Dist: torch\n")
    for asked in ("pytorch", "tiny"):
        with pytest.raises(OfflineError, match="no CPU build of torch") as error:
            channel.make(spec(asked), tmp_path / "channel")
        assert "PIP_FIND_LINKS" in str(error.value)


def test_a_torch_that_needs_nvidias_libraries_is_refused_where_versions_do_not_tell(
    shelf: Path, tmp_path: Path
) -> None:
    tag = "cp311-cp311-manylinux_2_28_aarch64"
    tiny_wheel.make(shelf, name="torch", tag=tag, metadata="Requires-Dist: nvidia-cublas\n")
    tiny_wheel.make(shelf, name="nvidia_cublas")
    with pytest.raises(OfflineError, match=r"CUDA build of torch 1\.0: it needs nvidia-cublas"):
        channel.make(spec("pytorch"), tmp_path / "channel", platform="linux-aarch64")


def test_markers_are_those_of_the_target_and_not_of_the_python_that_pip_runs_on(shelf: Path, tmp_path: Path) -> None:
    later = f"3.{sys.version_info.minor + 1}"
    lines = f"Requires-Dist: later; python_version >= '{later}'\nRequires-Dist: earlier; python_version < '{later}'\n"
    tiny_wheel.make(shelf, metadata=lines)
    tiny_wheel.make(shelf, name="later")
    tiny_wheel.make(shelf, name="earlier")
    target = Target(python=f"{later}.0", subdir="linux-64")
    found = pypi.closure([Requirement("tiny")], [], tmp_path / "work", target)
    assert [wheel.name for wheel in found.wheels] == ["later", "tiny"]


def test_an_index_that_does_not_answer_is_not_taken_for_one_without_the_package(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(OfflineError, match="cannot reach its package index"):
        channel.make(spec("tiny"), tmp_path / "channel")


def test_a_torchvision_without_cuda_is_taken_as_it_is(tmp_path: Path) -> None:
    wheel = tiny_wheel.make(tmp_path, {"torchvision/__init__.py": ""}, name="torchvision", tag=LINUX)
    assert pytorch.without_cuda(wheel, tmp_path / "mended") == wheel


def test_a_torchvision_with_cuda_loses_its_libraries_and_stays_a_sound_wheel(tmp_path: Path) -> None:
    files = {
        "torchvision/__init__.py": "import torch\n" + pytorch._ANCHOR.decode() + "later = 1\n",
        "torchvision/version.py": "__version__ = '0.28.0+cu130'\n",
        "torchvision/_C.so": "\x7fELF",
        "torchvision.libs/libcudart.faf08d9a.so.13": "\x7fELF",
    }
    wheel = tiny_wheel.make(tmp_path, files, name="torchvision", tag=LINUX)
    mended = pytorch.without_cuda(wheel, tmp_path / "mended")
    package = wheels.convert(mended, tmp_path / "out", python="3.11", subdir="linux-64")
    paths = {str(path.relative_path) for path in PathsJson.from_package_archive(package).paths}
    assert "lib/python3.11/site-packages/torchvision/__init__.py" in paths
    assert not any(path.endswith((".so", ".so.13")) for path in paths)


def test_a_torchvision_that_is_built_in_another_way_is_refused(tmp_path: Path) -> None:
    files = {"torchvision/__init__.py": "", "torchvision.libs/libcudart.1.so.13": ""}
    wheel = tiny_wheel.make(tmp_path, files, name="torchvision", tag=LINUX)
    with pytest.raises(OfflineError, match="CUDA build"):
        pytorch.without_cuda(wheel, tmp_path / "mended")


@pytest.fixture
def apt_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An apt-get whose answer is a text."""

    def say(text: str) -> None:
        program = tmp_path / "bin" / "apt-get"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return say


def test_debians_mirrors_are_told_from_those_of_others(apt_says) -> None:
    suites = ["a.test/debian/dists/trixie", "a.test/debian/dists/trixie-updates", "a.test/sec/dists/trixie-security"]
    others = ["b.test/ubuntu/dists/noble", "b.test/ubuntu/dists/noble-security", "c.test/node/dists/nodistro"]
    apt_says("\n".join(f"'http://{each}/InRelease' {each.replace('/', '_')} 0 " for each in (*others, *suites)))
    found = apt.mirrors()
    assert (found.archive, found.security) == (("http://a.test/debian",), ("http://a.test/sec",))


def test_a_machine_whose_apt_has_no_debian_mirror_is_told_what_to_add(apt_says) -> None:
    apt_says("'http://b.test/ubuntu/dists/noble/InRelease' b.test_noble 0 ")
    with pytest.raises(OfflineError, match="no mirror of Debian") as error:
        apt.mirrors()
    assert "/etc/apt/sources.list.d" in str(error.value)
