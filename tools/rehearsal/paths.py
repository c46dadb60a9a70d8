"""Names of files that come from outside, checked before they become paths."""

from __future__ import annotations

from pathlib import Path

from .answers import Refusal

NAME_BYTES = 1024  # Azure's limit for the name of a blob ("Naming and Referencing Containers, Blobs, and Metadata")
PART_BYTES = 255  # Linux's limit for what stands between two slashes


def inside(folder: Path, name: str) -> Path:
    """The file of that name (relative, with slashes) below the folder, whatever links lie there. Refusal if outside."""
    path = folder / relative(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _refusal(name, "it leads out of its folder")
    return path


def relative(name: str) -> str:
    """The name itself, if a file can have it. Refusal if not."""
    parts = name.split("/")
    if not name or name.startswith("/"):
        raise _refusal(name, "a relative path is expected")
    if any(part in ("", ".", "..") for part in parts):
        raise _refusal(name, "a part of it is empty, . or ..")
    if any(ord(letter) < 0x20 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise _refusal(name, "a control character stands in it")
    if len(name.encode()) > NAME_BYTES or any(len(part.encode()) > PART_BYTES for part in parts):
        raise _refusal(name, f"it may have {NAME_BYTES} bytes, and each part of it {PART_BYTES}")
    return name


def _refusal(name: str, why: str) -> Refusal:
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    return Refusal(400, f"{shown!r} cannot be the name of a file: {why}", code="ValidationError")
