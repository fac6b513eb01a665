"""Areas on a city's maps: of classes in each year, and of what is new or gone between years, by ring and district."""

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

from jointseg.accuracy.block_counts import Block, cell_counts, common_grid, looked_at
from jointseg.accuracy.cluster_estimators import UNKNOWN
from jointseg.runtime.errors import DataError

CELL = 80  # px along the side of the cells that are dealt to rings and districts
AREAS = ("isa_km2", "other_km2", "unknown_km2", "steady_isa_km2")


def ground_areas_km2(paths: Sequence[Path], outline: dict[str, Any], threads: int) -> list[dict[str, float]]:
    """Ground area, km2, inside an outline in each of several years' rasters of one grid.

    For each raster: ISA, other known ground, unknown ground, and "steady" ISA: that on ground known in every raster,
    from which rates are told, so that ground which one year did not see does not count as growth.

    Args:
        paths: rasters of 0/1/255 in a UTM zone.
        outline: GeoJSON geometry, EPSG:4326; pixels whose centre lies outside are not counted.
        threads: blocks that are looked at side by side.
    """
    shape = transform_geom("EPSG:4326", f"EPSG:{common_grid(paths).epsg}", outline)

    def look(block: Block) -> np.ndarray:
        inside = geometry_mask([shape], block.values[0].shape, block.transform, invert=True)
        values = [each[inside] for each in block.values]
        steady = np.logical_and.reduce([each != UNKNOWN for each in values])
        counts = [
            [np.count_nonzero(each == value) for value in (1, 0, UNKNOWN)] + [np.count_nonzero((each == 1) & steady)]
            for each in values
        ]
        return np.array(counts) * block.pixel_km2

    totals = sum(looked_at(paths, look, threads, f"areas of {paths[0].stem}"))
    return [dict(zip(AREAS, row)) for row in np.asarray(totals).tolist()]


@dataclass(frozen=True)
class Changes:
    """What the maps say became or ceased to be ISA, in cells of CELL x CELL pixels.

    Attributes:
        transform: of the cells; their CRS is the maps'.
        epsg: of the maps.
        spans: pairs of years.
        new, gone: km2 by [span, row, column].
        isa: km2 of ISA in the first year, on ground that every year knows [row, column].
        known: km2 that every year knows [row, column].
    """

    transform: Affine
    epsg: int
    spans: list[tuple[int, int]]
    new: np.ndarray
    gone: np.ndarray
    isa: np.ndarray
    known: np.ndarray


def spans(years: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring years, and the first with the last where there are more than two."""
    pairs = list(pairwise(years))
    return [*pairs, (years[0], years[-1])] if len(years) > 2 else pairs


def changes(mosaics: Sequence[Path], years: Sequence[int], threads: int) -> Changes:
    """Compares a city's maps, one a year in the order of `years`, on ground that every year knows."""
    place, pairs = common_grid(mosaics), spans(years)
    rows, cols = (-(-side // CELL) for side in place.shape)
    planes = np.zeros((2 * len(pairs) + 2, rows, cols))

    def look(block: Block) -> tuple[Block, np.ndarray]:
        known = np.logical_and.reduce([values != UNKNOWN for values in block.values])
        isa = {year: (values == 1) & known for year, values in zip(years, block.values)}
        found = [isa[last] & ~isa[first] for first, last in pairs] + [isa[first] & ~isa[last] for first, last in pairs]
        return block, np.stack([cell_counts(plane, CELL) for plane in [*found, isa[years[0]], known]]) * block.pixel_km2

    for block, found in looked_at(mosaics, look, threads, f"changes of {mosaics[0].stem}"):
        top, left = block.row // CELL, block.col // CELL
        planes[:, top : top + found.shape[1], left : left + found.shape[2]] = found
    new, gone = planes[: len(pairs)], planes[len(pairs) : 2 * len(pairs)]
    return Changes(place.transform @ Affine.scale(CELL), place.epsg, pairs, new, gone, planes[-2], planes[-1])


def by_zone(found: Changes, ring_km: float, districts: Path | None) -> pd.DataFrame:
    """Known ground, ISA in the first year, new and gone ISA, km2, a row by span and ring, and by span and district.

    Rings of `ring_km` lie around the centre of gravity of the first year's ISA. A cell belongs to the district that holds
    its centre.

    Args:
        districts: polygons with a column `name`; None for rings alone.
    """
    rows, cols = np.indices(found.known.shape)
    x, y = found.transform @ np.array([cols.ravel() + 0.5, rows.ravel() + 0.5])
    weight = found.isa.ravel() if found.isa.sum() > 0 else found.known.ravel()
    away_km = np.hypot(x - np.average(x, weights=weight), y - np.average(y, weights=weight)) / 1000
    ring = np.floor(away_km / ring_km).astype(int)
    zones = {f"{place * ring_km:g}-{(place + 1) * ring_km:g} km": ring == place for place in range(ring.max() + 1)}
    parts = [("ring", name, inside) for name, inside in zones.items()]
    if districts is not None:
        parts += [("district", name, inside) for name, inside in _districts(districts, found.epsg, x, y).items()]
    table = []
    for kind, name, inside in parts:
        known = found.known.ravel()[inside].sum()
        if known == 0:
            continue
        for place, (first, last) in enumerate(found.spans):
            row = {"zone": kind, "name": name, "first": first, "last": last, "known_km2": known}
            row |= {"isa_km2": found.isa.ravel()[inside].sum()}
            row |= {
                "new_km2": found.new[place].ravel()[inside].sum(),
                "gone_km2": found.gone[place].ravel()[inside].sum(),
            }
            table.append(row)
    return pd.DataFrame(table)


def _districts(path: Path, epsg: int, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    frame = gpd.read_file(path)
    if "name" not in frame:
        raise DataError(f"{path} has columns {list(frame.columns)}; districts need one called 'name'")
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y, crs=f"EPSG:{epsg}"))
    joined = points.sjoin(frame[["name", "geometry"]].to_crs(epsg), predicate="within")
    joined = joined[~joined.index.duplicated()]
    names = joined["name"].reindex(points.index)
    return {str(name): (names == name).to_numpy() for name in sorted(set(joined["name"]))}
