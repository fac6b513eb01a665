"""Phase 1 of the sample: one candidate in each cell of a randomly placed lattice.

Every 10 m position of a zone is a candidate with probability exactly 100 m2 / pitch2: the lattice's origin is uniform
over the pitch x pitch positions, and the jitter in a cell is uniform over its window. Candidates of one zone are at least
the gap apart along an axis. At the border of two zones, a random draw decides which zone keeps its candidates; the other
drops those close to the border. Positions close to the border, on either side, therefore have half the probability.
"""

import math
from dataclasses import dataclass

import numpy as np
from pyproj import Geod

from jointseg.area import grid
from jointseg.dataset.sampling_area import STEP_M, Positions, SamplingArea, concatenate

# Ten Sentinel-2 pixels: chips in different splits share no pixel, even through the sensor's point spread function and
# the resampling of the composite.
CHIP_GAP_M = 100
# Upper bound of UTM scale within a zone's own strip (0.098 %): a distance in grid metres times this is at least as long
# on the ground.
MAX_SCALE = 1.001
# Stream numbers: a generator's seed is (seed, stream, zone).
ORIGIN_STREAM, COIN_STREAM = 1, 2
_GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Lattice:
    """Cells of `pitch_m` with one candidate each, in a window of `window_m` (metres, multiples of 10)."""

    gap_m: int
    window_m: int

    @property
    def pitch_m(self) -> int:
        # The last position of a window and the first of the next are the gap apart.
        return self.gap_m + self.window_m - STEP_M


def gap_m(spacing_m: float, chip_m: int) -> int:
    """Return the gap between candidates along an axis, grid metres: the spacing, and 100 m between chip squares."""
    return math.ceil(max(spacing_m * MAX_SCALE, chip_m + CHIP_GAP_M) / STEP_M) * STEP_M


def border_width_m(spacing_m: float, chip_m: int) -> float:
    """Return the distance to a zone border, ground metres, within which one zone drops its candidates.

    The lattices of two zones are rotated against each other, so the half diagonals of the squares separate them.
    """
    return max(spacing_m, chip_m * math.sqrt(2) + CHIP_GAP_M) * MAX_SCALE


def lattice_candidates(
    lattice: Lattice, seed: int, zone: int, extent: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return eastings and northings, int64, of one candidate in every cell that intersects an extent."""
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
    """Return, for each pair of neighbouring zones (western, eastern), the zone that keeps its border candidates."""
    pairs = [(zone, zone % 60 + 1) for zone in zones if zone % 60 + 1 in zones]
    return {pair: pair[int(np.random.default_rng([seed, COIN_STREAM, pair[0]]).integers(2))] for pair in pairs}


def near_border(border: tuple[int, int], lon: np.ndarray, lat: np.ndarray, within_m: float) -> np.ndarray:
    """Return bool [n]: points within a ground distance, m, of the border between two zones."""
    meridian = border[0] * 6 - 180
    *_, distance = _GEOD.inv(lon, lat, np.full(len(lon), meridian), lat)
    return distance < within_m


def draw_candidates(area: SamplingArea, lattice: Lattice, within_m: float, seed: int) -> tuple[Positions, np.ndarray]:
    """Return the candidates of all zones, and per candidate its probability factor (1/2 close to a border, else 1)."""
    parts, factors = [], []
    retained_by = retaining_zones(area.zones, seed)
    for zone in area.zones:
        part = area.locate(zone, *lattice_candidates(lattice, seed, zone, area.extent(zone)))
        keep, factor = np.ones(len(part), dtype=bool), np.ones(len(part))
        for border, retaining_zone in retained_by.items():
            if zone in border:
                near = near_border(border, part.lon, part.lat, within_m)
                factor[near] = 0.5
                keep &= ~near | (retaining_zone == zone)
        parts.append(part[keep])
        factors.append(factor[keep])
    return concatenate(parts), np.concatenate(factors)


def regular_positions(area: SamplingArea, number: int) -> tuple[Positions, np.ndarray]:
    """Return about `number` positions on a regular lattice and the area each represents, m2; independent of the seed."""
    extents = {zone: area.extent(zone) for zone in area.zones}
    total_m2 = sum((east - west) * (north - south) for west, south, east, north in extents.values())
    pitch = max(1, math.isqrt(total_m2 // number) // STEP_M) * STEP_M
    parts = []
    for zone, (west, south, east, north) in extents.items():
        x, y = np.meshgrid(np.arange(west, east, pitch), np.arange(south, north, pitch))
        parts.append(area.locate(zone, x.ravel().astype(np.int64), y.ravel().astype(np.int64)))
    positions = concatenate(parts)
    area_m2 = np.empty(len(positions))
    for epsg in np.unique(positions.epsg):
        in_zone = positions.epsg == epsg
        area_m2[in_zone] = pitch**2 / grid.area_scale(int(epsg), positions.x[in_zone], positions.y[in_zone])
    return positions, area_m2
