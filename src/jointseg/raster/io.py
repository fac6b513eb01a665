"""Reading of rasters, whole or by bounds on their pixel lattice, with errors that name the file."""

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

Bounds = tuple[float, float, float, float]  # min x, min y, max x, max y
_CACHE_MB = 32


@contextmanager
def limit_block_cache() -> Iterator[None]:
    """Limit GDAL's block cache, by default 5 % of the machine's memory, to 32 MB.

    The limit has an effect only if it is set before the process reads its first block.
    """
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        yield


@contextmanager
def open_raster(path: Path | str) -> Iterator[rasterio.DatasetReader]:
    """Open a raster for reading. Raises DataError that names the file if it, or one of its blocks, cannot be read."""
    try:
        with rasterio.open(object_store.gdal_path(path)) as source:
            yield source
    except RasterioError as error:
        cause = error.__cause__ or error
        raise DataError(f"{path} cannot be read as a raster ({cause}); restore or delete the file and rerun") from error


def window_from_bounds(transform: Affine, bounds: Bounds) -> tuple[int, int, int, int]:
    """Return (row, column, rows, columns) of bounds that coincide with pixel edges of a north-up lattice.

    Raises DataError if they do not coincide.
    """
    min_x, min_y, max_x, max_y = bounds
    edges = [
        (transform.f - max_y) / -transform.e,
        (min_x - transform.c) / transform.a,
        (max_y - min_y) / -transform.e,
        (max_x - min_x) / transform.a,
    ]
    row, col, rows, cols = (round(edge) for edge in edges)
    if any(abs(edge - pixel) > 1e-6 for edge, pixel in zip(edges, (row, col, rows, cols))):
        raise DataError(
            f"bounds {bounds} are not on the {transform.a:g} m lattice with origin ({transform.c:g}, {transform.f:g}); "
            "expected edges of whole pixels"
        )
    return row, col, rows, cols


def read(
    path: Path, bounds: Bounds | None = None, bands: Sequence[int] | None = None
) -> tuple[np.ndarray, Affine, str]:
    """Read a raster, or bounds on its lattice.

    Args:
        bounds: in its CRS; None for the whole raster.
        bands: numbers from 1; None for all.

    Returns:
        [bands, rows, columns], its transform and the CRS. Pixels outside the raster are nodata (0 if none is declared).
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
