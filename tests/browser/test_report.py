import base64
import math
import time
from pathlib import Path

import chromium
import pytest
import reported

from tools.report import page as pages

ROOT = Path(__file__).parents[2]
EVIL = "<img src=x onerror='window.ran=1'><script>window.ran=1</script>"
LIGHT, DARK = {"page": "rgb(255, 255, 255)", "curve": "#1f77b4"}, {"page": "rgb(20, 24, 28)", "curve": "#63b3ec"}
STEPS = range(0, 2000, 20)


def loss(step: float, run: int) -> float:
    return 2 * math.exp(-step / 600) + 0.05 * math.sin(step) * run + 0.02


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs; of the metric `late` only the second one has points, and one of them is NaN."""
    folder = tmp_path_factory.mktemp("report")
    losses = [[("loss", step, loss(step, run)) for step in STEPS] for run in (0, 1)]
    late = [("late", step, None if step == 2 else step / 4) for step in range(5)]
    evil = [(EVIL, step, float(step)) for step in range(3)]
    log = "".join(f"line {number}\n" for number in range(300)).encode()
    one = reported.run(folder / "runs", metrics=[*losses[0], *evil], log=log)
    two = reported.run(
        folder / "runs",
        "20261123-160000-001-beef",
        metrics=[*losses[1], *late],
        log=log + b"the last line of B",
        target="azureml",
    )
    file = folder / "report.html"
    pages.write([one, two], file, root=folder, cache=ROOT / ".parity" / "cache")
    return file


@pytest.fixture
def opened(written: Path, page: chromium.Page) -> Path:
    page.errors.clear()
    page.requests.clear()
    media(page, "light")
    size(page, 1280)
    page.open(written)
    page.wait("charts.length === 3 && charts.every(chart => chart.plot.status === 1)")
    return written


def media(page: chromium.Page, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.call("Emulation.setEmulatedMedia", media="", features=[feature])


def size(page: chromium.Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)


def press(page: chromium.Page, key: str, code: int = 0) -> None:
    text = {"text": key} if len(key) == 1 else {}
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


def place(page: chromium.Page, step: float, value: float, chart: int = 0) -> tuple[float, float]:
    """Where a point of a chart is on the screen, the chart being in the middle of it."""
    script = f"""(() => {{ const plot = charts[{chart}].plot; plot.root.scrollIntoView({{block: 'center'}});
        const box = plot.over.getBoundingClientRect();
        return [box.x + plot.valToPos({step}, 'x'), box.y + plot.valToPos({value}, 'y')]; }})()"""
    return tuple(page.evaluate(script))


def legend(page: chromium.Page, chart: int = 0) -> dict[str, str]:
    script = f"""Object.fromEntries([...charts[{chart}].plot.root.querySelectorAll('.u-series')].map(
        row => [row.querySelector('.u-label').textContent, row.querySelector('.u-value').textContent]))"""
    return page.evaluate(script)


def pixels(page: chromium.Page, color: str, step: float, value: float, chart: int = 0) -> int:
    """How many of the pixels around a point of a chart have a colour, roughly."""
    wanted = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    script = f"""(() => {{ const plot = charts[{chart}].plot;
        const x = plot.valToPos({step}, 'x', true), y = plot.valToPos({value}, 'y', true);
        const data = plot.ctx.getImageData(x - 3, y - 3, 7, 7).data, wanted = {wanted};
        let count = 0;
        for (let at = 0; at < data.length; at += 4)
            count += data[at + 3] > 127 && wanted.every((part, index) => Math.abs(part - data[at + index]) < 24);
        return count; }})()"""
    return page.evaluate(script)


def test_the_page_is_one_file_that_asks_for_nothing_else(opened: Path, page: chromium.Page) -> None:
    assert page.errors == []
    assert set(page.requests) == {opened.as_uri()}
    assert opened.stat().st_size < 300_000


def test_the_curves_are_drawn_where_their_values_are(opened: Path, page: chromium.Page) -> None:
    for step in (200, 600, 1400):
        assert pixels(page, LIGHT["curve"], step, loss(step, 0)) > 5, step
        assert pixels(page, LIGHT["curve"], step, loss(step, 0) + 0.5) == 0, step
    series = page.evaluate("charts[0].plot.data")
    assert series == [list(STEPS), *([loss(step, run) for step in STEPS] for run in (0, 1))]


def test_hovering_tells_the_values_of_both_runs(opened: Path, page: chromium.Page) -> None:
    page.mouse(*place(page, 600, loss(600, 0)))
    page.wait("charts[0].plot.cursor.idx === 30")
    told = legend(page)
    assert told["step"] == "600"
    assert float(told["A local"]) == pytest.approx(loss(600, 0), rel=1e-6)
    assert float(told["B azureml"]) == pytest.approx(loss(600, 1), rel=1e-6)


def test_smoothing_is_the_average_that_it_says(opened: Path, page: chromium.Page) -> None:
    page.evaluate("document.getElementById('smoothing').focus()")
    for _ in range(2):
        press(page, "PageUp", 33)  # a tenth of the slider each
    weight = float(page.evaluate("document.getElementById('weight').textContent"))
    assert 0.1 < weight < 0.5
    for _ in range(3):
        press(page, "PageUp", 33)
    weight = float(page.evaluate("document.getElementById('weight').textContent"))
    assert weight > 0.4
    expected, total = [], 0.0
    for count, step in enumerate(STEPS, start=1):
        total = weight * total + (1 - weight) * loss(step, 1)
        expected.append(total / (1 - weight**count))
    assert page.evaluate("charts[0].plot.data[4]") == pytest.approx(expected)
    assert page.evaluate("charts[0].plot.data[2]") == [loss(step, 1) for step in STEPS], "as logged, behind it"
    assert list(legend(page)) == ["step", "A local, as logged", "B azureml, as logged", "A local", "B azureml"]
    press(page, "Home", 36)
    assert page.evaluate("charts[0].plot.data.length") == 3


def test_a_logarithmic_axis_has_equal_room_for_each_decade(opened: Path, page: chromium.Page) -> None:
    page.evaluate("document.getElementById('log').click()")
    one, tenth, hundredth = page.evaluate("[1, 0.1, 0.01].map(value => charts[0].plot.valToPos(value, 'y'))")
    assert tenth - one == pytest.approx(hundredth - tenth)
    assert pixels(page, LIGHT["curve"], 600, loss(600, 0)) > 5
    assert page.evaluate("charts[1].plot.data[1][0] === null"), "0 has no place on it"
    assert page.errors == []


def test_dragging_zooms_and_a_double_click_shows_all(opened: Path, page: chromium.Page) -> None:
    left, right = place(page, 400, 1), place(page, 800, 1)
    for kind, (x, y) in (("mouseMoved", left), ("mousePressed", left), ("mouseMoved", right), ("mouseReleased", right)):
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)
    page.wait("charts[0].plot.scales.x.min > 0")
    assert page.evaluate("[charts[0].plot.scales.x.min, charts[0].plot.scales.x.max]") == pytest.approx(
        [400, 800], abs=9
    )
    page.evaluate("document.getElementById('log').click()")
    assert page.evaluate("charts[0].plot.scales.x.max") < 820, "another axis leaves the zoom as it is"
    page.evaluate("charts[0].plot.over.dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))")
    page.wait("charts[0].plot.scales.x.max === 1980")


def test_the_keyboard_zooms_and_moves_the_cursor(opened: Path, page: chromium.Page) -> None:
    page.evaluate("charts[0].place.focus()")
    press(page, "+")
    page.wait("charts[0].plot.scales.x.max - charts[0].plot.scales.x.min < 1000")
    press(page, "ArrowRight", 39)
    assert legend(page)["step"] == "1,000"
    press(page, "ArrowRight", 39)
    assert legend(page)["step"] == "1,020"
    press(page, "ArrowLeft", 37)
    assert legend(page)["step"] == "1,000"
    press(page, "0")
    page.wait("charts[0].plot.scales.x.max === 1980 && charts[0].plot.scales.x.min === 0")


def test_every_control_is_reached_by_tab_and_shows_it(opened: Path, page: chromium.Page) -> None:
    reached, script = (
        [],
        """(() => { const at = document.activeElement;
        return [at.id || at.className || at.tagName, getComputedStyle(at).outlineStyle]; })()""",
    )
    for _ in range(60):
        press(page, "Tab", 9)
        name, outline = page.evaluate(script)
        if name == "BODY":
            break
        assert outline != "none", name
        reached.append(name)
    assert reached[0] == "skip"
    controls = [name for name in reached if name in ("smoothing", "log", "reset", "chart-0", "chart-1", "chart-2")]
    assert controls == ["smoothing", "log", "reset", "chart-0", "chart-1", "chart-2"]
    assert reached.count("SUMMARY") == page.evaluate("document.querySelectorAll('summary').length")


def test_a_run_without_a_metric_and_a_nan_leave_gaps(opened: Path, page: chromium.Page) -> None:
    assert page.evaluate("charts[2].plot.data") == [[0, 1, 2, 3, 4], [0, 0.25, None, 0.75, 1]]
    assert list(legend(page, 2)) == ["step", "B azureml"]
    assert pixels(page, "#d1570c", 2, 0.5, 2) == 0
    assert "B: 1 gap, where the value is NaN or infinite." in page.evaluate("document.body.innerText")


def test_names_are_text_wherever_they_are_shown(opened: Path, page: chromium.Page) -> None:
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelectorAll('h3')[1].textContent") == EVIL


def test_it_is_light_or_dark_as_the_reader_has_it(opened: Path, page: chromium.Page) -> None:
    for scheme, colors in (("dark", DARK), ("light", LIGHT)):
        media(page, scheme)
        page.wait(f"getComputedStyle(document.body).backgroundColor === '{colors['page']}'")
        page.wait("charts[0].plot.status === 1")
        time.sleep(0.1)
        assert pixels(page, colors["curve"], 600, loss(600, 0)) > 5, scheme
        contrast = page.evaluate(CONTRAST)
        assert contrast > 4.5, scheme


# The least ratio of contrast between a text and what is behind it, by WCAG 2.1
CONTRAST = """(() => {
    const parts = color => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(part => part / 255).map(
        part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = element => { for (; element; element = element.parentElement) {
        const color = parts(getComputedStyle(element).backgroundColor);
        if (color.length === 3 || color[3] === 1) return light(color); } };
    let least = 21;
    for (const element of document.querySelectorAll('main *, header *')) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) || !element.offsetParent
            || element.closest('noscript, .u-legend')) continue;
        const [one, two] = [light(parts(getComputedStyle(element).color)), behind(element)];
        least = Math.min(least, (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05));
    }
    return least; })()"""


def test_on_paper_it_is_light_and_no_log_is_cut(opened: Path, page: chromium.Page) -> None:
    media(page, "dark")
    page.evaluate("""addEventListener('beforeprint', () => window.printed = [
        document.querySelectorAll('details.log:not([open])').length, charts[0].plot.width,
        getComputedStyle(document.body).backgroundColor])""")
    printed = base64.b64decode(page.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    assert page.evaluate("window.printed") == [0, 660, LIGHT["page"]]
    assert page.evaluate("document.querySelectorAll('details.log:not([open])').length") == 1, "as it was before"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == DARK["page"]
    page.call("Emulation.setEmulatedMedia", media="print")
    heights = page.evaluate("[...document.querySelectorAll('pre')].map(each => each.scrollHeight - each.clientHeight)")
    assert max(heights) <= 0
    assert page.errors == []


def test_a_narrow_screen_needs_no_scrolling_sideways(opened: Path, page: chromium.Page) -> None:
    size(page, 360)
    page.wait("charts[0].plot.width < 340")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(
        "[...document.querySelectorAll('.wide')].every(each => each.scrollWidth <= each.clientWidth + 1)"
    )
