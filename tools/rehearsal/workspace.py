"""The workspace: its parts, each of which keeps one kind of thing."""

from __future__ import annotations

import hashlib
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
from .resources import Resources
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
        self.page_word = page_word(word)
        self.identity = identity.load(self.folder / "identity.json")
        self.tokens = tokens.Tokens(key=tokens.key(self.folder / "key"), start=word, tenant=self.identity.tenant)
        self.store = Store(self.folder / "workspace.sqlite")
        self.resources = Resources(self.store, self.identity)
        self.runs = Runs(self.store)
        self.blobs = Blobs(self.store, folder=self.folder, tokens=self.tokens, url=address.url)
        self.snapshots = Snapshots(self.store, folder=self.folder / "snapshots")
        self.artifacts = Artifacts(self.runs, folder=self.folder / "artifacts")
        self.metrics = Metrics(self.store)
        self.environments = Environments(self.store)
        self.computes = Computes(self.store)
        self.datastores = Datastores(self.folder / "datastores", tokens=self.tokens)
        self.models = Models(self.store)
        self.jobs = Jobs(self)

    @property
    def studio(self) -> str:
        """What the addresses of pages begin with; who has it may look at them."""
        return studio(self.address.pages, self.word)

    @property
    def discovery(self) -> str:
        """Where the SDK asks, without a token, at which addresses the services are; jobs do too."""
        return f"{self.address.url}/discovery/{self.page_word}"

    def close(self) -> None:
        """Cancels the jobs that are not over, keeps their outputs, and lets go of everything."""
        self.jobs.close()
        self.store.close()


def page_word(word: str) -> str:
    """What opens the pages and says where services are, and nothing else.

    A start after a kill has the same word, and so the same addresses: a job and the SDK's own notes keep them.
    """
    return hashlib.sha256(f"pages {word}".encode()).hexdigest()[:32]


def studio(port: int, word: str) -> str:
    """What the addresses of pages begin with. port: the pages' own; word: this start's."""
    return f"http://127.0.0.1:{port}/{page_word(word)}"


def folder(settings: Settings) -> Path:
    """Where a project's rehearsal workspace lies."""
    return settings.state / "rehearsal"
