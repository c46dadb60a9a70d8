import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import snapshot
from tools.errors import SnapshotError
from tools.snapshot import contents, fix, limits, rules, secrets
from tools.snapshot.patterns import escape
from tools.snapshot.words import MIB, of_limit

ROOT = Path(__file__).parents[2]
TOKEN = "ghp_" + "a1B2" * 9  # of the form of a token, and none


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No snapshot was sent from this machine."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv(limits.NO_FILE_LIMIT, raising=False)
    return folder


def make(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        write(folder / name.replace("__", "/").replace("_DOT_", "."), content)
    return folder


def write(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def sparse(path: Path, size: int) -> Path:
    write(path)
    os.truncate(path, size)
    return path


def paths(source: Path) -> list[str]:
    return [file.path for file in snapshot.take(source).files]


def report(source: Path) -> snapshot.Report:
    return snapshot.inspect(source)[0]


def refused(source: Path) -> str:
    with pytest.raises(SnapshotError) as caught:
        snapshot.take(source)
    return str(caught.value)


def aged(folder: Path) -> Path:
    """Waits until the files are old enough to be remembered."""
    time.sleep(contents.RACY_NS / 1e9 + 0.1)
    return folder


# Which files go


def test_everything_goes_where_nothing_is_ignored(tmp_path: Path) -> None:
    make(tmp_path, train="x", _DOT_git__config="x", _DOT_env="x", a__b__c="x")
    assert paths(tmp_path) == [".env", ".git/config", "a/b/c", "train"]


def test_amlignore_alone_counts_where_there_is_one(tmp_path: Path) -> None:
    make(tmp_path, train="x", data__big="x", notes="x", _DOT_gitignore="notes\n", _DOT_amlignore="data\n")
    assert paths(tmp_path) == [".amlignore", ".gitignore", "notes", "train"]


def test_gitignore_counts_where_there_is_no_amlignore(tmp_path: Path) -> None:
    make(tmp_path, train="x", notes="x", _DOT_gitignore="notes\n")
    assert paths(tmp_path) == [".gitignore", "train"]


def test_an_empty_amlignore_disables_gitignore(tmp_path: Path) -> None:
    make(tmp_path, notes="x", _DOT_gitignore="notes\n", _DOT_amlignore="")
    assert "notes" in paths(tmp_path)


@pytest.mark.parametrize(
    ("lines", "included"),
    [("d/\n!d/c.txt\n", ["d/c.txt"]), ("*\n!d/\n", []), ("d\n!d/c.txt\n", []), ("*\n!d\n", ["d/b", "d/c.txt"])],
)
def test_negations_are_those_of_azureml_core_and_not_of_git(tmp_path: Path, lines: str, included: list[str]) -> None:
    make(tmp_path, d__b="x", _DOT_amlignore=lines)
    write(tmp_path / "d" / "c.txt")
    assert [path for path in (file.path for file in report(tmp_path).tree.files) if "/" in path] == included


def test_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path, real__file="x")
    (tmp_path / "link").symlink_to("real")
    assert paths(tmp_path) == ["link/file", "real/file"]


def test_what_the_sdk_fails_on_is_told_with_the_line_that_leaves_it_out(tmp_path: Path) -> None:
    make(tmp_path, real__file="x")
    (tmp_path / "real" / "loop").symlink_to("..")
    (tmp_path / "gone").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    told = {"gone": "a link to nothing", "pipe": "a pipe", "real/loop": "a link in a circle"}
    while told:
        text = refused(tmp_path)
        path = text.rpartition(": /")[2]  # the line for .amlignore
        assert f"{tmp_path / path} is {told.pop(path)}" in text
        with (tmp_path / ".amlignore").open("a") as file:
            file.write(f"/{path}\n")
    assert paths(tmp_path) == [".amlignore", "real/file"]


def test_a_line_that_the_sdk_fails_on_is_told_with_its_number(tmp_path: Path) -> None:
    make(tmp_path, train="x", _DOT_amlignore="# fine\n[b-a]\n")
    assert f"{tmp_path / '.amlignore'}, line 2: '[b-a]' is no pattern" in refused(tmp_path)


def test_ignored_folders_are_entered_only_where_a_negation_reaches_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, data__deep__file="x", train="x")
    opened: list[str] = []
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(str(path)) or real_open(path, *rest))
    for lines, entered in (("data/\n", False), ("data/\n!other/*\n", False), ("data/\n!data/keep\n", True)):
        opened.clear()
        write(tmp_path / ".amlignore", lines)
        assert paths(tmp_path) == [".amlignore", "train"]
        assert (str(tmp_path / "data") in opened) == entered


ODD = st.text(st.sampled_from("ab *?[]!#\\/^-\n\r\u2028\u00a0é."), min_size=1, max_size=6)


@settings(max_examples=300)
@given(st.lists(ODD, min_size=1, max_size=3), st.sampled_from(["v1", "v2"]), ODD)
def test_the_line_for_a_path_excludes_it_and_what_is_below(parts: list[str], dialect: str, other: str) -> None:
    names = [part.replace("/", "") for part in parts]
    if any(name in ("", ".", "..") for name in names):
        return
    path = "/".join(names)
    loaded = rules.read(Path(".amlignore"), ["*.keep\n", escape(path) + "\n"], dialect)  # type: ignore[arg-type]
    assert loaded.excludes(path)
    assert loaded.excludes(f"{path}/below")
    assert loaded.empties(path) or "\n" in path
    if "?" not in escape(path).replace("\\?", ""):  # else it stands for what no line can hold
        assert not loaded.excludes(f"z{path}")
        assert not loaded.excludes(path + other.replace("/", "z").strip("\n") + "z")


# Its hash


def test_the_digest_is_of_paths_and_contents_alone(tmp_path: Path) -> None:
    one = make(tmp_path / "one", train="x", a__b="y")
    two = make(tmp_path / "two", a__b="y", train="x")
    assert snapshot.take(one).digest == snapshot.take(two).digest
    (two / "train").chmod(0o755)
    assert snapshot.take(one).digest == snapshot.take(two).digest
    assert [file.executable for file in snapshot.take(two).files] == [False, True]
    make(two, train="z")
    assert snapshot.take(one).digest != snapshot.take(two).digest


@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=9), min_size=1), st.data())
def test_the_digest_moves_with_any_name_or_byte(tmp_path_factory: pytest.TempPathFactory, tree: dict, data) -> None:
    def digest(tree: dict[str, bytes]) -> str:
        folder = tmp_path_factory.mktemp("tree")
        for name, content in tree.items():
            (folder / name).write_bytes(content)
        return snapshot.take(folder).digest

    name = data.draw(st.sampled_from(sorted(tree)))
    changed = {**tree, name: tree[name] + b"x"}
    renamed = {("z" if key == name else key): content for key, content in tree.items()}
    assert len({digest(tree), digest(changed), digest(renamed)}) == 3


def test_known_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, memory = make(tmp_path / "source", a="x", b__c="y", d=TOKEN), tmp_path / "memory"
    first = snapshot.inspect(aged(source), memory=memory)
    read: list[str] = []
    real = contents._hashed
    monkeypatch.setattr(contents, "_hashed", lambda path, *rest: read.append(path) or real(path, *rest))
    assert snapshot.inspect(source, memory=memory) == first
    assert read == []
    make(source, b__c="z", e="new")
    (source / "a").unlink()
    again, _ = snapshot.inspect(source, memory=memory)
    assert again.digest == snapshot.inspect(source)[0].digest != first[0].digest
    assert read[:2] == [f"{source}/b/c", f"{source}/e"]
    assert [each.note for each in again.offenders] == ["line 1: a GitHub token"]


def test_a_change_is_seen_although_size_and_time_stay(tmp_path: Path) -> None:
    source, memory = make(tmp_path / "source", a="x"), tmp_path / "memory"
    before = snapshot.take(aged(source), memory=memory).digest
    times = (source / "a").stat()
    make(source, a="y")
    os.utime(source / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert snapshot.take(source, memory=memory).digest == snapshot.take(source).digest != before


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, memory = make(tmp_path / "source", a="x"), tmp_path / "memory"
    before = snapshot.take(source, memory=memory).digest
    # A filesystem whose clock stands still: the same size and times, another content.
    status = (source / "a").stat()
    make(source, a="y")
    monkeypatch.setattr(snapshot.tree, "identity", lambda _: snapshot.tree._IDENTITY.pack(*_numbers(status)))
    assert snapshot.take(source, memory=memory).digest != before


def _numbers(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def test_a_damaged_memory_is_not_believed(tmp_path: Path) -> None:
    source, memory = make(tmp_path / "source", a="x", b="y"), tmp_path / "memory"
    whole = snapshot.take(aged(source), memory=memory)
    (note,) = memory.iterdir()
    content = note.read_bytes()
    for damaged in (b"", content[:40], content[:-9], b"another version" + content, content[:100]):
        note.write_bytes(damaged)
        assert snapshot.take(source, memory=memory) == whole


def test_a_file_that_grows_meanwhile_is_taken_as_it_is_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, a="x", b="y")
    real = snapshot.tree.survey

    def survey(*arguments, **options):
        found = real(*arguments, **options)
        write(tmp_path / "a", "longer")
        return found

    monkeypatch.setattr(snapshot.tree, "survey", survey)
    taken = snapshot.take(tmp_path)
    monkeypatch.undo()
    assert taken.digest == snapshot.take(tmp_path).digest
    assert [file.size for file in taken.files] == [6, 1]


# The verdict


def test_the_limit_of_size_is_exact(tmp_path: Path) -> None:
    sparse(tmp_path / "model", 300 * MIB)
    assert report(tmp_path).verdict == "near"
    sparse(tmp_path / "model", 300 * MIB + 1)
    text = refused(tmp_path)
    assert "314,572,801 of 314,572,800 bytes: OVER THE LIMIT" in text


def test_the_limit_of_files_is_exact_and_can_be_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.py").touch()
    assert report(tmp_path).verdict == "near"
    (tmp_path / "one more.py").touch()
    assert "2,001, of 2,000 that may be new to the workspace: OVER THE LIMIT" in refused(tmp_path)
    monkeypatch.setenv(limits.NO_FILE_LIMIT, "1")
    assert len(snapshot.take(tmp_path).files) == 2001


def test_azure_ai_ml_refuses_nothing(tmp_path: Path) -> None:
    sparse(tmp_path / "model", 100_000_001)
    found, taken = snapshot.inspect(tmp_path, "v2")
    assert (found.verdict, found.exceeded) == ("near", ("size",))
    assert taken
    assert "azure-ai-ml warns, and sends it" in found.text()


def test_a_refusal_comes_early_and_says_that_it_is_partial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(tmp_path / "a", 400 * MIB)
    for number in range(30):
        write(tmp_path / "data" / str(number) / "x")
    monkeypatch.setattr(snapshot, "PATIENCE", 0)
    found = report(tmp_path)
    assert found.tree.partial
    assert len(found.tree.files) < 31
    assert "at least 400.0 of 300.0 MiB" in found.text()
    assert found.offenders[0].path == "data/"  # seen, though not looked into


def test_sizes_that_are_close_are_told_in_bytes() -> None:
    assert of_limit(361 * MIB, 300 * MIB) == "361.0 of 300.0 MiB"
    assert of_limit(300 * MIB + 1, 300 * MIB) == "314,572,801 of 314,572,800 bytes"


OFFENDERS = {
    "data/train.csv": ("data", "data/"),
    "set/x.parquet": ("data files", "set/x.parquet"),
    "model.pt": ("weights", "model.pt"),
    ".git/config": ("git", ".git/"),
    ".venv/bin/python": ("environment", ".venv/"),
    "mine/pyvenv.cfg": ("environment", "mine/"),
    "pkg/__pycache__/a.pyc": ("cache", "pkg/__pycache__/"),
    "mlruns/0/meta.yaml": ("results", "mlruns/"),
    "outputs/x": ("results", "outputs/"),
    "runs/x": ("results", "runs/"),
    "notes/.ipynb_checkpoints/a-checkpoint.ipynb": ("notebook checkpoints", "notes/.ipynb_checkpoints/"),
    "code.zip": ("archives", "code.zip"),
    ".env": ("credentials", ".env"),
    "server.key": ("credentials", "server.key"),
    ".azureml/config.json": ("credentials", ".azureml/config.json"),
    "settings.py": ("credentials", "settings.py"),
}


def offending(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for path in OFFENDERS:
        write(source / path, f"\n\nkey = '{TOKEN}'\n" if path == "settings.py" else "x")
    sparse(source / "set" / "x.parquet", 2 * MIB)
    (source / "elsewhere").symlink_to(write(tmp_path / "outside" / "file").parent)
    make(source, train="x", tools__data__loader="x")
    write(source / "tools" / "data" / "__init__.py")
    return source


def test_each_kind_of_offender_is_named_data_first(tmp_path: Path) -> None:
    found = report(offending(tmp_path))
    expected = {*OFFENDERS.values(), ("links", "elsewhere/")}
    assert {(each.kind.title, each.path) for each in found.offenders} == expected
    assert found.offenders[0].kind.title == "data"
    text = found.text()
    for each in found.offenders:
        assert each.kind.advice in text
        assert f"add to .amlignore:  {each.line}\n" in f"{text}\n"


def test_a_secret_is_named_by_its_place_and_never_printed(tmp_path: Path) -> None:
    found = report(offending(tmp_path))
    assert "line 3: a GitHub token" in found.text()
    assert TOKEN not in found.text() + json.dumps(found.to_json())


@pytest.mark.parametrize(
    "content",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq98Y5Qv1c3mmmmmmmmmmmmmmmm\n",
        "AccountKey=" + "a" * 86 + "==",
        "https://x.blob.core.windows.net/c?sv=2021&sig=" + "a" * 43 + "%3D",
        "AKIA" + "A1" * 8,
        TOKEN,
        "hf_" + "a" * 34,
        "abc8Q~" + "a" * 34,
        "sk-proj-" + "a" * 40,
    ],
)
def test_well_known_forms_of_secrets_are_seen(content: str) -> None:
    assert secrets.find(f"first line\nvalue = '{content}'\n".encode())
    assert not secrets.find(f"first line\nvalue = '{content[:12]}'\n".encode())


def test_the_fix_leaves_out_all_offenders_and_nothing_else(tmp_path: Path) -> None:
    source = offending(tmp_path)
    write(source / "data [1]*" / ".venv" / "x ")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    proposed = fix.of(report(source))
    assert "+/data\n" in proposed.diff()
    proposed.write()
    found = report(source)
    assert found.offenders == ()
    assert [file.path for file in found.tree.files] == [
        ".amlignore", "tools/data/__init__.py", "tools/data/loader", "train",
    ]  # fmt: skip
    assert {path: path.read_bytes() for path in before} == before
    assert fix.of(found).diff() == ""


def test_the_fix_keeps_what_gitignore_said(tmp_path: Path) -> None:
    make(tmp_path, train="x", notes="x", data__x="x", _DOT_gitignore="notes")
    fix.of(report(tmp_path)).write()
    assert paths(tmp_path) == [".amlignore", ".gitignore", "train"]


def test_the_fix_adds_to_the_amlignore_that_is_there(tmp_path: Path) -> None:
    make(tmp_path, train="x", data__x="x", _DOT_amlignore="# mine\r\n!data")
    fix.of(report(tmp_path)).write()
    assert (tmp_path / ".amlignore").read_bytes().startswith(b"# mine\r\n!data\n")
    assert paths(tmp_path) == [".amlignore", "train"]


def test_a_missing_or_empty_source_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="does not exist"):
        snapshot.take(tmp_path / "none")
    with pytest.raises(SnapshotError, match="no files"):
        snapshot.take(tmp_path)


# Where it is asked


def parity(folder: Path, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make(tmp_path, trainer__train="x", _DOT_parity__keep="")
    (tmp_path / "parity.toml").touch()
    return tmp_path


def test_the_verb_answers_for_people_and_programs(project: Path) -> None:
    people, programs = parity(project, "snapshot"), parity(project, "snapshot", "--json")
    assert (people.returncode, programs.returncode) == (0, 0)
    answer = json.loads(programs.stdout)
    assert (answer["files"], answer["bytes"], answer["verdict"]) == (1, 1, "within")
    assert f"sha256  {answer['digest']}" in people.stdout


def test_the_verb_exits_with_21_where_azure_would_refuse(project: Path) -> None:
    sparse(project / "trainer" / "data" / "x", 400 * MIB)
    done = parity(project, "snapshot")
    assert done.returncode == 21
    assert "type:               mv trainer/data data" in done.stdout.splitlines()[-2]


def test_run_local_refuses_before_anything_else_happens(project: Path) -> None:
    sparse(project / "trainer" / "data" / "x", 400 * MIB)
    done = parity(project, "run-local")  # there is no environment spec in this project, which would be the next error
    assert done.returncode == 21
    assert "400.0 of 300.0 MiB: OVER THE LIMIT" in done.stderr
    assert "add to .amlignore:  /data" in done.stderr
    assert done.stdout == ""


def test_fix_writes_only_after_a_yes(project: Path) -> None:
    make(project, trainer__data__x="x")
    ignore_file = project / "trainer" / ".amlignore"
    for answer in ("n\n", ""):
        assert "+/data" in parity(project, "snapshot", "--fix", answer=answer).stderr
        assert not ignore_file.exists()
    assert parity(project, "snapshot", "--fix", answer="y\n").returncode == 0
    assert ignore_file.read_text().endswith("/data\n")
    make(project, trainer__outputs__x="x")
    assert parity(project, "snapshot", "--fix", "--yes").returncode == 0
    assert ignore_file.read_text().endswith("/outputs\n")


def test_the_hook_needs_nothing_but_python(tmp_path: Path) -> None:
    import yaml

    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    make(tmp_path, src__train="x", src__data__x="x")

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", ROOT / hook["entry"], "src"]
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert hook["language"] == "script"
    assert os.access(ROOT / hook["entry"], os.X_OK)
    assert (run().returncode, "add to .amlignore:  /data" in run().stdout) == (0, True)
    sparse(tmp_path / "src" / "data" / "x", 400 * MIB)
    assert run().returncode == 21
