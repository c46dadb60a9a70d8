"""The README says what is true: its verbs, files, variables and messages exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_it_names_is_a_target_of_make(page: str) -> None:
    named = set(re.findall(r"(?:`|\$ )make ([a-z]+(?:-[a-z]+)*)", (ROOT / page).read_text()))
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_file_it_links_to_is_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_every_variable_it_explains_is_read() -> None:
    variables = set(re.findall(r"PARITY_[A-Z]+", (ROOT / "README.md").read_text()))
    code = "".join(path.read_text() for path in (ROOT / "tools").rglob("*.py"))
    assert variables
    assert [name for name in variables if f'"{name}"' not in code] == []


def test_every_message_it_helps_with_is_one_of_the_tools() -> None:
    table = (ROOT / "README.md").read_text().partition("| message | what to do |")[2].partition("\n\n")[0]
    code = " ".join(path.read_text() for path in (ROOT / "tools").rglob("*.py"))
    pieces = [
        piece.strip()
        for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
        for message in re.findall(r"`([^`]+)`", row)
        for piece in message.split("...")
        if len(piece.strip(" :;?")) > 5
    ]
    assert len(pieces) > 5
    assert [piece for piece in pieces if piece.strip(":; ") not in code] == []


def test_no_placeholder_is_left() -> None:
    assert [page for page in PAGES if "@@" in (ROOT / page).read_text()] == []
