"""The STAC source against a test server with injected errors; and all sources compared."""

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
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import load_scenes
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import scenes

EPSG = 32650


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    """Wait only briefly between tries."""
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


def build(to, kind, archive=None, list_changes=None, **changes):
    """Return (scene list, bytes of the composite) of a source."""
    if kind["kind"] == "archive":
        changes["archive"] = archive
        scenes(scenes=to.with_suffix(".json"), archive=archive, **listing(source=kind, **(list_changes or {})))
    else:
        scenes(scenes=to.with_suffix(".json"), **listing(source=kind, **(list_changes or {})))
    tile = {key: list_changes[key] for key in ("year", "tile", "tile_km") if list_changes and key in list_changes}
    arguments = compositing(source=kind, **tile, **{key: changes[key] for key in changes if key != "archive"})
    composite(scenes=to.with_suffix(".json"), composite=to, archive=archive, **arguments)
    return json.loads(to.with_suffix(".json").read_text())["scenes"], to.read_bytes()


def raster_content(path):
    with rasterio.open(path) as source:
        return source.read().tobytes(), source.transform, source.crs, source.descriptions


def remote(api, tmp_path, more=None, **changes):
    return build(tmp_path / "remote.tif", source(api, **(more or {})), **changes)


def test_same_scenes_give_the_same_raster_as_from_an_archive(api, tmp_path):
    scene_list, content = remote(api, tmp_path)
    assert [scene["id"] for scene in scene_list] == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert scene_list[0]["assets"]["B04"]["href"] == f"{api.url}/S0_T50RPV/B04.tif"
    assert content == build(tmp_path / "local.tif", {"kind": "archive"}, api.root)[1]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine")
def test_files_served_by_nginx_give_the_same_raster(api, tmp_path):
    (tmp_path / "nginx").mkdir()
    with api.with_nginx(tmp_path / "nginx"):
        scene_list, content = remote(api, tmp_path)
        assert scene_list[0]["assets"]["B04"]["href"].startswith(api.files_url) and api.files_url != api.url
    assert not [path for path in api.requests if path.endswith(".tif")]
    assert content == build(tmp_path / "local.tif", {"kind": "archive"}, api.root)[1]


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_three_sources_give_the_same_pixels_with_a_scene_of_the_next_zone(tmp_path, method):
    root = write_tiny_archive(tmp_path / "archive", dark=False, east=True)
    changes = {"method": method, "mask_dilation_m": 25, "swath_edge_buffer_m": 20}
    with StacServer(root).serving() as api, EarthEngineServer(root).serving() as engine:
        kinds = [source(api), {"kind": "earthengine", "project": "p", "url": engine.url}]
        for number, kind in enumerate(kinds):
            scene_list, _ = build(tmp_path / f"{number}.tif", kind, **changes)
            assert [scene["epsg"] for scene in scene_list] == [32650] * 3 + [32651]
    build(tmp_path / "local.tif", {"kind": "archive"}, root, **changes)
    assert (
        raster_content(tmp_path / "0.tif")
        == raster_content(tmp_path / "1.tif")
        == raster_content(tmp_path / "local.tif")
    )
    # Without the scene of the next zone the composite differs.
    shutil.rmtree(root / "east_T51RTQ")
    build(tmp_path / "less.tif", {"kind": "archive"}, catalogue(root), **changes)
    assert raster_content(tmp_path / "less.tif") != raster_content(tmp_path / "local.tif")


@pytest.mark.parametrize(("year", "level"), [("2021", "L2A"), ("2017", "L1C")])
def test_three_sources_give_the_same_raster_of_a_synthetic_scene(tmp_path, year, level):
    root = write_synthetic_archive(tmp_path / "archive")
    tile = {"tile": "50N_E0660_N3540", "tile_km": 2, "year": year}
    criteria = tile | {"level": level, "bands": ["B04", "B03", "B02", "B08"]}
    changes = {
        "bands": criteria["bands"],
        "mask_dilation_m": 40,
        "swath_edge_buffer_m": 20,
        "coregister": True,
        "method": "medoid",
    }
    with StacServer(root, page=2).serving() as api, EarthEngineServer(root).serving() as engine:
        remote_scenes, content = build(tmp_path / "stac.tif", source(api), None, criteria, **changes)
        assert api.requests["/search"] == 2 and len(remote_scenes) == (4 if level == "L2A" else 3)
        kind = {"kind": "earthengine", "project": "p", "url": engine.url}
        scored, same = build(tmp_path / "engine.tif", kind, None, criteria, **changes)
    local_scenes, local = build(tmp_path / "local.tif", {"kind": "archive"}, root, criteria, **changes)
    assert (
        [scene["id"] for scene in local_scenes]
        == [scene["id"] for scene in remote_scenes]
        == [scene["id"] for scene in scored]
    )
    assert {scene["mask"] for scene in scored} == {"SCL" if level == "L2A" else "CS"}
    assert content == same == local


@pytest.mark.parametrize("scene", ["S0_T50RPV", "east_T51RTQ"])
@pytest.mark.parametrize("shift_m", [(0.0, 0.0), (4.3, -7.9)])
def test_neighbouring_zones_and_shifts_give_the_same_pixels_as_files(tmp_path, scene, shift_m):
    root = write_tiny_archive(tmp_path / "archive", east=True)
    bounds = (WEST + 200, 3_540_100, WEST + 930, 3_540_770)
    with StacServer(root).serving() as api:
        scenes(scenes=tmp_path / "s.json", **listing(source=source(api)))
        remote_scenes = {each.id: each for each in load_scenes(tmp_path / "s.json")}[scene]
        local_scenes = {each.id: each for each in archives.find_scenes(root)}[scene]
        reader = stac.StacReader(source(api), EPSG, "L2A")
        for keys in (["B04", "B03", "B02"], ["SCL"]):
            expected = FileReader(root, EPSG).read(local_scenes, keys, bounds, shift_m)
            assert (reader.read(remote_scenes, keys, bounds, shift_m) == expected).all() and expected.any()


def test_random_errors_change_no_byte_and_cost_few_requests(tmp_path, monkeypatch):
    monkeypatch.setattr(compositor, "REMOTE_ROWS", 64)
    rng, side = np.random.default_rng(5), 400
    cut = {"north": 3_544_000, "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    for name, when in (("a", "2021-05-01"), ("b", "2021-06-01"), ("c", "2021-07-01")):
        noise = {key: (rng.integers(1001, 9000, (side, side), dtype=np.uint16), cut) for key in ("B04", "B03", "B02")}
        classes = rng.choice(np.array([4, 9], np.uint8), (side // 2, side // 2), p=[0.8, 0.2])
        item(tmp_path / "archive", name, noise | {"SCL": (classes, cut | {"res_m": 20})}, when=f"{when}T02:50:00Z")
    root, requests, content = catalogue(tmp_path / "archive"), [], []
    for fraction in (0.0, 0.3):
        # One server each: GDAL caches responses by URL.
        with StacServer(root, Faults(fraction=fraction, kinds=(429, 500, 503, CUT, CLOSE), seed=3)).serving() as server:
            content.append(remote(server, tmp_path, list_changes={"tile_km": 4}, parallel_requests=4)[1])
            requests.append(server.requests.total())
    assert content[0] == content[1] == build(tmp_path / "local.tif", {"kind": "archive"}, root, {"tile_km": 4})[1]
    assert len(server.faults.injected) == 5 and server.faults.injected.total() > 20
    # Besides the failed requests a few more: after a truncated response GDAL reads the file's header again.
    assert requests[0] > 50 and requests[1] - server.faults.injected.total() <= 1.35 * requests[0]


def test_transient_errors_are_retried(api, tmp_path):
    api.path_faults = {"/search": [429, 503, CUT, CLOSE], "/S1_T50RPV/B03.tif": [503, 503, None, CUT], "/": [500]}
    remote(api, tmp_path)
    assert api.requests["/search"] == 5
    assert api.path_faults == {"/search": [], "/S1_T50RPV/B03.tif": [], "/": []}


@pytest.mark.parametrize("fault", [429, CUT, CLOSE])
def test_catalogue_without_complete_response_is_an_error(api, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(retry, "MAX_TRIES", 3)
    api.path_faults = {"/search": [fault] * 9}
    with pytest.raises(
        DataError, match=r"127\.0\.0\.1\S+ returned no complete response for sentinel-2-l2a in 3 tries \(last error:"
    ):
        remote(api, tmp_path)
    assert api.requests["/search"] == 3


def test_permanent_errors_are_not_retried(api, tmp_path):
    api.path_faults = {"/search": [403]}
    with pytest.raises(DataError, match=r"127\.0\.0\.1\S+ rejects sentinel-2-l2a with HTTP status 403"):
        remote(api, tmp_path)
    assert api.requests["/search"] == 1


def test_timeouts_are_retried(api, tmp_path, monkeypatch):
    monkeypatch.setattr(stac, "TIMEOUT_S", 0.3)
    monkeypatch.setitem(stac._GDAL, "GDAL_HTTP_TIMEOUT", "1")
    api.faults.slow_s = 1.3
    api.path_faults = {"/search": [SLOW], "/S0_T50RPV/B04.tif": [SLOW]}
    assert remote(api, tmp_path)[1] == build(tmp_path / "local.tif", {"kind": "archive"}, api.root)[1]


def test_removed_file_is_an_error(api, tmp_path):
    (api.root / "S1_T50RPV/B03.tif").unlink()
    with pytest.raises(DataError, match=r"S1_T50RPV/B03\.tif, band B03 of scene S1_T50RPV, cannot .* HTTP status 404"):
        remote(api, tmp_path)
    # GDAL sends HEAD and GET at most twice; one more request determines the status.
    assert api.requests["/S1_T50RPV/B03.tif"] <= 5


def test_unavailable_files_are_an_error(api, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "MAX_TRIES", 2)
    remote(api, tmp_path)
    with StacServer(api.root).serving() as other:
        scenes(scenes=tmp_path / "s.json", **listing(source=source(other)))
        other.faults = Faults(always=503)
        with pytest.raises(DataError, match=r"S0_T50RPV/B04\.tif, band B04 of scene S0_T50RPV, cannot .*tried 2 times"):
            composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", **compositing(source=source(other)))


def test_access_token_is_not_in_the_scene_list(api, tmp_path):
    scene_list, _ = remote(api, tmp_path, {"sign": f"{api.url}/token"})
    assert api.requests["/token/sentinel-2-l2a"] == 1
    assert "secret" not in json.dumps(scene_list)
    with pytest.raises(DataError, match="returns no access token"):
        stac.access_token(source(api, sign=f"{api.url}/nowhere"), "L2A")
    assert api.requests["/nowhere/sentinel-2-l2a"] == 1


def test_missing_collection_setting_is_an_error(api, tmp_path):
    kind = source(api) | {"collections": {"L1C": "sentinel-2-l1c"}}
    with pytest.raises(DataError, match=r"has no collection for L2A \(it has: L1C\)"):
        scenes(scenes=tmp_path / "s.json", **listing(source=kind))


def test_error_for_a_year_without_scenes_names_the_url(api, tmp_path):
    with pytest.raises(DataError, match=rf"no L2A scene of 2016 covers tile {TILE} in http://127"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(api), year=2016))
