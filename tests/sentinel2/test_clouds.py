"""Cloud masks and swath edges on small arrays; detection of wrong radiometric offsets."""

import numpy as np
import pytest
from support.tiny_sentinel2 import item, rgb, scl

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import clouds, items
from jointseg.sentinel2.offset_check import check_offset
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, Asset, Scene

RGB = ["B04", "B03", "B02"]


def scene(offset_dn, scale=1e-4):
    facts = dict.fromkeys(("datetime", "platform", "mgrs", "relative_orbit", "cloud_percent", "mask"))
    return Scene(
        id="X", level="L2A", baseline="05.00", epsg=32650, offset_dn=offset_dn, scale=scale, assets={}, **facts
    )


def noisy(levels, pixels=4000, noise=60, seed=0):
    """Return uint16 [bands, 1, pixels] with noise around a DN per band."""
    rng = np.random.default_rng(seed)
    return np.rint(np.array(levels)[:, None, None] + rng.normal(0, noise, (len(levels), 1, pixels))).astype(np.uint16)


def check(dn, bands, offset_dn, scale=1e-4):
    check_offset(dn, bands, np.ones(dn.shape[1:], dtype=bool), scene(offset_dn, scale))


# Band levels of surfaces, reflectance x 10000.
VEGETATION = {"B04": 350, "B03": 750, "B02": 450, "B08": 4000}
DESERT = {"B04": 3200, "B03": 2300, "B02": 1500, "B08": 4100}
GRAVEL = {"B04": 1450, "B03": 1300, "B02": 1150, "B08": 1700}
SNOW = {"B04": 8800, "B03": 9000, "B02": 9100, "B08": 8000}
SHADED_SNOW = {"B04": 1500, "B03": 1800, "B02": 2200, "B08": 1200}
CLOUDS = {"B04": 5000, "B03": 5100, "B02": 5200, "B08": 5400}
WATER = {"B04": 80, "B03": 150, "B02": 200, "B08": 20}
SURFACES = {
    "vegetation": VEGETATION,
    "desert": DESERT,
    "gravel": GRAVEL,
    "snow": SNOW,
    "shaded snow": SHADED_SNOW,
    "cloud": CLOUDS,
    "water": WATER,
}


@pytest.mark.parametrize("bands", [RGB, [*RGB, "B08"]])
@pytest.mark.parametrize("name", SURFACES)
def test_correct_offset_passes(name, bands):
    levels = np.array([SURFACES[name][band] for band in bands])
    assert check(np.maximum(noisy(levels + 200, noise=20) - 199, 1).astype(np.uint16), bands, 0) is None
    assert check(noisy(levels + 1000), bands, -1000) is None
    with pytest.raises(DataError, match="was already subtracted"):  # the same surface with a wrong offset
        check(noisy(np.minimum(levels, 700)), bands, -1000)


@pytest.mark.parametrize("bands", [RGB, [*RGB, "B08"], ["B08", "B04"]])
def test_unsubtracted_offset_is_detected_over_vegetation(bands):
    dn = noisy([VEGETATION[band] + 1000 for band in bands])
    with pytest.raises(DataError, match=r"scene X has no offset in its metadata.*set it to -1000"):
        check(dn, bands, 0)
    with pytest.raises(DataError, match="set it to -1000"):  # most of the tile desert
        check(np.concatenate([dn, noisy([DESERT[band] + 1000 for band in bands], 9000)], axis=2), bands, 0)
    check(dn[..., :900], bands, 0)  # too few pixels


def test_unsubtracted_offset_is_detected_in_the_cirrus_band():
    dark, cloudy = noisy([1010], noise=3), noisy([2500], noise=800)
    with pytest.raises(DataError, match="set it to -1000"):
        check(dark, ["B10"], 0)
    check(cloudy, ["B10"], 0)
    check(noisy([12], noise=3), ["B10"], 0)


def test_offset_subtracted_before_is_detected():
    dn = noisy([VEGETATION[band] for band in RGB])
    with pytest.raises(
        DataError, match=r"scene X has an offset of -1000 .* 100% of the pixels negative in B04.*set it to 0"
    ):
        check(dn, RGB, -1000)
    few = np.concatenate([noisy([DESERT[band] + 1000 for band in RGB], 9700), dn[..., :300]], axis=2)
    check(few, RGB, -1000)
    with pytest.raises(DataError, match="of the pixels negative in B04"):
        check(noisy([1500, 1500, 1500], noise=20), RGB, -3000, scale=1e-3)


def test_masked_and_nodata_pixels_do_not_affect_the_offset_check():
    dn = noisy([VEGETATION[band] for band in RGB])
    nowhere, everywhere = np.zeros(dn.shape[1:], dtype=bool), np.ones(dn.shape[1:], dtype=bool)
    with pytest.raises(DataError, match="was already subtracted"):
        check_offset(dn, RGB, everywhere, scene(-1000))
    assert check_offset(dn, RGB, nowhere, scene(-1000)) is None
    dn[1] = 0
    assert check_offset(dn, RGB, everywhere, scene(-1000)) is None


def test_cloud_score_threshold():
    values = np.array([[0, 1, 7, 8, 60, 61, 101]], dtype=np.uint16)  # no data, then 0, 6, 7, 59, 60, 100 %
    cloud, clear, none = clouds.CLOUD, clouds.UNCLASSIFIED, clouds.NO_DATA
    assert clouds.scene_classes("CS", values, "x").tolist() == [[none, cloud, cloud, cloud, cloud, clear, clear]]
    assert clouds.scene_classes("CS", values, "x", 0.07).tolist() == [[none, cloud, cloud, clear, clear, clear, clear]]
    assert clouds.scene_classes("CS", values, "x", 1.0).tolist() == [[none, *[cloud] * 5, clear]]
    assert clouds.scene_classes("CS", values, "x", 0.0).tolist() == [[none, *[clear] * 6]]


def test_pixels_near_the_edge_of_a_granule_are_masked():
    valid = np.ones((9, 9), dtype=bool)
    assert clouds.inside_swath(valid, 2).all()  # the border of the array is not an edge
    valid[:, :3] = False
    assert clouds.inside_swath(valid, 0).tolist() == valid.tolist()
    assert clouds.inside_swath(valid, 2)[4].tolist() == [False] * 5 + [True] * 4
    assert not clouds.inside_swath(np.zeros((4, 4), dtype=bool), 2).any()


def test_edge_mask_does_not_depend_on_the_window():
    valid = np.random.default_rng(3).random((60, 60)) > 0.01
    whole = clouds.inside_swath(valid, 3.5)
    assert 0 < whole.mean() < valid.mean()
    cut = clouds.inside_swath(valid[16:44, 6:54], 3.5)
    assert (cut[4:-4, 4:-4] == whole[20:40, 10:50]).all()


def test_mask_of_a_scene():
    bands = dict.fromkeys(CLOUDLESS_BANDS, Asset("x"))
    both, own = bands | {"CLASSI": Asset("x")}, {"B04": Asset("x"), "CLASSI": Asset("x")}
    for kind, assets, expected in [
        ("auto", both, "S2C"),
        ("auto", own, "CLASSI"),
        ("auto", {"B04": Asset("x")}, None),
        ("classi", both, "CLASSI"),
        ("s2cloudless", both, "S2C"),
    ]:
        assert clouds.choose_mask("L1C", assets, kind, "x") == expected
    assert clouds.choose_mask("L2A", both | {"SCL": Asset("x")}, "classi", "x") == "SCL"
    with pytest.raises(DataError, match="scene Y is L2A without the asset SCL"):
        clouds.choose_mask("L2A", both, "auto", "scene Y")
    with pytest.raises(DataError, match="scene Y has no CLASSI"):
        clouds.choose_mask("L1C", bands, "classi", "scene Y")
    del both["B10"]
    with pytest.raises(DataError, match="scene Y has no B10, which s2cloudless requires"):
        clouds.choose_mask("L1C", both, "s2cloudless", "scene Y")


@pytest.mark.parametrize(
    ("properties", "sun"),
    [
        ({"view:sun_azimuth": 140.5, "view:sun_elevation": 60}, (140.5, 30.0)),
        ({"s2:mean_solar_azimuth": 140.5, "s2:mean_solar_zenith": 29.5}, (140.5, 29.5)),
        ({"view:sun_azimuth": 140.5}, None),
        ({}, None),
    ],
)
def test_sun_angles_of_an_item(tmp_path, properties, sun):
    assert items.scene_from_item(item(tmp_path, "A", {**rgb(500), "SCL": scl()}, **properties), "A").sun == sun
