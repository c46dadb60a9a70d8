import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tools import charts, settings
from tools.errors import FetchError
from tools.rehearsal import app, views
from tools.rehearsal.metrics import Point
from tools.rehearsal.runs import Run
from tools.rehearsal.workspace import Address, Workspace

WORD = "the-word-of-this-start"
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}\u202e\x1b[31m"
DEFINITION = {
    "SnapshotId": "s1",
    "Configuration": {
        "script": "train.py",
        "arguments": ["--epochs", 2],
        "target": "cpu-cluster",
        "nodeCount": 2,
        "framework": "PyTorch",
        "environmentVariables": {"API_KEY": "hunter2"},
        "environment": {
            "name": "small",
            "version": "3",
            "environmentVariables": {"SEED": "hunter3"},
            "python": {
                "userManagedDependencies": False,
                "condaDependencies": {"dependencies": ["numpy", {"pip": ["x"]}]},
            },
            "docker": {"baseImage": "image", "baseImageRegistry": {"username": "me", "password": "hunter4"}},
        },
    },
}


def point(value: float, step: int | None = None) -> Point:
    return Point(step=step, created="2026-01-01T00:00:00.0000000+00:00", value=value)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "parity.toml").touch()
    address = Address(port=1, pages=2, socket=tmp_path / "socket")
    made = Workspace(settings.load(tmp_path), address=address, word=WORD, authority=tmp_path / "authority.pem")
    yield made
    made.close()


@pytest.fixture
def run(workspace: Workspace) -> Run:
    """A run with names that are meant to do harm, in each place where a name may stand."""
    workspace.runs.create("first_1", "trials", status="Starting", target=HOSTILE, definition=DEFINITION)
    workspace.runs.create("first_2", "trials", status="Running", parent="first_1")
    workspace.runs.update(
        "first_1", name=HOSTILE, description=HOSTILE, tags={HOSTILE: HOSTILE}, properties={"a": HOSTILE}
    )
    workspace.runs.move("first_1", "Failed", error={"error": {"code": HOSTILE, "message": HOSTILE}})
    made = workspace.runs.get("first_1")
    assert made
    folder = workspace.artifacts.folder(made)
    for name, content in {
        "outputs/<b>&.bin": b"\0",
        "user_logs/std_log.txt": b"one\ntwo",
        "outputs/a.png": b"p",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    log(workspace, {HOSTILE: [(1, 0.5), (2, math.nan), (3, 0.25)]})
    return made


def log(workspace: Workspace, metrics: dict[str, list[tuple[int, float]]]) -> None:
    """Metrics of first_1, as the SDK posts them."""
    workspace.metrics.append(
        "first_1",
        [
            {
                "name": name,
                "columns": {name: "double"},
                "properties": {"uxMetricType": "azureml.v1.scalar"},
                "value": [
                    {
                        "metricId": f"{step}",
                        "createdUtc": f"2026-01-01T00:00:{step:02}Z",
                        "step": step,
                        "data": {name: value},
                    }
                    for step, value in values
                ],
            }
            for name, values in metrics.items()
        ],
    )


@pytest.fixture
def client(workspace: Workspace) -> TestClient:
    return TestClient(app.pages(workspace), base_url="http://127.0.0.1:2")


@pytest.fixture
def root(workspace: Workspace) -> str:
    return f"/{workspace.page_word}"


def test_nothing_is_answered_without_the_word_of_this_start(client: TestClient, run: Run, root: str) -> None:
    for path in (
        "",
        "/",
        f"/runs/{run.id}",
        f"{root}x/",
        f"/x{root}/",
        f"/{WORD}/",
        "//",
        f"{root[:-1]}/runs/{run.id}",
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (404, "not found\n"), path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:2", "127.0.0.1.evil.example", "10.0.0.1:2", "", "[::1]:2"]
)
def test_another_name_of_this_machine_is_refused_though_the_word_is_right(
    client: TestClient, root: str, host: str
) -> None:
    assert client.get(f"{root}/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:2", "localhost:9", "localhost"])
def test_this_machine_by_name_is_answered(client: TestClient, root: str, host: str) -> None:
    assert client.get(f"{root}/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_pages_only_read(client: TestClient, run: Run, root: str, method: str) -> None:
    assert client.request(method, f"{root}/runs/{run.id}").status_code == 405


def test_the_addresses_that_the_sdk_makes_are_served(client: TestClient, workspace: Workspace, run: Run) -> None:
    query = f"?wsid={workspace.identity.scope}&tid={workspace.identity.tenant}"
    studio = workspace.studio.partition(":2")[2]
    for path in ("", "/experiments/trials", f"/experiments/id/{run.experiment_id}", "/runs/first_1", "/runs/first_2"):
        answer = client.get(f"{studio}{path}{query}")
        assert answer.status_code == 200, path
        assert "A rehearsal on this machine, not Azure ML." in answer.text


def test_what_there_is_not_is_said(client: TestClient, root: str) -> None:
    for path in ("/runs/none", "/experiments/none", "/experiments/id/none"):
        answer = client.get(root + path)
        assert answer.status_code == 404
        assert "This workspace has no such" in answer.text


def everything(client: TestClient, root: str) -> list[str]:
    """Each page, whole and as it is asked for again and again."""
    paths = ("/", "/experiments/trials", "/runs/first_1", "/runs/first_2")
    answers = [client.get(f"{root}{path}{query}") for path in paths for query in ("", "?live=1")]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.text for answer in answers]


def test_every_name_is_shown_and_none_is_obeyed(client: TestClient, run: Run, root: str) -> None:
    for text in everything(client, root):
        parts = json.loads(text)["parts"].values() if text.startswith("{") else [text]
        for html in parts:
            assert "<script>alert" not in html
            assert " object at 0x" not in html
            assert "<b>&" not in html
            assert "49" not in re.findall(r"alert\(1\).{0,60}", html)
            assert "\x1b" not in html
            assert "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get(f"{root}/runs/first_1").text


def test_no_page_may_run_a_script_but_its_own(client: TestClient, run: Run, root: str) -> None:
    for path in ("/", "/runs/first_1", "/runs/none", "/assets/page.js", "/runs/first_1/files?name=outputs/a.png"):
        headers = client.get(root + path).headers
        policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_no_secret_stands_on_a_page(client: TestClient, workspace: Workspace, run: Run, root: str) -> None:
    token = workspace.tokens.job(run.id)
    workspace.runs.update(run.id, tags={"token": token}, properties={token: "a"}, description=f"with {token}")
    (workspace.artifacts.folder(run) / "user_logs" / "std_log.txt").write_text(f"AZUREML_RUN_TOKEN={token}\n")
    log = client.get(f"{root}/runs/first_1/log?name=user_logs/std_log.txt").text
    for text in [*everything(client, root), log]:
        for secret in (token, token.rpartition(".")[2], WORD, "hunter", "sig="):
            assert secret not in text
    assert "AZUREML_RUN_TOKEN=[token]" in log


def test_a_run_page_tells_what_was_submitted(client: TestClient, run: Run, root: str) -> None:
    page = client.get(f"{root}/runs/first_1").text
    for told in (
        "python train.py --epochs 2",
        "small, version 3",
        "API_KEY",
        "SEED",
        "numpy",
        "pip: x",
        "2 on 2 nodes",
    ):
        assert told in page
    assert f'href="{root}/runs/first_2"' in page  # its child


def test_files_are_saved_and_not_opened(client: TestClient, run: Run, root: str) -> None:
    answer = client.get(f"{root}/runs/first_1/files?name={quote('outputs/<b>&.bin')}")
    assert (answer.status_code, answer.content) == (200, b"\0")
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert client.get(f"{root}/runs/first_1/files?name=outputs/a.png").headers["content-type"] == "image/png"


def test_no_other_file_is_given(client: TestClient, workspace: Workspace, run: Run, root: str) -> None:
    folder = workspace.artifacts.folder(run)
    (folder / "outputs" / "link").symlink_to(workspace.folder / "key")
    (folder / "outputs" / "folder").symlink_to(workspace.folder)
    names = (
        "../key",
        "/etc/passwd",
        "outputs/../../key",
        "outputs/link",
        "outputs/folder/key",
        "outputs",
        "",
        "\0",
        "a" * 5000,
    )
    for name in names:
        for route in ("files", "log", "snapshot"):
            assert client.get(f"{root}/runs/first_1/{route}?name={quote(name)}").status_code == 404, (route, name)
    for name in ("../views.py", "run.html", "%2e%2e%2fviews.py", "workspace.html"):
        assert client.get(f"{root}/assets/{name}").status_code == 404


def test_the_live_answer_has_the_values_that_were_logged(client: TestClient, run: Run, root: str) -> None:
    state = client.get(f"{root}/runs/first_1?live=1").json()
    (curve,) = state["curves"]
    assert (curve["x"], curve["y"], curve["axis"]) == ([1, 2, 3], [0.5, None, 0.25], "step")
    assert (curve["count"], curve["last"], curve["smallest"], curve["largest"]) == (3, 0.25, 0.25, 0.5)
    assert state["over"]
    assert state["logs"] == ["user_logs/std_log.txt"]
    assert not client.get(f"{root}/runs/first_2?live=1").json()["over"]


def test_a_curve_of_many_values_keeps_its_ends_and_its_peaks() -> None:
    values = [1.0 + index / 1e6 for index in range(50_000)]
    values[31_234], values[777] = 9.0, -9.0
    curve = views.curve("loss", [point(value) for value in values])
    assert len(curve.x) <= views.POINTS
    assert {1, 50_000, 31_235, 778} <= set(curve.x)
    assert (curve.count, curve.smallest, curve.largest) == (50_000, -9.0, 9.0)


def test_values_without_steps_that_grow_are_numbered() -> None:
    for steps in ([None, None], [0, 0], [3, 1], [1, None]):
        assert views.curve("a", [point(1.0, step) for step in steps]).x == [1, 2]
    assert views.curve("a", [point(1.0, step) for step in (0, 10)]).x == [0, 10]


def test_a_log_is_read_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    first = views.piece(path, None, over=False)
    assert (first.text, first.next, first.skipped) == ("one\n", 4, False)  # half a line waits for its end
    path.write_bytes(b"one\ntwo\n\xc3\xa9")
    second = views.piece(path, first.next, over=False)
    assert (second.text, second.start) == ("two\n", 4)
    assert views.piece(path, second.next, over=True).text == "é"
    assert views.piece(path, 8000, over=True).text == "one\ntwo\né"  # it was begun anew


def test_a_start_that_is_none_is_the_end_of_the_log(client: TestClient, run: Run, root: str) -> None:
    for start in ("", "-1", "x", "9" * 5000, "٣"):
        answer = client.get(f"{root}/runs/first_1/log", params={"name": "user_logs/std_log.txt", "start": start})
        assert answer.json()["text"] == "one\ntwo", start


def test_of_a_long_log_the_end_is_shown_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"line {number:06}\n" for number in range(100_000)]
    path.write_text("".join(lines))
    end = views.piece(path, None, over=False)
    assert end.skipped
    assert len(end.text) <= views.TAIL_BYTES
    assert end.text.splitlines(keepends=True) == lines[-len(end.text) // 12 :]
    jump = views.piece(path, 12, over=False)
    assert jump.skipped
    assert len(jump.text) <= views.PIECE_BYTES
    path.write_text("x" * 500_000)
    assert len(views.piece(path, 0, over=False).text) == views.PIECE_BYTES  # no line ends, and it goes on all the same


def test_without_the_chart_library_the_pages_still_work(
    client: TestClient, run: Run, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(cache: Path) -> str:
        raise FetchError("it cannot be fetched", expected="an index", command="pip")

    monkeypatch.setattr(charts, "library", unreachable)
    assert client.get(f"{root}/assets/plotly.js").status_code == 404
    assert client.get(f"{root}/runs/first_1").status_code == 200


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7260, "2 h 01 min")],
)
def test_how_long_a_run_took(run: Run, seconds: float, words: str) -> None:
    from dataclasses import replace
    from datetime import datetime, timedelta, timezone

    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    ended = (start + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")
    assert views.duration(replace(run, started="2026-01-01T00:00:00.0000000Z", ended=ended)) == words
