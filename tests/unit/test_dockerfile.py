import shlex
from pathlib import Path
from typing import Any

import pytest

from tools.environment.lock import Lock, Package
from tools.image import dockerfile
from tools.settings import Image, Settings

ROOT = Path(__file__).parents[2]
CHANNEL = "https://me:password@channels.example/conda-forge"


def package(name: str, url: str, manager: Any = "conda", platform: str = "linux-64") -> Package:
    return Package(
        name=name,
        version="1.0",
        build="h1_0",
        manager=manager,
        url=url,
        sha256=name[0] * 64,
        md5=None,
        platform=platform,
        dependencies=(),
    )


def lock(*packages: Package) -> Lock:
    return Lock(
        path=Path("environments/pytorch.conda-lock.yml"),
        sha256="c" * 64,
        packages=packages,
        platforms=("linux-64", "linux-aarch64"),
        stand_ins=(),
        spec=None,
    )


def text(*packages: Package, platform: Any = "linux-64") -> str:
    return dockerfile.text(Settings(root=ROOT, image=Image(platform=platform)), lock(*packages))


def written(dockerfile_text: str, path: str) -> list[str]:
    """The lines that a RUN writes to a file, as a shell reads them."""
    words = shlex.split(dockerfile_text.replace("\\\n", " "), comments=True)
    end = words.index(path)
    start = max(index for index, word in enumerate(words[:end]) if word == "%s\\n")
    return words[start + 1 : end - 1]


def test_every_package_of_a_channel_stands_in_it_with_its_sha256_and_without_a_password() -> None:
    found = text(
        package("aa", f"{CHANNEL}/linux-64/aa-1.0-h1_0.conda"), package("bb", f"{CHANNEL}/noarch/bb-1.0-h1_0.conda")
    )
    assert written(found, "/tmp/explicit.txt") == [
        "@EXPLICIT",
        f"https://channels.example/conda-forge/linux-64/aa-1.0-h1_0.conda#{'a' * 64}",
        f"https://channels.example/conda-forge/noarch/bb-1.0-h1_0.conda#{'b' * 64}",
    ]
    assert "password" not in found
    assert "COPY --from=installer /opt/env /opt/env" in found
    assert found.count("COPY") == 1
    assert "- < Dockerfile" in found


def test_packages_on_this_machine_come_from_the_build_context_and_no_folder_is_told() -> None:
    local = package("aa", "file:///home/me/channel/linux-64/aa-1.0-h1_0.conda")
    found = text(local, package("bb", f"{CHANNEL}/noarch/bb-1.0-h1_0.conda"))
    assert "COPY linux-64/aa-1.0-h1_0.conda \\\n      /tmp/packages/linux-64/\n" in found
    assert f"file:///tmp/packages/linux-64/aa-1.0-h1_0.conda#{'a' * 64}" in written(found, "/tmp/explicit.txt")
    assert "/home/me" not in found
    assert dockerfile.context(lock(local), "linux-64") == {"linux-64/aa-1.0-h1_0.conda": local.url}


def test_wheels_are_installed_by_pip_each_by_its_hash_and_nothing_else() -> None:
    found = text(
        package("python", f"{CHANNEL}/linux-64/python-1.0-h1_0.conda"),
        package("dd", "https://me:password@wheels.example/dd-1.0-py3-none-any.whl", "pip"),
    )
    assert written(found, "/tmp/requirements.txt") == [
        f"dd @ https://wheels.example/dd-1.0-py3-none-any.whl --hash=sha256:{'d' * 64}"
    ]
    assert "--no-deps --require-hashes" in found
    assert "password" not in found
    assert "pip" not in text(package("python", f"{CHANNEL}/linux-64/python-1.0-h1_0.conda"))


def test_only_the_packages_of_the_platform_are_in_it() -> None:
    packages = [
        package("aa", f"{CHANNEL}/linux-64/aa-1.0-h1_0.conda"),
        package("bb", f"{CHANNEL}/linux-aarch64/bb-1.0-h1_0.conda", platform="linux-aarch64"),
    ]
    found = text(*packages, platform="linux-aarch64")
    assert "aa-1.0" not in found
    assert "bb-1.0" in found
    assert "--platform linux/arm64" in found


def test_it_starts_from_the_base_of_the_project() -> None:
    found = text(package("aa", f"{CHANNEL}/linux-64/aa-1.0-h1_0.conda"))
    reference = (ROOT / "docker/Dockerfile").read_text().partition("\nFROM ")[2].split()[0]
    assert f"ARG BASE={reference}\n" in found
    assert "ca-certificates" in found


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b"])
def test_odd_names_stay_one_word_of_the_shell(name: str) -> None:
    url = f"https://channels.example/linux-64/{name}.conda"
    assert written(text(package("aa", url)), "/tmp/explicit.txt")[1] == f"{url}#{'a' * 64}"
