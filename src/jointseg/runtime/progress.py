"""Progress of long loops: log lines, and a state file from which `jointseg run` draws its bars."""

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from jointseg.runtime import job_status

log = logging.getLogger(__name__)
T = TypeVar("T")

STATE_SECONDS, LOG_SECONDS = 0.5, 15.0


class Bar:
    """Counts finished units and tells it at most twice a second."""

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done: float = 0
        self.started = time.monotonic()
        self._told = self._logged = 0.0
        self._state = job_status.process_file(".json")

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        now = time.monotonic()
        if self._state and now - self._told > STATE_SECONDS:
            self._told = now
            self._tell()
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            log.info("%s: %s", self.what, self.line())

    def line(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = self.done / seconds
        if self.total is None or not rate:
            return f"{self.done:.6g} {self.unit}, {rate:.3g} {self.unit}/s"
        left = (self.total - self.done) / rate
        return f"{self.done:.6g} of {self.total:.6g} {self.unit}, {rate:.3g} {self.unit}/s, {left:.0f} s left"

    def close(self) -> None:
        log.info("%s: %.6g %s in %.1f s", self.what, self.done, self.unit, time.monotonic() - self.started)
        if self._state:
            self._state.unlink(missing_ok=True)

    def _tell(self) -> None:
        assert self._state is not None
        state = {"what": self.what, "done": self.done, "total": self.total, "unit": self.unit}
        state["seconds"] = time.monotonic() - self.started
        try:
            job_status.write_json(self._state, state)
        except OSError as error:  # a bar that cannot be drawn must not end the work it tells of
            log.warning("progress is not shown: %s", error)
            self._state = None


@contextmanager
def bar(what: str, total: float | None = None, unit: str = "step") -> Iterator[Bar]:
    """A bar to advance by hand."""
    shown = Bar(what, total, unit)
    try:
        yield shown
    finally:
        shown.close()


def track(items: Iterable[T], what: str, total: float | None = None, unit: str = "step") -> Iterator[T]:
    """Yields the items, counting each once the loop's body is done with it."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(what, total, unit) as shown:
        for item in items:
            yield item
            shown.advance()
