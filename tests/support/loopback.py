"""Base classes of the test servers on the loopback interface: files of a folder, and injected errors."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

# A fault is an HTTP status, or one of these: the body is truncated, the connection is closed without response, the
# response is delayed. Servers may define others.
CUT, CLOSE, SLOW = "cut", "close", "slow"
Fault = int | str


@dataclass
class Faults:
    """Injected errors of a server."""

    first: list[Fault | None] = field(default_factory=list)  # faults of the first requests, in order; None is no fault
    fraction: float = 0.0  # of requests with a random fault; the n-th request depends only on `seed`
    kinds: tuple[Fault, ...] = (429, 500, 503, CUT)  # of the random faults
    seed: int = 0
    always: Fault | None = None  # fault of every request
    slow_s: float = 2.0  # delay of a slow response
    injected: Counter = field(default_factory=Counter)  # number of faults so far, by kind

    def __post_init__(self) -> None:
        self._rng, self._lock = random.Random(self.seed), Lock()

    def next(self) -> Fault | None:
        with self._lock:
            fault = self.always or (self.first.pop(0) if self.first else None)
            if self.fraction and fault is None and self._rng.random() < self.fraction:
                fault = self._rng.choice(self.kinds)
            if fault is not None:
                self.injected[fault] += 1
            return fault


class Server(ThreadingHTTPServer):
    """Serves `root` at `url`.

    Attributes:
        faults: injected errors.
        requests: number of requests by path or kind.
        responses: records of the responses, by the handler.
        max_parallel: maximum number of parallel requests.
    """

    def __init__(self, root: Path, handler: type["Handler"], faults: Faults | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.root, self.faults = Path(root), faults or Faults()
        self.requests: Counter[str] = Counter()
        self.responses: list[Any] = []
        self.max_parallel, self._parallel, self._lock = 0, 0, Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def record(self, request: str) -> None:
        with self._lock:
            self.requests[request] += 1

    @contextmanager
    def processing(self) -> Iterator[None]:
        with self._lock:
            self._parallel += 1
            self.max_parallel = max(self.max_parallel, self._parallel)
        try:
            yield
        finally:
            with self._lock:
                self._parallel -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors, except of connections that the client closes."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @contextmanager
    def serving(self) -> Iterator[Self]:
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        yield self
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body waits 40 ms for the acknowledgement of the headers
    server: Server
    truncate = False  # the next body is truncated

    def log_message(self, *_):
        pass

    def inject(self, fault: Fault | None) -> bool:
        """Apply a fault; return whether it replaces the response."""
        if isinstance(fault, int):
            self.reply(fault, self.error_body(fault))
        elif fault == CLOSE:
            self.close_connection = True
            self.connection.shutdown(2)
        elif fault == SLOW:
            time.sleep(self.server.faults.slow_s)
            return False
        else:
            self.truncate = fault == CUT
            return False
        return True

    def error_body(self, status: int) -> bytes:
        """Return the body of an error response."""
        return b"{}"

    def reply(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self.truncate else body)
        if self.truncate:
            self.truncate, self.close_connection = False, True
