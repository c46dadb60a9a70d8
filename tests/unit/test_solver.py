import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_channel import PasswordHandler, TinyChannel

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


@pytest.fixture
def old_lock(channel, tmp_path):
    """A lock of numpy 1.0, tqdm 4.0 and python 3.10.1; the channel has newer ones of each."""
    channel.add("tqdm", "4.0", depends=["python"])
    channel.add("tqdm", "5.0", depends=["python"])
    held = {"numpy": ("1.0", "linux-64"), "python": ("3.10.1", "linux-64"), "tqdm": ("4.0", "noarch")}
    packages = [
        {
            "name": name,
            "version": version,
            "manager": "conda",
            "platform": "linux-64",
            "url": f"https://mirror.example/{subdir}/{name}-{version}-0.conda",
            "hash": {"sha256": hashlib.sha256(f"{name}-{version}-0".encode()).hexdigest()},
        }
        for name, (version, subdir) in held.items()
    ]
    path = tmp_path / "old.conda-lock.yml"
    path.write_text(json.dumps({"version": 1, "metadata": {"platforms": ["linux-64"]}, "package": packages}))
    return str(path)


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


@pytest.mark.parametrize(
    ("move", "specs", "expected"),
    [
        ("", ("numpy", "tqdm"), {"numpy": "1.0", "python": "3.10.1", "tqdm": "4.0"}),
        ("tqdm", ("numpy", "tqdm"), {"numpy": "1.0", "python": "3.10.1", "tqdm": "5.0"}),
        ("tqdm", ("numpy", "tqdm<5"), {"numpy": "1.0", "python": "3.10.1", "tqdm": "4.0"}),
        ("python", ("numpy", "tqdm"), {"numpy": "1.0", "python": "3.11.5", "tqdm": "4.0"}),  # not in the specs
        ("numpy", ("numpy", "tqdm"), {"numpy": "2.0", "python": "3.11.5", "tqdm": "4.0"}),  # needs a newer python
    ],
)
def test_packages_of_an_older_lock_stay_but_for_those_that_may_move(channel, old_lock, move, specs, expected):
    variables = {"PARITY_SOLVER_KEEP": old_lock, "PARITY_SOLVER_MOVE": move}
    _, plan = create(*specs, channels=[channel.url], **variables)
    assert versions(plan) == expected


def test_a_package_that_may_move_takes_along_what_held_it_back(channel, old_lock, tmp_path):
    channel.add("tqdm", "3.0", depends=["python"])
    channel.add("tqdm", "6.0", depends=["python"])
    channel.add("tool", "1.0", depends=["tqdm <5"])
    channel.add("tool", "2.0", depends=["tqdm"])
    table = json.loads(Path(old_lock).read_text())
    tool = table["package"][2] | {
        "name": "tool",
        "version": "1.0",
        "url": "https://mirror.example/noarch/tool-1.0-0.conda",
        "hash": {"sha256": hashlib.sha256(b"tool-1.0-0").hexdigest()},
    }
    table["package"].append(tool)
    Path(old_lock).write_text(json.dumps(table))
    held = {"PARITY_SOLVER_KEEP": old_lock, "PARITY_SOLVER_MOVE": "tqdm"}
    _, plan = create("tool", "numpy", channels=[channel.url], **held)
    assert versions(plan) == {"tool": "2.0", "tqdm": "6.0", "numpy": "1.0", "python": "3.10.1"}


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


@pytest.fixture
def served(channel):
    handler = functools.partial(PasswordHandler, directory=str(channel.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_channel_over_http_asks_for_its_credentials_in_rattlers_file(served, tmp_path):
    cache = {"RATTLER_CACHE_DIR": str(tmp_path / "cache")}
    code, _ = create("numpy", channels=[served], **cache)
    assert code == 1
    login = tmp_path / "login.json"
    login.write_text(json.dumps({"127.0.0.1": {"BasicHTTP": {"username": "me", "password": "p@ss/word"}}}))
    code, plan = create("numpy", channels=[served], RATTLER_AUTH_FILE=str(login), **cache)
    assert code == 0
    assert versions(plan)["numpy"] == "2.0"
    assert "p@ss" not in json.dumps(plan)
