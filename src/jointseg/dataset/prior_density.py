"""Step `prior_density`: the fraction of ISA in a prior product, on cells about as wide as a chip."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from jointseg.area.grid import reproject, transformer
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import class_table, classify
from jointseg.runtime.errors import DataError
from jointseg.runtime.progress import track

NODATA = 255
# Side of the windows read at a time, pixels: bounds memory at about 100 MB.
WINDOW_PX = 4096


def prior_density(
    *,
    study_area: Path,
    mosaics: Path,
    files: Path,
    density: Path,
    product: str,
    entry: dict[str, Any],
    year: int,
    chip_m: int,
) -> dict[str, Any]:
    """Write the percentage of ISA (uint8, nodata 255) on cells of whole product pixels, about `chip_m` wide.

    A cell is nodata if more than half of it is nodata, or if it is outside the windows that intersect a reach. Raises
    DataError for a code that the entry does not list, if the product has no valid pixel in the reaches, or if its files
    are in several CRSs.

    Args:
        study_area: its reaches select the windows to read.
        mosaics: the product's mosaic, in one CRS.
        files: the folder of all products, which the mosaic references.
        density: the GeoTIFF to write, in the product's CRS.
        entry: its entry of the products table.
        year: the year of the product to use.
    """
    vrts = sorted(mosaics.glob("*.vrt"))
    if len(vrts) != 1:
        raise DataError(
            f"product {product} has files in {len(vrts)} CRSs ({', '.join(vrt.stem for vrt in vrts)}); a prior density "
            "needs exactly one; choose another dataset.prior_density.product"
        )
    table = class_table(product, entry, year)
    factor = max(1, round(chip_m / entry["resolution_m"]))
    with raster_io.open_raster(vrts[0]) as source:
        crs, transform = source.crs.to_string(), source.transform
        outline = _outline(study_area, crs)
        rows, cols = math.ceil(source.height / factor), math.ceil(source.width / factor)
        percent = np.full((rows, cols), NODATA, dtype=np.uint8)
        windows = list(_windows(source, factor, outline))
        for window in track(windows, f"prior ISA fraction from {product}", unit="window"):
            classes = classify(source.read(1, window=window), table, product, f"rows from {window.row_off}")
            part = _percent(classes, factor)
            row, col = window.row_off // factor, window.col_off // factor
            percent[row : row + part.shape[0], col : col + part.shape[1]] = part
    if (percent == NODATA).all():
        raise DataError(
            f"product {product} has no valid pixel in the reaches; choose another dataset.prior_density.product"
        )
    cog.write(
        density, percent[None], crs=crs, transform=transform @ Affine.scale(factor), nodata=NODATA, descriptions=["isa"]
    )
    valid = int((percent != NODATA).sum())
    return {"cells": percent.size, "valid": valid, "pixels_per_cell": factor**2, "windows": len(windows)}


def _outline(study_area: Path, crs: str) -> shapely.Geometry:
    reaches = gpd.read_file(study_area, layer="reaches").to_crs(4326)
    union = shapely.segmentize(shapely.union_all(reaches.geometry.values), 0.05)
    outline = shapely.make_valid(reproject(union, "EPSG:4326", crs))
    shapely.prepare(outline)
    return outline


def _windows(source: rasterio.DatasetReader, factor: int, outline: shapely.Geometry) -> Iterator[Window]:
    """Yield the windows of whole cells that intersect the outline, row by row."""
    side = factor * max(1, WINDOW_PX // factor)
    for row in range(0, source.height, side):
        for col in range(0, source.width, side):
            window = Window(col, row, min(side, source.width - col), min(side, source.height - row))
            if shapely.intersects(outline, shapely.box(*source.window_bounds(window))):
                yield window


def _percent(classes: np.ndarray, factor: int) -> np.ndarray:
    """Return the percentage of ISA among the valid pixels, uint8, of cells of factor x factor pixels of 0, 1, 255."""
    starts = [np.arange(0, side, factor) for side in classes.shape]
    isa, valid = (
        np.add.reduceat(np.add.reduceat(plane.astype(np.int32), starts[0], axis=0), starts[1], axis=1)
        for plane in (classes == 1, classes != NODATA)
    )
    # Integers throughout: the same percentage on every machine.
    rounded = (200 * isa + valid) // np.maximum(2 * valid, 1)
    return np.where(2 * valid >= factor**2, rounded, NODATA).astype(np.uint8)


class PriorDensity:
    """Lookup of the prior ISA percentage at points."""

    def __init__(self, path: Path) -> None:
        values, self._transform, crs = raster_io.read(path)
        self._values = values[0]
        self._to_crs = transformer("EPSG:4326", crs)

    def at(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Return the percentage of ISA at points, uint8 [n]; 255 for nodata and outside the raster."""
        x, y = self._to_crs.transform(lon, lat)
        col, row = ~self._transform @ (np.asarray(x), np.asarray(y))
        row, col = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
        rows, cols = self._values.shape
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        out = np.full(len(lon), NODATA, dtype=np.uint8)
        out[inside] = self._values[row[inside], col[inside]]
        return out
