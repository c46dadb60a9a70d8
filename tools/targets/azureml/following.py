"""A run of the workspace as it goes on: its status, and its driver log as it grows.

azureml-core's own wait_for_completion asks ever less often, up to once a minute, fetches the whole log each time, and
prints none of it for a run that has ended before the first question.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import files
from ...errors import AzureError
from .failures import errors, status

if TYPE_CHECKING:
    from azureml.core import Run

ENDED = ("Completed", "Failed", "Canceled")
# From AzureML's Common Runtime, or the runtime before it; of several processes, the first one's
DRIVER_LOG = re.compile(r"user_logs/std_log(?:_process_0+)?\.txt|azureml-logs/70_driver_log(?:_0|-worker-0)?\.txt")
BUILD_LOG = re.compile(r"azureml-logs/20_image_build_log\.txt")
SOONEST, LATEST = 0.5, 5.0  # seconds between two questions; in between, a tenth of the time since something happened
STEP = 0.1  # seconds between two looks at whether a person interrupted
PATIENCE = 600.0  # seconds for which the workspace may be out of reach, beyond the SDK's own attempts
READ_SECONDS = 60.0  # without a byte of a log

log = logging.getLogger(__name__)


class Follower:
    """Shows a run until it ends. Left by an exception, KeyboardInterrupt too, it goes on where it was."""

    def __init__(self, run: Run, into: Path, show: Callable[[bytes], None], interrupted: Callable[[], bool]) -> None:
        """into: the file that gets the driver log; show: what else gets it, and the log of an image that is built.

        interrupted: whether it is to be left, by KeyboardInterrupt.
        """
        self.run, self.into, self.show, self.interrupted = run, into, show, interrupted
        self.status = ""
        self._shown: dict[str, int] = {}  # bytes of each log
        into.write_bytes(b"")

    def to_end(self) -> Mapping[str, Any]:
        """The details of the run once it has ended, after all that its logs hold.

        Errors: AzureError if the workspace refuses, or is out of reach for PATIENCE.
        """
        for details in self._polled():
            if details["status"] != self.status:
                self.status = str(details["status"])
                log.info("%s: %s", self.run.id, self.status)
        return details

    def _polled(self) -> Iterator[Mapping[str, Any]]:
        happened = reached = time.monotonic()
        before: tuple[Any, ...] = ()
        while True:
            try:
                details = self._look()
                reached = time.monotonic()
            except AzureError as error:
                code = status(error.__cause__)
                if code is not None and 400 <= code < 500 and code not in (408, 429):
                    raise
                if time.monotonic() - reached > PATIENCE:
                    raise AzureError(
                        error.found, command=f"the run goes on; later: python -m tools runs attach {self.run.id}"
                    ) from error
                log.warning("%s; trying on for %.0f min", error.found, PATIENCE / 60)
                self._wait(LATEST)
                continue
            yield details
            if details["status"] in ENDED:
                return
            now = (details["status"], dict(self._shown))
            if now != before:
                before, happened = now, time.monotonic()
            self._wait(min(LATEST, max(SOONEST, (time.monotonic() - happened) / 10)))

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.interrupted() and (rest := end - time.monotonic()) > 0:
            time.sleep(min(STEP, rest))
        if self.interrupted():
            raise KeyboardInterrupt

    def _look(self) -> Mapping[str, Any]:
        with errors("asking for the run's status"):
            details: Mapping[str, Any] = self.run.get_details()
        with errors("reading the run's log"):
            logs = details.get("logFiles") or {}
            for name in sorted(name for name in logs if BUILD_LOG.fullmatch(name)):
                self._read(name, logs[name], None)
            if name := driver_log(logs):
                self._read(name, logs[name], self.into)
        return details

    def _read(self, name: str, address: str, into: Path | None) -> None:
        """Shows what the log holds beyond what was shown."""
        import requests

        start = self._shown.get(name, 0)
        with requests.get(address, headers={"Range": f"bytes={start}-"}, stream=True, timeout=READ_SECONDS) as answer:
            if answer.status_code == 416:  # nothing new
                return
            answer.raise_for_status()
            skip = start if answer.status_code == 200 else 0  # ranges are not served: all of it comes
            for piece in answer.iter_content(files.CHUNK):
                fresh = piece[skip:]
                skip = max(0, skip - len(piece))
                if not fresh:
                    continue
                if into:
                    with into.open("ab") as file:
                        file.write(fresh)
                self._shown[name] = self._shown.get(name, 0) + len(fresh)
                self.show(fresh)


def driver_log(names: Mapping[str, Any] | list[str]) -> str | None:
    """Which of these files is what the command printed: of the newest runtime, of the first process."""
    return next(iter(sorted((name for name in names if DRIVER_LOG.fullmatch(name)), reverse=True)), None)
