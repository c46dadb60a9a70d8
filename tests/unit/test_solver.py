import base64
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_channel import TinyChannel

ROOT = Path(__file__).parents[2]


@pytest.fixture
def channel(tmp_path):
    channel = TinyChannel(tmp_path / "channel")
    channel.add("python", "3.10.1", subdir="linux-64")
    channel.add("python", "3.11.5", subdir="linux-64")
    channel.add("python", "3.11.5", subdir="linux-aarch64")
    channel.add("numpy", "1.0", depends=["python"], subdir="linux-64")
    channel.add("numpy", "2.0", depends=["python >=3.11"], subdir="linux-64")
    return channel


def conda(*arguments, platform="linux-64", **variables):
    environment = os.environ | {"CONDA_SUBDIR": platform, "PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "tools.environment.solver", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def create(*specs, channels, **options):
    named = [argument for url in channels for argument in ("--channel", url)]
    flags = ("--prefix", "/nowhere", "--dry-run", "--json", "--override-channels")
    answer = conda("create", *flags, *named, *specs, **options)
    assert answer.stderr == ""
    return answer.returncode, json.loads(answer.stdout)


def versions(plan):
    return {package["name"]: package["version"] for package in plan["actions"]["FETCH"]}


def test_it_says_a_version_as_conda_does():
    answer = conda("--version")
    assert answer.returncode == 0
    assert answer.stdout.startswith("conda 2")


def test_a_plan_has_the_newest_packages_with_addresses_and_hashes(channel):
    code, plan = create("numpy", "python=3.11", channels=[channel.url])
    assert code == 0
    assert versions(plan) == {"numpy": "2.0", "python": "3.11.5"}
    fetch = plan["actions"]["FETCH"][0]
    assert fetch["url"] == f"{channel.url}/linux-64/numpy-2.0-0.conda"
    assert fetch["depends"] == ["python >=3.11"]
    assert (len(fetch["md5"]), len(fetch["sha256"])) == (32, 64)
    assert plan["actions"]["LINK"][0]["dist_name"] == "numpy-2.0-0"


def test_versions_are_held_by_the_specs(channel):
    _, plan = create("numpy", "python=3.10", channels=[channel.url])
    assert versions(plan) == {"numpy": "1.0", "python": "3.10.1"}


def test_the_platform_is_conda_subdir_not_this_machine(channel):
    code, plan = create("python", channels=[channel.url], platform="linux-aarch64")
    assert code == 0
    assert "/linux-aarch64/" in plan["actions"]["FETCH"][0]["url"]


def test_the_first_channel_with_a_package_is_the_only_one_for_it(channel, tmp_path):
    first = TinyChannel(tmp_path / "first")
    first.add("numpy", "1.5", subdir="linux-64")
    _, plan = create("numpy", channels=[first.url, channel.url])
    assert versions(plan) == {"numpy": "1.5"}


def test_virtual_packages_come_from_their_channel(channel, tmp_path):
    channel.add("torch", "2.0", depends=["__cuda >=12"], build="cuda", subdir="linux-64")
    channel.add("torch", "1.0", build="cpu", subdir="linux-64")
    virtual = TinyChannel(tmp_path / "virtual")
    assert versions(create("torch", channels=[channel.url, virtual.url])[1])["torch"] == "1.0"
    virtual.add("__cuda", "12.4", subdir="linux-64")
    assert versions(create("torch", channels=[channel.url, virtual.url])[1])["torch"] == "2.0"


def test_no_solution_is_told_in_condas_form_with_the_reason(channel, tmp_path):
    reason = tmp_path / "reason.json"
    code, answer = create("numpy=2", "python=3.10", channels=[channel.url], PARITY_SOLVER_REASON=str(reason))
    assert code == 1
    assert answer["error"] == "SolverError"
    assert "numpy" in answer["message"]
    assert "python >=3.11" in answer["message"]
    assert json.loads(reason.read_text())["message"] == answer["message"]


def test_a_channel_that_is_not_there_is_no_unsolvable_spec(tmp_path):
    code, answer = create("numpy", channels=[(tmp_path / "none").as_uri()])
    assert code == 1
    assert answer["error"] != "SolverError"


class _WithPassword(http.server.SimpleHTTPRequestHandler):
    expected = "Basic " + base64.b64encode(b"me:p@ss").decode()

    def send_head(self):
        if self.headers.get("Authorization") != self.expected:
            self.send_error(401)
            return None
        return super().send_head()

    def log_message(self, *_):
        pass


@pytest.fixture
def served(channel):
    handler = functools.partial(_WithPassword, directory=str(channel.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_channel_over_http_asks_for_its_credentials_in_rattlers_file(served, tmp_path):
    cache = {"RATTLER_CACHE_DIR": str(tmp_path / "cache")}
    code, _ = create("numpy", channels=[served], **cache)
    assert code == 1
    login = tmp_path / "login.json"
    login.write_text(json.dumps({"127.0.0.1": {"BasicHTTP": {"username": "me", "password": "p@ss"}}}))
    code, plan = create("numpy", channels=[served], RATTLER_AUTH_FILE=str(login), **cache)
    assert code == 0
    assert versions(plan)["numpy"] == "2.0"
    assert "p@ss" not in json.dumps(plan)
