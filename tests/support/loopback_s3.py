"""An S3 test server: moto, in memory, behind a proxy that injects errors into writes."""

import hashlib
import http.client
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer
from support.loopback import CUT, Faults, Handler, Server

BUCKET, FOLDER = "belt", "maps"
PREFIX = f"s3://{BUCKET}/{FOLDER}"
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}  # headers that are not forwarded


class Proxy(Handler):
    """Forwards every request to moto; writes have faults."""

    server: "Store"

    def _forward(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if self.command in ("PUT", "POST") and (fault := self.server.faults.next()) is not None:
            if fault == CUT:  # half of the body is received and discarded
                self.rfile.read(size // 2)
                self.close_connection = True
                return
            self.rfile.read(size)
            self.inject(fault)
            return
        body = self.rfile.read(size)
        if self.command == "GET" and (ranged := self.headers.get("Range")):
            self.server.record(f"{ranged} {self.path}")
        elif self.command == "GET":
            self.server.record(self.path)
        connection = http.client.HTTPConnection(*self.server.backend)
        headers = dict(self.headers.items())
        connection.request(self.command, self.path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = response.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)
        connection.close()


for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
    setattr(Proxy, f"do_{method}", Proxy._forward)


class Store(Server):
    """The proxy of an object store.

    Attributes:
        backend: host and port of moto.
        requests: number of GET requests by range and key.
    """

    def __init__(self, backend: tuple[str, int]) -> None:
        super().__init__(Path(), Proxy, Faults())
        self.backend = backend

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of a run that uses the store."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "loopback",
            "AWS_SECRET_ACCESS_KEY": "loopback",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def hashes(self, results: str) -> dict[str, str]:
        """Return sha256 of the objects of a results folder, by relative path."""
        return {path: hashlib.sha256(body).hexdigest() for path, body in self._objects(results)}

    def fetch(self, results: str, to: Path) -> None:
        """Download a results folder, like `aws s3 sync`."""
        for path, body in self._objects(results):
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(body)

    def count(self, results: str) -> int:
        return len(self._list(results))

    def empty(self, results: str) -> None:
        for each in self._list(results):
            each.delete()

    def _objects(self, results: str) -> Iterator[tuple[str, bytes]]:
        for each in self._list(results):
            yield each.key.removeprefix(f"{FOLDER}/{results}/"), each.get()["Body"].read()

    def _list(self, results: str) -> list[Any]:
        environment = self.environment
        keys = {
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": environment["AWS_DEFAULT_REGION"],
        }
        host, port = self.backend
        bucket = boto3.resource("s3", endpoint_url=f"http://{host}:{port}", **keys).Bucket(BUCKET)
        try:
            return list(bucket.objects.filter(Prefix=f"{FOLDER}/{results}/"))
        except bucket.meta.client.exceptions.NoSuchBucket:
            # The first write creates the bucket, deleting the last object removes it.
            return []


@contextmanager
def object_store_server() -> Iterator[Store]:
    """Run an object store within the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        with Store(moto.get_host_and_port()).serving() as store:
            yield store
    finally:
        # Moto servers of a process share their objects: remove them.
        host, port = moto.get_host_and_port()
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST"), timeout=60).close()
        moto.stop()
