"""Step `density`: the share of ISA by a prior product, on cells about as wide as a chip."""

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
# Pixels on a side of the pieces that are read: bounds memory at some 100 MB.
PIECE_PX = 4096


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
    """Writes the share of ISA in percent (uint8, 255 unknown) on cells of whole product pixels, about `chip_m` wide.

    A cell is unknown when more than half of it is, or when no reach comes near it.

    Args:
        study_area: its reaches say what is read.
        mosaics: the product's mosaic, in one CRS.
        files: the folder of all products, into which the mosaic points.
        density: the GeoTIFF to make, in the product's CRS.
        product: name of the product.
        entry: its entry of the products table.
        year: the year of the product that is taken.
        chip_m: side of a chip.

    Raises DataError for a code that the entry does not list, when no pixel of the product lies on the reaches, and when its
    files are in several CRSs.
    """
    vrts = sorted(mosaics.glob("*.vrt"))
    if len(vrts) != 1:
        raise DataError(
            f"product {product} has files in {len(vrts)} CRSs ({', '.join(vrt.stem for vrt in vrts)}), but a prior density is "
            "told on one grid; take another dataset.density.product"
        )
    table = class_table(product, entry, year)
    factor = max(1, round(chip_m / entry["resolution_m"]))
    with raster_io.open_raster(vrts[0]) as source:
        crs, transform = source.crs.to_string(), source.transform
        outline = _outline(study_area, crs)
        rows, cols = math.ceil(source.height / factor), math.ceil(source.width / factor)
        percent = np.full((rows, cols), NODATA, dtype=np.uint8)
        pieces = list(_pieces(source, factor, outline))
        for window in track(pieces, f"prior share of ISA by {product}", unit="piece"):
            kinds = classify(source.read(1, window=window), table, product, f"rows from {window.row_off}")
            part = _percent(kinds, factor)
            row, col = window.row_off // factor, window.col_off // factor
            percent[row : row + part.shape[0], col : col + part.shape[1]] = part
    if (percent == NODATA).all():
        raise DataError(f"product {product} shows nothing of the reaches; take another dataset.density.product")
    cog.write(
        density,
        percent[None],
        crs=crs,
        transform=transform @ Affine.scale(factor),
        nodata=NODATA,
        descriptions=["isa"],
    )
    known = int((percent != NODATA).sum())
    return {"cells": percent.size, "known": known, "pixels_a_cell": factor**2, "pieces": len(pieces)}


def _outline(study_area: Path, crs: str) -> shapely.Geometry:
    reaches = gpd.read_file(study_area, layer="reaches").to_crs(4326)
    whole = shapely.segmentize(shapely.union_all(reaches.geometry.values), 0.05)
    here = shapely.make_valid(reproject(whole, "EPSG:4326", crs))
    shapely.prepare(here)
    return here


def _pieces(source: rasterio.DatasetReader, factor: int, outline: shapely.Geometry) -> Iterator[Window]:
    """Windows of whole cells that reach into the outline, row band by row band."""
    side = factor * max(1, PIECE_PX // factor)
    for row in range(0, source.height, side):
        for col in range(0, source.width, side):
            window = Window(col, row, min(side, source.width - col), min(side, source.height - row))
            if shapely.intersects(outline, shapely.box(*source.window_bounds(window))):
                yield window


def _percent(kinds: np.ndarray, factor: int) -> np.ndarray:
    """Percent of ISA among the known pixels, uint8, of cells of factor x factor pixels of 0, 1, 255."""
    starts = [np.arange(0, side, factor) for side in kinds.shape]
    isa, known = (
        np.add.reduceat(np.add.reduceat(plane.astype(np.int32), starts[0], axis=0), starts[1], axis=1)
        for plane in (kinds == 1, kinds != NODATA)
    )
    # Whole numbers throughout: the same percent on every machine.
    share = (200 * isa + known) // np.maximum(2 * known, 1)
    return np.where(2 * known >= factor**2, share, NODATA).astype(np.uint8)


class PriorDensity:
    """Looks up the prior share of ISA."""

    def __init__(self, path: Path) -> None:
        values, self._transform, crs = raster_io.read(path)
        self._values = values[0]
        self._to = transformer("EPSG:4326", crs)

    def at(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Percent of ISA at points, uint8 [n]; 255 where it is unknown."""
        x, y = self._to.transform(lon, lat)
        col, row = ~self._transform @ (np.asarray(x), np.asarray(y))
        row, col = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
        rows, cols = self._values.shape
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        out = np.full(len(lon), NODATA, dtype=np.uint8)
        out[inside] = self._values[row[inside], col[inside]]
        return out
