"""Extents of chips and zones of tiles, without the networks' imports."""

from pathlib import Path
from typing import Any

import numpy as np

from jointseg.area import grid
from jointseg.inference.lattice import LR_M


def group_by_zone(tiles: list[Path]) -> dict[int, list[Path]]:
    """Group rasters with tile names by the EPSG code of their zone."""
    zones: dict[int, list[Path]] = {}
    for path in tiles:
        zones.setdefault(grid.parse_tile(path.stem, 1).epsg, []).append(path)
    return zones


def chip_bounds(chip: Any) -> tuple[int, int, int, int]:
    """Return (minx, miny, maxx, maxy) of a chip in its zone; its side is that of its outline, rounded to 10 m."""
    to_utm = grid.transformer("EPSG:4326", f"EPSG:{chip.epsg}")
    x, _ = to_utm.transform(*np.array(chip.geometry.exterior.coords)[:, :2].T)
    side = round((max(x) - chip.minx) / LR_M) * LR_M
    return int(chip.minx), int(chip.miny), int(chip.minx) + side, int(chip.miny) + side
