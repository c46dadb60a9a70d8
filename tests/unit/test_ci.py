"""The workflow and the script of the CI keep what docs/ci.md promises."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "environment.yml"
SCRIPT = ROOT / "ci" / "environment.sh"
# YAML 1.1 reads the key `on` as true
TABLE: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
TRIGGERS: dict[str, Any] = TABLE[True]
STEPS = [(name, step) for name, job in TABLE["jobs"].items() for step in job["steps"]]


def test_it_is_a_workflow_by_github_s_own_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_action_is_pinned_to_a_commit_and_says_which_release_that_is() -> None:
    uses = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert len(uses) == sum("uses" in step for _, step in STEPS) > 0
    assert [each for each in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_an_action_is_the_same_release_in_every_job() -> None:
    uses = {step["uses"] for _, step in STEPS if "uses" in step}
    assert len({each.partition("@")[0] for each in uses}) == len(uses)


def test_it_may_read_the_code_and_log_in_and_nothing_else() -> None:
    assert TABLE["permissions"] == {}
    for job in TABLE["jobs"].values():
        assert job["permissions"] == {"contents": "read", "id-token": "write"}


def test_the_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("event", ["pull_request", "push"])
def test_it_runs_on_changes_of_specs_locks_and_base(event: str) -> None:
    assert {"environments/**", "docker/**"} <= set(TRIGGERS[event]["paths"])
    assert all(not path.startswith(("trainer", "tools")) for path in TRIGGERS[event]["paths"])


def test_a_proposed_change_is_only_checked_and_only_main_registers() -> None:
    check, register = TABLE["jobs"]["check"], TABLE["jobs"]["register"]
    assert check["if"] == "github.event_name == 'pull_request'"
    assert register["if"] == "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'"
    assert TRIGGERS["push"]["branches"] == ["main"]
    assert "pull_request_target" not in TRIGGERS
    commands = [step["run"] for name, step in STEPS if name == "check" and "run" in step]
    assert commands == ["ci/environment.sh lock", "ci/environment.sh check"]


def test_a_proposed_change_never_gets_the_identity_that_registers() -> None:
    identities = {name: step["with"]["client-id"] for name, step in STEPS if "client-id" in step.get("with", {})}
    assert identities["check"] != identities["register"]


def test_the_login_before_a_registration_is_a_fresh_one() -> None:
    steps = [step.get("run") or step["uses"].partition("@")[0] for name, step in STEPS if name == "register"]
    assert steps[-3:] == ["ci/environment.sh push", "azure/login", "ci/environment.sh register"]


def test_a_fork_is_not_asked_to_log_in() -> None:
    ours = "github.event.pull_request.head.repo.full_name == github.repository"
    steps = [step for name, step in STEPS if name == "check"]
    login = next(i for i, step in enumerate(steps) if step.get("uses", "").startswith("azure/login@"))
    assert [step["if"] for step in steps[login:]] == [ours] * len(steps[login:])


def test_one_registration_at_a_time_and_none_is_broken_off() -> None:
    concurrency = TABLE["concurrency"]
    assert concurrency["group"] == "environment-${{ github.ref }}"
    assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def test_nothing_of_an_event_is_put_into_a_shell_s_command_and_there_is_no_secret() -> None:
    assert [step["run"] for _, step in STEPS if "${{" in step.get("run", "")] == []
    assert "secrets." not in WORKFLOW.read_text()


def test_no_stand_in_is_registered() -> None:
    assert TABLE["env"]["PARITY_OFFLINE"] == "never"


def test_the_script_is_one_for_every_shell_and_may_be_run() -> None:
    assert SCRIPT.read_text().startswith("#!/bin/sh\n")
    assert SCRIPT.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", SCRIPT], check=True)
