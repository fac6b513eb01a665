"""HTTP server of the viewer: four kinds of URL, none of which contains a file name."""

import io
import json
import logging
import re
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rich.console import Console

from jointseg.area import grid
from jointseg.runtime import templates
from jointseg.runtime.errors import DataError
from jointseg.viewer import layers, tiles

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html.j2")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TILE = re.compile(r"/tile/(?P<layer>[A-Za-z0-9-]{1,80})/(?P<level>\d{1,2})/(?P<col>-?\d{1,6})/(?P<row>-?\d{1,6})\.png")
_POLICY = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:"
_TEXT, _HTML, _PNG = "text/plain; charset=utf-8", "text/html; charset=utf-8", "image/png"


def create_server(results: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that listens on a port; port 0 selects a free one.

    Raises DataError if there is no layer, or the port is in use.
    """
    by_id = {layer.id: layer for layer in layers.find_layers(results)}
    handler = partial(_Handler, results=results, host=host, layers_by_id=by_id)
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise DataError(f"port {port} of {host} cannot be used ({error.strerror}); pass another --port") from error


class _Handler(BaseHTTPRequestHandler):
    """Responds from the layers; a URL never becomes a path."""

    server_version = "JointSeg"
    sys_version = ""

    def __init__(self, *args: Any, results: Path, host: str, layers_by_id: dict[str, layers.Layer]) -> None:
        self.results, self.host, self.layers = results, host, layers_by_id
        super().__init__(*args)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        try:
            if not self._is_local():
                self._respond(HTTPStatus.FORBIDDEN, _TEXT, b"only requests to this machine are allowed\n")
            elif url.path == "/":
                described = json.dumps(layers.describe_layers(list(self.layers.values()))).replace("<", "\\u003c")
                context = {"title": self.results.name, "layers": described, "side": tiles.SIDE_PX}
                self._respond(HTTPStatus.OK, _HTML, templates.render(PAGE, context).encode())
            elif url.path == "/explain":
                self._explain(parse_qs(url.query))
            elif (tile := _TILE.fullmatch(url.path)) and tile["layer"] in self.layers:
                self._tile(self.layers[tile["layer"]], *(int(tile[name]) for name in ("level", "col", "row")))
            else:
                self._respond(HTTPStatus.NOT_FOUND, _TEXT, b"not found\n")
        except DataError as error:
            self._respond(HTTPStatus.UNPROCESSABLE_ENTITY, _TEXT, f"{error}\n".encode())
        except BrokenPipeError:  # the browser closed the connection
            pass

    def _is_local(self) -> bool:
        """Whether the Host header names this machine, so that no other site can read through the user's browser."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return self.host not in LOOPBACK or name in LOOPBACK

    def _tile(self, layer: layers.Layer, level: int, col: int, row: int) -> None:
        if level not in tiles.LEVELS:
            self._respond(HTTPStatus.NOT_FOUND, _TEXT, b"no such zoom level\n")
            return
        content = tiles.render_tile(layer, level, col, row)
        self._respond(HTTPStatus.OK if content else HTTPStatus.NO_CONTENT, _PNG, content or b"")

    def _explain(self, query: dict[str, list[str]]) -> None:
        from jointseg.audit.explain.explainer import Explainer
        from jointseg.audit.explain.text import TEXT_WIDTH, print_explanation

        try:
            epsg, year = (int(query[name][0]) for name in ("epsg", "year"))
            x, y = (float(query[name][0]) for name in ("x", "y"))
        except (KeyError, ValueError) as error:
            raise DataError(f"invalid pixel ({error}); pass epsg, x, y and year") from error
        if epsg not in {layer.epsg for layer in self.layers.values()}:
            raise DataError(f"there is no layer in EPSG:{epsg}; pass the zone of a layer")
        text = io.StringIO()
        console = Console(file=text, width=TEXT_WIDTH, highlight=False, markup=False, no_color=True)
        lon, lat = grid.transformer(f"EPSG:{epsg}", "EPSG:4326").transform(x, y)
        print_explanation(Explainer(self.results).at(lon, lat, year), console)
        self._respond(HTTPStatus.OK, _TEXT, text.getvalue().encode())

    def _respond(self, status: HTTPStatus, media_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "max-age=60" if media_type == _PNG else "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
