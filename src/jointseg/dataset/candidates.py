"""Phase 1 of the sample: one candidate in each cell of a randomly placed lattice, and the ground that it must lie on.

Every 10 m position of a zone is a candidate with probability exactly 100 m2 / pitch2: the lattice's origin is uniform over
the pitch x pitch positions, and the jitter in a cell is uniform over its window. Candidates of a zone are at least the
gap apart along an axis. At the border of two zones one side, by the toss of a coin, keeps its candidates and the other
drops those that lie near the border: positions near it, on either side, have half of the probability.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import Geod

from jointseg.area import grid
from jointseg.dataset.prior_density import PriorDensity

STEP_M = 10
# Ten Sentinel-2 pixels: chips, which may go to different splits, see no pixel of each other even through the sensor's
# blur and the resampling of the composite.
CHIP_GAP_M = 100
# UTM enlarges by at most 0.098 % within a zone's own strip: grid metres that are ground metres with certainty.
MAX_SCALE = 1.001
# Northings of the southern hemisphere start here at the equator; without it both hemispheres share one lattice.
FALSE_NORTHING_M = 10_000_000
# What a generator is for; with the seed and the zone it is its seed.
ORIGIN_STREAM, COIN_STREAM = 1, 2
# As in `grid.owned`: both zones see their border at the same place.
_EDGE_DEG = 1e-9
_GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Lattice:
    """Cells of `pitch_m`, with one candidate each in a window of `window_m` (metres, multiples of 10)."""

    gap_m: int
    window_m: int

    @property
    def pitch_m(self) -> int:
        # The last position of a window and the first of the next are the gap apart.
        return self.gap_m + self.window_m - STEP_M


@dataclass(frozen=True)
class Positions:
    """Chip centres of the population: zone, metres in it, degrees, reach (index), prior share (0..100, 255 unknown)."""

    epsg: np.ndarray
    x: np.ndarray
    y: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    reach: np.ndarray
    percent: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Positions":
        return Positions(**{name: values[rows] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.epsg)


def gap_m(spacing_m: float, chip_m: int) -> int:
    """Gap of candidates along an axis, grid metres: spacing on the ground, and 100 m between the squares of chips."""
    return math.ceil(max(spacing_m * MAX_SCALE, chip_m + CHIP_GAP_M) / STEP_M) * STEP_M


def border_width_m(spacing_m: float, chip_m: int) -> float:
    """How near to a zone's border the losing side drops its candidates, ground metres.

    The lattices of two zones are turned against each other, so the squares are held apart by their half diagonals.
    """
    return max(spacing_m, chip_m * math.sqrt(2) + CHIP_GAP_M) * MAX_SCALE


class SamplingArea:
    """The ground that is sampled: where a chip's centre lies in a reach and its square in the reach's known tiles.

    Args:
        polygons: outline of each reach, EPSG:4326; where they overlap the first counts.
        known: the tiles, with their `tile`, `epsg` and `reaches`.
        tile_km: side of the tiles.
        chip_m: side of a chip, a multiple of 20.
        density: prior share of ISA, or None.
    """

    def __init__(
        self,
        polygons: Mapping[str, shapely.Geometry],
        known: gpd.GeoDataFrame,
        tile_km: int,
        chip_m: int,
        density: PriorDensity | None,
    ) -> None:
        self.names = sorted(polygons)
        self._polygons = [polygons[name] for name in self.names]
        shapely.prepare(np.array(self._polygons))
        self._density, self._side, self._chip = density, tile_km * 1000, chip_m
        self._tiles: dict[int, list[np.ndarray]] = {}  # by zone, for each reach the cells of its tiles
        self._boxes: dict[int, tuple[int, int, int, int]] = {}
        for epsg, rows in known.groupby("epsg", sort=True):
            squares = [grid.parse_tile(str(tile), tile_km) for tile in rows["tile"]]
            corner = np.array([square.bounds[:2] for square in squares])
            cells = _cell(corner[:, 0], corner[:, 1], self._side)
            listed = [_names(value) for value in rows["reaches"]]
            self._tiles[int(epsg)] = [np.sort(cells[[name in mine for mine in listed]]) for name in self.names]
            self._boxes[int(epsg)] = (*corner.min(axis=0), *(corner.max(axis=0) + self._side))

    @property
    def zones(self) -> list[int]:
        """Numbers of the UTM zones with tiles."""
        return sorted({epsg % 100 for epsg in self._tiles})

    def extent(self, zone: int) -> tuple[int, int, int, int]:
        """(west, south, east, north) of a zone's tiles, northings negative in the south."""
        boxes = [
            (west, south - _false(epsg), east, north - _false(epsg))
            for epsg, (west, south, east, north) in self._boxes.items()
            if epsg % 100 == zone
        ]
        west, south, east, north = zip(*boxes)
        return min(west), min(south), max(east), max(north)

    def locate(self, zone: int, x: np.ndarray, y: np.ndarray) -> Positions:
        """Those of the positions that belong to the population.

        Args:
            zone: number of the zone.
            x: eastings, int64 [n].
            y: northings, negative in the south, int64 [n].
        """
        found = []
        for epsg in (epsg for epsg in sorted(self._tiles) if epsg % 100 == zone):
            here = (y < 0) if _false(epsg) else (y >= 0)
            found.append(self._of_hemisphere(epsg, x[here], y[here] + _false(epsg)))
        return concatenate(found)

    def _of_hemisphere(self, epsg: int, x: np.ndarray, y: np.ndarray) -> Positions:
        held = np.stack([self._holds_chip(cells, x, y) for cells in self._tiles[epsg]])
        near = held.any(axis=0)
        x, y, held = x[near], y[near], held[:, near]
        lon, lat = grid.transformer(f"EPSG:{epsg}", "EPSG:4326").transform(x, y)
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        west = (epsg % 100 - 1) * 6 - 180
        free = (lon >= west - _EDGE_DEG) & (lon < west + 6 - _EDGE_DEG)
        reach = np.full(len(x), -1, dtype=np.int16)
        for number, polygon in enumerate(self._polygons):
            maybe = np.flatnonzero(free & held[number])
            inside = maybe[shapely.intersects_xy(polygon, lon[maybe], lat[maybe])]
            reach[inside] = number
            free[inside] = False
        percent = np.zeros(len(x), dtype=np.uint8) if self._density is None else self._density.at(lon, lat)
        whole = Positions(np.full(len(x), epsg, dtype=np.int32), x, y, lon, lat, reach, percent)
        return whole[reach >= 0]

    def _holds_chip(self, cells: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether the square of a chip lies in the union of tiles."""
        ends = [*range(0, self._chip, self._side), self._chip - STEP_M]
        held = np.ones(len(x), dtype=bool)
        for east in ends:
            for north in ends:
                corner = _cell(x - self._chip // 2 + east, y - self._chip // 2 + north, self._side)
                held &= np.isin(corner, cells)
        return held


def concatenate(parts: Iterable[Positions]) -> Positions:
    """Positions one after the other; there must be at least one part."""
    columns = [vars(part) for part in parts]
    return Positions(**{name: np.concatenate([column[name] for column in columns]) for name in columns[0]})


def _cell(x: np.ndarray, y: np.ndarray, side_m: int) -> np.ndarray:
    """A number for each square of a zone's lattice of tiles."""
    return (x // side_m) * 1_000_000 + y // side_m


def _false(epsg: int) -> int:
    return FALSE_NORTHING_M if epsg >= 32700 else 0


def _names(value: Any) -> list[str]:
    """The names of a list property, which some drivers hand over as text."""
    if isinstance(value, str):
        return [part.strip(" \"'") for part in value.strip("[]").split(",")]
    return list(value)


def lattice_candidates(
    lattice: Lattice, seed: int, zone: int, extent: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Eastings and northings, int64, of one candidate in every cell that reaches into an extent."""
    rng = np.random.default_rng([seed, ORIGIN_STREAM, zone])
    pitch = lattice.pitch_m
    east, north = STEP_M * rng.integers(pitch // STEP_M, size=2)
    columns = np.arange((extent[0] - east) // pitch, (extent[2] - east) // pitch + 1)
    rows = np.arange((extent[1] - north) // pitch, (extent[3] - north) // pitch + 1)
    jitter = STEP_M * rng.integers(lattice.window_m // STEP_M, size=(2, len(rows), len(columns)))
    x = east + pitch * columns[None, :] + jitter[0]
    y = north + pitch * rows[:, None] + jitter[1]
    return x.ravel(), y.ravel()


def retaining_zones(zones: list[int], seed: int) -> dict[tuple[int, int], int]:
    """Which of two neighbouring zones (western, eastern) keeps its candidates at their border."""
    pairs = [(zone, zone % 60 + 1) for zone in zones if zone % 60 + 1 in zones]
    return {pair: pair[int(np.random.default_rng([seed, COIN_STREAM, pair[0]]).integers(2))] for pair in pairs}


def near_border(zone: int, border: tuple[int, int], lon: np.ndarray, lat: np.ndarray, within_m: float) -> np.ndarray:
    """Which points of a zone lie within so many ground metres of its border with a neighbour."""
    meridian = border[0] * 6 - 180
    *_, away = _GEOD.inv(lon, lat, np.full(len(lon), meridian), lat)
    return away < within_m


def draw_candidates(ground: SamplingArea, lattice: Lattice, within_m: float, seed: int) -> tuple[Positions, np.ndarray]:
    """The candidates of all zones, and for each the factor of its probability beside a border (1/2, else 1)."""
    found, factors = [], []
    coins = retaining_zones(ground.zones, seed)
    for zone in ground.zones:
        part = ground.locate(zone, *lattice_candidates(lattice, seed, zone, ground.extent(zone)))
        keep, factor = np.ones(len(part), dtype=bool), np.ones(len(part))
        for border, keeper in coins.items():
            if zone in border:
                near = near_border(zone, border, part.lon, part.lat, within_m)
                factor[near] = 0.5
                keep &= ~near | (keeper == zone)
        found.append(part[keep])
        factors.append(factor[keep])
    return concatenate(found), np.concatenate(factors)


def regular_positions(ground: SamplingArea, points: int) -> tuple[Positions, np.ndarray]:
    """About so many positions on a regular lattice, and the ground that each stands for, m2: the same for every seed."""
    boxes = {zone: ground.extent(zone) for zone in ground.zones}
    spanned = sum((east - west) * (north - south) for west, south, east, north in boxes.values())
    pitch = max(1, math.isqrt(spanned // points) // STEP_M) * STEP_M
    found = []
    for zone, (west, south, east, north) in boxes.items():
        x, y = np.meshgrid(np.arange(west, east, pitch), np.arange(south, north, pitch))
        found.append(ground.locate(zone, x.ravel().astype(np.int64), y.ravel().astype(np.int64)))
    whole = concatenate(found)
    area = np.empty(len(whole))
    for epsg in np.unique(whole.epsg):
        here = whole.epsg == epsg
        area[here] = pitch**2 / grid.area_scale(int(epsg), whole.x[here], whole.y[here])
    return whole, area
