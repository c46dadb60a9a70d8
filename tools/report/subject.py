"""A run as the report sees it: all that its folder tells, read once, whatever of it is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .. import engine
from ..comparison import facts
from ..comparison.facts import Facts
from ..errors import ParityError
from ..image import overview
from ..image.overview import Overview
from ..runs.record import Record
from . import curves, logs
from .curves import Series
from .logs import Tail


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run. letter: what the page calls it, from A on; log: None where there is none.

    unreadable: why its metrics cannot be read.
    """

    letter: str
    record: Record
    facts: Facts
    metrics: Mapping[str, Series]
    log: Tail | None
    unreadable: str | None

    @property
    def label(self) -> str:
        """The run in a legend."""
        return f"{self.letter} {self.record.id} ({self.record.target})"

    @property
    def image(self) -> Mapping[str, Any]:
        """What the record says of the image."""
        said = self.record.ingredients.get("image")
        return said if isinstance(said, Mapping) else {}

    @property
    def image_id(self) -> str:
        """The image, "" where the record does not say."""
        return str(self.image.get("id") or "")

    @property
    def files(self) -> dict[str, str]:
        """What the witness saw of each file that the command found, by path; {} where nobody looked."""
        return self._seen("file")

    @property
    def packages(self) -> dict[str, str]:
        """The version of each package that the witness saw; {} where nobody looked."""
        return self._seen("package")

    def _seen(self, group: str) -> dict[str, str]:
        return {key.name: value for key, value in self.facts.values.items() if key.group == group and not key.node}

    @property
    def seconds(self) -> float | None:
        """How long the command ran; None where that is not known."""
        try:
            begun, ended = (datetime.fromisoformat(moment or "") for moment in (self.record.started, self.record.ended))
        except ValueError:
            return None
        return (ended - begun).total_seconds()


def read(letter: str, record: Record) -> Subject:
    """All that is known of a run."""
    metrics, unreadable = dict[str, Series](), None
    try:
        metrics = curves.read(record.folder)
    except ValueError as error:
        unreadable = str(error)
    return Subject(
        letter=letter,
        record=record,
        facts=facts.of(record),
        metrics=metrics,
        unreadable=unreadable,
        log=logs.tail(record.log),
    )


def layers(images: Iterable[str]) -> dict[str, Overview]:
    """The layers of those images, named by their ids, that this machine's engine has; it is not started for that."""
    found: dict[str, Overview] = {}
    try:
        client = engine.connect()
    except ParityError:
        return found
    for image in dict.fromkeys(images):
        with contextlib.suppress(ParityError):
            found[image] = overview.of(client, image)
    return found
