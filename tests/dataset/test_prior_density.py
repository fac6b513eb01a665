"""Prior ISA fraction: exact percentage per cell, nodata, windowed reading, and lookup."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from jointseg.accuracy.reference_products import product_mosaic
from jointseg.dataset import prior_density as module
from jointseg.dataset.prior_density import PriorDensity, prior_density
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

ENTRY = {
    "folder": "cover",
    "pattern": "*.tif",
    "year": 2021,
    "resolution_m": 10,
    "isa": {"codes": [50]},
    "not_isa": {"codes": [10]},
    "nodata": {"codes": [0]},
}
STEP, WEST, NORTH = 1e-4, 118.0, 32.0
ROWS, COLS = 70, 101


def make(folder: Path, codes: np.ndarray, outline: shapely.Geometry | None = None) -> dict[str, Path]:
    """Write a product of two files with a gap between them, and a reach."""
    for name, first, last in (("a", 0, 50), ("b", 60, COLS)):
        transform = Affine(STEP, 0, WEST + STEP * first, 0, -STEP, NORTH)
        cog.write(folder / "cover" / f"{name}.tif", codes[None, :, first:last], crs="EPSG:4326", transform=transform)
    outline = outline or shapely.box(WEST, NORTH - ROWS * STEP, WEST + COLS * STEP, NORTH)
    gpd.GeoDataFrame({"name": ["up"]}, geometry=[outline], crs=4326).to_file(folder / "area.gpkg", layer="reaches")
    inputs = {"study_area": folder / "area.gpkg", "mosaics": folder / "mosaics", "files": folder}
    product_mosaic(**inputs, product="cover", entry=ENTRY, year="2021")
    return inputs


def run(folder: Path, inputs: dict[str, Path], **changes: object) -> np.ndarray:
    prior_density(
        **inputs, density=folder / "density.tif", product="cover", entry=ENTRY | changes, year=2021, chip_m=80
    )
    return raster_io.read(folder / "density.tif")[0][0]


def codes() -> np.ndarray:
    rng = np.random.default_rng(4)
    plane = np.where(rng.random((ROWS, COLS)) < 0.3, 50, 10).astype(np.uint8)
    plane[8:16, 8:16] = 0
    plane[16:20, 16:24] = 0  # half of a cell: not nodata
    return plane


def test_percentage_is_exact_and_nodata_is_not_zero(tmp_path: Path) -> None:
    plane = codes()
    found = run(tmp_path, make(tmp_path, plane))
    assert found.shape == (9, 13)
    classes = plane.copy()
    classes[:, 50:60] = 0
    for row in range(9):
        for col in range(13):
            cell = classes[8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
            valid = (cell != 0).sum()
            if valid < 32:
                assert found[row, col] == 255
            else:
                assert abs(found[row, col] - 100 * (cell == 50).sum() / valid) <= 0.5
    assert found[1, 1] == 255 and found[2, 2] != 255


def test_windows_have_no_effect_and_cells_far_from_the_reaches_are_nodata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = make(tmp_path, codes())
    percent = run(tmp_path, inputs)
    monkeypatch.setattr(module, "WINDOW_PX", 20)
    assert (run(tmp_path, inputs) == percent).all()
    corner = make(tmp_path, codes(), shapely.box(WEST, NORTH - 10 * STEP, WEST + 10 * STEP, NORTH))
    part = run(tmp_path, corner)
    assert (part[:2, :2] == percent[:2, :2]).all() and (part[2:] == 255).all() and (part[:, 2:] == 255).all()


def test_points_get_the_value_of_their_cell(tmp_path: Path) -> None:
    percent = run(tmp_path, make(tmp_path, codes()))
    prior = PriorDensity(tmp_path / "density.tif")
    lon = WEST + 8 * STEP * (np.arange(13) + 0.3)
    for row in range(9):
        assert (prior.at(lon, np.full(13, NORTH - 8 * STEP * (row + 0.7))) == percent[row]).all()
    outside = prior.at(np.array([WEST - STEP, WEST, 0.0]), np.array([NORTH - STEP, NORTH + STEP, 0.0]))
    assert (outside == 255).all()


def test_error_for_an_unlisted_code_and_a_product_outside_the_reaches(tmp_path: Path) -> None:
    inputs = make(tmp_path, codes())
    with pytest.raises(DataError, match="product cover, rows from 0: code 10 is not in its table entry"):
        run(tmp_path, inputs, not_isa={"codes": [20]})
    with pytest.raises(DataError, match="product cover has no valid pixel in the reaches"):
        run(tmp_path, make(tmp_path, codes(), shapely.box(10, 10, 11, 11)))
