"""The step `composite`: radiometry, masks, resampling, errors, normalisation."""

import json

import numpy as np
import pytest
import rasterio
from support.tiny_sentinel2 import (
    NORTH,
    SIDE,
    WEST,
    build_composite,
    catalogue,
    compositing,
    item,
    listing,
    plain,
    rgb,
    scl,
)

from jointseg.area.grid import transformer
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import clouds, row_spool
from jointseg.sentinel2 import composite as module
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scenes import scenes


def test_offset_is_subtracted_once(tmp_path):
    """The same surface by an old baseline, a new one, and a catalogue that has applied the offset."""
    root = tmp_path / "archive"
    item(root, "new", rgb(800) | {"SCL": scl()}, baseline="05.00", when="2021-05-01T00:00:00Z")
    item(root, "old", rgb(800, offset=0) | {"SCL": scl()}, baseline="03.01", when="2021-06-01T00:00:00Z")
    applied = {"earthsearch:boa_offset_applied": True}
    item(root, "applied", rgb(800, offset=0) | {"SCL": scl()}, when="2021-07-01T00:00:00Z", **applied)
    array, facts = build_composite(tmp_path, root)
    assert array.dtype == np.uint16 and array.shape == (4, SIDE, SIDE)
    assert [np.unique(band).tolist() for band in array] == [[800], [900], [1000], [3]]
    assert facts == {"scenes": 3, "warped": {}, "valid_fraction": 1.0, "mean_clear_observations": 3.0}
    with rasterio.open(tmp_path / "out.tif") as source:
        assert source.descriptions == ("B04", "B03", "B02", "clear")
        assert source.crs.to_epsg() == 32650 and tuple(source.bounds) == (660_000, 3_540_000, 661_000, 3_541_000)
        assert source.nodata == 0
        assert json.loads(source.tags()["scenes"]) == ["new", "old", "applied"]


def test_clouds_shadows_and_nodata_are_masked(tmp_path):
    root = tmp_path / "archive"
    first = scl()[0]
    first[0, 0], first[0, 1], first[0, 2] = 3, 9, 11
    item(root, "a", rgb(800) | {"SCL": (first, {"res_m": 20})}, when="2021-05-01T00:00:00Z")
    gap = rgb(2000)
    gap["B04"][:2, :2] = 0
    item(root, "b", gap | {"SCL": scl()}, when="2021-06-01T00:00:00Z")
    array, facts = build_composite(tmp_path, root)
    assert array[:, 0, 0].tolist() == [0, 0, 0, 0]  # shadow in one, nodata in the other
    assert array[:, 0, 2].tolist() == [2000, 2100, 2200, 1]  # cloud in the first
    assert array[:, 0, 4].tolist() == [1400, 1500, 1600, 2]  # snow is kept: 11 is not in scl_mask_classes
    assert facts["valid_fraction"] == 1 - 4 / SIDE**2


def test_mask_dilation_is_a_disc_in_metres(tmp_path):
    root = tmp_path / "archive"
    classes = scl()[0]
    classes[25, 25] = 8
    item(root, "a", rgb(800) | {"SCL": (classes, {"res_m": 20})})
    array, _ = build_composite(tmp_path, root, mask_dilation_m=30)
    nodata = array[3] == 0
    # The cloud covers pixels 50, 51; three more on every side, but not the corners of the square around it.
    assert nodata[50, 47:55].tolist() == [True] * 8 and not nodata[50, 46] and not nodata[50, 55]
    assert not nodata[47, 47] and nodata[48, 48]


def test_pixels_with_too_few_clear_observations_are_nodata(tmp_path):
    root = tmp_path / "archive"
    classes = scl()[0]
    classes[:, :10] = 8
    item(root, "a", rgb(800) | {"SCL": (classes, {"res_m": 20})}, when="2021-05-01T00:00:00Z")
    item(root, "b", rgb(800) | {"SCL": scl()}, when="2021-06-01T00:00:00Z")
    array, _ = build_composite(tmp_path, root, min_clear_observations=2)
    assert not array[:, :, :20].any()
    assert (array[3, :, 20:] == 2).all()


def test_dark_pixels_are_valid_and_saturated_ones_are_nodata(tmp_path):
    root = tmp_path / "archive"
    bands = rgb(800)
    bands["B04"][0, 0], bands["B04"][0, 1] = 900, 65535
    item(root, "a", bands | {"SCL": scl()})
    array, _ = build_composite(tmp_path, root)
    assert array[:, 0, 0].tolist() == [1, 900, 1000, 1]
    assert array[:, 0, 1].tolist() == [0, 0, 0, 0]


def test_l1c_mask_has_three_bands(tmp_path):
    root = tmp_path / "archive"
    flags = np.zeros((3, 17, 17), dtype=np.uint8)
    flags[0, 0, 0] = flags[1, 0, 1] = flags[2, 0, 2] = 1
    item(root, "a", rgb(800) | {"classi": (flags, {"res_m": 60})}, level="L1C")
    array, _ = build_composite(tmp_path, root, listed={"level": "L1C"})
    assert [array[3, 0, column] for column in (0, 5, 6, 11, 12, 18)] == [0, 0, 0, 0, 1, 1]
    array, _ = build_composite(tmp_path, root, listed={"level": "L1C"}, scl_mask_classes=[9, 11])
    assert [array[3, 0, column] for column in (0, 5, 6, 11, 12, 18)] == [0, 0, 1, 1, 0, 1]


def test_medoid_selects_all_bands_of_one_scene(tmp_path):
    root = tmp_path / "archive"
    for number, value in enumerate((800, 900, 2500)):
        item(root, f"s{number}", rgb(value) | {"SCL": scl()}, when=f"2021-0{number + 5}-01T00:00:00Z")
    array, _ = build_composite(tmp_path, root, method="medoid")
    assert array[:, 7, 7].tolist() == [900, 1000, 1100, 3, 2]
    with rasterio.open(tmp_path / "out.tif") as source:
        assert source.descriptions[-1] == "scene"


def test_row_strips_do_not_affect_the_composite(tmp_path, monkeypatch):
    root = tmp_path / "archive"
    rng = np.random.default_rng(1)
    for number in range(3):
        bands = {band: rng.integers(1100, 5000, (SIDE, SIDE)).astype(np.uint16) for band in ("B04", "B03", "B02")}
        classes = rng.choice([4, 4, 4, 4, 4, 4, 4, 8], (SIDE // 2, SIDE // 2)).astype(np.uint8)
        frame = {"west": WEST + 3 * number, "north": NORTH - 7 * number}  # two of them not on the lattice
        item(
            root,
            f"s{number}",
            {band: (array, frame) for band, array in bands.items()} | {"SCL": (classes, {"res_m": 20})},
            when=f"2021-0{number + 5}-01T00:00:00Z",
        )
    whole, facts = build_composite(tmp_path, root, "whole", mask_dilation_m=25)
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(row_spool, "STACK_BYTES", 1)
    cut, _ = build_composite(tmp_path, root, "cut", mask_dilation_m=25)
    assert (whole == cut).all()
    assert (tmp_path / "whole.tif").read_bytes() == (tmp_path / "cut.tif").read_bytes()
    assert sorted(facts["warped"]) == ["s1", "s2"]


def test_scene_of_the_neighbouring_zone_is_resampled_and_recorded(tmp_path):
    """A linear ramp in zone 51 becomes the same ramp in zone 50."""
    root = tmp_path / "archive"
    x, y = transformer("EPSG:32650", "EPSG:32651").transform(660_500, 3_540_500)
    west, north = round(x / 10) * 10 - 1000, round(y / 10) * 10 + 1000
    col, row = np.meshgrid(np.arange(200), np.arange(200))
    ramp = (2000 + 5 * col + 3 * row).astype(np.uint16)
    frame = {"west": west, "north": north, "crs": "EPSG:32651"}
    classes = (plain(4, 100).astype(np.uint8), frame | {"res_m": 20})
    bands = dict.fromkeys(("B04", "B03", "B02"), (ramp, frame))
    item(root, "other", bands | {"SCL": classes}, **{"proj:code": "EPSG:32651"})
    array, facts = build_composite(tmp_path, root)
    assert list(facts["warped"]) == ["other"] and "EPSG:32651" in facts["warped"]["other"]
    e, n = np.meshgrid(WEST + 10 * np.arange(SIDE) + 5, NORTH - 10 * np.arange(SIDE) - 5)
    there_x, there_y = transformer("EPSG:32650", "EPSG:32651").transform(e, n)
    expected = 1000 + 5 * ((there_x - west) / 10 - 0.5) + 3 * ((north - there_y) / 10 - 0.5)
    assert (array[3] == 1).all()
    assert np.abs(array[0] - expected).max() <= 1


def test_pixels_outside_the_scene_are_nodata(tmp_path):
    root = tmp_path / "archive"
    half = {"west": WEST + 500, "north": NORTH + 300}
    item(root, "a", {band: (plain(1800), half) for band in ("B04", "B03", "B02")} | {"SCL": scl()})
    array, _ = build_composite(tmp_path, root)
    assert not array[:, :, :50].any() and not array[:, 70:].any()
    assert (array[0, :70, 50:] == 800).all()


def build_damaged(tmp_path, damage, *, before=True, **scene):
    """Build a composite of one scene whose archive is damaged before or after the scene list is written."""
    root = tmp_path / "archive"
    item(root, "S", scene.pop("assets", rgb(800) | {"SCL": scl()}), **scene)
    catalogue(root)
    if before:
        damage(root)
    scenes(scenes=tmp_path / "s.json", archive=root, **listing())
    if not before:
        damage(root)
    composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", archive=root, **compositing())


def halve(root):
    path = root / "S/B03.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("before", [True, False])
def test_truncated_scene_file_is_an_error(tmp_path, before):
    """Before the scene list is written (the list then has the truncated size), and after."""
    with pytest.raises(DataError, match=r"S/B03\.tif, band B03 of scene S, (cannot be|has \d+ bytes)"):
        build_damaged(tmp_path, halve, before=before)
    assert not (tmp_path / "c.tif").exists()


def test_file_removed_after_listing_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"band B02 of scene S, is missing"):
        build_damaged(tmp_path, lambda root: (root / "S/B02.tif").unlink(), before=False)


def test_crs_that_differs_from_the_catalogue_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"band B04 of scene S, is in EPSG:32650; expected EPSG:32649"):
        build_damaged(tmp_path, lambda root: None, **{"proj:code": "EPSG:32649"})


def test_band_of_another_size_is_an_error(tmp_path):
    assets = rgb(800) | {"B03": plain(1800, SIDE - 1), "SCL": scl()}
    with pytest.raises(DataError, match=r"band B03 of scene S has \(99, 99\) pixels .* B04 has \(100, 100\)"):
        build_damaged(tmp_path, lambda root: None, assets=assets)


def test_invalid_class_is_an_error(tmp_path):
    with pytest.raises(DataError, match="scene S has SCL class 12"):
        build_damaged(tmp_path, lambda root: None, assets=rgb(800) | {"SCL": scl(12)})


def test_float_band_is_an_error(tmp_path):
    assets = rgb(800) | {"B02": plain(1800).astype(np.float32), "SCL": scl()}
    with pytest.raises(DataError, match="band B02 of scene S, has float32"):
        build_damaged(tmp_path, lambda root: None, assets=assets)


def test_invalid_method_is_an_error(tmp_path):
    with pytest.raises(DataError, match="method 'mean' is not valid"):
        composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", **compositing(method="mean"))


def test_cloud_score_classes():
    values = np.array([[0, 1, 60, 61, 101]], dtype=np.uint16)
    assert clouds.clear_mask(clouds.scene_classes("CS", values, "S"), [0, 9], 0).tolist() == [
        [False, False, False, True, True]
    ]
