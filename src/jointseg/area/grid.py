"""The tile grid: UTM tiles on Sentinel-2's 10 m lattice; 10 x 10 pixels of 1 m nest in each 10 m pixel."""

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import shapely
from affine import Affine
from pyproj import Transformer

from jointseg.runtime.errors import DataError

TILE_ID = re.compile(r"^(?P<zone>\d{2})(?P<hemisphere>[NS])_E(?P<e_km>\d{4})_N(?P<n_km>\d{4,5})$")

# Scale factor on the central meridian and false easting of every UTM zone; WGS 84 ellipsoid.
_K0, _FALSE_EASTING_M = 0.9996, 500_000.0
_A_M, _E2 = 6_378_137.0, 0.00669437999014
# Rounding differs between the projections of two zones: a tolerance of 0.1 mm makes them agree on the zone edge.
_EDGE_DEG = 1e-9


@dataclass(frozen=True)
class Tile:
    """A square of `size_km` kilometres in a UTM zone, with its south-west corner on whole kilometres."""

    zone: int
    north: bool
    e_km: int
    n_km: int
    size_km: int

    @property
    def id(self) -> str:
        return f"{self.zone:02d}{'N' if self.north else 'S'}_E{self.e_km:04d}_N{self.n_km:04d}"

    @property
    def epsg(self) -> int:
        return (32600 if self.north else 32700) + self.zone

    @property
    def crs(self) -> str:
        return f"EPSG:{self.epsg}"

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """(min x, min y, max x, max y), m."""
        x, y, side = self.e_km * 1000, self.n_km * 1000, self.size_km * 1000
        return x, y, x + side, y + side

    def transform(self, res_m: int) -> Affine:
        """Return the transform, pixel to map, of the tile's north-up raster with pixels of `res_m` metres."""
        min_x, _, _, max_y = self.bounds
        return Affine(res_m, 0, min_x, 0, -res_m, max_y)

    def shape(self, res_m: int) -> tuple[int, int]:
        """Return (rows, columns) of the tile's raster. Raises DataError unless `res_m` divides 1000."""
        if 1000 % res_m:
            raise DataError(f"resolution {res_m} m does not divide a kilometre; use a divisor of 1000")
        side = self.size_km * 1000 // res_m
        return side, side


def parse_tile(tile_id: str, size_km: int) -> Tile:
    """Return the tile of an id such as `50N_E0660_N3540`. Raises DataError for another format."""
    match = TILE_ID.match(tile_id)
    if match is None or not 1 <= int(match["zone"]) <= 60:
        raise DataError(
            f"tile id {tile_id!r} is not valid; expected the form 50N_E0660_N3540 (zone, south-west corner in km)"
        )
    return Tile(int(match["zone"]), match["hemisphere"] == "N", int(match["e_km"]), int(match["n_km"]), size_km)


def neighbours(tile: Tile) -> list[Tile]:
    """Return the eight tiles around a tile, in the same zone, row by row from the south-west."""
    offsets = (-tile.size_km, 0, tile.size_km)
    return [
        Tile(tile.zone, tile.north, tile.e_km + east, tile.n_km + north, tile.size_km)
        for north in offsets
        for east in offsets
        if (east, north) != (0, 0)
    ]


def utm_epsg(lon: float, lat: float) -> int:
    """Return the EPSG code of the UTM zone whose 6 degree strip contains a longitude, its western edge included."""
    zone = math.floor((lon + 180) / 6) % 60 + 1
    return (32600 if lat >= 0 else 32700) + zone


@cache
def transformer(source: str, target: str) -> Transformer:
    """Return the transformer between two CRS strings, with coordinates in the order x, y."""
    return Transformer.from_crs(source, target, always_xy=True)


def reproject(geometry: Any, source: str, target: str) -> Any:
    """Reproject a geometry or an array of geometries. Only vertices are transformed: edges stay straight lines."""
    project = transformer(source, target)
    return shapely.transform(geometry, lambda points: np.column_stack(project.transform(*points.T)))


def area_scale(epsg: int, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Return the square of the UTM point scale factor: area on the ellipsoid = area on the grid / area_scale.

    Snyder (1987), Map Projections - A Working Manual, eq. 8-11, with terms to the fourth order in easting; accurate to
    1e-7 within a zone. `epsg` is a UTM zone (326xx or 327xx), x and y are metres.
    """
    _, lat = transformer(f"EPSG:{epsg}", "EPSG:4326").transform(x, y)
    phi = np.radians(np.asarray(lat, dtype=np.float64))
    nu = _A_M / np.sqrt(1 - _E2 * np.sin(phi) ** 2)
    rho = _A_M * (1 - _E2) / (1 - _E2 * np.sin(phi) ** 2) ** 1.5
    d = (np.asarray(x, dtype=np.float64) - _FALSE_EASTING_M) / _K0
    k = _K0 * (1 + d**2 / (2 * nu * rho) + d**4 / (24 * nu**2 * rho**2))
    return k**2


def own_zone_mask(epsg: int, transform: Affine, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixel centres are in the zone's own 6 degree strip, bool [rows, columns].

    Rasters of adjacent zones overlap; with this mask, each area is counted once. A centre on the zone edge belongs to
    the eastern zone, as in `utm_epsg`.
    """
    west = (epsg % 100 - 1) * 6 - 180
    to_lonlat = transformer(f"EPSG:{epsg}", "EPSG:4326")
    rows, cols = shape
    x = transform.c + transform.a * (np.array([0.5, cols - 0.5]))
    y = transform.f + transform.e * (np.array([0.5, rows - 0.5]))
    corner_x, corner_y = np.meshgrid(x, y)
    lon_corner, _ = to_lonlat.transform(corner_x.ravel(), corner_y.ravel())
    # Within a tile, meridians curve by much less than this margin.
    margin = 0.05
    if lon_corner.min() > west + margin and lon_corner.max() < west + 6 - margin:
        return np.ones(shape, dtype=bool)
    out = np.empty(shape, dtype=bool)
    centres = transform.c + transform.a * (np.arange(cols) + 0.5)
    for row in range(rows):
        lon, _ = to_lonlat.transform(centres, np.full(cols, transform.f + transform.e * (row + 0.5)))
        out[row] = (lon >= west - _EDGE_DEG) & (lon < west + 6 - _EDGE_DEG)
    return out
