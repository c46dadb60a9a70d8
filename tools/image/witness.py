"""The top layer of an image: the witness (tools/runs/inside), and the .pth file by which each Python runs its hook."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from . import layers
from .archive import Layer
from .staging import PREFIX

FOLDER = "/opt/parity"
SOURCE = Path(__file__).parents[1] / "runs" / "inside"
NAMES = ("hook.py", "witness.py")
# A line of a .pth file that begins with `import` is run at each start of Python; without a note it costs microseconds
HOOK = (
    "import os; os.environ.get('PARITY_NOTE') and "
    f"exec(compile(open('{FOLDER}/hook.py').read(), '{FOLDER}/hook.py', 'exec'), {{'__name__': 'parity_hook'}})\n"
)


def fingerprint(python: str | None) -> str | None:
    """What the layer's bytes depend on, for an environment with this Python ("3.11.4"); None without one: no layer."""
    if python is None:
        return None
    content = [python.split(".")[:2], HOOK, *((SOURCE / name).read_text(encoding="utf-8") for name in NAMES)]
    return hashlib.sha256(json.dumps([layers.FORMAT, content]).encode()).hexdigest()


def layer(python: str | None, cache: Path) -> Layer | None:
    """The layer, from `cache` if it is there; None for an environment without Python, which cannot run a witness."""
    key = fingerprint(python)
    if python is None or key is None:
        return None
    found = layers.read(cache, key)
    if found:
        return found
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        site_packages = root / PREFIX.strip("/") / "lib" / f"python{'.'.join(python.split('.')[:2])}" / "site-packages"
        site_packages.mkdir(parents=True)
        (site_packages / "parity.pth").write_text(HOOK, encoding="utf-8")
        folder = root / FOLDER.strip("/")
        folder.mkdir()
        for each in NAMES:
            (folder / each).write_text((SOURCE / each).read_text(encoding="utf-8"), encoding="utf-8")
        layers.pack(root, cache / "layers" / key, "the witness", root="")
    return layers.read(cache, key)
