"""Secrets that show themselves in a file's content, by the forms that their issuers gave them."""

from __future__ import annotations

import re
from pathlib import Path
from string import ascii_letters, digits
from typing import NamedTuple

VERSION = b"1\n"  # of KINDS: what was remembered with another one is read again
LARGEST = 1 << 20  # bytes; nobody keeps a token in a larger file of text
FILES = 2000  # of a snapshot, by path, that are looked through: it can take ten times as long as hashing them
UNSEEN = 255  # instead of a kind: the file was not looked through


class Kind(NamedTuple):
    """name: for people. mark: bytes that every one of them holds, found faster than the form."""

    name: str
    mark: bytes
    form: re.Pattern[bytes]


KINDS = (
    Kind("a private key", b"PRIVATE KEY-----", re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    Kind("an Azure storage key", b"AccountKey=", re.compile(rb"AccountKey=[A-Za-z0-9+/]{86}==")),
    Kind("an Azure SAS token", b"sig=", re.compile(rb"[?&]sig=[A-Za-z0-9%+/]{40,}(?:%3[dD]|=)")),
    Kind("a Microsoft Entra client secret", b"Q~", re.compile(rb"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}")),
    Kind("an AWS access key", b"AKIA", re.compile(rb"\bAKIA[0-9A-Z]{16}\b")),
    Kind("a GitHub token", b"gh", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50})")),
    Kind("a Hugging Face token", b"hf_", re.compile(rb"\bhf_[A-Za-z0-9]{34}")),
    Kind("a Slack token", b"xox", re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20}")),
    Kind("a Google API key", b"AIza", re.compile(rb"\bAIza[0-9A-Za-z_-]{35}")),
    Kind("a PyPI token", b"pypi-", re.compile(rb"\bpypi-[A-Za-z0-9_-]{50}")),
    Kind("an API key", b"sk-", re.compile(rb"\bsk-(?:proj-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{32}")),
)


# Each has this many letters, digits and + _ ~ - in a row, which few files have: so most are done with soon.
_RUN = b"a" * 16
_ALIKE = bytes(97 if chr(code) in f"{ascii_letters}{digits}+_~-" else 32 for code in range(256))


def find(content: bytes) -> int:
    """Which of KINDS a file's content holds, counted from 1; 0 if none."""
    if _RUN not in content.translate(_ALIKE):
        return 0
    for number, kind in enumerate(KINDS, start=1):
        if kind.mark in content and kind.form.search(content):
            return number
    return 0


def line(path: Path, number: int) -> int:
    """The line of a file in which the secret of this kind begins; 0 if it is gone."""
    content = path.read_bytes()
    match = KINDS[number - 1].form.search(content)
    return content.count(b"\n", 0, match.start()) + 1 if match else 0
