"""The real Earth Engine client against a loopback server that evaluates its graphs over a tiny archive."""

import json
import re

import ee
import pytest
import rasterio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.earthengine_graph import Archive, Evaluation, GraphError
from support.loopback import CLOSE, SLOW, Faults
from support.loopback_archive import write_tiny_archive
from support.loopback_earthengine import WRONG_ANSWERS, EarthEngineServer
from support.tiny_sentinel2 import SIDE, TILE, WEST, catalogue, compositing, item, listing, plain, rgb

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import composite as compositor
from jointseg.sentinel2 import earthengine, earthengine_client, retry
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.composite import composite
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


def remote(server, tmp_path, listed=None, **changes):
    kind = source(server)
    scenes(scenes=tmp_path / "remote.json", **listing(source=kind, **(listed or {})))
    composite(scenes=tmp_path / "remote.json", composite=tmp_path / "remote.tif", **compositing(source=kind, **changes))
    return json.loads((tmp_path / "remote.json").read_text())["scenes"]


def near(server, tmp_path, **changes):
    scenes(scenes=tmp_path / "local.json", archive=server.root, **listing())
    arguments = compositing(**changes)
    composite(scenes=tmp_path / "local.json", composite=tmp_path / "local.tif", archive=server.root, **arguments)
    return (tmp_path / "local.tif").read_bytes()


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_the_same_scenes_give_the_same_raster_as_from_an_archive(server, tmp_path, method):
    listed = remote(server, tmp_path, method=method, mask_dilation_m=30, swath_edge_buffer_m=20)
    assert [scene["id"] for scene in listed] == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert listed[0]["datetime"] == "2021-05-01T02:50:00Z" and listed[0]["offset_dn"] == 0
    assert listed[0]["sun"] == [140.5, 31.25]
    with rasterio.open(tmp_path / "remote.tif") as made:
        assert (made.read([1, 2, 3]) == 1).any()  # black ground is known ground
    assert (tmp_path / "remote.tif").read_bytes() == near(
        server, tmp_path, method=method, mask_dilation_m=30, swath_edge_buffer_m=20
    )


@pytest.mark.parametrize("scene", ["S0_T50RPV", "east_T51RTQ"])
@pytest.mark.parametrize("shift_m", [(0.0, 0.0), (4.3, -7.9)])
def test_neighbouring_zones_and_shifts_give_the_same_pixels(tmp_path, scene, shift_m):
    root = write_tiny_archive(tmp_path / "archive", dark=False, east=True)
    bounds = (WEST + 200, 3_540_100, WEST + 930, 3_540_770)
    found = {each.id: each for each in Files_of(root)}
    with EarthEngineServer(root).serving() as server:
        kind = source(server)
        scenes(scenes=tmp_path / "s.json", **listing(source=kind))
        far = {each.id: each for each in scene_list.load_scenes(tmp_path / "s.json")}
        pixels = earthengine.EarthEngineReader(kind, EPSG)
        pixels.check(far[scene], [*BANDS, "SCL"])
        for keys in (BANDS, ["SCL"]):
            own = FileReader(root, EPSG).read(found[scene], keys, bounds, shift_m).astype(int)
            own += found[scene].offset_dn * (keys == BANDS) * (own > 0)
            assert (pixels.read(far[scene], keys, bounds, shift_m) == own).all() and own.any()
        assert list(pixels.warped) == ([scene] if scene.startswith("east") else [])
        halo = 0 if scene.startswith("S0") and shift_m == (0.0, 0.0) else 8
        assert server.responses[0][0] >= 67 + halo and (halo or server.responses[0] == (67, 73))


def Files_of(root):  # noqa: N802
    from jointseg.sentinel2.archive import find_scenes

    return list(find_scenes(root))


def test_l1c_is_masked_by_cloud_score_and_left_out_without(server, tmp_path, caplog):
    (scene,) = remote(server, tmp_path, {"level": "L1C", "year": 2017})
    assert scene["mask"] == "CS" and "unscored_T50RPV has no Cloud Score+" in caplog.text
    with rasterio.open(tmp_path / "remote.tif") as made:
        array = made.read()
    assert not array[:, :, :31].any()
    assert (array[0, :, 31:] == 900).all()


def test_requests_stay_below_the_limits(server, tmp_path, monkeypatch):
    remote(server, tmp_path)
    whole = (tmp_path / "remote.tif").read_bytes()
    server.responses.clear()
    monkeypatch.setattr(earthengine, "MAX_BYTES", 3 * 2 * SIDE * 30)
    monkeypatch.setattr(earthengine, "MAX_SIDE_PX", 60)
    remote(server, tmp_path)
    assert all(rows * cols <= 30 * SIDE * 3 and cols <= 60 for rows, cols in server.responses)
    assert len(server.responses) > 12
    assert (tmp_path / "remote.tif").read_bytes() == whole


def test_requests_of_a_job_are_as_many_at_a_time_as_asked_for(server, tmp_path):
    server.faults = Faults(always=SLOW, slow_s=0.05)
    remote(server, tmp_path, parallel_requests=2)
    assert server.busiest == 2
    alike = (tmp_path / "remote.tif").read_bytes()
    remote(server, tmp_path, parallel_requests=3)
    assert server.busiest == 3
    assert (tmp_path / "remote.tif").read_bytes() == alike


def test_faults_at_random_change_no_byte_and_cost_their_own_requests_alone(server, tmp_path, monkeypatch):
    monkeypatch.setattr(compositor, "REMOTE_ROWS", 4)
    remote(server, tmp_path, parallel_requests=4)
    faultless, whole = server.requests.copy(), (tmp_path / "remote.tif").read_bytes()
    assert faultless["computePixels"] == 3 * 2 * 25
    server.requests.clear()
    server.faults = Faults(share=0.3, kinds=(*WRONG_ANSWERS, CLOSE), seed=1)
    remote(server, tmp_path, parallel_requests=4)
    assert (tmp_path / "remote.tif").read_bytes() == whole
    assert len(server.faults.injected) == len(WRONG_ANSWERS) + 1
    assert server.requests.total() == faultless.total() + server.faults.injected.total()
    assert server.requests.total() <= 1.5 * faultless.total()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server_is_asked_again(server, tmp_path, status):
    server.faults = Faults([status, status])
    assert len(remote(server, tmp_path)) == 3
    assert server.requests["compute"] == 3


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, r"Earth Engine refuses the scenes of COPERNICUS\S+ in 2021 over \S+ \(told 400\); check the request"),
        (401, r"Earth Engine does not accept the credential \(told 401\); run `earthengine authenticate`"),
        (403, r"gives project 'p' no access to the scenes of COPERNICUS.* \(told 403\); register the project"),
        (
            404,
            r"Earth Engine does not find the scenes of COPERNICUS.* \(told 404\); correct sentinel2.source.collections",
        ),
    ],
)
def test_refusals_are_told_and_not_asked_again(server, tmp_path, status, told):
    server.faults = Faults([status])
    with pytest.raises(DataError, match=told):
        remote(server, tmp_path)
    assert server.requests["compute"] == 1


def test_refusals_of_pixels_are_told_and_not_asked_again(server, tmp_path):
    remote(server, tmp_path)
    server.requests.clear()
    server.faults = Faults(always=403)
    with pytest.raises(DataError, match=r"no access to (B04, B03, B02|SCL) of scene S\d_T50RPV \(told 403\)"):
        composite(scenes=tmp_path / "remote.json", composite=tmp_path / "r.tif", **compositing(source=source(server)))
    assert server.requests["computePixels"] <= 3  # once a scene


def test_collection_and_scene_that_are_missing_are_named(server, tmp_path):
    kind = source(server, collections={"L2A": "COPERNICUS/S2_NOWHERE"})
    with pytest.raises(
        DataError, match=r"does not find the scenes of COPERNICUS/S2_NOWHERE .*'COPERNICUS/S2_NOWHERE' not"
    ):
        scenes(scenes=tmp_path / "s.json", **listing(source=kind))
    remote(server, tmp_path)
    del server.archive.items["L2A", "S1_T50RPV"]
    with pytest.raises(
        DataError, match=r"does not find \S.* of scene S1_T50RPV .*S1_T50RPV' not found.*delete the scene list"
    ):
        composite(scenes=tmp_path / "remote.json", composite=tmp_path / "r.tif", **compositing(source=source(server)))


def test_quota_that_never_ends_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "MAX_TRIES", 3)
    server.faults = Faults(always=429)
    with pytest.raises(
        DataError, match=r"quota of project 'p' is still used up after 3 tries for .*lower sentinel2.reques"
    ):
        remote(server, tmp_path)
    assert server.requests["compute"] == 3


def test_late_answers_are_asked_for_again_and_told_in_the_end(server, tmp_path, monkeypatch):
    monkeypatch.setattr(earthengine_client, "READ_TIMEOUT_S", 0.5)
    server.faults = Faults([SLOW, None, SLOW], slow_s=1.5)
    assert len(remote(server, tmp_path)) == 3
    monkeypatch.setattr(retry, "MAX_TRIES", 2)
    server.faults = Faults(always=SLOW, slow_s=1.5)
    with pytest.raises(
        DataError, match=r"no whole answer for the scenes of .* in 2 tries \(at last: no answer within 0.5 s"
    ):
        remote(server, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in WRONG_ANSWERS if isinstance(kind, str)])
def test_answers_that_are_never_whole_are_told(server, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(retry, "MAX_TRIES", 2)
    remote(server, tmp_path)
    server.faults = Faults(always=kind)
    with pytest.raises(DataError, match=r"no whole answer for \S.* of scene S\d_T50RPV in 2 tries \(at last: \S"):
        composite(scenes=tmp_path / "remote.json", composite=tmp_path / "r.tif", **compositing(source=source(server)))
    assert not (tmp_path / "r.tif").exists()


@pytest.mark.parametrize(
    ("status", "told"), [(401, "does not accept the credential"), (403, "'p' no access to its alg")]
)
def test_credential_and_project_are_told_from_the_start(tmp_path, status, told):
    server = EarthEngineServer(catalogue(write_tiny_archive(tmp_path / "archive")))
    server.refused = status
    earthengine_client._initialized.cache_clear()
    ee.Reset()
    with server.serving(), pytest.raises(DataError, match=told):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(server)))


def test_server_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ee.data._get_state(), "max_retries", 0)
    with pytest.raises(DataError, match=r"does not accept project 'p' at http://127.0.0.1:9 \(the connection broke"):
        earthengine.EarthEngineReader({"project": "p", "url": "http://127.0.0.1:9"}, EPSG)


def test_project_has_to_be_set(tmp_path):
    with pytest.raises(DataError, match=r"source\.project is not set"):
        scenes(scenes=tmp_path / "s.json", **listing(source={"kind": "earthengine"}))


def test_key_file_that_is_not_there_or_none_is_named(tmp_path):
    key = {"kind": "earthengine", "project": "p", "service_account": str(tmp_path / "key.json")}
    with pytest.raises(DataError, match=r"key file .*key\.json does not exist"):
        scenes(scenes=tmp_path / "s.json", **listing(source=key))
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(DataError, match=r"key\.json is no key file of a service account \(.*\); download"):
        scenes(scenes=tmp_path / "s.json", **listing(source=key))


def test_service_account_is_shown_and_told_when_it_is_refused(server, tmp_path):
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = {"type": "service_account", "private_key": pem, "private_key_id": "1", "client_email": "a@p.example"}
    (tmp_path / "key.json").write_text(json.dumps(key | {"token_uri": f"{server.url}/token", "project_id": "p"}))
    kind = source(server, service_account=str(tmp_path / "key.json"))
    server.token = "ya29"
    scenes(scenes=tmp_path / "s.json", **listing(source=kind))
    assert server.requests["/token"] and server.requests["compute"] == 1
    earthengine_client._initialized.cache_clear()
    ee.Reset()
    server.token = None
    with pytest.raises(
        DataError, match=r"does not accept the credential \(.*account not found.*\); run `earthengine auth"
    ):
        scenes(scenes=tmp_path / "s.json", **listing(source=kind))
    earthengine_client._initialized.cache_clear()
    ee.Reset()


def test_what_is_submitted_has_a_digest(server, tmp_path):
    remote(server, tmp_path)
    told = []
    for _ in range(2):
        pixels = earthengine.EarthEngineReader(source(server), EPSG)
        for scene in scene_list.load_scenes(tmp_path / "remote.json"):
            pixels.check(scene, [*BANDS, "SCL"])
        told.append(pixels.graphs)
    assert told[0] == told[1] and list(told[0]) == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV"]
    assert len(set(told[0].values())) == 3 and all(re.fullmatch("[0-9a-f]{64}", text) for text in told[0].values())
    before = pixels.graphs["S0_T50RPV"]
    pixels.check(scene_list.load_scenes(tmp_path / "remote.json")[0], ["B04", "SCL"])
    assert pixels.graphs["S0_T50RPV"] != before


def test_list_that_lacks_a_band_is_to_be_made_again(server, tmp_path):
    remote(server, tmp_path)
    scene = scene_list.load_scenes(tmp_path / "remote.json")[0]
    with pytest.raises(DataError, match="scene S0_T50RPV of the list has no B08; delete the list"):
        earthengine.EarthEngineReader(source(server), EPSG).check(scene, ["B08"])


def test_loopback_names_what_it_does_not_serve(server):
    earthengine.EarthEngineReader(source(server), EPSG)
    image = ee.Image("COPERNICUS/S2_SR_HARMONIZED/S0_T50RPV")
    archive = Archive(server.root)
    for graph, told in (
        (image.select(["B4"]).focalMedian(), "function Image.focalMedian is not served"),
        (image.select(["B99"]), "Band pattern 'B99' did not match"),
        (ee.Image("NO/WHERE/S0"), "Image asset 'NO/WHERE/S0' not found"),
        (image.unmask(0), "within the footprint alone"),
    ):
        with pytest.raises(GraphError, match=re.escape(told)):
            Evaluation(archive, ee.serializer.encode(graph)).value()


def test_tile_is_searched_by_its_place_and_year(server, tmp_path):
    far = TILE.replace("E0660", "E0760")
    with pytest.raises(DataError, match="it lists none at all"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(server), tile=far))
    with pytest.raises(DataError, match="it lists none at all"):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(server), year=2020))
