import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import offline
from tools.environment.lock import Lock, Package
from tools.errors import LockError
from tools.image import sbom

FINGERPRINT = "0123456789abcdef" * 4


def package(name: str, manager: str = "conda", *, url: str = "", **more: Any) -> Package:
    options = {"version": "1.0", "build": "h1_0", "sha256": "a" * 64, "md5": "b" * 32, "dependencies": (), **more}
    url = url or f"https://user:password@channels.example/t/token/conda-forge/linux-64/{name}-1.0-h1_0.conda"
    return Package(name=name, manager=manager, url=url, platform="linux-64", **options)


@pytest.fixture
def lock() -> Lock:
    packages = (
        package("python"),
        package(
            "pytorch", dependencies=("python", "__glibc"), url="file:///somewhere/linux-64/pytorch-1.0-h1_0.tar.bz2"
        ),
        package("typing_extensions", dependencies=("python",)),
        package("azureml-core", "pip", build="", md5=None, dependencies=("typing-extensions",)),
    )
    return Lock(
        path=Path("environments/pytorch.conda-lock.yml"),
        sha256="c" * 64,
        packages=packages,
        platforms=("linux-64",),
        stand_ins=(offline.CHANNEL,),
        spec=None,
    )


def test_it_keeps_to_the_schema_of_cyclonedx(lock: Lock) -> None:
    text = sbom.document(lock, FINGERPRINT, "linux-64")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_every_package_has_its_address_its_hashes_and_its_dependencies(lock: Lock) -> None:
    table = json.loads(sbom.document(lock, FINGERPRINT, "linux-64"))
    urls = {each["name"]: each["purl"] for each in table["components"]}
    python = "pkg:conda/python@1.0?build=h1_0&channel=conda-forge&subdir=linux-64&type=conda"
    assert urls == {
        "azureml-core": "pkg:pypi/azureml-core@1.0",
        "python": python,
        "pytorch": "pkg:conda/pytorch@1.0?build=h1_0&subdir=linux-64&type=tar.bz2",
        "typing_extensions": python.replace("/python@", "/typing_extensions@"),
    }
    hashes = {each["name"]: {one["alg"]: one["content"] for one in each["hashes"]} for each in table["components"]}
    assert hashes["python"] == {"SHA-256": "a" * 64, "MD5": "b" * 32}
    assert hashes["azureml-core"] == {"SHA-256": "a" * 64}
    needs = {each["ref"]: each.get("dependsOn", []) for each in table["dependencies"]}
    assert needs[urls["pytorch"]] == [python]
    assert needs[urls["azureml-core"]] == [urls["typing_extensions"]]
    assert needs["image"] == sorted(urls.values())


def test_the_same_lock_gives_the_same_text_in_any_order_and_with_any_hash_seed(lock: Lock) -> None:
    text = sbom.document(lock, FINGERPRINT, "linux-64")
    assert sbom.document(replace(lock, packages=lock.packages[::-1]), FINGERPRINT, "linux-64") == text
    script = (
        "import pickle, sys; from tools.image import sbom;"
        "sys.stdout.write(sbom.document(*pickle.load(sys.stdin.buffer)))"
    )
    given = pickle.dumps((lock, FINGERPRINT, "linux-64"))
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], input=given, env={"PYTHONHASHSEED": seed}, capture_output=True
        )
        assert done.stdout.decode() == text


def test_it_says_what_image_it_is_of_and_what_stood_in(lock: Lock) -> None:
    table = json.loads(sbom.document(lock, FINGERPRINT, "linux-64"))
    properties = {each["name"]: each["value"] for each in table["metadata"]["properties"]}
    assert properties["parity:fingerprint"] == FINGERPRINT
    assert properties["parity:stand-in.channel"] == offline.CHANNEL.replacement
    assert table["metadata"]["component"]["version"] == "env-0123456789ab"
    other = json.loads(sbom.document(lock, FINGERPRINT[::-1], "linux-64"))
    assert other["serialNumber"] != table["serialNumber"]


def test_no_address_password_time_or_folder_is_in_it(lock: Lock) -> None:
    text = sbom.document(lock, FINGERPRINT, "linux-64")
    for hidden in ("channels.example", "password", "token", "timestamp", "somewhere"):
        assert hidden not in text


def test_a_platform_that_is_not_locked_is_named(lock: Lock) -> None:
    with pytest.raises(LockError, match="linux-aarch64"):
        sbom.document(lock, FINGERPRINT, "linux-aarch64")
