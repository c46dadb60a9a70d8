"""Wheels become conda packages: where each file goes, what is refused, and the same bytes every time."""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tiny_wheel import make

from tools.errors import PackageError
from tools.image import conda, wheels
from tools.image.conda import Member, Recipe
from tools.image.versions import Target

TARGET = Target(python="3.11.2", subdir="linux-64")
BINARY = "cp311-cp311-manylinux_2_28_x86_64"


def convert(wheel: Path, directory: Path, **options: object) -> Path:
    return wheels.convert(wheel, directory, **{"python": "3.11", "subdir": "linux-64", **options})  # type: ignore[arg-type]


def linked(tmp_path: Path, *packages: Path) -> Path:
    """The packages in an environment, linked by rattler, beside a Python that is a mere script."""
    from rattler import RepoDataRecord, Subdir, install

    python = Recipe(name="python", version="3.11.2", build="0", subdir="linux-64")
    said = Member.of("bin/python3.11", b'#!/bin/sh\necho "python $@"\n', executable=True)
    own = conda.write(python, [said], tmp_path / "python")

    async def link() -> None:
        records = [await RepoDataRecord.from_package_archive(path) for path in (own, *packages)]
        await install(
            records,
            tmp_path / "env",
            cache_dir=tmp_path / "cache",
            platform=Subdir("linux-64"),
            show_progress=False,
            execute_link_scripts=False,
        )

    asyncio.run(link())
    return tmp_path / "env"


def index(package: Path) -> dict[str, object]:
    from rattler import IndexJson

    record = IndexJson.from_package_archive(package)
    return {
        "depends": record.depends,
        "name": record.name.normalized,
        "version": str(record.version),
        "build": record.build,
    }


def recipe(wheel: Path, **options: object) -> Recipe:
    return wheels.recipe(wheels.read(wheel), TARGET, **options)  # type: ignore[arg-type]


def test_a_pure_wheel_is_importable_and_its_commands_run_the_environments_python(tmp_path: Path) -> None:
    wheel = make(tmp_path, entry_points="[console_scripts]\ntiny = tiny.cli:main [extra]\n")
    prefix = linked(tmp_path, convert(wheel, tmp_path / "out"))
    site = prefix / "lib/python3.11/site-packages"
    assert (site / "tiny/__init__.py").read_text() == "answer = 42\n"
    command = (prefix / "bin/tiny").read_text()
    assert command.startswith(f"#!{prefix}/bin/python3.11\n")
    assert "from tiny.cli import main" in command


def test_a_binary_wheels_commands_and_scripts_run_the_environments_python(tmp_path: Path) -> None:
    files = {
        "tiny.so": "\x7fELF",
        "tiny-1.0.data/scripts/old": "#!python -E\nprint()\n",
        "tiny-1.0.data/scripts/shell": "#!/bin/sh\necho here\n",
        "tiny-1.0.data/headers/tiny.h": "int tiny;\n",
        "tiny-1.0.data/data/share/man/tiny.1": "man\n",
        "tiny-1.0.data/purelib/pure.py": "",
    }
    wheel = make(tmp_path, files, tag=BINARY, entry_points="[gui_scripts]\ntiny = tiny.app:Main.run\n")
    prefix = linked(tmp_path, convert(wheel, tmp_path / "out"))
    command = (prefix / "bin/tiny").read_text()
    assert command.startswith(f"#!{prefix}/bin/python3.11\n")
    assert "from tiny.app import Main\n" in command
    assert "sys.exit(Main.run())" in command
    assert (prefix / "bin/old").read_text() == f"#!{prefix}/bin/python3.11 -E\nprint()\n"
    assert subprocess.check_output([prefix / "bin/tiny"], text=True).startswith("python ")
    assert subprocess.check_output([prefix / "bin/shell"], text=True) == "here\n"
    for path in ("tiny.so", "pure.py"):
        assert (prefix / "lib/python3.11/site-packages" / path).exists()
    assert (prefix / "include/python3.11/tiny/tiny.h").exists()
    assert (prefix / "share/man/tiny.1").exists()


def test_scripts_of_a_pure_wheel_run_the_environments_python(tmp_path: Path) -> None:
    wheel = make(tmp_path, {"tiny-1.0.data/scripts/old": "#!python\nprint()\n"})
    prefix = linked(tmp_path, convert(wheel, tmp_path / "out"))
    assert (prefix / "bin/old").read_text() == f"#!{prefix}/bin/python3.11\nprint()\n"
    assert (prefix / "bin/old").stat().st_mode & 0o111


@pytest.mark.parametrize("tag", ["py3-none-any", BINARY])
def test_pip_and_importlib_see_an_installed_distribution_whose_every_file_is_there(tmp_path: Path, tag: str) -> None:
    points = "[console_scripts]\ntiny = tiny:main\n"
    files = {"tiny.py": "", "tiny-1.0.data/scripts/old": "#!python\n", "tiny-1.0.data/scripts/sh": "#!/bin/sh\n"}
    wheel = make(tmp_path, files, tag=tag, entry_points=points)
    prefix = linked(tmp_path, convert(wheel, tmp_path / "out"))
    (found,) = importlib.metadata.distributions(path=[str(prefix / "lib/python3.11/site-packages")])
    assert (found.name, found.version, (found.read_text("INSTALLER") or "").strip()) == ("tiny", "1.0", "conda")
    assert [point.name for point in found.entry_points] == ["tiny"]
    paths = [Path(str(file.locate())).resolve() for file in found.files or []]
    assert {path.name for path in paths} >= {"tiny.py", "tiny", "old", "sh", "INSTALLER", "RECORD", "METADATA"}
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("tag", ["py3-none-any", BINARY])
def test_the_same_wheel_gives_the_same_bytes(tmp_path: Path, tag: str) -> None:
    wheel = make(tmp_path, tag=tag, entry_points="[console_scripts]\ntiny = tiny:main\n")
    one, two = convert(wheel, tmp_path / "one"), convert(wheel, tmp_path / "two")
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_another_content_gives_another_build(tmp_path: Path) -> None:
    one = recipe(make(tmp_path / "1", {"tiny.py": "1"}))
    two = recipe(make(tmp_path / "2", {"tiny.py": "2"}))
    assert one.build != two.build


def test_nothing_of_this_machine_is_in_a_package(tmp_path: Path) -> None:
    package = convert(make(tmp_path), tmp_path / "out")
    with zipfile.ZipFile(package) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    prefix = linked(tmp_path, package)
    assert (prefix / "lib/python3.11/site-packages/tiny/__init__.py").stat().st_mtime == conda.MTIME


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("tampered", ["answer = 43\n", "a longer one\n"])
def test_a_file_that_is_not_what_record_says_is_named_and_nothing_is_left(
    tmp_path: Path, algorithm: str, tampered: str
) -> None:
    wheel = make(tmp_path, tampered={"tiny/__init__.py": tampered}, algorithm=algorithm)
    with pytest.raises(PackageError, match=r"tiny-1\.0.*tiny/__init__\.py"):
        convert(wheel, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_a_script_that_is_not_what_record_says_is_named(tmp_path: Path) -> None:
    name = "tiny-1.0.data/scripts/old"
    wheel = make(tmp_path, {name: "#!python\n0\n"}, tampered={name: "#!python\n1\n"})
    with pytest.raises(PackageError, match="old"):
        convert(wheel, tmp_path / "out")


def test_a_file_that_record_does_not_know_is_named(tmp_path: Path) -> None:
    wheel = make(tmp_path, tampered={"extra.py": "0"})
    with pytest.raises(PackageError, match=r"extra\.py"):
        convert(wheel, tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.py",
        "tiny/../../escaped.py",
        "/etc/escaped",
        "tiny//escaped",
        "./escaped",
        "tiny\\..\\escaped",
        "tiny-1.0.data/scripts/../../escaped",
        "tiny-1.0.data/data/../escaped",
        "tiny-1.0.data/data/conda-meta/history",
        "tiny-1.0.data/data/info/index.json",
        "tiny-1.0.data/elsewhere/file",
        "tiny-1.0.data/escaped",
    ],
)
def test_a_member_that_would_leave_its_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    wheel = make(tmp_path, {name: "0"}, tag=BINARY)
    with pytest.raises(PackageError, match=re.escape(repr(name))):
        convert(wheel, tmp_path / "out")
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize(
    "line", ["../evil = tiny:main", "a/b = tiny:main", "tiny = tiny:main.0", "tiny = os; import tiny:x", "tiny = tiny"]
)
def test_an_entry_point_that_is_no_command_is_refused(tmp_path: Path, line: str) -> None:
    wheel = make(tmp_path, tag=BINARY, entry_points=f"[console_scripts]\n{line}\n")
    with pytest.raises(PackageError, match=r"tiny-1\.0"):
        convert(wheel, tmp_path / "out")


@pytest.mark.parametrize(
    "tag",
    [
        "cp312-cp312-manylinux_2_28_x86_64",
        "cp311-cp311-win_amd64",
        "cp311-cp311-macosx_11_0_arm64",
        "cp311-cp311-manylinux_2_28_aarch64",
        "cp311-cp311-musllinux_1_2_x86_64",
        "py2-none-any",
    ],
)
def test_a_wheel_for_another_python_or_platform_is_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(PackageError, match=r"is not for Python 3\.11 on linux-64"):
        convert(make(tmp_path, tag=tag), tmp_path / "out")


@pytest.mark.parametrize(
    "tag",
    [
        "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp39-abi3-manylinux_2_34_x86_64",
        "cp311-none-manylinux1_x86_64",
        "py3-none-linux_x86_64",
        "py2.py3-none-any",
    ],
)
def test_a_wheel_for_this_python_and_platform_is_taken(tmp_path: Path, tag: str) -> None:
    assert convert(make(tmp_path, tag=tag), tmp_path / "out").exists()


def test_a_wheel_for_a_later_micro_version_is_refused_where_the_version_is_known(tmp_path: Path) -> None:
    wheel = make(tmp_path, metadata="Requires-Python: >=3.11.4\n")
    assert convert(wheel, tmp_path / "out", python="3.11").exists()
    with pytest.raises(PackageError, match=r"requires Python >=3\.11\.4"):
        convert(wheel, tmp_path / "out", python="3.11.2")


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(b"not a zip archive")
    with pytest.raises(PackageError, match=r"tiny-1\.0-py3-none-any\.whl is not a sound wheel"):
        convert(path, tmp_path / "out")


def test_a_wheel_that_is_another_one_than_its_name_says_is_refused(tmp_path: Path) -> None:
    renamed = make(tmp_path).rename(tmp_path / "tiny-2.0-py3-none-any.whl")
    with pytest.raises(PackageError, match=r"says of itself"):
        convert(renamed, tmp_path / "out")


def test_requirements_become_conda_dependencies_of_that_python_and_platform(tmp_path: Path) -> None:
    lines = [
        "Typing_Extensions >=4,!=4.5.*",
        "torch (==2.13.0)",
        "tomli; python_version < '3.11'",
        "uvloop~=0.19.1; sys_platform == 'linux'",
        "colorama; os_name == 'nt'",
        "rich; extra == 'pretty'",
        "async-timeout; python_full_version < '3.11.3'",
    ]
    wheel = make(tmp_path, metadata="Requires-Python: >=3.9\n" + "".join(f"Requires-Dist: {line}\n" for line in lines))
    package = convert(wheel, tmp_path / "out", python="3.11.2", rename={"torch": "pytorch"})
    assert index(package)["depends"] == [
        "async-timeout",
        "python >=3.9",
        "pytorch ==2.13.0",
        "typing-extensions !=4.5.*,>=4",
        "uvloop <0.20,>=0.19.1",
    ]


def test_a_binary_package_is_for_one_python_series_alone(tmp_path: Path) -> None:
    assert "python >=3.11,<3.12.0a0" in recipe(make(tmp_path, tag=BINARY)).depends


def test_an_extra_of_a_requirement_brings_what_the_extra_requires(tmp_path: Path) -> None:
    wheel = make(tmp_path, metadata="Requires-Dist: PyJWT[Crypto]>=2\n")
    depends = recipe(wheel, extras={"pyjwt[crypto]": [Requirement("cryptography>=3.4")]}).depends
    assert depends == ("cryptography >=3.4", "pyjwt >=2", "python")


def test_what_an_extra_adds_is_told_from_what_is_always_required(tmp_path: Path) -> None:
    lines = ("numpy", "scipy; extra == 'fit'", "uvloop; extra == 'fit' and sys_platform == 'win32'")
    wheel = wheels.read(make(tmp_path, metadata="".join(f"Requires-Dist: {line}\n" for line in lines)))
    assert [each.name for each in wheel.needs(TARGET)] == ["numpy"]
    assert [each.name for each in wheel.needs(TARGET, "fit")] == ["scipy"]


def test_a_local_version_stands_in_the_build_string(tmp_path: Path) -> None:
    made = index(convert(make(tmp_path, version="2.13.0+cpu", tag=BINARY), tmp_path / "out"))
    assert made["version"] == "2.13.0"
    assert str(made["build"]).startswith("cpu_py311h")


def test_a_name_is_canonical_unless_it_has_another_in_conda(tmp_path: Path) -> None:
    wheel = make(tmp_path, name="My_Tiny.Thing")
    assert recipe(wheel).name == "my-tiny-thing"
    assert recipe(wheel, rename={"my-tiny-thing": "thing"}).name == "thing"


def test_a_long_license_text_does_not_become_the_packages_license(tmp_path: Path) -> None:
    assert recipe(make(tmp_path, metadata="License-Expression: MIT\n")).license == "MIT"
    assert recipe(make(tmp_path, metadata=f"License: {'all rights ' * 50}\n")).license is None


def test_two_members_with_one_path_are_refused(tmp_path: Path) -> None:
    wheel = make(tmp_path, {"tiny.py": "0", "tiny-1.0.data/platlib/tiny.py": "1"}, tag=BINARY)
    with pytest.raises(PackageError, match=r"tiny\.py is in it twice"):
        convert(wheel, tmp_path / "out")


def test_paths_json_holds_the_hash_of_every_file(tmp_path: Path) -> None:
    from rattler import PathsJson

    paths = PathsJson.from_package_archive(convert(make(tmp_path), tmp_path / "out")).paths
    assert all(path.sha256 and path.size_in_bytes is not None for path in paths)
    assert "site-packages/tiny/__init__.py" in {str(path.relative_path) for path in paths}
