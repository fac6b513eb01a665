"""Normalisation of scenes to the base year, and dark-object subtraction."""

import json

import numpy as np
import pytest
import rasterio
from support.tiny_sentinel2 import SIDE, TILE, WEST, build_composite, item, raster, rgb, scl

from jointseg.raster.io import read
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import composite as module
from jointseg.sentinel2 import normalise, row_spool


def write_year(root, transform, seed, change=None):
    """Write one clear scene of a textured surface with `transform` applied to its reflectance x 10000."""
    rng = np.random.default_rng(5)
    surface = rng.gamma(4, 250, (3, SIDE, SIDE))
    if change is not None:
        surface[:, change] += 3000
    reflectance = transform(surface) + np.random.default_rng(seed).normal(0, 15, surface.shape)
    bands = {key: np.rint(layer + 1000).astype(np.uint16) for key, layer in zip(("B04", "B03", "B02"), reflectance)}
    item(root, "S", bands | {"SCL": scl()})
    return root


def test_scene_is_normalised_to_the_base_year(tmp_path):
    changed = np.zeros((SIDE, SIDE), dtype=bool)
    changed[:30, :50] = True  # 15 % of the area was built over
    base, _ = build_composite(tmp_path, write_year(tmp_path / "base", lambda surface: surface + 200, 1), "base")
    gains = np.array([0.8, 0.9, 1.1])[:, None, None]
    other = write_year(tmp_path / "other", lambda surface: (surface + 200) * gains + 300, 2, changed)
    unadjusted, _ = build_composite(tmp_path, other, "plain")
    adjusted, facts = build_composite(tmp_path, other, "adjusted", reference=tmp_path / "base.tif")
    for line, gain in zip(facts["normalisation"]["S"], gains.ravel()):
        assert line["kind"] == "line"
        assert line["gain"] == pytest.approx(1 / gain, rel=0.01)
        assert line["offset_dn"] == pytest.approx(-300 / gain, abs=12)
        assert line["residual_dn"] < 30
        assert 0.6 < line["stable"] / SIDE**2 < 0.86
    same = ~changed
    before = np.abs(unadjusted[:3, same].astype(int) - base[:3, same]).mean()
    after = np.abs(adjusted[:3, same].astype(int) - base[:3, same]).mean()
    assert before > 150 and after < 30
    # Changed pixels keep their difference.
    assert np.median(adjusted[:3, changed].astype(int) - base[:3, changed]) == pytest.approx(3000, rel=0.03)
    with rasterio.open(tmp_path / "adjusted.tif") as source:
        assert json.loads(source.tags()["normalisation"]) == facts["normalisation"]


def test_haze_on_one_date_leaves_no_edge(tmp_path, monkeypatch):
    """Two dates, one hazy; clouds in the other leave only the hazy one in half of the tile."""
    base, _ = build_composite(tmp_path, write_year(tmp_path / "base", lambda surface: surface, 1), "base")
    root = write_year(tmp_path / "other", lambda surface: surface, 2)
    hazy = {}
    for key in ("B04", "B03", "B02"):
        hazy[key] = np.rint((read(root / f"S/{key}.tif")[0][0] - 1000.0) * 0.7 + 1500).astype(np.uint16)
    item(root, "T", hazy | {"SCL": scl()}, when="2021-08-01T00:00:00Z")
    classes = scl()[0]
    classes[:25] = 9
    raster(root / "S/SCL.tif", classes, res_m=20)
    unadjusted, _ = build_composite(tmp_path, root, "plain")
    adjusted, facts = build_composite(tmp_path, root, "adjusted", reference=tmp_path / "base.tif")
    assert list(facts["normalisation"]) == ["S", "T"]
    for array, low, high in ((unadjusted, 50, 500), (adjusted, 0, 15)):
        bias = array[:3].astype(int) - base[:3]
        assert low < abs(np.median(bias[:, :50]) - np.median(bias[:, 50:])) + 1e-9 < high
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(row_spool, "STACK_BYTES", 1)
    build_composite(tmp_path, root, "cut", reference=tmp_path / "base.tif")
    assert (tmp_path / "cut.tif").read_bytes() == (tmp_path / "adjusted.tif").read_bytes()


def test_scene_with_too_few_pixels_shares_the_line_of_the_others(tmp_path):
    build_composite(tmp_path, write_year(tmp_path / "base", lambda surface: surface, 1), "base")
    root = write_year(tmp_path / "other", lambda surface: surface * 0.8, 2)
    classes = scl()[0]
    classes[:, 2:] = 9
    item(root, "T", rgb(800) | {"SCL": (classes, {"res_m": 20})}, when="2021-08-01T00:00:00Z")
    _, facts = build_composite(tmp_path, root, "adjusted", reference=tmp_path / "base.tif")
    for own, shared in zip(facts["normalisation"]["S"], facts["normalisation"]["T"]):
        assert (own["kind"], shared["kind"]) == ("line", "shared")
        assert (shared["gain"], shared["offset_dn"]) == (own["gain"], own["offset_dn"])


def test_surface_without_contrast_is_only_shifted(tmp_path):
    base = tmp_path / "base"
    rng = np.random.default_rng(0)
    for root, value in ((base, 800), (tmp_path / "other", 950)):
        noise = rng.normal(0, 10, (3, SIDE, SIDE))
        bands = {key: np.rint(value + 1000 + n).astype(np.uint16) for key, n in zip(("B04", "B03", "B02"), noise)}
        item(root, "S", bands | {"SCL": scl()})
    build_composite(tmp_path, base, "base")
    _, facts = build_composite(tmp_path, tmp_path / "other", "other", reference=tmp_path / "base.tif")
    for line in facts["normalisation"]["S"]:
        assert (line["kind"], line["gain"]) == ("shift", 1.0)
        assert line["offset_dn"] == pytest.approx(-150, abs=2)


def test_reference_of_another_tile_is_an_error(tmp_path):
    raster(tmp_path / "base.tif", np.ones((4, SIDE, SIDE), dtype=np.uint16), west=WEST + 1000)
    item(tmp_path / "archive", "S", rgb(800) | {"SCL": scl()})
    with pytest.raises(DataError, match=f"not a composite of tile {TILE}"):
        build_composite(tmp_path, tmp_path / "archive", reference=tmp_path / "base.tif")


def test_dark_objects_determine_the_haze_of_each_band():
    rng = np.random.default_rng(1)
    surface = rng.integers(100, 3000, (2, 60, 60))
    surface[:, :2] = 100  # deep shade
    hazy = (surface + np.array([250, 700])[:, None, None]).astype(np.uint16)
    lines = normalise.dark_object_fits(hazy, np.ones((60, 60), bool), ["B04", "B02"])
    assert [line.offset_dn for line in lines] == [-250, -700]
    assert (normalise.apply_fits(hazy, lines) == surface).all()
    few = normalise.dark_object_fits(hazy, np.zeros((60, 60), bool), ["B04", "B02"])
    assert [line.kind for line in few] == ["none", "none"]
