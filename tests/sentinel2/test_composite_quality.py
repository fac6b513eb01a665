"""Quality metrics, on synthetic composites with known values."""

import csv
import json

import numpy as np
import pytest
from affine import Affine

from jointseg.area.grid import area_scale, parse_tile
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import composite_quality as module
from jointseg.sentinel2 import quality_figure
from jointseg.sentinel2.composite_quality import composite_quality

BANDS = ["B04", "B03"]
ONE, TWO = "50N_E0660_N3540", "50N_E0661_N3540"
SIDE = 100
FITTED = [
    {"band": "B04", "kind": "line", "residual_dn": 30.0},
    {"band": "B03", "kind": "shift", "residual_dn": 12.0},
]
SHARED = [{"band": band, "kind": "shared", "residual_dn": 0.0} for band in BANDS]


def registration(x_m, y_m, why=""):
    return {"x_m": x_m, "y_m": y_m, "quality": 0.8, "windows": 9, "spread_m": 0.5, "usable": not why, "why": why}


def composite(path, tile, year, values, clear, season=None, **tags):
    """Write a composite: values uint16 [bands, rows, columns], 0 without clear observation."""
    layers = [*np.where(clear > 0, values, 0), clear, *([season] if season is not None else [])]
    names = [*BANDS, "clear", *(["season"] if season is not None else [])]
    area = parse_tile(tile, 1)
    cog.write(
        path / year / f"{tile}.tif",
        np.stack(layers).astype(np.uint16),
        crs=area.crs,
        transform=area.transform(10),
        nodata=0,
        descriptions=names,
        tags={"year": year, "tile": tile, "scenes": '["a", "b"]'} | {k: json.dumps(v) for k, v in tags.items()},
    )
    return path / year / f"{tile}.tif"


@pytest.fixture
def years(tmp_path):
    """Two tiles of 2019 and of the base year; the first of 2019 has nodata, padded pixels, and a drift."""
    rng = np.random.default_rng(5)
    surface = rng.integers(500, 3000, (2, 2, SIDE, SIDE))
    plenty = np.full((SIDE, SIDE), 6)
    base = [composite(tmp_path, tile, "2021", values, plenty) for tile, values in zip((ONE, TWO), surface)]
    now = surface + np.array([40, -25])[None, :, None, None] + rng.normal(0, 20, surface.shape).round().astype(int)
    now[0, :, :, 80:] += 1500  # a fifth of the tile was built up
    clear, season = plenty.copy(), np.ones_like(plenty)
    clear[:10], clear[10:20, :10], season[90:] = 2, 0, 2
    clear[50:52, 50:55] = clear[60, 60] = 0
    season[clear == 0] = 0
    lines = {"normalisation": {"a": FITTED, "b": SHARED}}
    filled = lines | {"registration": {"a": registration(3, -4), "b": registration(0, 0, "no texture")}}
    year = [
        composite(tmp_path, ONE, "2019", now[0], clear, season, **filled),
        composite(
            tmp_path,
            TWO,
            "2019",
            now[1],
            plenty,
            **lines | {"registration": {"b": registration(0, 1), "a": registration(0, 2)}},
        ),
    ]
    return year, base


def assess(years, folder, **changes):
    year, base = years
    arguments = {"composites": year, "base": base, "year": 2019, "level": "L2A", "bands": BANDS} | changes
    facts = composite_quality(table=folder / "q.csv", figure=folder / "q.png", **arguments)
    with open(folder / "q.csv", newline="") as file:
        return facts, {row["tile"]: row for row in csv.DictReader(file)}


def test_metrics_of_a_tile(years, tmp_path):
    _, rows = assess(years, tmp_path)
    one = rows[ONE]
    nodata = 100 + 10 + 1
    km2 = 100 * 1e-4 / float(area_scale(32650, 660_500, 3_540_500))
    assert list(rows) == [ONE, TWO, "all"]
    assert one["level"] == "L2A" and one["pixels"] == "10000"
    assert float(one["valid_fraction"]) == pytest.approx(1 - nodata / 10_000)
    assert float(one["padded_fraction"]) == 0.1
    # 1000 of 9889 valid pixels, more than a tenth, have 2 observations
    assert (one["clear_p10"], one["clear_median"], one["clear_max"]) == ("2", "6", "6")
    assert one["nodata_areas"] == "3" and float(one["largest_nodata_km2"]) == pytest.approx(km2, abs=1e-4)
    assert (one["scenes"], one["registered"], one["unregistered"], one["unregistered_scenes"]) == ("2", "1", "1", "b")
    assert (one["shift_median_m"], one["shift_max_m"]) == ("5.0", "5.0")
    assert int(one["compared_pixels"]) == 10_000 - nodata
    assert float(one["residual_B04"]) == 0.003 and float(one["residual_B03"]) == 0.0012


def test_drift_is_measured_on_stable_pixels(years, tmp_path):
    facts, rows = assess(years, tmp_path)
    for tile in (ONE, "all"):
        assert float(rows[tile]["drift_B04"]) == pytest.approx(0.0040, abs=0.0002)
        assert float(rows[tile]["drift_B03"]) == pytest.approx(-0.0025, abs=0.0002)
        assert float(rows[tile]["spread_B04"]) == pytest.approx(0.0020, abs=0.0003)
    assert facts["drift"] == {band: float(rows["all"][f"drift_{band}"]) for band in BANDS}


def test_last_row_summarises_all_tiles(years, tmp_path):
    facts, rows = assess(years, tmp_path)
    whole = rows["all"]
    assert whole["pixels"] == "20000" and float(whole["valid_fraction"]) == facts["valid_fraction"] == 1 - 111 / 20_000
    assert float(whole["padded_fraction"]) == 0.05
    assert (whole["clear_p10"], whole["nodata_areas"], whole["scenes"]) == ("6", "3", "4")
    assert (whole["registered"], whole["unregistered"], whole["unregistered_scenes"]) == ("3", "1", "b")
    assert (whole["shift_median_m"], whole["shift_max_m"]) == ("2.0", "5.0")
    assert facts["unregistered"] == 1


def test_metrics_that_do_not_apply_are_empty(years, tmp_path):
    _, base = years
    facts, rows = assess(years, tmp_path, composites=base, base=None, year=2021)
    filled = [key for key, value in rows["all"].items() if value]
    assert filled == [
        "tile",
        "level",
        "pixels",
        "valid_fraction",
        "clear_p10",
        "clear_median",
        "clear_max",
        "nodata_areas",
        "scenes",
    ]
    assert rows["all"]["nodata_areas"] == "0" and facts["drift"] == {"B04": None, "B03": None}


def test_tile_without_clear_observations(tmp_path):
    none = np.zeros((SIDE, SIDE), dtype=np.uint16)
    values = np.full((2, SIDE, SIDE), 700)
    empty = composite(tmp_path, ONE, "2019", values, none)
    base = composite(tmp_path, ONE, "2021", values, none + 4)
    _, rows = assess(([empty], [base]), tmp_path)
    assert rows[ONE]["valid_fraction"] == "0.0" and rows[ONE]["clear_median"] == "" and rows[ONE]["clear_max"] == ""
    assert rows[ONE]["compared_pixels"] == "0" and rows[ONE]["drift_B04"] == "" and rows[ONE]["nodata_areas"] == "1"


def test_drift_requires_a_minimum_of_pixels(tmp_path):
    values, clear = np.full((2, SIDE, SIDE), 700), np.zeros((SIDE, SIDE), dtype=int)
    clear[:4], base = 3, composite(tmp_path, ONE, "2021", values, np.full((SIDE, SIDE), 3))
    _, rows = assess(([composite(tmp_path, ONE, "2019", values, clear)], [base]), tmp_path)
    assert rows[ONE]["compared_pixels"] == "400" and rows[ONE]["drift_B04"] == ""
    clear[4] = 3
    _, rows = assess(([composite(tmp_path, ONE, "2019", values, clear)], [base]), tmp_path)
    assert rows[ONE]["compared_pixels"] == "500" and rows[ONE]["drift_B04"] == "0.0"


def test_blocks_and_input_order_do_not_affect_the_bytes(years, tmp_path, monkeypatch):
    assess(years, tmp_path)
    first = [(tmp_path / name).read_bytes() for name in ("q.csv", "q.png")]
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    assess(years, tmp_path, composites=years[0][::-1])
    assert [(tmp_path / name).read_bytes() for name in ("q.csv", "q.png")] == first
    assert first[1].startswith(b"\x89PNG")


def test_preview_is_nan_where_most_pixels_are_nodata(years):
    _, preview = module.assess_composite(years[0][0], None, "2019", BANDS, 10)
    assert np.isnan(preview.observations[1, 0]) and preview.observations[0, 0] == 2 and preview.observations[5, 5] == 6
    assert preview.observations[9, 9] == 6 and np.isnan(preview.observations).sum() == 1


def test_preview_size_decreases_with_the_number_of_tiles():
    assert [quality_figure.preview_cells(tiles) for tiles in (1, 1000, 100_000)] == [128, 15, 4]


def test_composite_of_another_year_is_an_error(years, tmp_path):
    with pytest.raises(DataError, match=r"is a composite of 2019, not of 2020"):
        assess(years, tmp_path, year=2020)


def test_missing_band_is_an_error(years, tmp_path):
    with pytest.raises(DataError, match=r"has no band B08 \(it has B04, B03, clear, season\)"):
        assess(years, tmp_path, bands=["B08"])


def test_tile_without_base_composite_is_an_error(years, tmp_path):
    year, base = years
    with pytest.raises(DataError, match=f"the base year has no composite of tile {TWO}"):
        assess((year, base[:1]), tmp_path)
    with pytest.raises(DataError, match="no composite of 2019"):
        assess(([], base), tmp_path)


def test_different_grids_are_an_error(years, tmp_path):
    year, base = years
    array, transform, crs = raster_io.read(base[0])
    moved = transform @ Affine.translation(1, 0)
    cog.write(base[0], array, crs=crs, transform=moved, descriptions=[*BANDS, "clear"], tags={"year": "2021"})
    with pytest.raises(DataError, match="have different grids"):
        assess((year[:1], base[:1]), tmp_path)
