"""Rasters opened for reading: whole, by bounds on their lattice, with errors that name the file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from jointseg.runtime import object_store
from jointseg.runtime.errors import DataError

Bounds = tuple[float, float, float, float]
_CACHE_MB = 32


@contextmanager
def limit_block_cache() -> Iterator[None]:
    """GDAL keeps few blocks that it has read; by default they may fill a twentieth of the machine's memory.

    It has an effect only before a process reads its first block.
    """
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        yield


@contextmanager
def open_raster(path: Path | str) -> Iterator[rasterio.DatasetReader]:
    """An open raster; DataError naming the file when it, or a block of it, cannot be read."""
    try:
        with rasterio.open(object_store.gdal_path(path)) as source:
            yield source
    except RasterioError as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{path} cannot be read as a raster ({cause}); restore or delete the file and run again"
        ) from error


def window_from_bounds(transform: Affine, bounds: Bounds) -> tuple[int, int, int, int]:
    """(row, column, rows, columns) of bounds that lie on whole pixels of a north-up lattice.

    Raises DataError when they do not.
    """
    min_x, min_y, max_x, max_y = bounds
    edges = [
        (transform.f - max_y) / -transform.e,
        (min_x - transform.c) / transform.a,
        (max_y - min_y) / -transform.e,
        (max_x - min_x) / transform.a,
    ]
    whole = [round(edge) for edge in edges]
    if any(abs(edge - near) > 1e-6 for edge, near in zip(edges, whole)):
        raise DataError(
            f"bounds {bounds} do not lie on the {transform.a:g} m lattice with origin ({transform.c:g}, {transform.f:g})"
        )
    return whole[0], whole[1], whole[2], whole[3]


def read(
    path: Path, bounds: Bounds | None = None, bands: Sequence[int] | None = None
) -> tuple[np.ndarray, Affine, str]:
    """([bands, rows, columns], transform, CRS) of a raster or of bounds on its lattice.

    What lies outside the raster is its nodata (0 where it declares none). Bands count from 1.
    """
    with open_raster(path) as source:
        crs = source.crs.to_string()
        bands = list(bands) if bands else list(source.indexes)
        if bounds is None:
            return source.read(bands), source.transform, crs
        row, col, rows, cols = window_from_bounds(source.transform, bounds)
        fill = 0 if source.nodata is None else source.nodata
        window = Window(col, row, cols, rows)
        array = source.read(bands, window=window, boundless=True, fill_value=fill)
        return array, source.transform @ Affine.translation(col, row), crs
