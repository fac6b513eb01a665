"""The real Earth Engine client against a loopback server that evaluates its graphs over a tiny archive."""

import json
import re

import ee
import pytest
import rasterio
from support.earthengine_archive import Archive, GraphError
from support.earthengine_graph import Evaluation
from support.loopback import CLOSE, SLOW, Faults
from support.loopback_archive import write_tiny_archive
from support.loopback_earthengine import FAULTY_RESPONSES, EarthEngineServer
from support.tiny_sentinel2 import SIDE, TILE, WEST, catalogue, compositing, item, listing, plain, rgb

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import composite as compositor
from jointseg.sentinel2 import earthengine, earthengine_client, retry
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import load_scenes
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import scenes

EPSG = 32650
BANDS = ["B04", "B03", "B02"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    root = write_tiny_archive(tmp_path / "archive")
    score = plain(1 + 90)
    score[:, :30] = 1 + 20
    score[:, 30] = 0
    item(root, "toa_T50RPV", rgb(900) | {"CS": score}, level="L1C", when="2017-07-01T02:50:00Z")
    item(root, "unscored_T50RPV", rgb(900), level="L1C", when="2017-08-01T02:50:00Z")
    with EarthEngineServer(catalogue(root)).serving() as server:
        yield server


def source(server, **more):
    return {"kind": "earthengine", "project": "p", "url": server.url} | more


def remote(server, tmp_path, list_changes=None, **changes):
    settings = source(server)
    scenes(scenes=tmp_path / "remote.json", **listing(source=settings, **(list_changes or {})))
    composite(
        scenes=tmp_path / "remote.json", composite=tmp_path / "remote.tif", **compositing(source=settings, **changes)
    )
    return json.loads((tmp_path / "remote.json").read_text())["scenes"]


def local(server, tmp_path, **changes):
    scenes(scenes=tmp_path / "local.json", archive=server.root, **listing())
    arguments = compositing(**changes)
    composite(scenes=tmp_path / "local.json", composite=tmp_path / "local.tif", archive=server.root, **arguments)
    return (tmp_path / "local.tif").read_bytes()


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_same_scenes_give_the_same_raster_as_from_an_archive(server, tmp_path, method):
    scene_list = remote(server, tmp_path, method=method, mask_dilation_m=30, swath_edge_buffer_m=20)
    assert [scene["id"] for scene in scene_list] == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert scene_list[0]["datetime"] == "2021-05-01T02:50:00Z" and scene_list[0]["offset_dn"] == 0
    assert scene_list[0]["sun"] == [140.5, 31.25]
    with rasterio.open(tmp_path / "remote.tif") as raster:
        assert (raster.read([1, 2, 3]) == 1).any()  # pixels of zero reflectance are valid
    assert (tmp_path / "remote.tif").read_bytes() == local(
        server, tmp_path, method=method, mask_dilation_m=30, swath_edge_buffer_m=20
    )


@pytest.mark.parametrize("scene", ["S0_T50RPV", "east_T51RTQ"])
@pytest.mark.parametrize("shift_m", [(0.0, 0.0), (4.3, -7.9)])
def test_neighbouring_zones_and_shifts_give_the_same_pixels_as_files(tmp_path, scene, shift_m):
    root = write_tiny_archive(tmp_path / "archive", dark=False, east=True)
    bounds = (WEST + 200, 3_540_100, WEST + 930, 3_540_770)
    local_scenes = {each.id: each for each in files_of(root)}
    with EarthEngineServer(root).serving() as server:
        settings = source(server)
        scenes(scenes=tmp_path / "s.json", **listing(source=settings))
        remote_scenes = {each.id: each for each in load_scenes(tmp_path / "s.json")}
        reader = earthengine.EarthEngineReader(settings, EPSG)
        reader.check(remote_scenes[scene], [*BANDS, "SCL"])
        for keys in (BANDS, ["SCL"]):
            expected = FileReader(root, EPSG).read(local_scenes[scene], keys, bounds, shift_m).astype(int)
            expected += local_scenes[scene].offset_dn * (keys == BANDS) * (expected > 0)
            assert (reader.read(remote_scenes[scene], keys, bounds, shift_m) == expected).all() and expected.any()
        assert list(reader.warped) == ([scene] if scene.startswith("east") else [])
        halo = 0 if scene.startswith("S0") and shift_m == (0.0, 0.0) else 8
        assert server.responses[0][0] >= 67 + halo and (halo or server.responses[0] == (67, 73))


def files_of(root):
    from jointseg.sentinel2.archive import find_scenes

    return list(find_scenes(root))


def test_l1c_is_masked_by_cloud_score_and_omitted_without(server, tmp_path, caplog):
    (scene,) = remote(server, tmp_path, {"level": "L1C", "year": 2017})
    assert scene["mask"] == "CS" and "omitting unscored_T50RPV: without Cloud Score+" in caplog.text
    with rasterio.open(tmp_path / "remote.tif") as raster:
        array = raster.read()
    assert not array[:, :, :31].any()
    assert (array[0, :, 31:] == 900).all()


def test_requests_stay_below_the_size_limits(server, tmp_path, monkeypatch):
    remote(server, tmp_path)
    expected_bytes = (tmp_path / "remote.tif").read_bytes()
    server.responses.clear()
    monkeypatch.setattr(earthengine, "MAX_BYTES", 3 * 2 * SIDE * 30)
    monkeypatch.setattr(earthengine, "MAX_SIDE_PX", 60)
    remote(server, tmp_path)
    assert all(rows * cols <= 30 * SIDE * 3 and cols <= 60 for rows, cols in server.responses)
    assert len(server.responses) > 12
    assert (tmp_path / "remote.tif").read_bytes() == expected_bytes


def test_parallel_requests_of_a_job(server, tmp_path):
    server.faults = Faults(always=SLOW, slow_s=0.05)
    remote(server, tmp_path, parallel_requests=2)
    assert server.max_parallel == 2
    expected = (tmp_path / "remote.tif").read_bytes()
    remote(server, tmp_path, parallel_requests=3)
    assert server.max_parallel == 3
    assert (tmp_path / "remote.tif").read_bytes() == expected


def test_random_errors_change_no_byte_and_only_their_own_requests_are_retried(server, tmp_path, monkeypatch):
    monkeypatch.setattr(compositor, "REMOTE_ROWS", 4)
    remote(server, tmp_path, parallel_requests=4)
    faultless, expected_bytes = server.requests.copy(), (tmp_path / "remote.tif").read_bytes()
    assert faultless["computePixels"] == 3 * 2 * 25
    server.requests.clear()
    server.faults = Faults(fraction=0.3, kinds=(*FAULTY_RESPONSES, CLOSE), seed=1)
    remote(server, tmp_path, parallel_requests=4)
    assert (tmp_path / "remote.tif").read_bytes() == expected_bytes
    assert len(server.faults.injected) == len(FAULTY_RESPONSES) + 1
    assert server.requests.total() == faultless.total() + server.faults.injected.total()
    assert server.requests.total() <= 1.5 * faultless.total()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_status_is_retried(server, tmp_path, status):
    server.faults = Faults([status, status])
    assert len(remote(server, tmp_path)) == 3
    assert server.requests["compute"] == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, r"Earth Engine rejects the scenes of COPERNICUS\S+ in 2021 over \S+ \(status 400\); check the request"),
        (401, r"Earth Engine rejects the credentials \(status 401\); run `earthengine authenticate`"),
        (403, r"project 'p' has no access to the scenes of COPERNICUS.* \(status 403\); register the project"),
        (
            404,
            r"Earth Engine does not find the scenes of COPERNICUS.* \(status 404\); correct sentinel2.source.collections",
        ),
    ],
)
def test_permanent_errors_are_reported_without_retry(server, tmp_path, status, message):
    server.faults = Faults([status])
    with pytest.raises(DataError, match=message):
        remote(server, tmp_path)
    assert server.requests["compute"] == 1


def test_permanent_errors_of_pixels_are_reported_without_retry(server, tmp_path):
    remote(server, tmp_path)
    server.requests.clear()
    server.faults = Faults(always=403)
    with pytest.raises(DataError, match=r"has no access to (B04, B03, B02|SCL) of scene S\d_T50RPV \(status 403\)"):
        composite(scenes=tmp_path / "remote.json", composite=tmp_path / "r.tif", **compositing(source=source(server)))
    assert server.requests["computePixels"] <= 3  # once per scene


def test_missing_collection_and_scene_are_errors(server, tmp_path):
    settings = source(server, collections={"L2A": "COPERNICUS/S2_NOWHERE"})
    with pytest.raises(
        DataError, match=r"does not find the scenes of COPERNICUS/S2_NOWHERE .*'COPERNICUS/S2_NOWHERE' not"
    ):
        scenes(scenes=tmp_path / "s.json", **listing(source=settings))
    remote(server, tmp_path)
    del server.archive.items["L2A", "S1_T50RPV"]
    with pytest.raises(
        DataError, match=r"does not find \S.* of scene S1_T50RPV .*S1_T50RPV' not found.*delete the scene list"
    ):
        composite(scenes=tmp_path / "remote.json", composite=tmp_path / "r.tif", **compositing(source=source(server)))


def test_exhausted_quota_is_an_error(server, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "MAX_TRIES", 3)
    server.faults = Faults(always=429)
    with pytest.raises(
        DataError, match=r"quota of project 'p' is still exhausted after 3 tries for .*lower sentinel2.parallel_reques"
    ):
        remote(server, tmp_path)
    assert server.requests["compute"] == 3


def test_timeouts_are_retried_then_reported(server, tmp_path, monkeypatch):
    monkeypatch.setattr(earthengine_client, "READ_TIMEOUT_S", 0.5)
    server.faults = Faults([SLOW, None, SLOW], slow_s=1.5)
    assert len(remote(server, tmp_path)) == 3
    monkeypatch.setattr(retry, "MAX_TRIES", 2)
    server.faults = Faults(always=SLOW, slow_s=1.5)
    with pytest.raises(
        DataError, match=r"no complete response for the scenes of .* in 2 tries \(last error: no response within 0.5 s"
    ):
        remote(server, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in FAULTY_RESPONSES if isinstance(kind, str)])
def test_invalid_responses_are_retried_then_reported(server, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(retry, "MAX_TRIES", 2)
    remote(server, tmp_path)
    server.faults = Faults(always=kind)
    with pytest.raises(
        DataError, match=r"no complete response for \S.* of scene S\d_T50RPV in 2 tries \(last error: \S"
    ):
        composite(scenes=tmp_path / "remote.json", composite=tmp_path / "r.tif", **compositing(source=source(server)))
    assert not (tmp_path / "r.tif").exists()


def test_expressions_have_a_digest(server, tmp_path):
    remote(server, tmp_path)
    digests = []
    for _ in range(2):
        reader = earthengine.EarthEngineReader(source(server), EPSG)
        for scene in load_scenes(tmp_path / "remote.json"):
            reader.check(scene, [*BANDS, "SCL"])
        digests.append(reader.graphs)
    assert digests[0] == digests[1] and list(digests[0]) == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert len(set(digests[0].values())) == 3 and all(
        re.fullmatch("[0-9a-f]{64}", text) for text in digests[0].values()
    )
    before = reader.graphs["S0_T50RPV"]
    reader.check(load_scenes(tmp_path / "remote.json")[0], ["B04", "SCL"])
    assert reader.graphs["S0_T50RPV"] != before


def test_scene_list_without_a_band_is_an_error(server, tmp_path):
    remote(server, tmp_path)
    scene = load_scenes(tmp_path / "remote.json")[0]
    with pytest.raises(DataError, match="scene S0_T50RPV of the scene list has no B08; delete the list"):
        earthengine.EarthEngineReader(source(server), EPSG).check(scene, ["B08"])


def test_loopback_server_rejects_unsupported_functions(server):
    earthengine.EarthEngineReader(source(server), EPSG)
    image = ee.Image("COPERNICUS/S2_SR_HARMONIZED/S0_T50RPV")
    archive = Archive(server.root)
    for graph, message in (
        (image.select(["B4"]).focalMedian(), "function Image.focalMedian is not supported"),
        (image.select(["B99"]), "Band pattern 'B99' did not match"),
        (ee.Image("NO/WHERE/S0"), "Image asset 'NO/WHERE/S0' not found"),
        (image.unmask(0), "only within the footprint"),
    ):
        with pytest.raises(GraphError, match=re.escape(message)):
            Evaluation(archive, ee.serializer.encode(graph)).value()


def test_search_is_by_location_and_year(server, tmp_path):
    other = TILE.replace("E0660", "E0760")
    with pytest.raises(DataError, match="the source lists no scene"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(server), tile=other))
    with pytest.raises(DataError, match="the source lists no scene"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(server), year=2020))
