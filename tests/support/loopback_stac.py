"""A STAC API on the loopback: a search over the items of a folder, and their files by ranges.

The files come from nginx where there is one and no fault is asked for, else from the server of the search.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import shapely
import shapely.geometry
from support.loopback import Fault, Faults, Handler, Server

NGINX = """
daemon off; master_process off; pid {home}/nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home};
  scgi_temp_path {home};
  server {{ listen 127.0.0.1:{port}; root {root}; default_type image/tiff; }}
}}
"""


class Api(Handler):
    """Search and files; `failures` maps a path to faults to answer first, `faults` are those of all paths."""

    server: "StacServer"

    def answer(self):
        with self.server.busy():
            path = urlsplit(self.path).path
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.record(path)
            waiting = self.server.failures.get(path)
            if not self.faulty(waiting.pop(0) if waiting else self.server.faults.next()):
                self.route(path, sent)

    do_GET = do_HEAD = do_POST = answer  # noqa: N815

    def route(self, path: str, sent: bytes) -> None:
        if path in ("/", ""):
            self.reply(200, json.dumps(self.landing()).encode())
        elif path == "/search":
            self.reply(200, json.dumps(self.found(self.wanted(sent))).encode())
        elif path.startswith("/token/"):
            self.reply(200, b'{"token": "sig=secret"}')
        elif (self.server.root / path[1:]).is_file():
            self.file(self.server.root / path[1:])
        else:
            self.reply(404, b"{}")

    def landing(self) -> dict:
        core = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        search = {"rel": "search", "href": f"{self.server.url}/search", "type": "application/geo+json"}
        links = [
            {"rel": "self", "href": self.server.url},
            {"rel": "root", "href": self.server.url},
            search | {"method": "GET"},
            search | {"method": "POST"},
        ]
        facts = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "loopback"}
        return facts | {"conformsTo": core, "links": links}

    def wanted(self, sent: bytes) -> dict:
        """The search, as of POST."""
        if self.command == "POST":
            return json.loads(sent)
        plain = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        listed = {key: plain[key].split(",") for key in ("collections", "bbox") if key in plain}
        return plain | listed | {key: int(plain[key]) for key in ("limit", "first") if key in plain}

    def found(self, wanted: dict) -> dict:
        """A page of the items that a search wants, in the order of their names."""
        days = wanted["datetime"].split("/")
        box = shapely.box(*map(float, wanted["bbox"]))
        hits = [
            path
            for path, item in self.server.items
            if item["collection"] in wanted["collections"]
            and days[0][:10] <= item["properties"]["datetime"][:10] <= days[1][:10]
            and shapely.intersects(shapely.geometry.shape(item["geometry"]), box)
        ]
        first, page = wanted.get("first", 0), min(wanted.get("limit", 10), self.server.page)
        features = []
        for path in hits[first : first + page]:
            itself = {"rel": "self", "href": f"{self.server.files_url}/{path.relative_to(self.server.root).as_posix()}"}
            features.append(json.loads(path.read_text()) | {"links": [itself]})
        more = {"rel": "next", "href": f"{self.server.url}/search", "method": "POST", "merge": False}
        links = [more | {"body": wanted | {"first": first + page}}] if first + page < len(hits) else []
        return {"type": "FeatureCollection", "features": features, "links": links}

    def file(self, path: Path) -> None:
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.reply(200, data, "image/tiff", Accept_Ranges="bytes")
        first, last = wanted.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last or len(data)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.reply(206, part, "image/tiff", Content_Range=span, Accept_Ranges="bytes")


class StacServer(Server):
    """Serves the items of a folder, at most `page` of them at a time."""

    def __init__(self, root: Path, faults: Faults | None = None, page: int = 100) -> None:
        super().__init__(root, Api, faults)
        self.failures: dict[str, list[Fault | None]] = {}
        self.page, self.files_url = page, self.url
        read = [(path, json.loads(path.read_text())) for path in sorted(self.root.rglob("*.json"))]
        self.items = [(path, content) for path, content in read if content.get("type") == "Feature"]

    @contextmanager
    def with_nginx(self, home: Path) -> Iterator["StacServer"]:
        """Leaves the files to nginx, which keeps its own in `home`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        conf = home / "nginx.conf"
        conf.write_text(NGINX.format(home=home, port=port, root=self.root.resolve()))
        nginx = shutil.which("nginx")
        assert nginx, "with_nginx needs an nginx executable"
        process = subprocess.Popen([nginx, "-p", str(home), "-c", str(conf)])
        try:
            self._await(port)
            self.files_url = f"http://127.0.0.1:{port}"
            yield self
        finally:
            self.files_url = self.url
            process.terminate()
            process.wait(10)

    @staticmethod
    def _await(port: int) -> None:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nginx does not listen")
