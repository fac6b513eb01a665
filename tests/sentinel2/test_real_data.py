"""Real Sentinel-2 L1C scenes and cloud masks of eo-learn's examples (MIT), in the folder JOINTSEG_REAL_DATA.

Five scenes of 1 km in Slovenia with all 13 bands, two of them overcast, and for 68 dates, without bands, cloud
probabilities of s2cloudless at 10 m and Sentinel Hub's cloud masks at 160 m.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.tiny_sentinel2 import raster

from jointseg.raster.io import read
from jointseg.sentinel2.cloudless import CELL_PX, cell_classes, cell_reflectance, cloud_cells, cloud_probability
from jointseg.sentinel2.clouds import CLOUD
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, load_scenes
from jointseg.sentinel2.scenes import scenes

DATA = Path(os.environ.get("JOINTSEG_REAL_DATA", "")) / "eolearn"
pytestmark = pytest.mark.skipif(
    "JOINTSEG_REAL_DATA" not in os.environ or not DATA.is_dir(),
    reason="JOINTSEG_REAL_DATA is not a folder of real data",
)

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
DATES = ("2015-08-20", "2015-07-31", "2015-09-09", "2015-08-30", "2015-07-11")
OVERCAST, CLEAR = slice(0, 2), slice(2, 5)
RGB = ("B04", "B03", "B02")
# The scenes start 180 m east of the edge of this tile; they are moved to fill it.
TILE, WEST, NORTH = "33N_E0465_N5079", 465_000, 5_080_000


@pytest.fixture(scope="module")
def reflectance():
    """float32 [scenes, bands, 100, 100], top of atmosphere."""
    return np.load(DATA / "REFERENCE_SCENES.npy")[:, :100].transpose(0, 3, 1, 2)


def cloudless_bands(scene):
    return scene[[BANDS.index(band) for band in CLOUDLESS_BANDS]]


def patch(name):
    return np.load(DATA / f"TestEOPatch/{name}.npy")[:, :100, :, 0]


def date_indices():
    """Return the indices of the five scenes among the 68 dates."""
    stamps = json.loads((DATA / "TestEOPatch/timestamps.json").read_text())
    return [next(number for number, stamp in enumerate(stamps) if stamp.startswith(date)) for date in DATES]


def scores(name, cloud, truth):
    """Return (precision, recall, F1) of cloud, and print them with the number of pixels."""
    hit, extra, missed = (cloud & truth).sum(), (cloud & ~truth).sum(), (~cloud & truth).sum()
    score = hit / (hit + extra), hit / (hit + missed), 2 * hit / (2 * hit + extra + missed)
    text = "precision {:.4f}, recall {:.4f}, F1 {:.4f}".format(*score)
    print(f"{name}: {truth.size} pixels, {truth.mean():.1%} cloud, {text}")
    return score


def whole_cells(image):
    """Pad [..., 100, 100] pixels to whole cells, [..., 102, 102], with nodata."""
    fill = 0 if image.dtype.kind == "u" else np.nan
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, 2), (0, 2)], constant_values=fill)


def test_probabilities_equal_those_of_the_authors(reflectance):
    """CLP_S2C of the five dates, computed by eo-learn from the same bands."""
    authors = patch("data/CLP_S2C")
    for scene, number in zip(reflectance, date_indices()):
        assert np.abs(cloud_probability(cloudless_bands(scene)) - authors[number]).max() < 1e-6


def test_clouds_of_the_five_scenes(reflectance):
    """Compare with Sentinel Hub's masks: two overcast dates, three clear ones."""
    dn = whole_cells(np.rint(reflectance * 1e4).astype(np.uint16))
    cloud = np.array([cell_classes(cell_reflectance(cloudless_bands(scene), 0, 1e-4), None) for scene in dn]) == CLOUD
    cloud = cloud.repeat(CELL_PX, 1).repeat(CELL_PX, 2)[:, :100, :100]
    truth = patch("mask/CLM")[date_indices()] == 1
    precision, recall, _ = scores("five scenes", cloud, truth)
    assert truth[OVERCAST].all() and not truth[CLEAR].any()
    assert precision == 1 and recall > 0.99


@pytest.mark.parametrize(("dates", "floors"), [("all", (0.97, 0.98, 0.975)), ("partly cloudy", (0.90, 0.93, 0.92))])
def test_clouds_of_68_dates(dates, floors):
    """Start from the authors' probabilities, as the dates have no bands: cell means, threshold, dilation."""
    probabilities, truth = whole_cells(patch("data/CLP_S2C")), patch("mask/CLM") == 1
    means = np.nanmean(probabilities.reshape(len(probabilities), 17, CELL_PX, 17, CELL_PX), axis=(2, 4))
    cloud = np.array([cloud_cells(mean) for mean in means]).repeat(CELL_PX, 1).repeat(CELL_PX, 2)[:, :100, :100]
    fraction = truth.mean(axis=(1, 2))
    used = (fraction > 0.02) & (fraction < 0.98) if dates == "partly cloudy" else fraction >= 0
    assert used.sum() == {"all": 68, "partly cloudy": 19}[dates]
    for score, floor in zip(scores(f"{used.sum()} dates ({dates})", cloud[used], truth[used]), floors):
        assert score > floor


def write_archive(root, reflectance, bands):
    """Write the five scenes as an archive of plain files."""
    listed = []
    for date, scene in zip(DATES, reflectance):
        for band in bands:
            values = np.rint(scene[BANDS.index(band)] * 1e4).astype(np.uint16)
            raster(root / f"{date}_{band}.tif", values, west=WEST, north=NORTH, crs="EPSG:32633")
        files = {band: f"{date}_{band}.tif" for band in bands}
        listed.append(
            {"id": date, "datetime": f"{date}T10:00:00Z", "level": "L1C", "offset_dn": 0, "scale": 1e-4, "bands": files}
        )
    (root / "scene.json").write_text(json.dumps({"scenes": listed}))
    return root


def build_composite(root, method):
    """Return (masks of the scenes, reflectance x 10000 [3, 100, 100], clear observations [100, 100])."""
    common = {"year": "2015", "tile": TILE, "tile_km": 1, "source": {"kind": "archive"}, "bands": list(RGB)}
    where = {"scenes": root / "list.json", "archive": root}
    scenes(**where, **common, level="L1C", season=["04-01", "10-31"], max_cloud_percent=100)
    composite(
        **where,
        **common,
        composite=root / "c.tif",
        method=method,
        scl_mask_classes=[0, 1, 3, 8, 9, 10],
        mask_dilation_m=40,
    )
    image = read(root / "c.tif")[0].astype(int)
    return {scene.mask for scene in load_scenes(root / "list.json")}, image[:3], image[3]


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_overcast_dates_do_not_affect_the_composite(tmp_path, reflectance, method):
    """The composite of all five dates equals that of the three clear ones in nearly every pixel."""
    dn = np.rint(reflectance[:, [BANDS.index(band) for band in RGB]] * 1e4)
    masks, image, clear = build_composite(write_archive(tmp_path, reflectance, BANDS), method)
    assert masks == {"S2C"}
    assert (clear >= 3).all() and (clear == 3).mean() > 0.98
    off = np.abs(image - np.median(dn[CLEAR], axis=0))
    print(
        f"{method}: valid {(clear > 0).mean():.2%}, three observations {(clear == 3).mean():.2%}, off {off.mean():.1f} DN"
    )
    assert off[:, clear == 3].max() == 0 if method == "median" else off.mean() < 60
    assert ((image >= dn[CLEAR].min(axis=0)) & (image <= dn[CLEAR].max(axis=0)))[:, clear == 3].all()


def test_without_the_bands_of_s2cloudless_clouds_remain(tmp_path, reflectance):
    """With only the visible bands the dates have no mask: cloud makes the median of five brighter."""
    dn = np.rint(reflectance[:, [BANDS.index(band) for band in RGB]] * 1e4)
    masks, image, clear = build_composite(write_archive(tmp_path, reflectance, RGB), "median")
    assert masks == {None} and (clear == 5).all()
    assert (image - np.median(dn[CLEAR], axis=0)).mean() > 20
