"""An Earth Engine test server: evaluates the requests of the real client over the scenes of an archive."""

import io
import json
from pathlib import Path

import ee
import numpy as np
from support.earthengine_archive import Archive, GraphError, Grid, Image
from support.earthengine_graph import Evaluation
from support.loopback import CUT, Fault, Faults, Handler, Server

SHIPPED = Path(ee.__file__).parent / "tests"
MAX_BYTES, MAX_SIDE_PX = 50_331_648, 32_768
# Complete responses with the wrong content; and a truncated body with a matching Content-Length.
ROW_SHORT, FLOATS, TRUNCATED = "row short", "floats", "truncated"
FAULTY_RESPONSES: tuple[Fault, ...] = (429, 500, 503, CUT, TRUNCATED, ROW_SHORT, FLOATS)


class EarthEngine(Handler):
    """Serves discovery, algorithms, value:compute and image:computePixels; only the latter two have faults."""

    server: "EarthEngineServer"

    def do_GET(self):  # noqa: N802
        if "discovery" in self.path:
            text = (SHIPPED / "cloud_api_discovery_document.json").read_text().replace("v1alpha", "v1")
            document = json.loads(text) | {"rootUrl": f"{self.server.url}/", "baseUrl": f"{self.server.url}/"}
            return self.reply(200, json.dumps(document | {"servicePath": ""}).encode())
        if self.path.partition("?")[0].endswith("/algorithms"):
            if self.server.startup_status:
                return self.reply(self.server.startup_status, self.error_body(self.server.startup_status))
            return self.reply(200, (SHIPPED / "algorithms.json").read_bytes())
        return self.reply(404, b"{}")

    def do_POST(self):  # noqa: N802
        with self.server.processing():
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            verb = self.path.partition("?")[0].rpartition(":")[2]
            self.server.record(verb)
            if verb == "/token":
                return self.send_token()
            if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
                return self.reply(401, self.error_body(401))
            fault = self.server.faults.next()
            return self.inject(fault) or self.evaluate(verb, json.loads(sent), fault)

    def send_token(self):
        """Send or refuse the token of an account, as Google's token server does."""
        if self.server.token is None:
            return self.reply(
                400, b'{"error": "invalid_grant", "error_description": "Invalid grant: account not found"}'
            )
        grant = {"access_token": self.server.token, "expires_in": 3600, "token_type": "Bearer"}
        return self.reply(200, json.dumps(grant).encode())

    def error_body(self, status):
        return json.dumps({"error": {"code": status, "message": f"status {status}."}}).encode()

    def evaluate(self, verb, request, fault):
        try:
            value = Evaluation(self.server.archive, request["expression"]).value()
            if verb == "compute":
                body = json.dumps({"result": value}).encode()
            else:
                body = pixels(value, request, fault)
                self.server.responses.append(tuple(request["grid"]["dimensions"][key] for key in ("height", "width")))
        except GraphError as error:
            return self.reply(400, json.dumps({"error": {"code": 400, "message": str(error)}}).encode())
        return self.reply(200, body[: len(body) // 2] if fault == TRUNCATED else body, "application/octet-stream")


def pixels(image: Image, request: dict, fault: Fault | None = None) -> bytes:
    """Return the response of computePixels, as NPY."""
    size, at = request["grid"]["dimensions"], request["grid"]["affineTransform"]
    rows, cols = int(size["height"]), int(size["width"])
    bands = {band.name: band for band in image.bands}
    used = [bands[name] for name in request["bandIds"]]
    types = [(band.name, "<u2" if band.kind == "uint16" else "<f8") for band in used]
    nbytes = sum(np.dtype(kind).itemsize for _, kind in types) * rows * cols
    if nbytes > MAX_BYTES:
        raise GraphError(f"Total request size ({nbytes} bytes) must be less than or equal to {MAX_BYTES} bytes.")
    if max(rows, cols) > MAX_SIDE_PX:
        raise GraphError(f"Pixel grid dimensions ({cols}x{rows}) must be less than or equal to {MAX_SIDE_PX}.")
    if request["fileFormat"] != "NPY" or at.get("shearX") or at.get("shearY"):
        raise GraphError(f"{request['fileFormat']} of the grid {at} is not supported")
    grid = Grid(request["grid"]["crsCode"], at["translateX"], at["translateY"], at["scaleX"], at["scaleY"], rows, cols)
    out = np.zeros((rows, cols), dtype=types)
    for band in used:
        values, valid = band.pixels(grid)
        out[band.name] = np.where(valid, values, 0)
    if fault == ROW_SHORT:
        out = out[:-1]
    if fault == FLOATS:
        out = out.astype([(name, "<f8") for name, _ in types])
    stream = io.BytesIO()
    np.save(stream, out)
    return stream.getvalue()


class EarthEngineServer(Server):
    """Serves the scenes of an archive.

    Attributes:
        startup_status: HTTP error status of the client's initialization; 0 for success.
        token: granted to every account at /token, and then required; None: no account exists or is required.
    """

    def __init__(self, root: Path, faults: Faults | None = None) -> None:
        super().__init__(root, EarthEngine, faults)
        self.archive, self.startup_status, self.token = Archive(Path(root)), 0, None
