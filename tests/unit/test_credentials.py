import base64
import json
from pathlib import Path

import pytest

from tools.errors import RegistryError
from tools.image import credentials
from tools.image.credentials import Credentials

HOST = "myacr.azurecr.io"


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "config.json"


def auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int = 0) -> None:
    program = folder / "docker-credential-test"
    program.write_text(
        f"#!/bin/sh\nread host\n[ \"$1 $host\" = 'get {HOST}' ] || exit 9\necho '{answer}'\nexit {code}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_no_config_is_no_login(docker_config: Path) -> None:
    assert credentials.find(HOST) is None


def test_user_and_password_are_read_from_auths(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"auths": {HOST: {"auth": auth("me", "a:b")}, "other": {}}}))
    assert credentials.find(HOST) == Credentials(username="me", password="a:b")
    assert credentials.find("other") is None
    assert credentials.find("127.0.0.1:5000") is None


def test_the_identity_token_of_az_acr_login_is_read_from_auths(docker_config: Path) -> None:
    entry = {"auth": auth("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "refresh"}
    docker_config.write_text(json.dumps({"auths": {HOST: entry}}))
    found = credentials.find(HOST)
    assert found == Credentials(identity_token="refresh")
    assert found.for_engine(HOST) == {"identitytoken": "refresh", "serveraddress": HOST}


@pytest.mark.parametrize("where", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
def test_a_helper_is_asked(docker_config: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, object]) -> None:
    docker_config.write_text(json.dumps({"auths": {HOST: {}}, **where}))
    helper(docker_config.parent, monkeypatch, '{"Username": "me", "Secret": "s"}')
    assert credentials.find(HOST) == Credentials(username="me", password="s")
    helper(docker_config.parent, monkeypatch, '{"Username": "<token>", "Secret": "refresh"}')
    assert credentials.find(HOST) == Credentials(identity_token="refresh")


def test_a_helper_that_knows_no_login_is_no_error(docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_config.write_text(json.dumps({"credsStore": "test"}))
    helper(docker_config.parent, monkeypatch, "credentials not found in native keychain", code=1)
    assert credentials.find(HOST) is None


def test_a_missing_helper_is_named(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"credsStore": "nowhere"}))
    with pytest.raises(RegistryError, match="docker-credential-nowhere") as caught:
        credentials.find(HOST)
    assert caught.value.command == "az acr login --name myacr"


@pytest.mark.parametrize("entry", [{"auth": "%%%"}, {"auth": "bm9jb2xvbg=="}, "text"])
def test_an_entry_that_is_not_dockers_is_an_error_without_its_content(docker_config: Path, entry: object) -> None:
    docker_config.write_text(json.dumps({"auths": {HOST: entry}}))
    with pytest.raises(RegistryError, match=r"config\.json") as caught:
        credentials.find(HOST)
    assert "nocolon" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "command"),
    [
        (HOST, "az acr login --name myacr"),
        ("myacr-a1b2c3.azurecr.io", "az acr login --name myacr"),
        ("myacr.azurecr.us", "az acr login --name myacr"),
        ("127.0.0.1:5000", "docker login 127.0.0.1:5000"),
        ("ghcr.io", "docker login ghcr.io"),
    ],
)
def test_the_login_to_do_is_the_registrys_own(host: str, command: str) -> None:
    assert credentials.login(host) == command


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Credentials(username="me", password="hush", identity_token="hush"))
