"""The pages of a rehearsal workspace in a real browser."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
import uvicorn

from tools import charts, settings
from tools.rehearsal import app, service
from tools.rehearsal.runs import Run
from tools.rehearsal.workspace import Address, Workspace

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"><b>&amp;</b>"
CONTRAST = """selector => {
    const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
        .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    let behind = document.querySelector(selector);
    const text = light(getComputedStyle(behind).color);
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const ground = light(getComputedStyle(behind).backgroundColor);
    return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05); }"""
LOSSES = [2.0 / (1 + step) for step in range(1, 31)]


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """The chart library, for which the first page would wait."""
    charts.library(ROOT / ".parity" / "cache")


@pytest.fixture
def workspace(tmp_path: Path, page: chromium.Page) -> Iterator[Workspace]:
    """A workspace whose pages are served."""
    (tmp_path / "parity.toml").touch()
    (tmp_path / ".parity").mkdir()
    (tmp_path / ".parity" / "cache").symlink_to(ROOT / ".parity" / "cache")
    listener = service._listening(0)
    address = Address(port=1, pages=listener.getsockname()[1], socket=tmp_path / "socket")
    made = Workspace(settings.load(tmp_path), address=address, word="word", authority=tmp_path / "authority.pem")
    server = uvicorn.Server(uvicorn.Config(app.pages(made), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    page.errors.clear()
    page.requests.clear()
    page.emulate()
    yield made
    page.open("about:blank")
    server.should_exit = True
    thread.join()
    made.close()


@pytest.fixture
def run(workspace: Workspace) -> Run:
    """A run that is under way: thirty losses, and a log."""
    workspace.runs.create("trial_1", "trials", status="Starting", target="cpu-cluster")
    found = workspace.runs.move("trial_1", "Running")
    assert found
    log(workspace, "loss", dict(enumerate(LOSSES, start=1)))
    write(workspace, found, "".join(f"step {step} loss {loss:.3f}\n" for step, loss in enumerate(LOSSES, start=1)))
    return found


def log(workspace: Workspace, name: str, values: dict[int, float]) -> None:
    """A metric of trial_1, as the SDK posts it."""
    kept = [
        {
            "metricId": f"{name} {step}",
            "createdUtc": f"2026-01-01T00:00:00.{step:06}Z",
            "step": step,
            "data": {name: value},
        }
        for step, value in values.items()
    ]
    scalar = {"uxMetricType": "azureml.v1.scalar"}
    workspace.metrics.append(
        "trial_1", [{"name": name, "columns": {name: "double"}, "properties": scalar, "value": kept}]
    )


def write(workspace: Workspace, run: Run, text: str) -> None:
    """More of the run's log."""
    path = workspace.artifacts.folder(run) / "user_logs" / "std_log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def curve(page: chromium.Page, index: int = 0) -> tuple[list[int], list[float]]:
    """What the chart library was given to draw."""
    data = f"document.querySelectorAll('.chart')[{index}].data[0]"
    return page.evaluate(f"[...{data}.x]"), page.evaluate(f"[...{data}.y]")


def drawn(page: chromium.Page) -> None:
    page.wait("document.querySelector('.chart .scatterlayer path.js-line')?.getAttribute('d')?.length > 20")


def text(page: chromium.Page, selector: str) -> str:
    return page.evaluate(f"document.querySelector('{selector}').textContent")


def test_the_loss_curve_is_drawn_with_the_values_that_were_logged(
    workspace: Workspace, run: Run, page: chromium.Page
) -> None:
    page.open(f"{workspace.studio}/runs/{run.id}?wsid={workspace.identity.scope}")
    drawn(page)
    steps, losses = curve(page)
    assert steps == list(range(1, 31))
    assert losses == pytest.approx(LOSSES)
    path = page.evaluate("document.querySelector('.chart path.js-line').getAttribute('d')")
    heights = [float(point.split(",")[1]) for point in path[1:].replace("M", "L").split("L")]
    assert heights == sorted(heights)  # the loss falls, and the screen counts downwards
    assert text(page, ".status") == "Running"
    assert "step 30 loss 0.065" in text(page, "#log")
    assert page.errors == []
    assert all(each.startswith((workspace.studio, "data:")) for each in page.requests), page.requests


def test_what_happens_meanwhile_is_seen_without_a_reload(workspace: Workspace, run: Run, page: chromium.Page) -> None:
    page.open(f"{workspace.studio}/runs/{run.id}")
    drawn(page)
    page.evaluate("window.opened = true")
    log(workspace, "loss", {31: 0.01})
    log(workspace, "accuracy", {1: 0.5, 2: 0.75})
    write(workspace, run, "10 %\r20 %\r\x1b[32mstep 31\x1b[0m\n")
    page.wait("document.querySelectorAll('.chart')[0].data[0].y.length === 31")
    page.wait("document.querySelectorAll('.chart').length === 2")
    assert curve(page, 1) == ([1, 2], [0.5, 0.75])
    page.wait("document.querySelector('#log').textContent.endsWith('\\nstep 31\\n')")
    workspace.runs.move(run.id, "Failed", error={"error": {"code": "UserError", "message": "exit code 2"}})
    page.wait("document.querySelector('.status').textContent === 'Failed'")
    assert "exit code 2" in text(page, ".error")
    page.wait("document.querySelector('#main').dataset.state === 'over'")
    asked = len(page.requests)
    time.sleep(2)
    page.evaluate("1")
    assert len(page.requests) == asked  # nothing more can change, and nothing is asked
    assert page.evaluate("window.opened")
    assert page.errors == []


def test_names_that_are_programs_stay_names(workspace: Workspace, run: Run, page: chromium.Page) -> None:
    workspace.runs.update(run.id, name=HOSTILE, description=HOSTILE, tags={HOSTILE: HOSTILE})
    log(workspace, HOSTILE, {1: 1.0, 2: 2.0})
    write(workspace, run, HOSTILE + "\n")
    (workspace.artifacts.folder(run) / "<img src=x onerror=alert(1)>.txt").touch()
    for place in ("", "/experiments/trials", f"/runs/{run.id}"):
        page.open(workspace.studio + place)
        page.wait(f"document.body.textContent.includes({HOSTILE!r})")
    page.wait("document.querySelectorAll('.chart .gtitle').length === 2")
    page.wait(f"document.querySelector('#log').textContent.includes({HOSTILE!r})")
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert HOSTILE in page.evaluate("[...document.querySelectorAll('.chart .gtitle')].map(e => e.textContent).join()")
    assert page.evaluate("document.title") != "taken"
    assert page.errors == []


def contrast(page: chromium.Page, selector: str) -> float:
    """WCAG's contrast between an element's text and what lies behind it."""
    return page.evaluate(f"({CONTRAST})({selector!r})")


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_in_light_and_in_dark(
    workspace: Workspace, run: Run, page: chromium.Page, tmp_path: Path, dark: bool
) -> None:
    page.emulate(dark=dark)
    page.open(f"{workspace.studio}/runs/{run.id}")
    drawn(page)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light is not dark
    for selector in ("body", "nav a", ".note", ".status", ".facts dt", "#log", "thead th"):
        assert contrast(page, selector) >= 4.5, selector
    tick = page.evaluate("getComputedStyle(document.querySelector('.chart .xtick text')).fill")
    assert tick == page.evaluate("getComputedStyle(document.body).color")
    page.picture(tmp_path / "page.png")


def test_the_charts_follow_when_the_reader_turns_to_dark(workspace: Workspace, run: Run, page: chromium.Page) -> None:
    page.open(f"{workspace.studio}/runs/{run.id}")
    drawn(page)
    page.emulate(dark=True)
    colour = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    page.wait(f"{colour} === getComputedStyle(document.body).color")


def test_it_fits_a_narrow_screen(workspace: Workspace, run: Run, page: chromium.Page) -> None:
    workspace.runs.update(run.id, name="a" * 200, tags={"b" * 200: "c" * 200})
    page.emulate(width=360, height=700)
    for place in ("", f"/runs/{run.id}"):
        page.open(workspace.studio + place)
        page.wait("document.querySelector('main').dataset.state")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_can_be_used_by_keyboard(workspace: Workspace, run: Run, page: chromium.Page) -> None:
    write(workspace, run, "")
    (workspace.artifacts.folder(run) / "logs").mkdir()
    (workspace.artifacts.folder(run) / "logs" / "other.txt").write_text("of the other\n")
    page.open(f"{workspace.studio}/runs/{run.id}")
    drawn(page)
    reached = set()
    for _ in range(20):
        page.key("Tab", 9)
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "log-scale", "log-name", "log-follow", "log"} <= reached
    page.evaluate("document.querySelector('#log-name').focus()")
    page.key("ArrowDown", 40)
    page.wait("document.querySelector('#log').textContent === 'of the other\\n'")
    assert page.errors == []


def test_a_service_that_is_gone_is_said(workspace: Workspace, run: Run, page: chromium.Page) -> None:
    page.open(f"{workspace.studio}/runs/{run.id}")
    drawn(page)
    assert page.evaluate("document.querySelector('#lost').hidden")
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    try:
        page.wait("!document.querySelector('#lost').hidden")
    finally:
        page.call(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
    page.wait("document.querySelector('#lost').hidden")
    assert text(page, ".status") == "Running"
