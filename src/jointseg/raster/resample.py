"""Rasters read otherwise than pixel by pixel: on another grid, or joined at a coarser resolution for pictures."""

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
    how: Resampling,
    nodata: float,
    dtype: str,
    tolerance_px: float = 0.125,
) -> np.ndarray:
    """The first band of a raster in any CRS on a grid, [rows, columns]; `nodata` where it has or knows nothing.

    Args:
        path: the raster; where it declares no nodata of its own, its pixels of the value `nodata` are none.
        crs, transform, shape: of the grid.
        how: resampling.
        nodata, dtype: of the result.
        tolerance_px: how far, in the raster's pixels, the place may err for the sake of speed; above 0.

    Raises DataError naming the file when it cannot be read or has no place.
    """
    with raster_io.open_raster(path) as source:
        if source.crs is None:
            raise DataError(f"{path} names no CRS, so nobody knows where it lies; give a georeferenced raster")
        own = source.nodata if source.nodata is not None else nodata
        grid = {"crs": crs, "transform": transform, "width": shape[1], "height": shape[0]}
        values = {"resampling": how, "src_nodata": own, "nodata": nodata, "dtype": dtype}
        try:
            with WarpedVRT(source, **grid, **values, tolerance=tolerance_px) as warped:
                return warped.read(1)
        except RasterioError as error:
            raise DataError(f"{path} cannot be brought to {crs} ({error}); restore or delete it") from error


def read_mosaic(
    paths: Sequence[Path],
    bounds: raster_io.Bounds,
    shape: tuple[int, int],
    bands: Sequence[int],
    fill: int,
    how: Resampling,
    dtype: str,
) -> np.ndarray:
    """What rasters of one CRS hold within bounds, [bands, rows, columns]; `fill` where none lies.

    Args:
        paths: rasters; where they overlap the last one is seen.
        bounds: (west, south, east, north) in their CRS.
        shape: (rows, columns) to read them at.
        bands: counted from 1.
        fill: what is put where no raster lies.
        how: resampling.
        dtype: of the result.
    """
    west, south, east, north = bounds
    across, down = (east - west) / shape[1], (north - south) / shape[0]
    out = np.full((len(bands), *shape), fill, dtype=dtype)
    for path in paths:
        with raster_io.open_raster(path) as source:
            box = source.bounds
            left, right = (round((max(min(x, east), west) - west) / across) for x in (box.left, box.right))
            top, bottom = (round((north - max(min(y, north), south)) / down) for y in (box.top, box.bottom))
            if right <= left or bottom <= top:
                continue
            # The part of the raster that falls on whole pixels of the picture, cut at its own edges.
            part = (west + left * across, north - bottom * down, west + right * across, north - top * down)
            inside = (max(part[0], box.left), max(part[1], box.bottom), min(part[2], box.right), min(part[3], box.top))
            window = from_bounds(*inside, transform=source.transform)
            size = (len(bands), bottom - top, right - left)
            out[:, top:bottom, left:right] = source.read(list(bands), window=window, out_shape=size, resampling=how)
    return out
