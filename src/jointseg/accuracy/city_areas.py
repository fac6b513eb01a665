"""Areas on a city's maps: classes in each year, and ISA gain and loss between years by ring and district."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from jointseg.accuracy.block_counts import Block, cell_counts, common_grid, map_blocks
from jointseg.accuracy.cluster_estimators import NODATA
from jointseg.runtime.errors import DataError

CELL_PX = 80  # px, side of the cells that are assigned to rings and districts
AREAS = ("isa_km2", "non_isa_km2", "nodata_km2", "common_isa_km2")


def areas_km2(paths: Sequence[Path], outline: dict[str, Any], threads: int) -> list[dict[str, float]]:
    """Return the areas, km2, inside an outline on each of several aligned rasters of 0/1/255.

    For each raster: ISA, non-ISA, nodata, and "common" ISA: ISA on the area that is valid on all rasters. Growth rates
    use the common area, so that nodata in one year does not count as change. The outline is a GeoJSON geometry,
    EPSG:4326; only pixels with their centre inside are counted.
    """
    shape = transform_geom("EPSG:4326", f"EPSG:{common_grid(paths).epsg}", outline)

    def count(block: Block) -> np.ndarray:
        inside = geometry_mask([shape], block.values[0].shape, block.transform, invert=True)
        values = [each[inside] for each in block.values]
        common = np.logical_and.reduce([each != NODATA for each in values])
        counts = [
            [np.count_nonzero(each == value) for value in (1, 0, NODATA)] + [np.count_nonzero((each == 1) & common)]
            for each in values
        ]
        return np.array(counts) * block.pixel_km2

    totals = sum(map_blocks(paths, count, threads, f"areas of {paths[0].stem}"))
    return [dict(zip(AREAS, row)) for row in np.asarray(totals).tolist()]


@dataclass(frozen=True)
class MapChanges:
    """Mapped ISA gain and loss in cells of CELL_PX x CELL_PX pixels, on the area that is valid in all years."""

    transform: Affine  # of the cells, in the maps' CRS
    epsg: int
    year_pairs: list[tuple[int, int]]
    # gain, loss: km2 by [pair, row, column]
    gain: np.ndarray
    loss: np.ndarray
    isa: np.ndarray  # km2 of ISA in the first year [row, column]
    valid: np.ndarray  # km2 valid in all years [row, column]


def year_pairs(years: Sequence[int]) -> list[tuple[int, int]]:
    """Return consecutive years as pairs, and the first with the last year if there are more than two."""
    pairs = list(pairwise(years))
    return [*pairs, (years[0], years[-1])] if len(years) > 2 else pairs


def map_changes(mosaics: Sequence[Path], years: Sequence[int], threads: int) -> MapChanges:
    """Compare a city's maps, one per year in the order of `years`, on the area that is valid in all years."""
    grid, pairs = common_grid(mosaics), year_pairs(years)
    rows, cols = (-(-side // CELL_PX) for side in grid.shape)
    planes = np.zeros((2 * len(pairs) + 2, rows, cols))

    def count(block: Block) -> tuple[Block, np.ndarray]:
        valid = np.logical_and.reduce([values != NODATA for values in block.values])
        isa = {year: (values == 1) & valid for year, values in zip(years, block.values)}
        gain = [isa[last] & ~isa[first] for first, last in pairs]
        loss = [isa[first] & ~isa[last] for first, last in pairs]
        masks = [*gain, *loss, isa[years[0]], valid]
        return block, np.stack([cell_counts(mask, CELL_PX) for mask in masks]) * block.pixel_km2

    for block, areas in map_blocks(mosaics, count, threads, f"changes of {mosaics[0].stem}"):
        top, left = block.row // CELL_PX, block.col // CELL_PX
        planes[:, top : top + areas.shape[1], left : left + areas.shape[2]] = areas
    gain, loss = planes[: len(pairs)], planes[len(pairs) : 2 * len(pairs)]
    return MapChanges(grid.transform @ Affine.scale(CELL_PX), grid.epsg, pairs, gain, loss, planes[-2], planes[-1])


def changes_by_zone(changes: MapChanges, ring_km: float, districts: Path | None) -> pd.DataFrame:
    """Return valid area, ISA in the first year, gain and loss, km2, one row per pair of years and ring or district.

    Rings of `ring_km` are centred on the centroid of the first year's ISA. A cell belongs to the district, a polygon
    with a `name`, that contains its centre.
    """
    rows, cols = np.indices(changes.valid.shape)
    x, y = changes.transform @ np.array([cols.ravel() + 0.5, rows.ravel() + 0.5])
    weight = changes.isa.ravel() if changes.isa.sum() > 0 else changes.valid.ravel()
    distance_km = np.hypot(x - np.average(x, weights=weight), y - np.average(y, weights=weight)) / 1000
    ring = np.floor(distance_km / ring_km).astype(int)
    zones = [
        ("ring", f"{number * ring_km:g}-{(number + 1) * ring_km:g} km", ring == number)
        for number in range(ring.max() + 1)
    ]
    if districts is not None:
        zones += [("district", name, inside) for name, inside in _districts(districts, changes.epsg, x, y).items()]
    table = []
    for kind, name, inside in zones:
        valid_km2 = changes.valid.ravel()[inside].sum()
        if valid_km2 == 0:
            continue
        for pair, (first, last) in enumerate(changes.year_pairs):
            row = {"zone": kind, "name": name, "first": first, "last": last, "valid_km2": valid_km2}
            for column, plane in (("isa", changes.isa), ("gain", changes.gain[pair]), ("loss", changes.loss[pair])):
                row[f"{column}_km2"] = plane.ravel()[inside].sum()
            table.append(row)
    return pd.DataFrame(table)


def _districts(path: Path, epsg: int, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    frame = gpd.read_file(path)
    if "name" not in frame:
        raise DataError(f"{path} has columns {list(frame.columns)}; districts need a column 'name'")
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y, crs=f"EPSG:{epsg}"))
    joined = points.sjoin(frame[["name", "geometry"]].to_crs(epsg), predicate="within")
    joined = joined[~joined.index.duplicated()]
    names = joined["name"].reindex(points.index)
    return {str(name): (names == name).to_numpy() for name in sorted(set(joined["name"]))}
