"""HTTP requests to Sentinel-2 servers, retried after transient errors with jittered exponential backoff."""

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

log = logging.getLogger(__name__)

# HTTP statuses of transient errors: too many requests, and errors of the server itself.
RETRY_CODES = (429, 500, 502, 503, 504)
MAX_TRIES, FIRST_WAIT_S, MAX_WAIT_S = 8, 1.0, 60.0
MAX_MESSAGE_CHARS = 400  # a server's error message may be a whole web page

Result = TypeVar("Result")


class RequestError(Exception):
    """A request without a complete, valid response; `status` is None unless the server responded with an HTTP error."""

    def __init__(self, message: object, status: int | None = None) -> None:
        super().__init__(" ".join(str(message).split())[:MAX_MESSAGE_CHARS].rstrip("."))
        self.status = status

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in RETRY_CODES


def call_with_retries(request: Callable[[], Result], description: str) -> Result:
    """Return the result of `request`, called up to MAX_TRIES times.

    Waits double from FIRST_WAIT_S up to MAX_WAIT_S; each is shortened by up to half at random. The jitter spreads
    requests over time; no result depends on it. Raises the first RequestError of `request` that is not transient, or
    that of the last try. `description` is for the log.
    """

    def log_retry(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        log.warning("%s: %s; retrying in %.1f s", description, state.outcome.exception(), state.next_action.sleep)

    half_s = FIRST_WAIT_S / 2
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, RequestError) and error.transient),
        stop=tenacity.stop_after_attempt(MAX_TRIES),
        wait=tenacity.wait_exponential(half_s, MAX_WAIT_S / 2)
        + tenacity.wait_random_exponential(half_s, MAX_WAIT_S / 2),
        before_sleep=log_retry,
        reraise=True,
    )
    return retrying(request)
