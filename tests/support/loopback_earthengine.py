"""An Earth Engine on the loopback: evaluates what the real client submits over the scenes of an archive."""

import io
import json
from pathlib import Path

import ee
import numpy as np
from support.earthengine_graph import Archive, Evaluation, GraphError, Grid, Image
from support.loopback import CUT, Fault, Faults, Handler, Server

SHIPPED = Path(ee.__file__).parent / "tests"
MAX_BYTES, MAX_SIDE_PX = 50_331_648, 32_768
# Answers that are whole, but not what was asked for; and a body cut together with what tells its length.
ROW_SHORT, FLOATS, TRUNCATED = "row short", "floats", "truncated"
WRONG_ANSWERS: tuple[Fault, ...] = (429, 500, 503, CUT, TRUNCATED, ROW_SHORT, FLOATS)


class EarthEngine(Handler):
    """Answers discovery, algorithms, value:compute and image:computePixels; faults are those of the latter two."""

    server: "EarthEngineServer"

    def do_GET(self):  # noqa: N802
        if "discovery" in self.path:
            text = (SHIPPED / "cloud_api_discovery_document.json").read_text().replace("v1alpha", "v1")
            document = json.loads(text) | {"rootUrl": f"{self.server.url}/", "baseUrl": f"{self.server.url}/"}
            return self.reply(200, json.dumps(document | {"servicePath": ""}).encode())
        if self.path.partition("?")[0].endswith("/algorithms"):
            if self.server.refused:
                return self.reply(self.server.refused, self.told(self.server.refused))
            return self.reply(200, (SHIPPED / "algorithms.json").read_bytes())
        return self.reply(404, b"{}")

    def do_POST(self):  # noqa: N802
        with self.server.busy():
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            verb = self.path.partition("?")[0].rpartition(":")[2]
            self.server.record(verb)
            if verb == "/token":
                return self.granted()
            if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
                return self.reply(401, self.told(401))
            fault = self.server.faults.next()
            return self.faulty(fault) or self.evaluated(verb, json.loads(sent), fault)

    def granted(self):
        """The token of an account, as Google's token server gives or refuses it."""
        if self.server.token is None:
            return self.reply(
                400, b'{"error": "invalid_grant", "error_description": "Invalid grant: account not found"}'
            )
        grant = {"access_token": self.server.token, "expires_in": 3600, "token_type": "Bearer"}
        return self.reply(200, json.dumps(grant).encode())

    def told(self, status):
        return json.dumps({"error": {"code": status, "message": f"told {status}."}}).encode()

    def evaluated(self, verb, asked, fault):
        try:
            value = Evaluation(self.server.archive, asked["expression"]).value()
            if verb == "compute":
                body = json.dumps({"result": value}).encode()
            else:
                body = pixels(value, asked, fault)
                self.server.responses.append(tuple(asked["grid"]["dimensions"][key] for key in ("height", "width")))
        except GraphError as error:
            return self.reply(400, json.dumps({"error": {"code": 400, "message": str(error)}}).encode())
        return self.reply(200, body[: len(body) // 2] if fault == TRUNCATED else body, "application/octet-stream")


def pixels(image: Image, asked: dict, fault: Fault | None = None) -> bytes:
    """The answer of computePixels, as NPY."""
    size, at = asked["grid"]["dimensions"], asked["grid"]["affineTransform"]
    rows, cols = int(size["height"]), int(size["width"])
    bands = {band.name: band for band in image.bands}
    used = [bands[name] for name in asked["bandIds"]]
    types = [(band.name, "<u2" if band.kind == "uint16" else "<f8") for band in used]
    told = sum(np.dtype(kind).itemsize for _, kind in types) * rows * cols
    if told > MAX_BYTES:
        raise GraphError(f"Total request size ({told} bytes) must be less than or equal to {MAX_BYTES} bytes.")
    if max(rows, cols) > MAX_SIDE_PX:
        raise GraphError(f"Pixel grid dimensions ({cols}x{rows}) must be less than or equal to {MAX_SIDE_PX}.")
    if asked["fileFormat"] != "NPY" or at.get("shearX") or at.get("shearY"):
        raise GraphError(f"{asked['fileFormat']} of the grid {at} is not served here")
    grid = Grid(asked["grid"]["crsCode"], at["translateX"], at["translateY"], at["scaleX"], at["scaleY"], rows, cols)
    out = np.zeros((rows, cols), dtype=types)
    for band in used:
        values, there = band.pixels(grid)
        out[band.name] = np.where(there, values, 0)
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
        refused: status by which every project is refused from the start; 0: none is.
        token: granted to every account at /token, and asked for then; None: no account is known, nor needed.
    """

    def __init__(self, root: Path, faults: Faults | None = None) -> None:
        super().__init__(root, EarthEngine, faults)
        self.archive, self.refused, self.token = Archive(Path(root)), 0, None
