"""Which runs a report is of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import RunError
from ..runs import history
from ..runs.record import Record
from ..settings import Settings

MOST = 8  # runs on a page, each with a colour of its own

log = logging.getLogger(__name__)


def chosen(settings: Settings, names: Sequence[str]) -> list[Record]:
    """The runs of those names, each once; without names the last local and the last remote one, as far as there are.

    Errors: RunError where there is none of a name, none at all, or too many.
    """
    if names:
        found = {record.id: record for record in (history.find(settings.runs, name) for name in names)}
        if len(found) > MOST:
            raise RunError(f"a report of {len(found)} runs", expected=f"at most {MOST}")
        return list(found.values())
    latest = []
    for name in (history.LAST_LOCAL, history.LAST_REMOTE):
        try:
            latest.append(history.find(settings.runs, name))
        except RunError as error:
            missing = error
            log.info("%s", error.found)
    if not latest:
        raise missing
    return latest
