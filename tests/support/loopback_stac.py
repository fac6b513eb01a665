"""A STAC API test server: search over the items of a folder, and range requests for their files.

Files are served by nginx inside `with_nginx`, else by the same server.
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
    """Serves the search and files; `path_faults` are the first faults of a path, `faults` those of all paths."""

    server: "StacServer"

    def respond(self):
        with self.server.processing():
            path = urlsplit(self.path).path
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.record(path)
            first = self.server.path_faults.get(path)
            if not self.inject(first.pop(0) if first else self.server.faults.next()):
                self.route(path, sent)

    do_GET = do_HEAD = do_POST = respond  # noqa: N815

    def route(self, path: str, sent: bytes) -> None:
        if path in ("/", ""):
            self.reply(200, json.dumps(self.landing()).encode())
        elif path == "/search":
            self.reply(200, json.dumps(self.search(self.parameters(sent))).encode())
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
        catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "loopback"}
        return catalogue | {"conformsTo": core, "links": links}

    def parameters(self, sent: bytes) -> dict:
        """Return the search parameters in the form of POST."""
        if self.command == "POST":
            return json.loads(sent)
        plain = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        listed = {key: plain[key].split(",") for key in ("collections", "bbox") if key in plain}
        return plain | listed | {key: int(plain[key]) for key in ("limit", "first") if key in plain}

    def search(self, parameters: dict) -> dict:
        """Return a page of the matching items, sorted by name."""
        days = parameters["datetime"].split("/")
        box = shapely.box(*map(float, parameters["bbox"]))
        hits = [
            path
            for path, item in self.server.items
            if item["collection"] in parameters["collections"]
            and days[0][:10] <= item["properties"]["datetime"][:10] <= days[1][:10]
            and shapely.intersects(shapely.geometry.shape(item["geometry"]), box)
        ]
        first, page = parameters.get("first", 0), min(parameters.get("limit", 10), self.server.page)
        features = []
        for path in hits[first : first + page]:
            self_link = {
                "rel": "self",
                "href": f"{self.server.files_url}/{path.relative_to(self.server.root).as_posix()}",
            }
            features.append(json.loads(path.read_text()) | {"links": [self_link]})
        more = {"rel": "next", "href": f"{self.server.url}/search", "method": "POST", "merge": False}
        links = [more | {"body": parameters | {"first": first + page}}] if first + page < len(hits) else []
        return {"type": "FeatureCollection", "features": features, "links": links}

    def file(self, path: Path) -> None:
        data = path.read_bytes()
        requested = self.headers.get("Range")
        if requested is None:
            return self.reply(200, data, "image/tiff", Accept_Ranges="bytes")
        first, last = requested.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last or len(data)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.reply(206, part, "image/tiff", Content_Range=span, Accept_Ranges="bytes")


class StacServer(Server):
    """Serves the items of a folder, at most `page` of them at a time."""

    def __init__(self, root: Path, faults: Faults | None = None, page: int = 100) -> None:
        super().__init__(root, Api, faults)
        self.path_faults: dict[str, list[Fault | None]] = {}
        self.page, self.files_url = page, self.url
        read = [(path, json.loads(path.read_text())) for path in sorted(self.root.rglob("*.json"))]
        self.items = [(path, content) for path, content in read if content.get("type") == "Feature"]

    @contextmanager
    def with_nginx(self, home: Path) -> Iterator["StacServer"]:
        """Serve the files by nginx, with its working files in `home`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        conf = home / "nginx.conf"
        conf.write_text(NGINX.format(home=home, port=port, root=self.root.resolve()))
        nginx = shutil.which("nginx")
        assert nginx, "with_nginx needs an nginx executable"
        process = subprocess.Popen([nginx, "-p", str(home), "-c", str(conf)])
        try:
            self._wait_for(port)
            self.files_url = f"http://127.0.0.1:{port}"
            yield self
        finally:
            self.files_url = self.url
            process.terminate()
            process.wait(10)

    @staticmethod
    def _wait_for(port: int) -> None:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nginx does not listen")
