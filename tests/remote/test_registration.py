"""Registering images as Environments, with the real azureml-core against the rehearsal workspace."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import services
from workspaces import ROOT, SETTINGS, Rehearsal

A, B = "a" * 64, "b" * 64  # fingerprints
COMMIT = "c" * 40
REPOSITORY = "registry.example/team/parity"
# One process for many tests, since azureml-core takes seconds to import: it evaluates what it reads, line by line.
SHELL = """
import json, pathlib, sys, time
from azureml.core import Environment, Workspace
from tools import registration
from tools.errors import ParityError

ws = Workspace.from_config()

def candidate(fingerprint, repository="registry.example/team/parity", shm_size="2g"):
    return registration.Candidate(
        name=name, repository=repository, fingerprint=fingerprint, lock_sha256=fingerprint[::-1], commit="c" * 40,
        shm_size=shm_size,
    )

def digest(fingerprint):
    return "sha256:" + fingerprint[::-1]

def register(fingerprint, **others):
    return registration.register(ws, candidate(fingerprint, **others), lambda: digest(fingerprint))

def by_hand(image, version=None):
    environment = Environment.from_docker_image(name, image)
    environment.version = version
    return environment.register(ws)

def newest():
    return Environment.get(ws, name)

def labelled(label):
    return Environment.get(ws, name, label=label).version

def rivalled(image):
    "Gives the digest; then a rival registers the version just before it is registered."
    original = Environment.register

    def late(environment, workspace):
        Environment.register = original
        by_hand(image, environment.version)
        return original(environment, workspace)

    Environment.register = late
    return digest("a" * 64)

for line in sys.stdin:
    name, expression = json.loads(line)
    try:
        said = eval(expression)
    except ParityError as error:
        said = str(error)
    print(json.dumps(said, default=vars), flush=True)
"""
_numbers = itertools.count()


class Shell:
    """A process with azureml-core. `says` is the value of an expression in it; a ParityError is told as its text."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHELL],
            cwd=rehearsal.root,
            env={**os.environ, **rehearsal.variables(), "HOME": str(rehearsal.home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str, expression: str) -> None:
        assert self.process.stdin
        print(json.dumps([name, expression]), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)


@dataclass(frozen=True)
class Name:
    """An Environment's name that no other test has."""

    name: str
    shell: Shell

    def says(self, expression: str) -> Any:
        self.shell.ask(self.name, expression)
        return self.shell.answer()


@pytest.fixture(scope="module")
def shells(rehearsal: Rehearsal) -> Iterator[list[Shell]]:
    made = [Shell(rehearsal) for _ in range(2)]
    yield made
    for shell in made:
        shell.end()


@pytest.fixture
def name(shells: list[Shell]) -> Name:
    return Name(f"registered-{next(_numbers)}", shells[0])


def test_the_first_registration_is_by_digest_and_installs_nothing(name: Name) -> None:
    said = name.says("register('a' * 64).reference")
    assert said == f"{name.name}:1-{A[:12]}"
    found = name.says(
        "(lambda e: [e.docker.base_image, e.python.user_managed_dependencies, e.docker.shm_size])(newest())"
    )
    assert found == [f"{REPOSITORY}@sha256:{A}", True, "2g"]
    assert name.says("dict(newest().environment_variables or {})") == {}


def test_its_labels_carry_fingerprint_lock_and_commit(name: Name) -> None:
    name.says("register('a' * 64)")
    for label in (f"fingerprint-{A}", f"lock-{A}", f"commit-{COMMIT}"):
        assert name.says(f"labelled({label!r})") == f"1-{A[:12]}"


def test_the_same_fingerprint_again_registers_nothing_and_needs_no_image(name: Name) -> None:
    name.says("register('a' * 64)")
    again = name.says("registration.register(ws, candidate('a' * 64), lambda: 1 / 0)")
    assert (again["version"], again["new"]) == (f"1-{A[:12]}", False)


def test_check_says_whether_and_why(name: Name) -> None:
    assert name.says("registration.check(ws, candidate('a' * 64))") == [None, "it is not registered yet"]
    name.says("register('a' * 64)")
    found, why = name.says("registration.check(ws, candidate('a' * 64))")
    assert (found["version"], why) == (f"1-{A[:12]}", None)
    found, why = name.says("registration.check(ws, candidate('b' * 64))")
    assert found["version"] == f"1-{A[:12]}"
    assert "another fingerprint" in why
    assert name.says("newest().version") == f"1-{A[:12]}"


def test_another_fingerprint_is_a_new_version_and_the_first_one_again_is_in_force(name: Name) -> None:
    versions = name.says("[register(each * 64).version for each in 'aba']")
    assert versions == [f"1-{A[:12]}", f"2-{B[:12]}", f"3-{A[:12]}"]
    assert name.says("newest().version") == f"3-{A[:12]}"
    assert name.says(f"labelled('fingerprint-{A}')") == f"3-{A[:12]}"


@pytest.mark.parametrize(
    ("others", "why"),
    [("repository='elsewhere.example/parity'", "not of elsewhere.example/parity"), ("shm_size='8g'", "shm_size of 2g")],
)
def test_the_same_image_elsewhere_or_with_other_resources_is_a_new_version(name: Name, others: str, why: str) -> None:
    name.says("register('a' * 64)")
    assert why in name.says(f"registration.check(ws, candidate('a' * 64, {others}))[1]")
    assert name.says(f"register('a' * 64, {others}).version") == f"2-{A[:12]}"


def test_what_was_registered_by_hand_is_followed_by_ours(name: Name) -> None:
    name.says("register('a' * 64)")
    name.says("by_hand('elsewhere.example/other').version")
    assert name.says("register('a' * 64).version") == f"2-{A[:12]}"
    assert name.says("newest().version") == f"2-{A[:12]}"


def test_a_registration_that_was_broken_off_before_its_labels_gets_them(name: Name) -> None:
    name.says("by_hand(f'{candidate(\"a\" * 64).repository}@{digest(\"a\" * 64)}', '1-' + 'a' * 12).version")
    again = name.says("register('a' * 64)")
    assert (again["version"], again["new"]) == (f"1-{A[:12]}", False)
    assert name.says(f"labelled('lock-{A}')") == f"1-{A[:12]}"


def test_a_rival_with_the_same_image_is_agreed_with(name: Name) -> None:
    said = name.says(f"registration.register(ws, candidate('a' * 64), lambda: rivalled('{REPOSITORY}@sha256:{A}'))")
    assert said["version"] == f"1-{A[:12]}"
    assert name.says("newest().version") == f"1-{A[:12]}"


def test_a_rival_with_another_image_is_an_error_in_the_service_s_words(name: Name) -> None:
    said = name.says("registration.register(ws, candidate('a' * 64), lambda: rivalled('other.example/image'))")
    assert f"registering {name.name}:1-{A[:12]}" in said
    assert "is already registered and cannot be changed" in said


def test_two_at_once_end_with_one_version(name: Name, shells: list[Shell]) -> None:
    name.says("register('b' * 64)")
    for shell in shells:
        shell.ask(name.name, "register('a' * 64).version")
    assert [shell.answer() for shell in shells] == [f"2-{A[:12]}"] * 2
    assert name.says("newest().version") == f"2-{A[:12]}"


def test_many_at_once_end_with_one_version_each_time(name: Name, shells: list[Shell]) -> None:
    for count in range(1, 9):
        for shell in shells:
            shell.ask(name.name, f"register('{count % 2}' * 64).version")
        assert {shell.answer() for shell in shells} == {f"{count}-{str(count % 2) * 12}"}


def test_what_the_service_refuses_fails_with_its_text(name: Name) -> None:
    curated = Name(f"AzureML-{name.name}", name.shell)
    assert "Environment name can not start with the prefix AzureML" in curated.says("register('a' * 64)")


# --- the verb, as a person or a CI types it


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with services.registry(tmp_path_factory.mktemp("registry") / "r") as address:
        yield address


@pytest.fixture
def project(tmp_path: Path, rehearsal: Rehearsal) -> Callable[..., Rehearsal]:
    """A project of its own that is pointed to the shared workspace."""

    def make(name: str, *, registry: str = "") -> Rehearsal:
        settings = f'{SETTINGS}[image]\nname = "{name}"\nregistry = "{registry}"\n'
        made = Rehearsal(tmp_path / "project", settings=settings)
        variables = rehearsal.variables()
        shutil.copytree(rehearsal.root / ".azureml", made.root / ".azureml")
        made.variables = lambda: variables  # type: ignore[method-assign]
        return made

    return make


def verb(project: Rehearsal, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.parity(*arguments, **project.variables(), HOME=str(project.home))


def test_without_a_registry_nothing_is_registered(project: Callable[..., Rehearsal]) -> None:
    done = verb(project("unset"), "register")
    assert (done.returncode, done.stdout) == (11, "")
    assert "image.registry is not set" in done.stderr


def test_an_image_that_was_not_pushed_is_told_with_the_next_command(
    project: Callable[..., Rehearsal], registry: str
) -> None:
    done = verb(project("unpushed", registry=registry), "register")
    assert (done.returncode, done.stdout) == (19, "")
    assert f"is not in {registry}/unpushed" in done.stderr
    assert "next:     make push" in done.stderr


def test_a_workspace_that_refuses_the_login_is_told(project: Callable[..., Rehearsal], registry: str) -> None:
    made = project("unknown", registry=registry)
    endpoint = made.variables()["MSI_ENDPOINT"].replace("/msi/", "/msi/not-")
    done = made.parity("register", **{**made.variables(), "MSI_ENDPOINT": endpoint, "HOME": str(made.home)})
    assert (done.returncode, done.stdout) == (27, "")
    assert "Traceback" not in done.stderr


def test_a_rehearsal_without_a_registry_registers_the_image_by_its_id(rehearsal: Rehearsal, image: str) -> None:
    variables = rehearsal.variables()
    assert rehearsal.parity("register", "--check", **variables).returncode == 1
    done = rehearsal.parity("register", **variables)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"parity-small:1-[0-9a-f]{12}\n", done.stdout)
    assert rehearsal.parity("register", "--check", **variables).stdout == done.stdout
    found = json.loads(rehearsal.parity("register", "--json", **variables).stdout)
    assert re.fullmatch(r"parity@sha256:[0-9a-f]{64}", found["image"])
    assert found["version"].endswith(image.partition(":env-")[2])
    assert not found["new"]


class CI:
    """A checkout in a CI without an engine: the project, its Makefile and ci/, and a .venv that is set up already."""

    def __init__(self, project: Rehearsal) -> None:
        self.project, root = project, project.root
        for name in ("ci", "requirements"):
            shutil.copytree(ROOT / name, root / name)
        shutil.copy(ROOT / "Makefile", root / "Makefile")
        (root / ".venv").mkdir()
        for entry in (ROOT / ".venv").iterdir():
            if entry.suffix != ".done":
                (root / ".venv" / entry.name).symlink_to(entry)
        for name in ("run", "azure"):
            (root / ".venv" / f"{name}.done").touch()
        offline = root / ".parity" / "offline"  # with locks of its own, since its spec changes
        shared = offline.resolve()
        offline.unlink()
        offline.mkdir()
        (offline / "channel").symlink_to(shared / "channel")

    def does(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.project.root / "ci" / "environment.sh", *arguments],
            env={
                **os.environ,
                **self.project.variables(),
                "HOME": str(self.project.home),
                "DOCKER_HOST": "unix:///nowhere.sock",
            },
            capture_output=True,
            text=True,
            check=False,
        )


def test_the_steps_of_a_ci_end_with_a_registered_image_and_repeat_without_effect(
    project: Callable[..., Rehearsal], registry: str
) -> None:
    ci = CI(project("ci", registry=f"{registry}/team"))
    spec = ci.project.root / "environments" / "small.yml"
    assert ci.does("lock").returncode == 1
    assert ci.project.parity("lock").returncode == 0
    assert ci.does("lock").returncode == 0

    proposed = ci.does("check")
    assert proposed.returncode == 0, proposed.stderr
    assert "needed: it is not registered yet" in proposed.stderr

    first = ci.does("register")
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(r"ci-small:1-[0-9a-f]{12}\n", first.stdout)
    image = ci.project.answer(
        "print(json.dumps(__import__('azureml.core').core.Environment.get(ws, 'ci-small').docker.base_image))"
    )
    assert re.fullmatch(rf"{registry}/team/ci@sha256:[0-9a-f]{{64}}", image)

    assert ci.does("register").stdout == first.stdout
    assert ci.does("check").stdout == first.stdout

    spec.write_text("channels: [conda-forge]\ndependencies: [python=3.11, tqdm]\n")
    stale = ci.does("register")
    assert (stale.returncode, stale.stdout) == (1, "")
    assert "stale:" in stale.stderr
    assert ci.project.parity("lock").returncode == 0
    second = ci.does("register", "small")
    assert re.fullmatch(r"ci-small:2-[0-9a-f]{12}\n", second.stdout), second.stderr


def test_a_ci_without_a_login_fails(project: Callable[..., Rehearsal], registry: str) -> None:
    ci = CI(project("nobody", registry=registry))
    shutil.rmtree(ci.project.root / ".azureml")
    ci.project.parity("lock")
    done = ci.does("check")
    assert (done.returncode, done.stdout) == (27, "")
    assert "no workspace is named" in done.stderr


def test_a_wrong_step_is_told_what_there_is() -> None:
    done = subprocess.run([ROOT / "ci" / "environment.sh", "regsiter"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ci/environment.sh register" in done.stderr
