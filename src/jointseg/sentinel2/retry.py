"""Questions to servers: asked again after faults that may pass, with growing, jittered waits, and never otherwise."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

# Answers worth asking again: too many requests, and the server's own faults.
RETRY_CODES = (429, 500, 502, 503, 504)
TRIES, FIRST_WAIT_S, MAX_WAIT_S = 8, 1.0, 60.0
TOLD_CHARS = 400  # of a server's own words, which may be a web page

Answer = TypeVar("Answer")


class RequestError(Exception):
    """A question that got no whole answer.

    Attributes:
        status: of HTTP; None where the connection broke, took too long, or the answer is not what was asked for.
    """

    def __init__(self, told: object, status: int | None = None) -> None:
        super().__init__(" ".join(str(told).split())[:TOLD_CHARS].rstrip("."))
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether it may be gone at the next try."""
        return self.status is None or self.status in RETRY_CODES


def ask(question: Callable[[], Answer], what: str) -> Answer:
    """The answer to a question about `what`, after at most TRIES tries.

    Raises:
        RequestError: the last, or the first that will not pass.
    """
    for attempt in range(1, TRIES):
        try:
            return question()
        except RequestError as fault:
            if not fault.passing:
                raise
            # The jitter only spreads requests in time; no result depends on it.
            wait = random.uniform(0.5, 1.0) * min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
            log.warning("%s: %s; asking again in %.1f s", what, fault, wait)
            time.sleep(wait)
    return question()
