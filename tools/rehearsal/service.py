"""The workspace as a process: one a project, started when it is asked for, on the loopback only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import logging.handlers
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import files, processes
from ..errors import RehearsalError
from ..settings import Settings
from . import certificate
from .workspace import Address, Workspace, folder, studio

HOST = "127.0.0.1"
START_SECONDS = 20.0  # 1 s is usual
STOP_SECONDS = 60.0  # jobs are canceled first, and what they wrote is collected
GRACE_SECONDS = 1  # for answers that are under way when it ends
LOG_BYTES = 5_000_000  # of the service's own log, kept twice

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A running service, as it is written down for its owner. process: its name; word: this start's random word."""

    process: str
    port: int
    pages: int
    word: str = field(repr=False)

    @property
    def url(self) -> str:
        """The address of all services."""
        return f"https://{HOST}:{self.port}"

    @property
    def studio(self) -> str:
        """The address of its pages; who has it may look at them."""
        return studio(self.pages, self.word)


def running(settings: Settings) -> Endpoint | None:
    """The project's service, if it runs."""
    noted = _noted(settings)
    return noted if noted and processes.alive(noted.process) and _answers(noted, settings) else None


def ensure(settings: Settings) -> tuple[Endpoint, bool]:
    """(the project's service, whether it was started for this call). RehearsalError with its last words if it fails."""
    with files.locked(folder(settings) / "start.lock", "Another process is starting the rehearsal workspace"):
        if found := running(settings):
            return found, False
        last_words = folder(settings) / "start.log"
        with last_words.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "tools", "rehearsal", "serve"],  # -I: the project may have a folder tools/
                cwd=settings.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            if found := running(settings):
                return found, True
            time.sleep(0.05)
        if process.poll() is None:
            process.terminate()
        said = last_words.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RehearsalError(
            "the rehearsal workspace did not start" + "".join(f"\n  | {line}" for line in said[-5:]),
            command="python -m tools rehearsal serve",
        )


def stop(settings: Settings) -> bool:
    """Ends the project's service; False if none runs. Its state stays; jobs are canceled before it goes."""
    noted = _noted(settings)
    if noted is None or not processes.alive(noted.process):
        return False
    pid = int(noted.process.split("/")[1])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while processes.alive(noted.process) and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):  # a child of this process is there until it is asked for its end
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)
    if processes.alive(noted.process):
        raise RehearsalError(f"the rehearsal workspace (process {pid}) does not end", command=f"kill -9 {pid}")
    return True


def variables(settings: Settings, endpoint: Endpoint) -> dict[str, str]:
    """What azureml-core reads to find this workspace instead of Azure: documented variables, and no secret of Azure's.

    REQUESTS_CA_BUNDLE takes the place of the usual authorities, so that such a process can reach nothing but this.
    """
    place = folder(settings)
    authority, _ = certificate.ensure(place)
    private = place / "azure"
    private.mkdir(exist_ok=True)
    metadata = place / "metadata.json"
    files.write_text(metadata, json.dumps(_clouds(endpoint)))
    return {
        "ARM_CLOUD_METADATA_URL": metadata.as_uri(),
        "AZUREML_CURRENT_CLOUD": "AzureCloud",
        "AZURE_CONFIG_DIR": str(private),  # the SDK keeps the endpoints of a cloud there, for ever
        "MSI_ENDPOINT": f"{endpoint.url}/msi/{endpoint.word}/token",
        "REQUESTS_CA_BUNDLE": str(authority),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _unproxied()),
    }


def _unproxied() -> str:
    """The hosts that the caller's variables keep from a proxy, and this one."""
    hosts = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
    return ",".join(dict.fromkeys([*(host.strip() for host in hosts if host.strip()), HOST]))


def exports(variables: dict[str, str]) -> str:
    """The variables as a shell reads them."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. RehearsalError if the project's service runs already."""
    from filelock import FileLock, Timeout

    place = folder(settings)
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / "service.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RehearsalError(
            "the rehearsal workspace of this project is served already", command="python -m tools rehearsal stop"
        ) from None
    with lock:
        _serve(settings)


def _serve(settings: Settings) -> None:
    import uvicorn

    from . import app

    place = folder(settings)
    _log_to(place / "service.log")
    shutil.rmtree(place / "azure", ignore_errors=True)  # what the SDK kept of an earlier start: its port may be another
    before = _noted(settings)  # of a service that was killed: those who wait for it find it again
    authority, leaf = certificate.ensure(place)
    word = before.word if before else secrets.token_urlsafe(32)
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(_listening(before.port if before else 0))
        plain = stack.enter_context(_listening(before.pages if before else 0))
        unix = stack.enter_context(_unix(place))
        address = Address(port=tcp.getsockname()[1], pages=plain.getsockname()[1], socket=Path(unix.getsockname()))
        workspace = Workspace(settings, address=address, word=word, authority=authority)
        stack.callback(workspace.close)
        common: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off"}
        common["timeout_graceful_shutdown"] = GRACE_SECONDS
        pages = uvicorn.Server(uvicorn.Config(app.pages(workspace), **common))
        thread = threading.Thread(target=pages.run, kwargs={"sockets": [plain]}, name="pages")
        server = uvicorn.Server(
            uvicorn.Config(app.service(workspace), ssl_certfile=leaf, ssl_keyfile=leaf, backlog=2048, **common)
        )
        endpoint = Endpoint(process=processes.this(), port=address.port, pages=address.pages, word=word)
        workspace.jobs.recover()
        with files.written_whole(_note(settings), private=True) as file:
            file.write(json.dumps(asdict(endpoint)).encode())
        thread.start()
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again once it has ended
            signal.signal(number, lambda *_: None)
        try:
            server.run(sockets=[tcp, unix])
        finally:
            pages.should_exit = True
            thread.join()
            _note(settings).unlink(missing_ok=True)


def _listening(port: int) -> socket.socket:
    """A socket on the loopback: at that port, or at any if it is taken."""
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named: without it each answer takes 40 ms more
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError:
        listener.bind((HOST, 0))
    listener.listen(2048)
    return listener


@contextlib.contextmanager
def _unix(place: Path) -> Iterator[socket.socket]:
    """A socket for containers, which have a loopback of their own. Its path is short: Linux takes 107 bytes."""
    name = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:16]
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    home = runtime / f"parity-{os.getuid()}-{name}"
    home.mkdir(mode=0o700, exist_ok=True)
    status = home.lstat()
    if home.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RehearsalError(f"{home} is not ours alone", command=f"rm -r {shlex.quote(str(home))}, then try again")
    path = home / "service.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(2048)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _note(settings: Settings) -> Path:
    return folder(settings) / "endpoint.json"


def _noted(settings: Settings) -> Endpoint | None:
    try:
        return Endpoint(**json.loads(_note(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _answers(endpoint: Endpoint, settings: Settings) -> bool:
    import ssl

    import httpx

    authority, _ = certificate.ensure(folder(settings))
    trust = ssl.create_default_context(cafile=str(authority))
    try:
        with httpx.Client(verify=trust, trust_env=False, timeout=2) as client:
            return client.get(f"{endpoint.url}/ping").status_code == 200
    except (httpx.HTTPError, OSError):
        return False


def _clouds(endpoint: Endpoint) -> list[dict[str, object]]:
    """The list of clouds as Azure's management endpoint gives it (2019-05-01), with one in it."""
    return [
        {
            "name": "AzureCloud",
            "portal": endpoint.url,
            "resourceManager": endpoint.url,
            "graphAudience": endpoint.url,
            "authentication": {"loginEndpoint": endpoint.url, "audiences": [endpoint.url]},
            "suffixes": {
                "storage": "core.windows.net",
                "keyVaultDns": "vault.azure.net",
                "acrLoginServer": "azurecr.io",
            },
        }
    ]
