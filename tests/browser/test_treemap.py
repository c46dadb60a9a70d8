import os
from pathlib import Path

import chromium
import pytest

from tools import snapshot
from tools.snapshot import treemap

ROOT = Path(__file__).parents[2]
ODD = "<b>o & d %{label} \u2028 $title"


@pytest.fixture
def drawn(tmp_path: Path, page: chromium.Page) -> Path:
    """A page of a snapshot near its limit, open in the browser."""
    sizes = {"data/train.bin": 250, "logs/old.log": 90, "model/net.py": 5, f"{ODD}/x.py": 20}
    sizes |= {f"images/{number:03}.dat": 1 for number in range(60)}
    for name, size in sizes.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size << 18)
    (tmp_path / "source" / ".amlignore").write_text("logs/\n")
    ignored: list[str] = []
    report, _ = snapshot.inspect(tmp_path / "source", ignored=ignored.append)
    file = tmp_path / "map.html"
    treemap.write(report, ignored, file, cache=ROOT / ".parity" / "cache")
    page.errors.clear()
    page.requests.clear()
    page.open(file)
    page.wait("document.querySelectorAll('#map g.slice').length > 5")
    return file


def slices(page: chromium.Page) -> dict[str, str]:
    """The text of each box, and its colour."""
    script = """Object.fromEntries([...document.querySelectorAll('#map g.slice')].map(
        box => [box.textContent, getComputedStyle(box.querySelector('path')).fill]))"""
    return page.evaluate(script)


def box(page: chromium.Page, text: str) -> tuple[float, float, float]:
    """Middle and area of the box that begins with a text."""
    script = f"""(() => {{ const found = [...document.querySelectorAll('#map g.slice')].find(
        each => each.textContent.startsWith({text!r})).querySelector('path').getBoundingClientRect();
        return [found.x + found.width / 2, found.y + found.height / 2, found.width * found.height]; }})()"""
    return tuple(page.evaluate(script))


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))})"


def test_the_page_is_one_file_that_asks_for_nothing_else(drawn: Path, page: chromium.Page) -> None:
    assert page.errors == []
    assert {url for url in page.requests if not url.startswith("data:")} == {drawn.as_uri()}
    assert drawn.stat().st_size < 6_000_000


def test_what_goes_what_does_not_belong_and_what_is_left_out_have_their_colours(
    drawn: Path, page: chromium.Page
) -> None:
    colors = slices(page)
    assert colors["train.bin62.5 MiB"] == rgb(treemap.OFFENDING)
    assert colors["logs/22.5 MiB"] == rgb(treemap.IGNORED)
    assert colors["x.py5.0 MiB"] == rgb(treemap.INCLUDED)
    assert "20 smaller files5.0 MiB" in colors
    assert any(text.startswith("<b>o & d %{label}") for text in colors)
    data, logs = box(page, "train.bin")[2], box(page, "logs/")[2]
    assert data / logs == pytest.approx(250 / 90, rel=0.25)  # frames take some room


def test_the_size_stands_beside_the_limit(drawn: Path, page: chromium.Page) -> None:
    text = page.evaluate("document.querySelector('#verdict').textContent")
    assert text == "64 files, 83.8 of 300.0 MiB: within the limit of azureml-core" or text.startswith("65 files, 83.8")
    bar = page.evaluate("document.querySelector('.bar i').offsetWidth / document.querySelector('.bar').offsetWidth")
    assert bar == pytest.approx(83.75 / 300, abs=0.01)
    assert page.evaluate("document.querySelector('table code').textContent") == "data/"
    height = page.evaluate("document.querySelector('#map svg').getBoundingClientRect().height")
    assert height == pytest.approx(page.evaluate("document.querySelector('#map').offsetHeight"), abs=2)


def test_hovering_tells_and_a_click_opens_a_folder(drawn: Path, page: chromium.Page) -> None:
    x, y, _ = box(page, "train.bin")
    page.mouse(x, y)
    page.wait("document.querySelector('#map .hoverlayer').textContent.includes('data/train.bin')")
    told = page.evaluate("document.querySelector('#map .hoverlayer').textContent")
    assert "62.5 MiB" in told
    assert "goes up, and does not belong, 20.8 % of the limit" in told
    left, top = page.evaluate("""(() => { const found = [...document.querySelectorAll('#map g.slice')].find(
        each => each.textContent.startsWith('images/')).querySelector('path').getBoundingClientRect();
        return [found.x + 20, found.y + 8]; })()""")
    page.mouse(left, top, click=True)
    page.wait("![...document.querySelectorAll('#map g.slice')].some(each => each.textContent.startsWith('train.bin'))")
    page.picture(drawn.with_suffix(".png"))
