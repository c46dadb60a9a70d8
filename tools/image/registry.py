"""One repository of a registry over its HTTP API, with no engine between (OCI distribution specification 1.1).

No client from PyPI fits: oras 0.2 takes no identity token, which is what `az acr login` leaves, and reads each blob
into memory; python-dxf 12 makes no second attempt and reads no config.json of Docker's.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from .. import __version__, files, progress
from ..errors import RegistryError
from . import blobs, credentials
from .archive import Assembly, Layer
from .blobs import Blob
from .credentials import Credentials
from .manifests import DOCKER_MANIFEST, MANIFEST, Manifest, manifest

if TYPE_CHECKING:
    import httpx

    from ..progress import Task

ATTEMPTS = 5  # at sending one thing
BACKOFF = 0.5  # seconds before the second attempt; twice as long before each further one
LONGEST_WAIT = 60.0  # seconds, where the registry itself says when to come back (Retry-After)
UPLOADS = 4  # blobs at once
SILENCE = 300.0  # seconds that a registry may take to store a large blob that has arrived

log = logging.getLogger(__name__)
T = TypeVar("T")


class _BrokenError(Exception):
    """Something that another attempt may mend. wait: seconds that the registry asks for."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Repository:
    """One repository: `with Repository("myacr.azurecr.io", "parity") as repository: ...`; safe to use from threads.

    Errors: each method raises RegistryError, which names the registry, what was being sent, and what to type.
    """

    def __init__(self, host: str, path: str, login: Credentials | None) -> None:
        """host: "myacr.azurecr.io", "127.0.0.1:5000"; path: of the repository there; login: None to go without."""
        import httpx

        self.host, self.path = host, path
        self._login = login
        self._base = f"{'http' if loopback(host) else 'https'}://{api_host(host)}"
        self._authorization: str | None = None
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._http = httpx.Client(
            timeout=httpx.Timeout(30.0, read=SILENCE), headers={"User-Agent": f"parity/{__version__}"}
        )

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # --- asking

    def find(self, reference: str) -> Manifest | None:
        """The image manifest of a tag or a digest; None if there is none, or if it is of another kind."""

        def ask() -> Manifest | None:
            response = self._send(
                "GET", self._url(f"manifests/{reference}"), headers={"Accept": f"{MANIFEST}, {DOCKER_MANIFEST}"}
            )
            if response.status_code == 404:
                return None
            content = response.content
            with contextlib.suppress(ValueError, KeyError, TypeError):
                table = json.loads(content)
                return Manifest(
                    digest=blobs.of(content, reference).digest,
                    media_type=table["mediaType"],
                    size=len(content),
                    image_id=table["config"]["digest"],
                )
            return None

        return self._persist(f"looking for {reference}", ask)

    def config(self, found: Manifest) -> dict[str, Any]:
        """The image's config, as in its JSON."""

        def ask() -> dict[str, Any]:
            response = self._send("GET", self._url(f"blobs/{found.image_id}"))
            if blobs.of(response.content, "").digest != found.image_id:
                raise _BrokenError("the config that came is not the one that the manifest names")
            table = json.loads(response.content)
            return table if isinstance(table, dict) else {}

        return self._persist("reading the image's config", ask)

    # --- sending

    def push(self, assembly: Assembly, tag: str) -> Manifest:
        """Sends what the repository lacks of the image, the manifest last, under `tag`.

        Errors: blobs.DamagedError, besides.
        """
        total = sum(layer.size for layer in assembly.layers)
        made: dict[str, Blob] = {}
        with progress.task("Pushing the image", total, "bytes") as task, self._uploads() as pool:
            futures = []
            for layer in assembly.layers:
                if layer.diff_id not in made:
                    made[layer.diff_id] = blobs.compressed(layer)  # while those before it are sent
                    futures.append(pool.submit(self._layer, layer, made[layer.diff_id], task))
                for future in futures:
                    if future.done():
                        future.result()  # the first failure stops all
            sent = [future.result() for future in futures]
        log.info("Sent %d of %d layers (%s)", sum(size > 0 for size in sent), len(sent), files.human(sum(sent)))
        self._blob(blobs.of(assembly.config, "the config of the image"), lambda size: None)
        content = manifest(blobs.of(assembly.config, "config"), [made[layer.diff_id] for layer in assembly.layers])
        self.put_manifest(content, MANIFEST, tag)
        digest = blobs.of(content, tag).digest
        return Manifest(digest=digest, media_type=MANIFEST, size=len(content), image_id=assembly.id)

    @contextlib.contextmanager
    def _uploads(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that send; where one fails or a person stops us, the others stop at their next piece."""
        self._stopped.clear()
        with ThreadPoolExecutor(UPLOADS) as pool:
            try:
                yield pool
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def put_manifest(self, content: bytes, media_type: str, tag: str) -> None:
        """Puts a manifest or an index whose parts are there already."""
        self._persist(
            f"sending the manifest {tag}",
            lambda: self._send(
                "PUT",
                self._url(f"manifests/{tag}"),
                content=lambda: iter([content]),
                headers={"Content-Type": media_type, "Content-Length": str(len(content))},
            ),
        )

    def _layer(self, layer: Layer, blob: Blob, task: Task) -> int:
        return self._blob(blob, lambda size: task.advance(size * layer.size / blob.size))

    def _blob(self, blob: Blob, advance: Callable[[int], None]) -> int:
        """Sends the blob, unless it is there; returns the bytes that this took."""

        def put() -> int:
            if self._send("HEAD", self._url(f"blobs/{blob.digest}")).status_code == 200:
                advance(blob.size)
                return 0
            place = self._send("POST", self._url("blobs/uploads/"), headers={"Content-Length": "0"})
            location = urljoin(str(place.url), place.headers.get("Location", ""))
            done = 0

            def counted() -> Iterator[bytes]:
                nonlocal done
                for piece in blob.pieces():
                    self._check_stopped()
                    yield piece
                    done += len(piece)
                    advance(len(piece))

            try:
                self._send(
                    "PUT",
                    f"{location}{'&' if '?' in location else '?'}digest={blob.digest}",
                    content=counted,
                    headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)},
                )
            except _BrokenError:
                advance(-done)
                raise
            return blob.size

        return self._persist(f"sending {blob.name} ({files.human(blob.size)})", put)

    # --- the protocol

    def _url(self, what: str) -> str:
        return f"{self._base}/v2/{self.path}/{what}"

    def _persist(self, doing: str, act: Callable[[], T]) -> T:
        """What `act` returns, in one of ATTEMPTS."""
        problem = ""
        for attempt in range(ATTEMPTS):
            try:
                return act()
            except _BrokenError as error:
                problem = str(error)
                if attempt + 1 < ATTEMPTS:
                    wait = max(BACKOFF * 2**attempt, min(error.wait, LONGEST_WAIT))
                    log.debug("%s: %s, %s; trying again in %.1f s", self.host, doing, problem, wait)
                    self._stopped.wait(wait)
                    self._check_stopped()
        raise RegistryError(
            f"{self.host}: {problem}, {ATTEMPTS} times, {doing}",
            command="try again (what has arrived is not sent again), or: make doctor",
        )

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise RegistryError(f"{self.host}: the push was stopped", command="make push")

    def _send(
        self,
        method: str,
        url: str,
        *,
        content: Callable[[], Iterator[bytes]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request, with what the registry wants for a login; the answer, which is a success or a 404."""
        for _ in range(3):  # without a login, with it, and once more where its token has run out
            response, sent = self._once(method, url, content, headers or {})
            if response.status_code != 401 or not self._authorize(response, sent):
                break
        status = response.status_code
        if response.is_success or (status == 404 and method in ("GET", "HEAD")):
            return response
        if status >= 500 or status in (408, 429):
            wait = response.headers.get("Retry-After", "")
            raise _BrokenError(
                f"the registry answers {status} {response.reason_phrase}", float(wait) if wait.isdecimal() else 0.0
            )
        raise self._refused(response)

    def _once(
        self, method: str, url: str, content: Callable[[], Iterator[bytes]] | None, headers: dict[str, str]
    ) -> tuple[httpx.Response, str | None]:
        import httpx

        self._check_address(url)
        authorization = self._authorization
        if authorization and urlsplit(url).netloc == urlsplit(self._base).netloc:  # uploads may go to another host
            headers = {**headers, "Authorization": authorization}
        try:
            body = content() if content else None
            # httpx leaves the login out where a redirect leads to another host
            follow = content is None
            response = self._http.request(method, url, content=body, headers=headers, follow_redirects=follow)
        except httpx.TimeoutException as error:
            raise _BrokenError("the registry gave no answer in time") from error
        except httpx.TransportError as error:
            raise _BrokenError(f"the connection broke ({str(error) or type(error).__name__})") from error
        return response, authorization

    def _check_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and loopback(parts.netloc)):
            raise RegistryError(
                f"{self.host} sends us to {parts.scheme}://{parts.netloc}, which is not encrypted",
                expected="https; http only on this machine itself",
                command="ask who runs the registry to have it announce its https address",
            )

    # --- letting us in

    def _authorize(self, response: httpx.Response, sent: str | None) -> bool:
        """Gets what a 401 asks for; False where that would be what was just refused."""
        with self._lock:
            if self._authorization != sent:  # another thread was here first
                return True
            for challenge in response.headers.get_list("WWW-Authenticate"):
                scheme, _, rest = challenge.partition(" ")
                fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
                found = self._bearer(fields) if scheme.lower() == "bearer" else self._basic()
                if found and found != sent:
                    self._authorization = found
                    return True
            return False

    def _basic(self) -> str | None:
        if self._login is None or not self._login.username:
            return None
        pair = f"{self._login.username}:{self._login.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    def _bearer(self, challenge: dict[str, str]) -> str | None:
        """A token for pushing here ("Token Authentication Specification" of the Distribution project)."""
        import httpx

        realm = challenge.get("realm", "")
        self._check_address(realm)
        fields = {"service": challenge.get("service", ""), "scope": f"repository:{self.path}:pull,push"}
        basic = self._basic()
        try:
            if self._login and self._login.identity_token:
                grant = {"grant_type": "refresh_token", "client_id": "parity"}
                form = {**fields, **grant, "refresh_token": self._login.identity_token}
                response = self._http.post(realm, data=form)
            else:
                response = self._http.get(realm, params=fields, headers={"Authorization": basic} if basic else {})
        except httpx.TransportError as error:
            raise _BrokenError(
                f"{urlsplit(realm).netloc}, which gives its tokens, does not answer ({type(error).__name__})"
            ) from error
        if response.status_code >= 500 or response.status_code == 429:
            raise _BrokenError(f"{urlsplit(realm).netloc}, which gives its tokens, answers {response.status_code}")
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            table = response.json() if response.is_success else {}
            token = table.get("access_token") or table.get("token")
            return f"Bearer {token}" if token else None
        return None

    def _refused(self, response: httpx.Response) -> RegistryError:
        """The error for an answer that no further attempt changes."""
        status, said = response.status_code, _said(response)
        if status == 401:
            reason = "refuses the login in Docker's config.json" if self._login else "asks for a login"
            return RegistryError(f"{self.host} {reason} (401{said})", command=credentials.login(self.host))
        if status == 403:
            return RegistryError(
                f"{self.host} does not allow a push to {self.path} (403{said})",
                expected="a login with the right to push, such as the role AcrPush",
                command=credentials.login(self.host),
            )
        return RegistryError(
            f"{self.host}/{self.path}: the registry refused {response.request.method} (answer {status}{said})",
            command="make doctor",
        )


def _said(response: httpx.Response) -> str:
    """The registry's own words (OCI distribution specification, "Error Codes"), shortened; ": ..." or nothing."""
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
        error = response.json()["errors"][0]
        return f": {str(error.get('message') or error['code'])[:300]}"
    return ""


def loopback(host: str) -> bool:
    """Whether "127.0.0.1:5000" and the like is this machine, to which Docker too speaks without TLS."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def api_host(host: str) -> str:
    """Where a registry's API is: at its own address, but for Docker Hub's."""
    from docker import auth

    return urlsplit(auth.INDEX_URL).netloc if host == auth.INDEX_NAME else host
