import dataclasses
import json
import shutil
import time
from collections import namedtuple
from pathlib import Path

import fake_engine
import pytest

from tools import doctor, endpoint, offline, settings
from tools.doctor import Check
from tools.environment import index
from tools.settings import Settings

ROOT = Path(__file__).parents[2]
ONLINE = {"container registry", "conda channel", "data set"}
NO_IMAGE = {"/images/debian:bookworm-slim/json": fake_engine.refusing(404, "No such image: debian:bookworm-slim")}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project on a machine without an engine and without a network, but with pip's index."""
    (tmp_path / "parity.toml").touch()
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "pytorch.yml").write_text("channels: [conda-forge]\ndependencies: [python=3.11]\n")
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "train.py").touch()
    monkeypatch.delenv(offline.VARIABLE, raising=False)
    monkeypatch.setenv("PARITY_ENGINE", "never")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr(offline, "answers", lambda url: "index" in url)
    monkeypatch.setattr(
        index, "configured", lambda: index.Index(urls=("https://index.invalid/simple",), environment={})
    )
    return settings.load(tmp_path)


def looked_at(project: Settings) -> dict[str, Check]:
    return {check.name: check for check in doctor.checks(project)}


def with_engine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/e.sock")


def test_whatever_is_missing_says_what_to_type(project: Settings) -> None:
    found = looked_at(project)
    missing = [check for check in found.values() if not check.ok]
    assert {check.name for check in missing} == {"engine", "container registry", "lock"}
    for check in missing:
        assert check.command
        assert check.command in str(check)
    assert found["lock"].command == "make lock"


def test_what_a_stand_in_replaces_is_no_error(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = NO_IMAGE | {"/distribution/debian:bookworm-slim/json": fake_engine.refusing(500, "no such host")}
    with fake_engine.short_folder() as folder, fake_engine.engine(folder / "e.sock", answers):
        with_engine(monkeypatch, folder)
        found = looked_at(project)
    for name in ONLINE:
        assert found[name].ok
        assert found[name].stand_in
        assert str(found[name]).startswith("stand-in")
    assert str(found["azure"]).startswith("note")


def test_a_refused_stand_in_leaves_an_error(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(offline.VARIABLE, "never")
    found = looked_at(project)
    assert not found["conda channel"].ok
    assert not found["data set"].ok
    assert "unset PARITY_OFFLINE" in (found["conda channel"].command or "")


def test_a_network_that_answers_is_ok(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "answers", lambda url: True)
    found_there = {"Descriptor": {"digest": "sha256:0"}, "Platforms": []}
    answers = NO_IMAGE | {"/distribution/debian:bookworm-slim/json": found_there}
    with fake_engine.short_folder() as folder, fake_engine.engine(folder / "e.sock", answers):
        with_engine(monkeypatch, folder)
        found = looked_at(project)
    assert {name for name in ONLINE if found[name].ok and not found[name].stand_in} == ONLINE


def test_the_engine_is_told_by_version_and_place(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_engine.short_folder() as folder, fake_engine.engine(folder / "e.sock"):
        with_engine(monkeypatch, folder)
        check = looked_at(project)["engine"]
    assert check.ok
    assert check.command is None
    for part in ("Docker 99.1", f"unix://{folder}/e.sock", "linux-64", "no GPU"):
        assert part in check.detail


def test_an_engine_of_another_platform_is_noted(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"/version": fake_engine.VERSION | {"Arch": "arm64"}}
    with fake_engine.short_folder() as folder, fake_engine.engine(folder / "e.sock", answers):
        with_engine(monkeypatch, folder)
        check = looked_at(project)["engine"]
    assert check.ok
    assert "emulation" in check.detail
    assert str(check).startswith("note")


def test_a_nearly_full_disk_is_noted(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**9))
    check = looked_at(project)["disk"]
    assert "1,000.0 MB free" in check.detail
    assert check.command
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**11))
    assert looked_at(project)["disk"].command is None


def test_a_source_directory_that_is_not_there_is_missing(project: Settings) -> None:
    assert looked_at(project)["source"].ok
    shutil.rmtree(project.source)
    check = looked_at(project)["source"]
    assert not check.ok
    assert str(project.source) in check.detail


def test_a_project_without_a_data_set_misses_none(project: Settings) -> None:
    none = project.data.model_copy(update={"path": "", "dataset": "none"})
    check = looked_at(project.model_copy(update={"data": none}))["data set"]
    assert check.ok
    assert "none" in check.detail


def test_the_toolkits_own_venv_serves_a_project_elsewhere(
    project: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.project.TOOLKIT == ROOT
    monkeypatch.setattr(doctor.sys, "prefix", str(ROOT / ".venv"))
    assert looked_at(project)["python"].command is None
    monkeypatch.setattr(doctor.sys, "prefix", str(tmp_path / "other"))
    assert "make setup" in (looked_at(project)["python"].command or "")


def test_the_workspace_is_that_of_its_file_or_of_the_settings(project: Settings) -> None:
    found = looked_at(project)["workspace"]
    assert "config.json" in (found.command or "")
    assert "make rehearse does not" in found.detail
    (project.root / ".azureml").mkdir()
    (project.root / ".azureml" / "config.json").write_text("{}")
    assert looked_at(project)["workspace"].command is None
    named = project.azureml.model_copy(update={"workspace": "mine", "config": "nowhere"})
    found = looked_at(project.model_copy(update={"azureml": named}))["workspace"]
    assert found.command is None
    assert "mine" in found.detail


def test_where_azure_does_not_answer_a_rehearsal_is_proposed(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "answers", lambda url: False)
    found = looked_at(project)["azure"]
    assert found.ok
    assert "make rehearse" in (found.command or "")


def test_a_package_index_that_does_not_answer_is_missing(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_at(project)["package index"].ok
    monkeypatch.setattr(offline, "answers", lambda url: False)
    assert not looked_at(project)["package index"].ok


def test_whatever_does_not_answer_is_given_up_in_time(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 0.5)
    monkeypatch.setattr(endpoint, "PING_SECONDS", 5)
    monkeypatch.setattr(offline, "answers", lambda url: time.sleep(5))
    with (
        fake_engine.short_folder() as folder,
        fake_engine.engine(folder / "e.sock", {"/version": fake_engine.silent}),
    ):
        with_engine(monkeypatch, folder)
        started = time.monotonic()
        found = looked_at(project)
        assert time.monotonic() - started < 1.5
    for name in ("engine", "azure", "conda channel"):
        assert not found[name].ok
        assert "no answer" in found[name].detail
    assert found["source"].ok


def test_the_order_is_always_the_same_and_all_of_it_is_json(project: Settings) -> None:
    names = [check.name for check in doctor.checks(project)]
    assert names[0] == "engine"
    assert names == [check.name for check in doctor.checks(project)]
    table = json.loads(json.dumps([dataclasses.asdict(check) for check in doctor.checks(project)]))
    assert set(table[0]) == {"name", "ok", "detail", "stand_in", "command"}
