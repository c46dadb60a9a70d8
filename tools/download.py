"""One file from its address, going on where an earlier attempt broke off."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from .errors import FetchError

if TYPE_CHECKING:
    import httpx

    from .progress import Task

ATTEMPTS = 4  # per file, each going on where the last one broke off


def client() -> httpx.Client:
    """Asks for files as they lie on the server: a hash is of the file, and a range is of it too."""
    import httpx

    return httpx.Client(timeout=30, follow_redirects=True, headers={"Accept-Encoding": "identity"})


def download(name: str, url: str, part: Path, *, client: httpx.Client, task: Task) -> None:
    """Brings `part` from what it holds to the whole file; the caller checks its hash before anyone uses it.

    name: the file's, for people. Errors: FetchError names it, the address and the reason; `part` keeps what has come.
    """
    import httpx

    problem = ""
    for attempt in range(ATTEMPTS):
        time.sleep(0.2 * attempt**2)
        start = part.stat().st_size if part.exists() else 0
        try:
            with client.stream("GET", url, headers={"Range": f"bytes={start}-"} if start else {}) as response:
                if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # the part is whole already; its hash decides
                response.raise_for_status()
                resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
                with part.open("ab" if resumed else "wb") as file:
                    for chunk in response.iter_raw():
                        file.write(chunk)
                        task.advance(len(chunk))
            return
        except httpx.HTTPStatusError as error:
            problem = f"the server answers {error.response.status_code} {error.response.reason_phrase}"
            if error.response.status_code < 500 and error.response.status_code not in (408, 429):
                break
        except httpx.HTTPError as error:
            problem = str(error) or type(error).__name__
    raise FetchError(
        f"{name} cannot be fetched from {public(url)}: {problem}",
        command="try again (what was fetched is kept), or: make doctor",
    )


def public(url: str) -> str:
    """The address without its user, password and token: fit for an error message."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
