"""Rasters of one CRS joined and read at a coarser resolution, for pictures; overviews make it quick."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import from_bounds

from jointseg import raster


def joined(
    paths: Sequence[Path],
    bounds: raster.Bounds,
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
        with raster.opened(path) as source:
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
