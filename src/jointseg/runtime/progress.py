"""Progress of long loops: log lines, and a status file from which `jointseg run` draws its bars."""

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from jointseg.runtime import job_status

log = logging.getLogger(__name__)
T = TypeVar("T")

STATUS_SECONDS, LOG_SECONDS = 0.5, 15.0


class Bar:
    """A counter of completed units that writes its status at most twice a second."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done: float = 0
        self.started = time.monotonic()
        self._written = self._logged = 0.0
        self._status_file = job_status.process_file(".json")

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        now = time.monotonic()
        if self._status_file and now - self._written > STATUS_SECONDS:
            self._written = now
            self._write_status()
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            log.info("%s: %s", self.label, self.line())

    def line(self) -> str:
        """Return count, rate and remaining time as text."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = self.done / seconds
        if self.total is None or not rate:
            return f"{self.done:.6g} {self.unit}, {rate:.3g} {self.unit}/s"
        remaining = (self.total - self.done) / rate
        return f"{self.done:.6g} of {self.total:.6g} {self.unit}, {rate:.3g} {self.unit}/s, {remaining:.0f} s left"

    def close(self) -> None:
        log.info("%s: %.6g %s in %.1f s", self.label, self.done, self.unit, time.monotonic() - self.started)
        if self._status_file:
            self._status_file.unlink(missing_ok=True)

    def _write_status(self) -> None:
        assert self._status_file is not None
        status = {"label": self.label, "done": self.done, "total": self.total, "unit": self.unit}
        status["seconds"] = time.monotonic() - self.started
        try:
            job_status.write_json(self._status_file, status)
        except OSError as error:  # a missing progress bar must not stop the job
            log.warning("progress is not shown: %s", error)
            self._status_file = None


@contextmanager
def bar(label: str, total: float | None = None, unit: str = "step") -> Iterator[Bar]:
    """Yield a bar to advance by hand."""
    counter = Bar(label, total, unit)
    try:
        yield counter
    finally:
        counter.close()


def track(items: Iterable[T], label: str, total: float | None = None, unit: str = "step") -> Iterator[T]:
    """Yield the items and count each one after the loop body has processed it."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(label, total, unit) as counter:
        for item in items:
            yield item
            counter.advance()
