"""An S3 on loopback: moto, in memory, behind a gate that can be told to refuse writes or to take half of them."""

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
HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}  # headers of one connection


class Gate(Handler):
    """Hands every question on to moto; faults go for what writes."""

    server: "Store"

    def _hand_on(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if self.command in ("PUT", "POST") and (fault := self.server.faults.next()) is not None:
            if fault == CUT:  # half of it came, and is nowhere
                self.rfile.read(size // 2)
                self.close_connection = True
                return
            self.rfile.read(size)
            self.faulty(fault)
            return
        body = self.rfile.read(size)
        if self.command == "GET" and (ranged := self.headers.get("Range")):
            self.server.record(f"{ranged} {self.path}")
        elif self.command == "GET":
            self.server.record(self.path)
        back = http.client.HTTPConnection(*self.server.behind)
        headers = dict(self.headers.items())
        back.request(self.command, self.path, body or None, headers)
        answer = back.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)
        back.close()


for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
    setattr(Gate, f"do_{method}", Gate._hand_on)


class Store(Server):
    """The gate, and what is behind it.

    Attributes:
        behind: host and port of moto.
        requests: GET of keys, with their ranges.
    """

    def __init__(self, behind: tuple[str, int]) -> None:
        super().__init__(Path(), Gate, Faults())
        self.behind = behind

    @property
    def environment(self) -> dict[str, str]:
        """What tells a run where the store is."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "loopback",
            "AWS_SECRET_ACCESS_KEY": "loopback",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def hashes(self, results: str) -> dict[str, str]:
        """sha256 of what the store has below a results folder, by its path in it."""
        found = {}
        for place, body in self._objects(results):
            found[place] = hashlib.sha256(body).hexdigest()
        return found

    def fetch(self, results: str, to: Path) -> None:
        """Copies a results folder out of the store, as `aws s3 sync` would."""
        for place, body in self._objects(results):
            (to / place).parent.mkdir(parents=True, exist_ok=True)
            (to / place).write_bytes(body)

    def count(self, results: str) -> int:
        return len(self._listed(results))

    def empty(self, results: str) -> None:
        for each in self._listed(results):
            each.delete()

    def _objects(self, results: str) -> Iterator[tuple[str, bytes]]:
        for each in self._listed(results):
            yield each.key.removeprefix(f"{FOLDER}/{results}/"), each.get()["Body"].read()

    def _listed(self, results: str) -> list[Any]:
        told = self.environment
        keys = {
            "aws_access_key_id": told["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": told["AWS_SECRET_ACCESS_KEY"],
            "region_name": told["AWS_DEFAULT_REGION"],
        }
        host, port = self.behind
        bucket = boto3.resource("s3", endpoint_url=f"http://{host}:{port}", **keys).Bucket(BUCKET)
        try:
            return list(bucket.objects.filter(Prefix=f"{FOLDER}/{results}/"))
        except bucket.meta.client.exceptions.NoSuchBucket:  # made by the first write, gone with the last object
            return []


@contextmanager
def object_store_server() -> Iterator[Store]:
    """A store that lasts as long as the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every question
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        with Store(moto.get_host_and_port()).serving() as store:
            yield store
    finally:
        # All servers of a process have the same objects: those of this one go with it.
        host, port = moto.get_host_and_port()
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST"), timeout=60).close()
        moto.stop()
