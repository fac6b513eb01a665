"""What the servers of these tests share: files under a folder, on a free port of this machine."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self


class Server(ThreadingHTTPServer):
    """Serves `root` at `url`; `failures` are answered first, `asked` counts what was wanted, `answered` lists it."""

    def __init__(self, root: Path, handler: type["Handler"], failures: Any) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.root, self.failures = root, failures
        self.asked: Counter[str] = Counter()
        self.answered: list[Any] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self) -> Iterator[Self]:
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        yield self
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
