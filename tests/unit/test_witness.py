import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.image import witness

INSIDE = Path(__file__).parents[2] / "tools" / "runs" / "inside"


def run(
    folder: Path, *command: str, note: str = "outputs/parity/witness.json", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", INSIDE / "witness.py", note, *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def noted(folder: Path, name: str = "witness.json") -> dict:
    return json.loads((folder / "outputs" / "parity" / name).read_text())


def test_it_becomes_the_command_with_its_output_and_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path, "/bin/sh", "-c", "echo $0 $$; exit 7", "said")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (7, "said", "")
    assert noted(tmp_path)["schema"] == 1


def test_the_command_is_the_same_process_and_gets_its_signals(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-I",
        "-S",
        INSIDE / "witness.py",
        "note.json",
        "/bin/sh",
        "-c",
        "echo $$; exec sleep 60",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("harm", ["a file in the way", "a folder that cannot be written", "no /proc"])
def test_whatever_goes_wrong_the_command_runs(tmp_path: Path, harm: str) -> None:
    note = "outputs/parity/witness.json"
    if harm == "a file in the way":
        (tmp_path / "outputs").write_text("")
    elif harm == "a folder that cannot be written":
        note = "/proc/parity/witness.json"
    else:
        note = "/dev/full/witness.json"
    done = run(tmp_path, "/bin/sh", "-c", "exit 3", note=note)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("parity: no note of this run was made")


def test_a_fact_that_cannot_be_had_takes_no_other_with_it(tmp_path: Path) -> None:
    nowhere = "import sys; sys.prefix = '/nowhere'; sys.argv = ['', 'note.json', '/bin/true']"
    script = f"{nowhere}; exec(open({str(INSIDE / 'witness.py')!r}).read())"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    seen = json.loads((tmp_path / "note.json").read_text())
    assert "FileNotFoundError" in seen["packages"]["unknown"]
    assert seen["process"]["uid"] == os.getuid()


def test_no_value_of_a_variable_is_written(tmp_path: Path) -> None:
    run(
        tmp_path,
        "/bin/true",
        EMPTY="",
        SECRET="hunter2-hunter2",
        SET="swordfish-swordfish",
        PARITY_VARIABLES="SET,GONE",
    )
    text = (tmp_path / "outputs" / "parity" / "witness.json").read_text()
    assert "hunter2" not in text
    assert "swordfish" not in text
    seen = noted(tmp_path)["variables"]
    assert {"EMPTY", "SECRET", "SET"} <= set(seen["names"])
    assert set(seen["set"]) == {"SET", "GONE"}
    again = tmp_path / "again"
    again.mkdir()
    run(again, "/bin/true", SET="another", PARITY_VARIABLES="SET,GONE")
    other = noted(again)["variables"]["set"]
    assert (other["SET"] == seen["set"]["SET"], other["GONE"] == seen["set"]["GONE"]) == (False, True)


def test_variables_that_each_run_has_of_its_own_are_not_a_difference(tmp_path: Path) -> None:
    brought = "/mnt/azureml/cr/j/0a/cap/lifecycler/wd"
    of_the_service = {"PYTHONPATH": f"{brought}/python", "SSL_CERT_FILE": f"{brought}/authorities.pem"}
    run(tmp_path, "/bin/true", AZUREML_RUN_ID="a", MLFLOW_RUN_ID="b", HOSTNAME="c", **of_the_service)
    assert noted(tmp_path)["python"]["pythonpath"] == ""
    assert set(noted(tmp_path)["variables"]["names"]) - {"LC_CTYPE"} == {"PATH"}  # Python itself may set the one


def test_every_file_of_the_snapshot_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("a = 1\n")
    (tmp_path / "ä b.txt").write_text("")
    (tmp_path / "user_logs").mkdir()
    (tmp_path / "user_logs" / "std_log.txt").write_text("of the service\n")
    run(tmp_path, "/bin/true")
    files = noted(tmp_path)["files"]
    assert set(files) == {"package/a.py", "ä b.txt"}
    assert files["package/a.py"] == {"bytes": 6, "sha256": hashlib.sha256(b"a = 1\n").hexdigest()}


def test_large_snapshots_are_noted_by_their_sizes(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(40_000_000)
    run(tmp_path, "/bin/true")
    assert noted(tmp_path)["files"]["large"] == {"bytes": 40_000_000}


def test_what_lies_where_the_data_should_is_noted_by_names_and_sizes(tmp_path: Path) -> None:
    data, gone = tmp_path / "data", tmp_path / "gone"
    (data / "part").mkdir(parents=True)
    (data / "part" / ".parity.json").write_text("{}")
    seen = []
    for content in ("12345", "54321", "123456"):
        (data / "part" / "a").write_text(content)
        run(tmp_path, "/bin/true", AZUREML_DATAREFERENCE_data=str(data), AZUREML_DATAREFERENCE_gone=str(gone))
        seen.append(noted(tmp_path)["inputs"])
    assert seen[0]["gone"] == "absent"
    assert seen[0]["data"].startswith("1 files, 5 bytes")
    assert (seen[0] == seen[1], seen[0] == seen[2]) == (True, False)


def test_a_large_data_set_costs_no_more_than_its_first_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(1_001):
        (data / f"{number:04}").touch()
    run(tmp_path, "/bin/true", AZUREML_DATAREFERENCE_data=str(data))
    assert noted(tmp_path)["inputs"]["data"].startswith("1000 files or more")


def test_each_node_has_a_note_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, "/bin/true", NODE_RANK="0")
    run(tmp_path, "/bin/true", NODE_RANK="1")
    assert sorted(path.name for path in (tmp_path / "outputs" / "parity").iterdir()) == [
        "witness-1.json",
        "witness.json",
    ]


def hooked(folder: Path, script: str = "", *, module: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python with the image's .pth line, and a torch of a few lines; runs a script or a module."""
    (folder / "torch" / "distributed").mkdir(parents=True, exist_ok=True)
    for name in ("__init__", "run"):
        (folder / "torch" / "distributed" / f"{name}.py").touch()
    (folder / "torch" / "__init__.py").write_text(
        "from types import SimpleNamespace as N\n"
        "__version__, float32, threads = '9.9', 'float32', 4\n"
        "version, cuda = N(cuda=None), N(is_initialized=lambda: False)\n"
        "__config__, backends = N(show=lambda: 'built'), N(mkldnn=N(enabled=True))\n"
        "def set_num_threads(number):\n    global threads\n    threads = number\n"
        "get_num_threads, get_num_interop_threads = lambda: threads, lambda: 2\n"
        "get_default_dtype, are_deterministic_algorithms_enabled = lambda: float32, lambda: False\n"
    )
    line = witness.HOOK.replace(f"{witness.FOLDER}/", f"{INSIDE}/")
    (folder / "sitecustomize.py").write_text(line)
    return subprocess.run(
        [sys.executable, *(["-m", module] if module else ["-c", script])],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_torch_is_noted_as_the_script_left_it(tmp_path: Path) -> None:
    note = str(tmp_path / "witness.json")
    done = hooked(tmp_path, "import torch; torch.set_num_threads(1)", PARITY_NOTE=note)
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads((tmp_path / "witness-torch.json").read_text())
    assert (seen["version"], seen["threads"], seen["build"]) == ("9.9", 1, "built")


GPU = """
import torch
from types import SimpleNamespace as N
device = N(name="A100", major=8, minor=0)
torch.version.cuda, torch.backends.cudnn = "12.9", N(version=lambda: 91000, {cudnn})
torch.backends.cuda = N(matmul=N({matmul}))
torch.cuda = N(is_initialized=lambda: True, device_count=lambda: 1, get_device_properties=lambda number: device)
"""


@pytest.mark.parametrize(
    ("matmul", "cudnn", "tf32"),
    [
        ("allow_tf32=False", "allow_tf32=True", [False, True]),
        ("fp32_precision='ieee'", "conv=N(fp32_precision='tf32')", ["ieee", "tf32"]),  # from torch 2.9 on
        ("", "", None),
    ],
)
def test_of_a_gpu_what_changes_numbers_is_noted(tmp_path: Path, matmul: str, cudnn: str, tf32: list | None) -> None:
    script = GPU.format(matmul=matmul, cudnn=cudnn)
    done = hooked(tmp_path, script, PARITY_NOTE=str(tmp_path / "witness.json"))
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads((tmp_path / "witness-torch.json").read_text())
    assert (seen["cuda"], seen["cudnn"], seen["tf32"]) == ("12.9", 91000, tf32)
    assert seen["devices"] == ["A100, compute capability 8.0"]


def test_torchrun_does_not_hide_what_its_processes_saw(tmp_path: Path) -> None:
    note = str(tmp_path / "witness.json")
    hooked(tmp_path, "import torch; torch.set_num_threads(1)", PARITY_NOTE=note, RANK="0")
    other_node = str(tmp_path / "witness-1.json")
    hooked(tmp_path, "import torch; torch.set_num_threads(2)", PARITY_NOTE=other_node, RANK="1")
    hooked(tmp_path, "import torch.distributed.run", PARITY_NOTE=note, RANK="0")  # which Azure ML sets for it too
    hooked(tmp_path, PARITY_NOTE=note, RANK="0", module="torch.distributed.run")
    threads = {path.name: json.loads(path.read_text())["threads"] for path in tmp_path.glob("witness-*.json")}
    assert threads == {"witness-torch.json": 1, "witness-torch-1.json": 2}


@pytest.mark.parametrize("script", ["pass", "import torch"])
def test_without_a_note_the_hook_does_nothing(tmp_path: Path, script: str) -> None:
    done = hooked(tmp_path, f"import sys\n{script}\nprint([each for each in sys.meta_path if 'Waiting' in repr(each)])")
    assert done.stdout == "[]\n"
    assert list(tmp_path.glob("*.json")) == []


def test_a_note_that_cannot_be_written_is_never_worth_a_run(tmp_path: Path) -> None:
    done = hooked(tmp_path, "import torch", PARITY_NOTE="/proc/parity/witness.json")
    assert (done.returncode, done.stderr) == (0, "")
