"""Resampled reading of rasters: warped to another grid, or several rasters at a lower resolution for display."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import from_bounds

from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError


def warp_to_grid(
    path: Path,
    crs: str,
    transform: Affine,
    shape: tuple[int, int],
    resampling: Resampling,
    nodata: float,
    dtype: str,
    tolerance_px: float = 0.125,
) -> np.ndarray:
    """Return the first band of a raster in any CRS, warped to a grid; `nodata` where the raster has no valid pixel.

    Raises DataError if the raster cannot be read or is not georeferenced.

    Args:
        path: the raster; `nodata` is its nodata value too if it declares none.
        crs, transform, shape: of the grid.
        nodata, dtype: of the result.
        tolerance_px: largest error of the approximated coordinates, in pixels of the raster; above 0.
    """
    with raster_io.open_raster(path) as source:
        if source.crs is None:
            raise DataError(f"{path} has no CRS; use a georeferenced raster")
        source_nodata = source.nodata if source.nodata is not None else nodata
        grid = {"crs": crs, "transform": transform, "width": shape[1], "height": shape[0]}
        values = {"resampling": resampling, "src_nodata": source_nodata, "nodata": nodata, "dtype": dtype}
        try:
            with WarpedVRT(source, **grid, **values, tolerance=tolerance_px) as warped:
                return warped.read(1)
        except RasterioError as error:
            raise DataError(f"{path} cannot be warped to {crs} ({error}); restore or delete it") from error


def read_mosaic(
    paths: Sequence[Path],
    bounds: raster_io.Bounds,
    shape: tuple[int, int],
    bands: Sequence[int],
    fill: int,
    resampling: Resampling,
    dtype: str,
) -> np.ndarray:
    """Return [bands, rows, columns] of rasters of one CRS within bounds, at the resolution of `shape`.

    Args:
        paths: rasters; where they overlap, the last one is used.
        bands: numbers from 1.
        fill: value of pixels outside all rasters.
    """
    west, south, east, north = bounds
    pixel_x, pixel_y = (east - west) / shape[1], (north - south) / shape[0]
    out = np.full((len(bands), *shape), fill, dtype=dtype)
    for path in paths:
        with raster_io.open_raster(path) as source:
            box = source.bounds
            left, right = (round((max(min(x, east), west) - west) / pixel_x) for x in (box.left, box.right))
            top, bottom = (round((north - max(min(y, north), south)) / pixel_y) for y in (box.top, box.bottom))
            if right <= left or bottom <= top:
                continue
            # The extent of the whole pixels of the result that the raster covers, clipped to the raster.
            part = (west + left * pixel_x, north - bottom * pixel_y, west + right * pixel_x, north - top * pixel_y)
            clipped = (max(part[0], box.left), max(part[1], box.bottom), min(part[2], box.right), min(part[3], box.top))
            window = from_bounds(*clipped, transform=source.transform)
            size = (len(bands), bottom - top, right - left)
            out[:, top:bottom, left:right] = source.read(
                list(bands), window=window, out_shape=size, resampling=resampling
            )
    return out
