"""The population of the sample: chip centres in a reach whose squares lie in the reach's tiles."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from jointseg.area import grid
from jointseg.dataset.prior_density import PriorDensity

STEP_M = 10
# Northings of the southern hemisphere start here at the equator; without it both hemispheres share one lattice.
FALSE_NORTHING_M = 10_000_000
# As in `grid.owned`, so that neighbouring zones agree on their common border.
_EDGE_DEG = 1e-9


@dataclass(frozen=True)
class Positions:
    """Chip centres of the population, arrays [n]."""

    epsg: np.ndarray
    # x, y: metres in the zone
    x: np.ndarray
    y: np.ndarray
    # lon, lat: degrees
    lon: np.ndarray
    lat: np.ndarray
    reach: np.ndarray  # index into `SamplingArea.names`
    percent: np.ndarray  # prior ISA, 0..100, 255 nodata

    def __getitem__(self, rows: np.ndarray) -> "Positions":
        return Positions(**{name: values[rows] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.epsg)


def concatenate(parts: Iterable[Positions]) -> Positions:
    """Concatenate positions; at least one part is required."""
    columns = [vars(part) for part in parts]
    return Positions(**{name: np.concatenate([column[name] for column in columns]) for name in columns[0]})


class SamplingArea:
    """The positions where a chip's centre lies in a reach and its square in the tiles of that reach.

    Args:
        polygons: outline of each reach, EPSG:4326; where they overlap, the first in alphabetical order counts.
        tiles: the tiles, with `tile`, `epsg` and `reaches`.
        chip_m: side of a chip, a multiple of 20.
        density: prior ISA fraction, or None.
    """

    def __init__(
        self,
        polygons: Mapping[str, shapely.Geometry],
        tiles: gpd.GeoDataFrame,
        tile_km: int,
        chip_m: int,
        density: PriorDensity | None,
    ) -> None:
        self.names = sorted(polygons)
        self._polygons = [polygons[name] for name in self.names]
        shapely.prepare(np.array(self._polygons))
        self._density, self._tile_m, self._chip_m = density, tile_km * 1000, chip_m
        self._tiles: dict[int, list[np.ndarray]] = {}  # per zone and reach, the cells of its tiles
        self._extents: dict[int, tuple[int, int, int, int]] = {}
        for epsg, rows in tiles.groupby("epsg", sort=True):
            squares = [grid.parse_tile(str(tile), tile_km) for tile in rows["tile"]]
            corner = np.array([square.bounds[:2] for square in squares])
            cells = _cell(corner[:, 0], corner[:, 1], self._tile_m)
            reaches = [_names(value) for value in rows["reaches"]]
            self._tiles[int(epsg)] = [np.sort(cells[[name in listed for listed in reaches]]) for name in self.names]
            self._extents[int(epsg)] = (*corner.min(axis=0), *(corner.max(axis=0) + self._tile_m))

    @property
    def zones(self) -> list[int]:
        """Numbers of the UTM zones with tiles."""
        return sorted({epsg % 100 for epsg in self._tiles})

    def extent(self, zone: int) -> tuple[int, int, int, int]:
        """Return (west, south, east, north) of a zone's tiles; northings are negative in the south."""
        extents = [
            (west, south - _false_northing(epsg), east, north - _false_northing(epsg))
            for epsg, (west, south, east, north) in self._extents.items()
            if epsg % 100 == zone
        ]
        west, south, east, north = zip(*extents)
        return min(west), min(south), max(east), max(north)

    def locate(self, zone: int, x: np.ndarray, y: np.ndarray) -> Positions:
        """Return the positions of the population at int64 [n] eastings and northings; northings are negative in the
        south.
        """
        parts = []
        for epsg in (epsg for epsg in sorted(self._tiles) if epsg % 100 == zone):
            in_hemisphere = (y < 0) if _false_northing(epsg) else (y >= 0)
            parts.append(self._of_hemisphere(epsg, x[in_hemisphere], y[in_hemisphere] + _false_northing(epsg)))
        return concatenate(parts)

    def _of_hemisphere(self, epsg: int, x: np.ndarray, y: np.ndarray) -> Positions:
        covered = np.stack([self._covers_chip(cells, x, y) for cells in self._tiles[epsg]])
        in_tiles = covered.any(axis=0)
        x, y, covered = x[in_tiles], y[in_tiles], covered[:, in_tiles]
        lon, lat = grid.transformer(f"EPSG:{epsg}", "EPSG:4326").transform(x, y)
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        west = (epsg % 100 - 1) * 6 - 180
        free = (lon >= west - _EDGE_DEG) & (lon < west + 6 - _EDGE_DEG)
        reach = np.full(len(x), -1, dtype=np.int16)
        for number, polygon in enumerate(self._polygons):
            possible = np.flatnonzero(free & covered[number])
            inside = possible[shapely.intersects_xy(polygon, lon[possible], lat[possible])]
            reach[inside] = number
            free[inside] = False
        percent = np.zeros(len(x), dtype=np.uint8) if self._density is None else self._density.at(lon, lat)
        positions = Positions(np.full(len(x), epsg, dtype=np.int32), x, y, lon, lat, reach, percent)
        return positions[reach >= 0]

    def _covers_chip(self, cells: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return bool [n]: whether the union of tiles covers the square of a chip."""
        offsets = [*range(0, self._chip_m, self._tile_m), self._chip_m - STEP_M]
        covered = np.ones(len(x), dtype=bool)
        for east in offsets:
            for north in offsets:
                cell = _cell(x - self._chip_m // 2 + east, y - self._chip_m // 2 + north, self._tile_m)
                covered &= np.isin(cell, cells)
        return covered


def _cell(x: np.ndarray, y: np.ndarray, side_m: int) -> np.ndarray:
    """Return a unique number for each square of a zone's tile grid."""
    return (x // side_m) * 1_000_000 + y // side_m


def _false_northing(epsg: int) -> int:
    return FALSE_NORTHING_M if epsg >= 32700 else 0


def _names(value: Any) -> list[str]:
    """Return the names of a list property, which some drivers return as text."""
    if isinstance(value, str):
        return [part.strip(" \"'") for part in value.strip("[]").split(",")]
    return list(value)
