"""A STAC API with range requests on the loopback, which fails on demand; and all sources beside each other."""

import json
import shutil

import numpy as np
import pytest
import rasterio
from support.loopback import CLOSE, CUT, SLOW, Faults
from support.loopback_archive import write_synthetic_archive, write_tiny_archive
from support.loopback_earthengine import EarthEngineServer
from support.loopback_stac import StacServer
from support.tiny_sentinel2 import TILE, WEST, catalogue, compositing, item, listing, rgb

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import archive as archives
from jointseg.sentinel2 import composite as compositor
from jointseg.sentinel2 import retry, stac
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import scenes

EPSG = 32650


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Waiting between tries is for real servers."""
    monkeypatch.setitem(stac._GDAL, "GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def api(tmp_path):
    root = write_tiny_archive(tmp_path / "archive")
    item(root, "toa", rgb(900), level="L1C")
    with StacServer(catalogue(root)).serving() as server:
        yield server


def source(api, **more):
    return {"kind": "stac", "url": api.url, "collections": {"L2A": "sentinel-2-l2a", "L1C": "sentinel-2-l1c"}} | more


def made(to, kind, archive=None, listed=None, **changes):
    """(the scene list, the bytes of the composite) of a source."""
    if kind["kind"] == "archive":
        changes["archive"] = archive
        scenes(scenes=to.with_suffix(".json"), archive=archive, **listing(source=kind, **(listed or {})))
    else:
        scenes(scenes=to.with_suffix(".json"), **listing(source=kind, **(listed or {})))
    place = {key: listed[key] for key in ("year", "tile", "tile_km") if listed and key in listed}
    arguments = compositing(source=kind, **place, **{key: changes[key] for key in changes if key != "archive"})
    composite(scenes=to.with_suffix(".json"), composite=to, archive=archive, **arguments)
    return json.loads(to.with_suffix(".json").read_text())["scenes"], to.read_bytes()


def pixels_of(path):
    with rasterio.open(path) as source:
        return source.read().tobytes(), source.transform, source.crs, source.descriptions


def remote(api, tmp_path, more=None, **changes):
    return made(tmp_path / "remote.tif", source(api, **(more or {})), **changes)


def test_the_same_scenes_give_the_same_raster_as_from_an_archive(api, tmp_path):
    listed, whole = remote(api, tmp_path)
    assert [scene["id"] for scene in listed] == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert listed[0]["assets"]["B04"]["href"] == f"{api.url}/S0_T50RPV/B04.tif"
    assert whole == made(tmp_path / "local.tif", {"kind": "archive"}, api.root)[1]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine")
def test_files_of_nginx_give_the_same_raster(api, tmp_path):
    (tmp_path / "nginx").mkdir()
    with api.with_nginx(tmp_path / "nginx"):
        listed, whole = remote(api, tmp_path)
        assert listed[0]["assets"]["B04"]["href"].startswith(api.files_url) and api.files_url != api.url
    assert not [path for path in api.requests if path.endswith(".tif")]
    assert whole == made(tmp_path / "local.tif", {"kind": "archive"}, api.root)[1]


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_three_sources_give_the_same_pixels_with_a_scene_of_the_next_zone(tmp_path, method):
    root = write_tiny_archive(tmp_path / "archive", dark=False, east=True)
    changes = {"method": method, "mask_dilation_m": 25, "swath_edge_buffer_m": 20}
    with StacServer(root).serving() as api, EarthEngineServer(root).serving() as engine:
        kinds = [source(api), {"kind": "earthengine", "project": "p", "url": engine.url}]
        for number, kind in enumerate(kinds):
            listed, _ = made(tmp_path / f"{number}.tif", kind, **changes)
            assert [scene["epsg"] for scene in listed] == [32650] * 3 + [32651]
    made(tmp_path / "local.tif", {"kind": "archive"}, root, **changes)
    assert pixels_of(tmp_path / "0.tif") == pixels_of(tmp_path / "1.tif") == pixels_of(tmp_path / "local.tif")
    # The scene of the next zone makes a difference, so it was there.
    shutil.rmtree(root / "east_T51RTQ")
    made(tmp_path / "less.tif", {"kind": "archive"}, catalogue(root), **changes)
    assert pixels_of(tmp_path / "less.tif") != pixels_of(tmp_path / "local.tif")


@pytest.mark.parametrize(("year", "level"), [("2021", "L2A"), ("2017", "L1C")])
def test_three_sources_give_the_same_raster_of_a_synthetic(tmp_path, year, level):
    root = write_synthetic_archive(tmp_path / "archive")
    tile = {"tile": "50N_E0660_N3540", "tile_km": 2, "year": year}
    looked = tile | {"level": level, "bands": ["B04", "B03", "B02", "B08"]}
    changes = {
        "bands": looked["bands"],
        "mask_dilation_m": 40,
        "swath_edge_buffer_m": 20,
        "coregister": True,
        "method": "medoid",
    }
    with StacServer(root, page=2).serving() as api, EarthEngineServer(root).serving() as engine:
        far, whole = made(tmp_path / "stac.tif", source(api), None, looked, **changes)
        assert api.requests["/search"] == 2 and len(far) == (4 if level == "L2A" else 3)
        kind = {"kind": "earthengine", "project": "p", "url": engine.url}
        scored, same = made(tmp_path / "engine.tif", kind, None, looked, **changes)
    near, local = made(tmp_path / "local.tif", {"kind": "archive"}, root, looked, **changes)
    assert [scene["id"] for scene in near] == [scene["id"] for scene in far] == [scene["id"] for scene in scored]
    assert {scene["mask"] for scene in scored} == {"SCL" if level == "L2A" else "CS"}
    assert whole == same == local


@pytest.mark.parametrize("scene", ["S0_T50RPV", "east_T51RTQ"])
@pytest.mark.parametrize("shift_m", [(0.0, 0.0), (4.3, -7.9)])
def test_neighbouring_zones_and_shifts_give_the_same_pixels(tmp_path, scene, shift_m):
    root = write_tiny_archive(tmp_path / "archive", east=True)
    bounds = (WEST + 200, 3_540_100, WEST + 930, 3_540_770)
    with StacServer(root).serving() as api:
        scenes(scenes=tmp_path / "s.json", **listing(source=source(api)))
        far = {each.id: each for each in scene_list.load_scenes(tmp_path / "s.json")}[scene]
        near = {each.id: each for each in archives.find_scenes(root)}[scene]
        reader = stac.StacReader(source(api), EPSG, "L2A")
        for keys in (["B04", "B03", "B02"], ["SCL"]):
            own = FileReader(root, EPSG).read(near, keys, bounds, shift_m)
            assert (reader.read(far, keys, bounds, shift_m) == own).all() and own.any()


def test_faults_at_random_change_no_byte_and_cost_few_requests(tmp_path, monkeypatch):
    monkeypatch.setattr(compositor, "REMOTE_ROWS", 64)
    rng, side = np.random.default_rng(5), 400
    cut = {"north": 3_544_000, "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    for name, when in (("a", "2021-05-01"), ("b", "2021-06-01"), ("c", "2021-07-01")):
        noise = {key: (rng.integers(1001, 9000, (side, side), dtype=np.uint16), cut) for key in ("B04", "B03", "B02")}
        classes = rng.choice(np.array([4, 9], np.uint8), (side // 2, side // 2), p=[0.8, 0.2])
        item(tmp_path / "archive", name, noise | {"SCL": (classes, cut | {"res_m": 20})}, when=f"{when}T02:50:00Z")
    root, asked, whole = catalogue(tmp_path / "archive"), [], []
    for share in (0.0, 0.3):
        # A server of its own each: GDAL remembers what it has read of an address.
        with StacServer(root, Faults(share=share, kinds=(429, 500, 503, CUT, CLOSE), seed=3)).serving() as server:
            whole.append(remote(server, tmp_path, listed={"tile_km": 4}, parallel_requests=4)[1])
            asked.append(server.requests.total())
    assert whole[0] == whole[1] == made(tmp_path / "local.tif", {"kind": "archive"}, root, {"tile_km": 4})[1]
    assert len(server.faults.injected) == 5 and server.faults.injected.total() > 20
    # Besides those that went wrong, a few more: after a cut answer GDAL has to read the file's header again.
    assert asked[0] > 50 and asked[1] - server.faults.injected.total() <= 1.35 * asked[0]


def test_busy_servers_are_asked_again(api, tmp_path):
    api.failures = {"/search": [429, 503, CUT, CLOSE], "/S1_T50RPV/B03.tif": [503, 503, None, CUT], "/": [500]}
    remote(api, tmp_path)
    assert api.requests["/search"] == 5
    assert api.failures == {"/search": [], "/S1_T50RPV/B03.tif": [], "/": []}


@pytest.mark.parametrize("fault", [429, CUT, CLOSE])
def test_catalogue_that_never_answers_is_told(api, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(retry, "MAX_TRIES", 3)
    api.failures = {"/search": [fault] * 9}
    with pytest.raises(
        DataError, match=r"127\.0\.0\.1\S+ gives no whole answer for sentinel-2-l2a in 3 tries \(at last:"
    ):
        remote(api, tmp_path)
    assert api.requests["/search"] == 3


def test_refusals_are_not_asked_again(api, tmp_path):
    api.failures = {"/search": [403]}
    with pytest.raises(DataError, match=r"127\.0\.0\.1\S+ refuses sentinel-2-l2a with HTTP status 403"):
        remote(api, tmp_path)
    assert api.requests["/search"] == 1


def test_late_answers_are_asked_for_again(api, tmp_path, monkeypatch):
    monkeypatch.setattr(stac, "TIMEOUT_S", 0.3)
    monkeypatch.setitem(stac._GDAL, "GDAL_HTTP_TIMEOUT", "1")
    api.faults.slow_s = 1.3
    api.failures = {"/search": [SLOW], "/S0_T50RPV/B04.tif": [SLOW]}
    assert remote(api, tmp_path)[1] == made(tmp_path / "local.tif", {"kind": "archive"}, api.root)[1]


def test_file_that_is_gone_is_named(api, tmp_path):
    (api.root / "S1_T50RPV/B03.tif").unlink()
    with pytest.raises(DataError, match=r"S1_T50RPV/B03\.tif, band B03 of scene S1_T50RPV, cannot .* HTTP status 404"):
        remote(api, tmp_path)
    # Twice a HEAD and a GET at most by GDAL, and one that asks for the reason.
    assert api.requests["/S1_T50RPV/B03.tif"] <= 5


def test_files_that_never_come_whole_are_named(api, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "MAX_TRIES", 2)
    remote(api, tmp_path)
    with StacServer(api.root).serving() as other:
        scenes(scenes=tmp_path / "s.json", **listing(source=source(other)))
        other.faults = Faults(always=503)
        with pytest.raises(DataError, match=r"S0_T50RPV/B04\.tif, band B04 of scene S0_T50RPV, cannot .*asked 2 times"):
            composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", **compositing(source=source(other)))


def test_signed_urls_leave_no_trace_in_the_list(api, tmp_path):
    listed, _ = remote(api, tmp_path, {"sign": f"{api.url}/token"})
    assert api.requests["/token/sentinel-2-l2a"] == 1
    assert "secret" not in json.dumps(listed)
    with pytest.raises(DataError, match="gives no access token"):
        stac.access_token(source(api, sign=f"{api.url}/nowhere"), "L2A")
    assert api.requests["/nowhere/sentinel-2-l2a"] == 1


def test_collection_that_is_not_configured_is_told(api, tmp_path):
    kind = source(api) | {"collections": {"L1C": "sentinel-2-l1c"}}
    with pytest.raises(DataError, match=r"no collection for L2A \(it has: L1C\)"):
        scenes(scenes=tmp_path / "s.json", **listing(source=kind))


def test_year_without_scenes_names_the_url(api, tmp_path):
    with pytest.raises(DataError, match=rf"no L2A scene of 2016 covers tile {TILE} in http://127"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(api), year=2016))
