"""What the servers of these tests share: files under a folder, on a free port of this machine, and faults on demand."""

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

# A fault is an HTTP status, or one of these: the body ends half-way, the connection closes unanswered, the answer
# comes late; others are the server's own.
CUT, CLOSE, SLOW = "cut", "close", "slow"
Fault = int | str


@dataclass
class Faults:
    """Which questions go wrong: the `first` in their order, then a random `share` of all, and `always` all.

    Attributes:
        first: answered first, in order; None is a question that goes well.
        share: of questions, drawn from `seed`: the same n-th questions whoever asks them.
        kinds: that are drawn from.
        always: on every question.
        slow_s: that a slow answer takes.
        injected: faults so far, by kind.
    """

    first: list[Fault | None] = field(default_factory=list)
    share: float = 0.0
    kinds: tuple[Fault, ...] = (429, 500, 503, CUT)
    seed: int = 0
    always: Fault | None = None
    slow_s: float = 2.0
    injected: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rng, self._lock = random.Random(self.seed), Lock()

    def next(self) -> Fault | None:
        with self._lock:
            fault = self.always or (self.first.pop(0) if self.first else None)
            if self.share and fault is None and self._rng.random() < self.share:
                fault = self._rng.choice(self.kinds)
            if fault is not None:
                self.injected[fault] += 1
            return fault


class Server(ThreadingHTTPServer):
    """Serves `root` at `url`.

    Attributes:
        faults: of the questions that matter; a handler may keep others, by path.
        requests: how often what was asked for.
        responses: what was answered, as the handler notes it.
        busiest: most questions under way at a time.
    """

    def __init__(self, root: Path, handler: type["Handler"], faults: Faults | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.root, self.faults = Path(root), faults or Faults()
        self.requests: Counter[str] = Counter()
        self.responses: list[Any] = []
        self.busiest, self._busy, self._lock = 0, 0, Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def record(self, what: str) -> None:
        with self._lock:
            self.requests[what] += 1

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up break the pipe; what else goes wrong is shown."""
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
    disable_nagle_algorithm = True  # a body waits for the client's word on the headers otherwise, 40 ms
    server: Server
    cut = False  # the next body ends half-way

    def log_message(self, *_):
        pass

    def faulty(self, fault: Fault | None) -> bool:
        """Whether a fault is the whole answer; others change the answer that follows."""
        if isinstance(fault, int):
            self.reply(fault, self.told(fault))
        elif fault == CLOSE:
            self.close_connection = True
            self.connection.shutdown(2)
        elif fault == SLOW:
            time.sleep(self.server.faults.slow_s)
            return False
        else:
            self.cut = fault == CUT
            return False
        return True

    def told(self, status: int) -> bytes:
        """Body of an error."""
        return b"{}"

    def reply(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self.cut else body)
        if self.cut:
            self.cut, self.close_connection = False, True
