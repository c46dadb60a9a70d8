"""The Azure ML target, as far as it needs neither a workspace nor azureml-core."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools import settings as settings_
from tools.cli import remote
from tools.data import DataFile, PreparedData
from tools.errors import AzureError, SettingsError
from tools.image.build import Image
from tools.runs import record as records
from tools.runs.spec import Input, Resources, RunSpec
from tools.snapshot import Snapshot
from tools.targets import azureml
from tools.targets.azureml import collection, data, failures, following, submission, workspace

DIGEST = "d" * 64


def load(root: Path, text: str = "") -> settings_.Settings:
    (root / "parity.toml").write_text(text)
    return settings_.load(root)


def spec(root: Path, command: str, *arguments: str) -> RunSpec:
    image = {field.name: () if field.name == "stand_ins" else "x" for field in dataclasses.fields(Image)}
    return RunSpec(
        image=Image(**{**image, "witnessed": False}),
        snapshot=Snapshot(source=root, files=(), digest=DIGEST),
        command=command,
        arguments=arguments,
        inputs=(Input(name="data", path=root / "data", digest=None),),
        environment_variables={},
        resources=Resources(shm_bytes=2**31, gpu=False),
        stand_ins=(),
    )


@pytest.mark.parametrize("argument", ["a b", "it's", 'say "hi"', "$HOME", "a;b", "*", "", "ü#%", "back\\slash", "a\nb"])
def test_an_argument_gets_through_bash_as_it_is(tmp_path: Path, argument: str) -> None:
    command = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' {{data}}/x_{{data}}"
    line = spec(tmp_path, command, argument).line
    done = subprocess.run(
        ["/bin/bash", "-c", line],
        env={"AZUREML_DATAREFERENCE_data": "/mnt/d", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["/mnt/d/x_/mnt/d", argument]


@pytest.mark.parametrize(
    ("text", "useful"),
    [
        ("Workspace not found.", "Workspace not found."),
        (
            'ServiceException:\n\tCode: 400\n\tMessage: (UserError) no\n\tDetails:\n\n\tInnerException {"a": 1}',
            "(UserError) no",
        ),
        ('{"error": {"code": "UserError", "message": "the cluster is gone", "details": []}}', "the cluster is gone"),
        (
            'ExperimentExecutionException:\n\tMessage: {\n    "error_details": "{\\n \\"error\\": '
            '{\\"code\\": \\"UserError\\", \\"message\\": \\"no such snapshot\\"}}",\n    "status_code": 400\n}',
            "no such snapshot",
        ),
        ("AuthenticationException:\n\tMessage: AADSTS7000215: Invalid client secret\n", "AADSTS7000215"),
        (
            'Message: =====\n\nWhile attempting to take snapshot of x\n{"error": {"message": "=====\\n\\nToo large"}}',
            "Too large",
        ),
        ("", "no reason given"),
    ],
)
def test_of_an_error_of_the_sdk_the_line_is_kept_that_a_person_can_use(text: str, useful: str) -> None:
    assert useful in failures.useful(text)
    assert "\n" not in failures.useful(text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("AADSTS7000215: Invalid client secret provided", "az login"),
        ("(AuthorizationFailed) The client does not have authorization to perform action", "AzureML Data Scientist"),
        ("You are currently logged-in to X tenant. You don't have access to Y", "az login --tenant"),
        ("Workspace not found.", "[azureml]"),
        ("Your total snapshot size exceeds the limit of 300.0 MB.", "make snapshot"),
        ("HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url", "make doctor"),
        ("Response Code: 503 Service Unavailable", "try again"),
    ],
)
def test_each_kind_of_refusal_comes_with_what_to_do(text: str, command: str) -> None:
    assert command in (failures.refusal("x", Exception(text)).command or "")


def test_an_error_that_cannot_be_turned_into_text_is_told_all_the_same() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise TypeError("'NoneType' object is not iterable")

    assert "the reason" in failures.refusal("asking", BrokenError("the reason")).found


def test_what_the_sdk_prints_is_not_the_verbs_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with failures.errors("x"):
        print("Performing interactive authentication.")  # noqa: T201
    assert capsys.readouterr().out == ""


def test_a_python_without_the_sdk_is_told_how_to_get_it() -> None:
    with pytest.raises(AzureError) as caught, failures.errors("x"):
        raise ModuleNotFoundError("No module named 'azureml'", name="azureml.core")
    assert caught.value.command == "make setup-azure"


# --- signing in


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no way to sign in; returns an empty folder that is its PATH."""
    for name in (*workspace.PRINCIPAL, "MSI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def refused(root: Path, auth: str) -> str:
    text = f'[azureml]\nsubscription = "s"\nresource_group = "g"\nworkspace = "w"\nauth = "{auth}"\n'
    with pytest.raises(AzureError) as caught:
        workspace.connect(load(root, text))
    assert caught.value.command
    return str(caught.value)


def test_no_workspace_says_where_its_file_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AzureError, match=r"\.azureml/config\.json is not there") as caught:
        workspace.connect(load(tmp_path))
    assert "make rehearse" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"subscription_id": "s", "resource_group": "g"}', "\xff"])
def test_a_damaged_config_is_told_before_anyone_is_asked(tmp_path: Path, content: str) -> None:
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml" / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(AzureError, match=r"is not a workspace's config\.json"):
        workspace.connect(load(tmp_path))


def test_no_way_to_sign_in_names_all_ways(tmp_path: Path, nobody: Path) -> None:
    message = refused(tmp_path, "auto")
    assert "no az on PATH" in message
    assert "AZURE_CLIENT_SECRET" in message


def test_a_service_principal_names_the_variables_that_lack(
    tmp_path: Path, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "t")
    message = refused(tmp_path, "service-principal")
    assert "AZURE_CLIENT_ID, AZURE_CLIENT_SECRET are not set" in message


def test_the_command_line_must_be_there_and_signed_in(tmp_path: Path, nobody: Path) -> None:
    assert "no az on PATH" in refused(tmp_path, "cli")
    program = nobody / "az"
    program.write_text("#!/bin/sh\necho \"ERROR: Please run 'az login' to setup account.\" >&2\nexit 1\n")
    program.chmod(0o755)
    message = refused(tmp_path, "cli")
    assert "Please run 'az login'" in message
    assert "Traceback" not in message


# --- settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[image]\nplatform = "linux-aarch64"', "linux/amd64"),
        ('[snapshot]\nrules = "v2"', "azureml-core"),
        ('[data]\nremote = ""', "data.remote"),
    ],
)
def test_what_azure_ml_cannot_take_is_told_before_anyone_is_asked(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        submission.check(load(tmp_path, text))


# --- following and collecting


def test_the_driver_log_is_the_first_process_of_the_newest_runtime() -> None:
    names = ["azureml-logs/70_driver_log.txt", "user_logs/std_log.txt", "logs/x", "system_logs/lifecycler.log"]
    assert following.driver_log(names) == "user_logs/std_log.txt"
    assert following.driver_log(["user_logs/std_log_process_1.txt", "user_logs/std_log_process_0.txt"]) == (
        "user_logs/std_log_process_0.txt"
    )
    assert following.driver_log(["user_logs/std_log_process_00.txt", "user_logs/std_log_process_01.txt"]) == (
        "user_logs/std_log_process_00.txt"
    )
    assert following.driver_log(["logs/std_log.txt"]) is None


class Finished:
    """A run that has ended; a service may name its files as it likes."""

    id = "run"

    def __init__(self, files: dict[str, bytes], metrics: dict[str, Any] | None = None) -> None:
        self.files, self.metrics = files, metrics or {}

    def get_file_names(self) -> list[str]:
        return list(self.files)

    def download_file(self, name: str, output_file_path: str) -> None:
        if self.files[name]:
            Path(output_file_path).write_bytes(self.files[name])

    def get_metrics(self) -> dict[str, Any]:
        return self.metrics


def collected(tmp_path: Path, run: Finished, **details: Any) -> records.Record:
    record = records.create(tmp_path / "runs", spec(tmp_path, "true"), target="azureml", host={})
    return collection.collect(run, {"status": "Completed", **details}, record)


def test_what_a_run_wrote_lies_where_a_local_run_has_it(tmp_path: Path) -> None:
    run = Finished(
        {
            "user_logs/std_log.txt": b"hello\n",
            "outputs/deep/model": b"m",
            "outputs/empty": b"",
            "outputs/metrics.jsonl": b'{"name": "loss", "step": 1, "value": 2.5}\n',
            "logs/note": b"n",
            "system_logs/lifecycler.log": b"not ours",
        }
    )
    folder = collected(tmp_path, run).folder
    assert (folder / "stdout.log").read_bytes() == b"hello\n"
    assert (folder / "outputs" / "deep" / "model").read_bytes() == b"m"
    assert (folder / "outputs" / "empty").read_bytes() == b""
    assert (folder / "logs" / "note").read_bytes() == b"n"
    assert json.loads((folder / "metrics.jsonl").read_text())["value"] == 2.5
    assert not (folder / "system_logs").exists()


@pytest.mark.parametrize("name", ["outputs/../../../evil", "outputs/a/../../../../evil", "outputs/..\\..\\evil"])
def test_a_name_that_leaves_the_runs_folder_is_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    record = collected(tmp_path, Finished({name: b"x", "outputs/good": b"y"}))
    assert [path.name for path in tmp_path.rglob("*evil*")] == []
    assert (record.folder / "outputs" / "good").exists()
    assert "was not collected" in caplog.text


def test_metrics_that_were_only_logged_to_the_workspace_are_kept_as_lines(tmp_path: Path) -> None:
    folder = collected(tmp_path, Finished({}, {"loss": [2.5, 1.5], "accuracy": 0.9})).folder
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["name"], line["step"], line["value"]) for line in lines] == [
        ("loss", 0, 2.5),
        ("loss", 1, 1.5),
        ("accuracy", 0, 0.9),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("Execution failed. User process 'python' exited with status code 2. Please check", 2),
        ("Failed to run [...] \n Exit code 250 \nDetails can be found in azureml-logs/60_control_log.txt", 250),
        ("AzureMLCompute cluster x does not exist", None),
    ],
)
def test_the_commands_own_exit_code_is_read_from_the_error(tmp_path: Path, error: str, code: int | None) -> None:
    details = {"status": "Failed", "error": {"error": {"code": "UserError", "message": error, "details": []}}}
    record = collected(tmp_path, Finished({}), **details)
    assert (record.status, record.exit_code) == ("failed", code)
    assert record.error == error.splitlines()[0].strip()


# --- the data set


class Store:
    """A datastore that is a folder. broken: after how many uploads it refuses."""

    name = "workspaceblobstore"

    def __init__(self, folder: Path) -> None:
        self.folder, self.uploads, self.broken = folder, 0, 10**9

    def upload_files(self, files: list[str], relative_root: str, target_path: str = "", **options: Any) -> None:
        for each in files:
            if self.uploads >= self.broken:
                raise ConnectionError("Connection aborted.")
            self.uploads += 1
            target = self.folder / target_path / Path(each).relative_to(relative_root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(each).read_bytes())

    def download(self, target_path: str, prefix: str, **options: Any) -> int:
        found = [path for path in self.folder.rglob("*") if str(path.relative_to(self.folder)).startswith(prefix)]
        for path in found:
            target = Path(target_path, path.relative_to(self.folder))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        return len(found)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def push(tmp_path: Path, store: Store, contents: dict[str, str]) -> data.Pushed:
    return data.push(*where(tmp_path, store), prepared(tmp_path, contents))


def where(tmp_path: Path, store: Store) -> tuple[Any, settings_.Settings]:
    workspace = SimpleNamespace(name="w", datastores={store.name: store})
    return workspace, load(tmp_path, '[data]\nremote = "workspaceblobstore/sets/one"\n')


def prepared(tmp_path: Path, contents: dict[str, str]) -> PreparedData:
    import hashlib

    root = tmp_path / "data"
    files = []
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
        files.append(DataFile(path=name, size=len(content), sha256=hashlib.sha256(content.encode()).hexdigest()))
    digest = hashlib.sha256(json.dumps(contents).encode()).hexdigest()
    return PreparedData(path=root, digest=digest, files=tuple(files), stand_ins=())


def test_data_is_uploaded_once_and_then_only_what_changed(tmp_path: Path, store: Store) -> None:
    first = push(tmp_path, store, {"a": "1", "deep/b": "2"})
    assert (first.address, first.sent_files, first.sent) == ("workspaceblobstore/sets/one", 2, 2)
    assert (store.folder / "sets" / "one" / "deep" / "b").read_text() == "2"
    assert sorted(path.name for path in (store.folder / "sets" / "one").iterdir()) == ["a", "deep"]
    assert push(tmp_path, store, {"a": "1", "deep/b": "2"}).sent_files == 0
    assert push(tmp_path, store, {"a": "1", "deep/b": "3"}).sent_files == 1
    assert (store.folder / "sets" / "one" / "deep" / "b").read_text() == "3"


def test_a_broken_upload_goes_on_where_it_stopped(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "BATCH_FILES", 1)
    contents = {f"{number}": str(number) for number in range(4)}
    store.broken = 4  # two files, each with the manifest after it
    with pytest.raises(AzureError, match="uploading to workspaceblobstore/sets/one"):
        push(tmp_path, store, contents)
    with pytest.raises(AzureError, match="lacks 2 of the 4 files"):
        data.check(*where(tmp_path, store), prepared(tmp_path, contents))
    store.broken = 10**9
    assert push(tmp_path, store, contents).sent_files == 2
    assert data.check(*where(tmp_path, store), prepared(tmp_path, contents))


def test_other_data_than_here_is_told_with_how_to_mend_it(tmp_path: Path, store: Store) -> None:
    push(tmp_path, store, {"a": "1"})
    with pytest.raises(AzureError) as caught:
        data.check(*where(tmp_path, store), prepared(tmp_path, {"a": "2"}))
    assert caught.value.command == "make data-push"
    assert "(a)" in str(caught.value)


def test_data_that_is_in_the_workspace_alone_has_the_digest_of_its_manifest(tmp_path: Path, store: Store) -> None:
    workspace, settings = where(tmp_path, store)
    assert data.check(workspace, settings, None) is None
    pushed = push(tmp_path, store, {"a": "1"})
    assert data.check(workspace, settings, None) == pushed.digest


@pytest.mark.parametrize("target", [azureml.REMOTE, azureml.REHEARSAL])
def test_a_run_without_a_data_set_asks_the_workspace_for_none(tmp_path: Path, target: str) -> None:
    text = '[run]\ncommand = "python train.py"\n[data]\npath = ""\ndataset = "none"\n'
    loaded = load(tmp_path, text)
    assert loaded.data.remote
    assert remote._inputs(loaded, SimpleNamespace(), target) == ((), ())  # type: ignore[arg-type]


def test_a_file_that_is_gone_here_is_said_to_be_left_there(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    push(tmp_path, store, {"a": "1", "old": "2"})
    push(tmp_path, store, {"a": "1"})
    assert "also holds 1 files" in caplog.text
    assert "old" in caplog.text


def test_an_unknown_datastore_is_told_with_the_nearest(tmp_path: Path, store: Store) -> None:
    store.name = "workspaceblobstor"
    settings = load(tmp_path)
    with pytest.raises(AzureError, match="did you mean workspaceblobstor"):
        data.check(SimpleNamespace(name="w", datastores={store.name: store}), settings, None)
