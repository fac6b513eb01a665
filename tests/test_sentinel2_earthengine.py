"""The real Earth Engine client against a loopback server that answers its graphs from a tiny archive."""

import io
import json
import re
from datetime import datetime
from pathlib import Path

import ee
import numpy as np
import pytest
import rasterio
from loopback import Handler, Server
from tiny_sentinel2 import SIDE, catalogue, compositing, item, listing, plain, rgb, scl

from jointseg.errors import DataError
from jointseg.sentinel2 import earthengine
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scenes import scenes

SHIPPED = Path(ee.__file__).parent / "tests"
ASSET = re.compile(r'"(COPERNICUS/S2_(?:SR_)?HARMONIZED|GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED)/(\w+)"')


class EarthEngine(Handler):
    """Answers discovery, algorithms, value:compute (scene lists) and image:computePixels from items under `root`."""

    def do_GET(self):  # noqa: N802
        if "discovery" in self.path:
            text = (SHIPPED / "cloud_api_discovery_document.json").read_text().replace("v1alpha", "v1")
            document = json.loads(text) | {"rootUrl": f"{self.server.url}/", "baseUrl": f"{self.server.url}/"}
            return self.reply(200, json.dumps(document | {"servicePath": ""}).encode())
        if self.path.partition("?")[0].endswith("/algorithms"):
            return self.reply(200, (SHIPPED / "algorithms.json").read_bytes())
        return self.reply(404, b"{}")

    def do_POST(self):  # noqa: N802
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verb = self.path.partition("?")[0].rpartition(":")[2]
        self.server.asked[verb] += 1
        if self.server.failures:
            status = self.server.failures.pop(0)
            return self.reply(status, json.dumps({"error": {"code": status, "message": f"told {status}"}}).encode())
        if verb == "compute":
            return self.reply(200, json.dumps({"result": self.listed(json.dumps(asked))}).encode())
        return self.reply(200, self.pixels(asked), "application/octet-stream")

    def listed(self, graph):
        collection = re.search(r'"COPERNICUS/(S2\w+)"', graph)[1]
        year = min(re.findall(r'"(\d{4})-01-01"', graph))
        rows = []
        for path in sorted(self.server.root.glob("*/*.json")):
            content = json.loads(path.read_text())
            facts = content["properties"]
            of = "S2_SR_HARMONIZED" if content["collection"].endswith("l2a") else "S2_HARMONIZED"
            if of == collection and facts["datetime"].startswith(year):
                told = {
                    "system:index": content["id"],
                    "system:time_start": int(datetime.fromisoformat(facts["datetime"]).timestamp() * 1000),
                    "SPACECRAFT_NAME": "Sentinel-2A",
                    "MGRS_TILE": content["id"][-5:],
                    "SENSING_ORBIT_NUMBER": 132,
                    "PROCESSING_BASELINE": facts["s2:processing_baseline"],
                    "CLOUDY_PIXEL_PERCENTAGE": facts["eo:cloud_cover"],
                    "epsg": facts["proj:code"],
                }
                rows.append(json.dumps(told))
        return rows

    def pixels(self, asked):
        collection, index = ASSET.search(json.dumps(asked["expression"])).groups()
        size, at = asked["grid"]["dimensions"], asked["grid"]["affineTransform"]
        rows, cols = int(size["height"]), int(size["width"])
        assert rows * cols * len(asked["bandIds"]) * 2 <= 48 << 20
        self.server.answered.append((rows, cols))
        out = np.zeros((rows, cols), dtype=[(band, "<u2") for band in asked["bandIds"]])
        for band in asked["bandIds"]:
            with rasterio.open(self.server.root / index / f"{band}.tif") as source:
                array, t = source.read(1).astype(int), source.transform
            if collection.startswith("COPERNICUS") and band != "SCL":
                array -= 1000  # the harmonized collections have removed the offset
            col = np.floor((at["translateX"] + 10 * (np.arange(cols) + 0.5) - t.c) / t.a).astype(int)
            row = np.floor((at["translateY"] - 10 * (np.arange(rows) + 0.5) - t.f) / t.e).astype(int)
            inside = np.ix_((row >= 0) & (row < array.shape[0]), (col >= 0) & (col < array.shape[1]))
            out[band][inside] = array[row[inside[0].ravel()][:, None], col[inside[1].ravel()][None, :]]
        stream = io.BytesIO()
        np.save(stream, out)
        return stream.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(earthengine, "FIRST_WAIT_S", 0.01)
    root = tmp_path / "archive"
    rng = np.random.default_rng(0)
    for number in range(3):
        bands = {key: band + rng.integers(0, 500, band.shape).astype(np.uint16) for key, band in rgb(800).items()}
        classes = scl()[0]
        classes[number, :] = 9
        name = f"S{number}_T50RPV"
        item(root, name, bands | {"SCL": (classes, {"res_m": 20})}, when=f"2021-0{number + 5}-01T02:50:00Z")
    score = plain(1 + 90)
    score[:, :30] = 1 + 20
    score[:, 30] = 0
    item(root, "toa_T50RPV", rgb(900) | {"CS": score}, level="L1C", when="2017-07-01T02:50:00Z")
    catalogue(root)
    with Server(root, EarthEngine, failures=[]).serving() as server:
        yield server


def remote(server, tmp_path, listed=None, **changes):
    kind = {"kind": "earthengine", "project": "p", "url": server.url}
    scenes(scenes=tmp_path / "remote.json", **listing(source=kind, **(listed or {})))
    composite(scenes=tmp_path / "remote.json", composite=tmp_path / "remote.tif", **compositing(source=kind, **changes))
    return json.loads((tmp_path / "remote.json").read_text())["scenes"]


def test_the_same_scenes_give_the_same_raster_as_from_an_archive(server, tmp_path):
    listed = remote(server, tmp_path, scl_buffer_m=30)
    assert [scene["id"] for scene in listed] == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert listed[0]["datetime"] == "2021-05-01T02:50:00Z" and listed[0]["offset_dn"] == 0
    scenes(scenes=tmp_path / "local.json", archive=server.root, **listing())
    arguments = compositing(scl_buffer_m=30)
    composite(scenes=tmp_path / "local.json", composite=tmp_path / "local.tif", archive=server.root, **arguments)
    assert (tmp_path / "remote.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()


def test_l1c_is_masked_by_cloud_score(server, tmp_path):
    (scene,) = remote(server, tmp_path, {"level": "L1C", "year": 2017})
    assert scene["mask"] == "CS"
    with rasterio.open(tmp_path / "remote.tif") as source:
        array = source.read()
    assert not array[:, :, :31].any()
    assert (array[0, :, 31:] == 900).all()


def test_requests_stay_below_the_limit(server, tmp_path, monkeypatch):
    remote(server, tmp_path)
    whole = (tmp_path / "remote.tif").read_bytes()
    server.answered.clear()
    monkeypatch.setattr(earthengine, "MAX_BYTES", 3 * 2 * SIDE * 30)
    monkeypatch.setattr(earthengine, "MAX_SIDE_PX", 60)
    remote(server, tmp_path)
    assert all(rows * cols <= 30 * SIDE * 3 and cols <= 60 for rows, cols in server.answered)
    assert len(server.answered) > 12
    assert (tmp_path / "remote.tif").read_bytes() == whole


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server_is_asked_again(server, tmp_path, status):
    server.failures = [status, status]
    assert len(remote(server, tmp_path)) == 3
    assert server.asked["compute"] == 3


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refusals_are_not_asked_again(server, tmp_path, status):
    server.failures = [status]
    with pytest.raises(DataError, match=f"Earth Engine refuses the scenes of COPERNICUS.*told {status}"):
        remote(server, tmp_path)
    assert server.asked["compute"] == 1


def test_project_has_to_be_set(tmp_path):
    with pytest.raises(DataError, match=r"source\.project is not set"):
        scenes(scenes=tmp_path / "s.json", **listing(source={"kind": "earthengine"}))


def test_key_file_that_is_not_there_is_named(tmp_path):
    source = {"kind": "earthengine", "project": "p", "service_account": str(tmp_path / "key.json")}
    with pytest.raises(DataError, match=r"key file .*key\.json does not exist"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source))
