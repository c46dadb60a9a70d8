import re
from pathlib import Path

from tools import settings
from tools.rehearsal import app, workspace
from tools.rehearsal.answers import SCOPE

DOCS = Path(__file__).parents[2] / "docs" / "rehearsal.md"
ROOT = re.compile(r"/(experiments|experimentids)/\{\w+\}(?=/(runs|batch))")  # which the documents call RUN


def test_every_call_that_is_served_stands_in_the_documents_with_what_it_rests_on(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").touch()
    address = workspace.Address(port=1, pages=2, socket=tmp_path / "socket")
    made = workspace.Workspace(settings.load(tmp_path), address=address, word="word", authority=tmp_path / "pem")
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    for route in app.service(made).routes:
        path = ROOT.sub("", route.path.replace(SCOPE, "/WS"))
        words = [word for word in path.split("/") if word and "{" not in word]
        assert any(all(word in row for word in words) for row in rows), f"{path}: no row has {words}"
    made.close()
