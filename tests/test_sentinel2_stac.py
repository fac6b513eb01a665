"""A STAC API with range requests on the loopback, which fails on demand."""

import json

import numpy as np
import pytest
from loopback import Handler, Server
from tiny_sentinel2 import TILE, catalogue, compositing, item, listing, rgb, scl

from jointseg.errors import DataError
from jointseg.sentinel2 import stac
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scenes import scenes


class Api(Handler):
    """Files, and a search over the items among them; `failures` maps a path to statuses to answer first."""

    def answer(self):
        path = self.path.partition("?")[0]
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked[path] += 1
        waiting = self.server.failures.get(path)
        if waiting:
            self.reply(waiting.pop(0), b"{}")
        elif path in ("/", ""):
            self.reply(200, json.dumps(self.landing()).encode())
        elif path == "/search":
            self.reply(200, json.dumps(self.found(json.loads(sent))).encode())
        elif path.startswith("/token/"):
            self.reply(200, b'{"token": "sig=secret"}')
        elif (self.server.root / path[1:]).is_file():
            self.file(self.server.root / path[1:])
        else:
            self.reply(404, b"{}")

    do_GET = do_HEAD = do_POST = answer  # noqa: N815

    def landing(self):
        core = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        links = [
            {"rel": "self", "href": self.server.url},
            {"rel": "root", "href": self.server.url},
            {"rel": "search", "href": f"{self.server.url}/search", "type": "application/geo+json", "method": "POST"},
        ]
        facts = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "loopback"}
        return facts | {"conformsTo": core, "links": links}

    def found(self, wanted):
        first, last = wanted["datetime"].split("/")
        items = []
        for path in sorted(self.server.root.glob("*/*.json")):
            content = json.loads(path.read_text())
            if content["collection"] in wanted["collections"] and first <= content["properties"]["datetime"] <= last:
                relative = path.relative_to(self.server.root)
                content["links"] = [{"rel": "self", "href": f"{self.server.url}/{relative}"}]
                items.append(content)
        return {"type": "FeatureCollection", "features": items, "links": []}

    def file(self, path):
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.reply(200, data, "image/tiff", Accept_Ranges="bytes")
        first, last = wanted.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last or len(data)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.reply(206, part, "image/tiff", Content_Range=span, Accept_Ranges="bytes")


@pytest.fixture
def api(tmp_path, monkeypatch):
    # Waiting between tries is for real servers.
    monkeypatch.setitem(stac._GDAL, "GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setattr(stac, "BACKOFF_S", 0.01)
    root = tmp_path / "archive"
    rng = np.random.default_rng(0)
    for number in range(3):
        bands = {key: band + rng.integers(0, 500, band.shape).astype(np.uint16) for key, band in rgb(800).items()}
        classes = scl()[0]
        classes[number, :] = 9
        item(root, f"s{number}", bands | {"SCL": (classes, {"res_m": 20})}, when=f"2021-0{number + 5}-01T02:50:00Z")
    item(root, "toa", rgb(900), level="L1C")
    catalogue(root)
    with Server(root, Api, failures={}).serving() as server:
        yield server


def source(api, **more):
    return {"kind": "stac", "url": api.url, "collections": {"L2A": "sentinel-2-l2a", "L1C": "sentinel-2-l1c"}} | more


def remote(api, tmp_path, **more):
    kind = source(api, **more)
    scenes(scenes=tmp_path / "remote.json", **listing(source=kind))
    composite(scenes=tmp_path / "remote.json", composite=tmp_path / "remote.tif", **compositing(source=kind))
    return json.loads((tmp_path / "remote.json").read_text())


def test_the_same_scenes_give_the_same_raster_as_from_an_archive(api, tmp_path):
    listed = remote(api, tmp_path)
    assert [scene["id"] for scene in listed["scenes"]] == ["s0", "s1", "s2"]
    assert listed["scenes"][0]["assets"]["B04"]["href"] == f"{api.url}/s0/B04.tif"
    scenes(scenes=tmp_path / "local.json", archive=api.root, **listing())
    composite(scenes=tmp_path / "local.json", composite=tmp_path / "local.tif", archive=api.root, **compositing())
    assert (tmp_path / "remote.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()


def test_busy_servers_are_asked_again(api, tmp_path):
    api.failures = {"/search": [429, 503], "/s1/B03.tif": [503, 503], "/": [500]}
    remote(api, tmp_path)
    assert api.asked["/search"] == 3
    assert api.failures == {"/search": [], "/s1/B03.tif": [], "/": []}


def test_refusals_are_not_asked_again(api, tmp_path):
    api.failures = {"/search": [403]}
    with pytest.raises(DataError, match=r"127\.0\.0\.1.* does not answer for sentinel-2-l2a"):
        remote(api, tmp_path)
    assert api.asked["/search"] == 1


def test_file_that_is_gone_is_named(api, tmp_path):
    (api.root / "s1/B03.tif").unlink()
    with pytest.raises(DataError, match=r"s1/B03\.tif, band B03 of scene s1, cannot be opened"):
        remote(api, tmp_path)
    # A HEAD and a GET at most, for each time that the file is opened: once.
    assert api.asked["/s1/B03.tif"] <= 2


def test_signed_urls_leave_no_trace_in_the_list(api, tmp_path):
    listed = remote(api, tmp_path, sign=f"{api.url}/token")
    assert api.asked["/token/sentinel-2-l2a"] == 1
    assert "secret" not in json.dumps(listed)
    with pytest.raises(DataError, match="gives no access token"):
        stac.token(source(api, sign=f"{api.url}/nowhere"), "L2A")


def test_collection_that_is_not_configured_is_told(api, tmp_path):
    kind = source(api) | {"collections": {"L1C": "sentinel-2-l1c"}}
    with pytest.raises(DataError, match=r"no collection for L2A \(it has: L1C\)"):
        scenes(scenes=tmp_path / "s.json", **listing(source=kind))


def test_year_without_scenes_names_the_url(api, tmp_path):
    with pytest.raises(DataError, match=rf"no L2A scene of 2016 covers tile {TILE} in http://127"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(api), year=2016))
