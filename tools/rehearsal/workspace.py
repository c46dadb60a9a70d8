"""The workspace: its parts, each of which keeps one kind of thing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from ..settings import Settings
from . import identity, tokens
from .artifacts import Artifacts
from .blobs import Blobs
from .computes import Computes
from .datastores import Datastores
from .environments import Environments
from .jobs import Jobs
from .metrics import Metrics
from .models import Models
from .runs import Runs
from .snapshots import Snapshots
from .store import Store


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the workspace answers. port: TLS on 127.0.0.1; pages: the pages' port, plain HTTP; socket: TLS again."""

    port: int
    pages: int
    socket: Path

    @property
    def url(self) -> str:
        """The address of all services."""
        return f"https://127.0.0.1:{self.port}"


class Workspace:
    """One workspace, whose state lies in a folder of its own."""

    def __init__(self, settings: Settings, *, address: Address, word: str, authority: Path) -> None:
        """word: the random word of this start; authority: the certificate that its clients must trust (PEM)."""
        self.settings, self.address, self.authority = settings, address, authority
        self.folder = folder(settings)
        self.word = word
        self.page_word = secrets.token_urlsafe(16)  # opens the pages, and nothing else
        self.identity = identity.load(self.folder / "identity.json")
        self.tokens = tokens.Tokens(key=tokens.key(self.folder / "key"), start=word, tenant=self.identity.tenant)
        self.store = Store(self.folder / "workspace.sqlite")
        self.runs = Runs(self.store)
        self.blobs = Blobs(self.store)
        self.snapshots = Snapshots(self.store)
        self.artifacts = Artifacts(self.store)
        self.metrics = Metrics(self.store)
        self.environments = Environments(self.store)
        self.computes = Computes(self.store)
        self.datastores = Datastores(self.store)
        self.models = Models(self.store)
        self.jobs = Jobs(self)

    @property
    def studio(self) -> str:
        """What the addresses of pages begin with; who has it may look at them."""
        return f"http://127.0.0.1:{self.address.pages}/{self.page_word}"

    def close(self) -> None:
        """Lets go of everything; jobs that still run go on in the engine."""
        self.jobs.close()
        self.store.close()


def folder(settings: Settings) -> Path:
    """Where a project's rehearsal workspace lies."""
    return settings.state / "rehearsal"
