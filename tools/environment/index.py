"""The package index that pip uses on this machine, taken from pip's own configuration and given to conda-lock."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import LockError

log = logging.getLogger(__name__)

# pip merges its options from its files, the environment and its own defaults; only its parser knows the result.
_ASK_PIP = """
import json
from pip._internal.commands import create_command
options, _ = create_command("download").parse_args([])
print(json.dumps([options.index_url, options.extra_index_urls, options.cert]))
"""


@dataclass(frozen=True, kw_only=True)
class Index:
    """urls: simple indexes (PEP 503), credentials replaced by $NAME. environment: those names' values, for a child."""

    urls: tuple[str, ...]
    environment: Mapping[str, str]


def configured() -> Index | None:
    """The index-url and extra-index-url of pip; None where this Python has none, so that conda-lock takes its default.

    Not supported, because conda-lock has nothing of the kind: find-links, indexes of files (file://), and priorities
    among several indexes. pip's `cert` is handed on. Errors: LockError if no index is reachable over http(s).
    """
    answer = subprocess.run([sys.executable, "-c", _ASK_PIP], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        log.debug("pip says nothing of its index: %s", answer.stderr.strip().splitlines()[-1:])
        return None
    main, extra, certificates = json.loads(answer.stdout)
    addresses = [parts for parts in map(urlsplit, [main, *extra]) if parts.scheme in ("https", "http")]
    if not addresses:
        raise LockError(
            f"pip's index is {urlsplit(main).scheme}:, which conda-lock cannot read",
            expected="an index over https, or no pip section",
            command="pip config set global.index-url https://HOST/simple",
        )
    environment = (
        {"REQUESTS_CA_BUNDLE": certificates} if certificates and "REQUESTS_CA_BUNDLE" not in os.environ else {}
    )
    urls = []
    for number, parts in enumerate(addresses):
        url, credentials = _without_credentials(parts, f"PARITY_INDEX_{number}")
        urls.append(url)
        environment |= credentials
    return Index(urls=tuple(urls), environment=environment)


def _without_credentials(parts: SplitResult, prefix: str) -> tuple[str, dict[str, str]]:
    """The address with $PREFIX_USER:$PREFIX_PASSWORD, which conda-lock fills in from its environment."""
    if parts.username is None:
        return parts.geturl(), {}
    user, password = f"{prefix}_USER", f"{prefix}_PASSWORD"
    host = parts.netloc.rsplit("@", 1)[1]
    url = parts._replace(netloc=f"${user}:${password}@{host}").geturl()
    return url, {user: unquote(parts.username), password: unquote(parts.password or "")}
