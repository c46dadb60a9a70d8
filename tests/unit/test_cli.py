import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBS = [
    "engine",
    "lock",
    "image",
    "push",
    "data",
    "snapshot",
    "run-local",
    "run-remote",
    "rehearse",
    "data-push",
    "clean-remote",
    "parity",
    "register",
    "compare",
    "report",
    "doctor",
]


def parity(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_verb_and_is_quick() -> None:
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        done = parity("--help")
        seconds.append(time.perf_counter() - begun)
    assert done.returncode == 0
    assert [verb for verb in VERBS if not re.search(rf"^  {verb} ", done.stdout, re.MULTILINE)] == []
    assert statistics.median(seconds) < 1, "it takes 0.1 s on an idle machine; the bar is 0.2 s"


def test_help_imports_nothing_heavy() -> None:
    script = "import sys\nsys.argv = ['parity', '--help']\ntry:\n    from tools.cli import main; main()\n"
    script += "finally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert loaded.isdisjoint({"docker", "rattler", "pydantic", "httpx", "numpy", "yaml", "azureml", "rich.console"})


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    done = parity(verb, "--help", COLUMNS="100")
    assert done.returncode == 0
    assert f"Example: python -m tools {verb}" in done.stdout


def test_every_verb_is_a_target_of_make_and_listed_by_its_help() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"make ([a-z-]+)", done.stdout))
    assert {*VERBS, "setup", "lint", "test", "clean", "clean-cache"} <= listed


def test_the_shell_completes_verbs() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("parity")],
        env={**os.environ, "_PARITY_COMPLETE": "complete_bash", "COMP_WORDS": "parity run", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "run-local" in done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        (["image"], {"DOCKER_HOST": "unix:///nowhere.sock", "PARITY_ENGINE": "never"}, 12, "/nowhere.sock"),
        (["lock", "--env", "pytroch"], {}, 13, "did you mean pytorch"),
        (["lock"], {"PARITY_OFFLINE": "nver"}, 11, "did you mean never?"),
        (["lock", "--chekc"], {}, 2, "--check"),
        (["imgae"], {}, 2, "image"),
    ],
)
def test_a_mistake_is_told_in_words_with_an_exit_code_of_its_own(
    arguments: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    done = parity(*arguments, **variables)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_told_from_any_verb(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text("[image]\nnaem = 1\n")
    done = parity("image", cwd=tmp_path)
    assert done.returncode == 11
    assert "did you mean name?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["data", "data-push"])
def test_a_project_without_a_data_set_is_told_so_by_the_verbs_for_one(verb: str, tmp_path: Path) -> None:
    text = '[run]\ncommand = "python train.py"\n[data]\npath = ""\ndataset = "none"\n'
    (tmp_path / "parity.toml").write_text(text)
    done = parity(verb, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (11, "")
    assert f'{tmp_path / "parity.toml"}: data.path = ""' in done.stderr
    assert "make run-local" in done.stderr


def test_make_refuses_a_project_that_is_none_where_the_tools_would_find_another(tmp_path: Path) -> None:
    for folder in (ROOT / "examples", tmp_path / "none"):
        done = subprocess.run(
            ["make", "lock", f"PROJECT={folder}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert f"PROJECT={folder}: no parity.toml in it" in done.stderr
        assert f"touch {folder}/parity.toml" in done.stderr


def test_a_project_may_have_folders_of_the_toolkits_names_which_stay(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text("")
    (tmp_path / "trainer").mkdir()
    for kept in ("tools/__init__.py", ".venv/kept", ".mypy_cache/kept"):
        (tmp_path / kept).parent.mkdir()
        (tmp_path / kept).touch()

    def make(verb: str) -> subprocess.CompletedProcess[str]:
        command = ["make", verb, f"PROJECT={tmp_path}", "--old-file=setup"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = make("snapshot")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / ".parity").is_dir()
    assert make("clean").returncode == 0
    assert not (tmp_path / ".parity").exists()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "__init__.py",
        "kept",
        "kept",
        "parity.toml",
    ]


def test_a_stale_lock_is_told_without_solving(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text("")
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "pytorch.yml").write_text("dependencies: [python]\n")
    done = parity("lock", "--check", cwd=tmp_path)
    assert done.returncode == 1
    assert "stale: no lock" in done.stderr
    assert "make lock ENV=pytorch" in done.stderr
