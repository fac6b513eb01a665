"""The server of the viewer: four addresses, none of which names a file."""

import io
import json
import logging
import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rich.console import Console

from jointseg.runtime import templates
from jointseg.runtime.errors import DataError
from jointseg.viewer import layers, tiles

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html.j2")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TILE = re.compile(r"/tile/(?P<layer>[A-Za-z0-9-]{1,80})/(?P<level>\d{1,2})/(?P<col>-?\d{1,6})/(?P<row>-?\d{1,6})\.png")
_POLICY = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:"


def create_server(results: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is ready to run; port 0 takes a free one.

    Raises DataError when there is nothing to show, or the port is taken.
    """
    found = layers.find_layers(results)
    handler = partial(_Handler, results=results, host=host, found={layer.id: layer for layer in found})
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise DataError(f"port {port} of {host} cannot be used ({error.strerror}); give another --port") from error


class _Handler(BaseHTTPRequestHandler):
    """Answers by what it knows of the layers; an address never becomes a path."""

    server_version = "JointSeg"
    sys_version = ""

    def __init__(self, *args: Any, results: Path, host: str, found: dict[str, layers.Layer]) -> None:
        self.results, self.host, self.found = results, host, found
        super().__init__(*args)

    def do_GET(self) -> None:
        """The page, its layers, a picture, or an explanation; 404 for all else."""
        address = urlsplit(self.path)
        try:
            if not self._from_here():
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"this server answers its own machine alone\n")
            elif address.path == "/":
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self._page())
            elif address.path == "/explain":
                self._explain(parse_qs(address.query))
            elif (asked := _TILE.fullmatch(address.path)) and asked["layer"] in self.found:
                self._tile(asked)
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing at this address\n")
        except DataError as error:
            self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, "text/plain; charset=utf-8", f"{error}\n".encode())
        except BrokenPipeError:  # the browser moved on
            pass

    def _from_here(self) -> bool:
        """Whether the request names this machine: a page of elsewhere may not read through the user's browser."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return self.host not in LOOPBACK or name in LOOPBACK

    def _page(self) -> bytes:
        told = json.dumps(layers.describe_layers(list(self.found.values()))).replace("<", "\\u003c")
        return templates.render(PAGE, {"title": self.results.name, "layers": told, "side": tiles.SIDE_PX}).encode()

    def _tile(self, asked: re.Match[str]) -> None:
        level = int(asked["level"])
        if level not in tiles.LEVELS:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such level\n")
            return
        content = tiles.render_tile(self.found[asked["layer"]], level, int(asked["col"]), int(asked["row"]))
        if content is None:
            self._answer(HTTPStatus.NO_CONTENT, "image/png", b"")
        else:
            self._answer(HTTPStatus.OK, "image/png", content)

    def _explain(self, query: dict[str, list[str]]) -> None:
        from jointseg.audit.explain.explainer import Explainer
        from jointseg.audit.explain.text import TEXT_WIDTH, print_explanation

        try:
            epsg, year = (int(query[name][0]) for name in ("epsg", "year"))
            x, y = (float(query[name][0]) for name in ("x", "y"))
        except (KeyError, ValueError) as error:
            raise DataError(f"that is no pixel ({error}); give epsg, x, y and year") from error
        if epsg not in {layer.epsg for layer in self.found.values()}:
            raise DataError(f"there is no layer in EPSG:{epsg}")
        console = Console(file=io.StringIO(), width=TEXT_WIDTH, highlight=False, markup=False, no_color=True)
        print_explanation(Explainer(self.results).at(*layers.to_lonlat(epsg, x, y), year), console)
        self._answer(HTTPStatus.OK, "text/plain; charset=utf-8", console.file.getvalue().encode())  # type: ignore[attr-defined]

    def _answer(self, status: HTTPStatus, media_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "max-age=60" if media_type == "image/png" else "no-store")
        self.end_headers()
        self.wfile.write(content)

    log_message: Callable[..., None] = lambda self, *told: log.debug(told[0], *told[1:])
