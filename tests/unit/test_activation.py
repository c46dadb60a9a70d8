import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.image import activation
from tools.image.staging import PREFIX


def linked(folder: Path, script: str) -> Path:
    path = folder / "etc/conda/activate.d/package.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    return folder


def test_exported_variables_are_read_with_the_prefix_of_the_image(tmp_path: Path) -> None:
    script = "#!/bin/sh\n# why\nexport A=1\nexport B=\"$CONDA_PREFIX/lib\"\nexport C='$CONDA_PREFIX'\n"
    script += "export D=${CONDA_PREFIX}/x  # too\n"
    expected = {"A": "1", "B": f"{PREFIX}/lib", "C": "$CONDA_PREFIX", "D": f"{PREFIX}/x"}
    assert activation.variables(linked(tmp_path, script)) == expected


def test_a_script_that_does_more_is_named_and_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    witness = tmp_path / "ran"
    assert activation.variables(linked(tmp_path, f"touch {witness}\nexport A=$(touch {witness})\n")) == {}
    assert not witness.exists()
    assert "activate.d/package.sh" in caplog.text


def test_variables_in_json_count(tmp_path: Path) -> None:
    path = tmp_path / "etc/conda/env_vars.d/package.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"A": "b c"}')
    assert activation.variables(tmp_path) == {"A": "b c"}


@given(st.lists(st.text("ab $\\\"'`{};&~*#=/()<>|CONDA_PREFIX", max_size=20), max_size=3))
def test_what_is_read_is_what_a_shell_would_set(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    script = "\n".join(f"export V{index}={value}" for index, value in enumerate(values))
    read = activation.variables(linked(tmp_path_factory.mktemp("linked"), script))
    if read:
        shell = f"export CONDA_PREFIX={PREFIX}\n{script}\nenv -0"
        done = subprocess.run(["bash", "-c", shell], env={}, capture_output=True, check=True, cwd="/")
        real = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if "=" in entry)
        assert {name: real.get(name) for name in read} == read
