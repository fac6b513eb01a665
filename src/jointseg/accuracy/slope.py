"""Slope classes of a chip from a digital elevation model."""

from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.enums import Resampling

from jointseg.raster.resample import warp_to_grid

CELL_M = 30  # resolution of the elevation models; a finer grid adds no information
CLASSES = {"slope below 5°": (0.0, 5.0), "slope 5 to 15°": (5.0, 15.0), "slope from 15°": (15.0, 90.1)}
STEEP = "slope from 15°"


def slope_zones(dem: Path, crs: str, transform: Affine, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return masks [h, w] of a grid of 1 m pixels by the names of CLASSES; nodata of the model is in none of them.

    Slopes are computed from elevation in metres, in any CRS, after Horn (1981, Proceedings of the IEEE 69, 14-47), on
    cells of CELL_M metres.
    """
    rows, cols = (-(-side // CELL_M) + 2 for side in shape)
    cells = transform @ Affine.translation(-CELL_M, -CELL_M) @ Affine.scale(CELL_M)
    degrees = horn_degrees(warp_to_grid(dem, crs, cells, (rows, cols), Resampling.cubic, np.nan, "float32"), CELL_M)
    row, col = (np.arange(side) // CELL_M for side in shape)
    fine = degrees[np.ix_(row, col)]
    return {name: (fine >= lower) & (fine < upper) for name, (lower, upper) in CLASSES.items()}


def horn_degrees(elevation: np.ndarray, cell_m: float) -> np.ndarray:
    """Return the slope in degrees of the inner cells, float [rows - 2, columns - 2], of elevation in metres [rows, columns]."""
    z = elevation.astype(float)
    west, middle, east = z[:, :-2], z[:, 1:-1], z[:, 2:]
    across = (east - west)[:-2] + 2 * (east - west)[1:-1] + (east - west)[2:]
    along = (west + 2 * middle + east)[2:] - (west + 2 * middle + east)[:-2]
    return np.degrees(np.arctan(np.hypot(across, along) / (8 * cell_m)))
