"""Wheels of a few lines, as honest or hostile as a test wants them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def make(
    folder: Path,
    files: Mapping[str, str] | None = None,
    *,
    name: str = "tiny",
    version: str = "1.0",
    tag: str = "py3-none-any",
    metadata: str = "",
    entry_points: str = "",
    tampered: Mapping[str, str] | None = None,
    algorithm: str = "sha256",
) -> Path:
    """Writes a wheel whose RECORD is right for `files`; `tampered` files are replaced after that."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **(files if files is not None else {"tiny/__init__.py": "answer = 42\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(tag.endswith('any')).lower()}\nTag: {tag}\n",
    }
    if entry_points:
        contents[f"{info}/entry_points.txt"] = entry_points
    rows = [f"{path},{algorithm}={_digest(text, algorithm)},{len(text)}" for path, text in contents.items()]
    contents |= tampered or {}
    contents[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in contents.items():
            archive.writestr(zipfile.ZipInfo(member, (2020, 2, 2, 2, 2, 2)), text)
    return path


def _digest(text: str, algorithm: str) -> str:
    return base64.urlsafe_b64encode(hashlib.new(algorithm, text.encode()).digest()).rstrip(b"=").decode()
