"""Stratified random chips over the reaches, with a minimum spacing and a spatial-block split."""

import logging
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from jointseg import grid, raster
from jointseg.errors import DataError

log = logging.getLogger(__name__)

LATTICE_M = 10
# Ten Sentinel-2 pixels: chips of different blocks, which may go to different splits, see no pixel of each other
# even through the sensor's blur and the resampling of the composite.
BLOCK_GAP_M = 100
DRAWS_PER_BATCH = 4096
# Draws go on until this many in a row have found no room: the reach is then full for practical purposes.
IDLE_DRAWS = 50_000


@dataclass
class Zone:
    """What a reach owns of one UTM zone, in metres of that zone."""

    epsg: int
    tiles: list[grid.Tile]
    domain: shapely.Geometry  # reach, cut to the zone's 6 degree strip and to the known tiles
    area_m2: float


class Placed:
    """Chips placed so far: UTM zone, south-west corner, block number and centre on the globe (all metres)."""

    def __init__(self, capacity: int) -> None:
        self.number = 0
        self.epsg = np.zeros(capacity, dtype=np.int32)
        self.corner = np.zeros((capacity, 2))
        self.block = np.zeros(capacity, dtype=np.int64)
        self.globe = np.zeros((capacity, 3))
        self.tile: list[str] = []
        self.blocks: dict[tuple[str, int, int, int], int] = {}

    def block_number(self, name: str, epsg: int, corner: np.ndarray, block_m: int) -> int:
        """Number of the block of a chip; blocks of two reaches are two blocks even where they meet."""
        key = (name, epsg, int(corner[0] // block_m), int(corner[1] // block_m))
        return self.blocks.setdefault(key, len(self.blocks))

    def has_room(
        self, epsg: int, corner: np.ndarray, block: int, globe: np.ndarray, chip_m: int, spacing_m: float
    ) -> bool:
        """Whether a chip keeps its distance from all that are placed."""
        n = self.number
        apart = np.abs(self.corner[:n] - corner)
        gap = np.where(self.block[:n] == block, 0, BLOCK_GAP_M)
        ok = (np.hypot(apart[:, 0], apart[:, 1]) >= spacing_m) & (apart.max(axis=1, initial=0) - chip_m >= gap)
        # Grids of two zones are turned against each other: across their border the distance on the globe decides.
        chord = np.sqrt(((self.globe[:n] - globe) ** 2).sum(axis=1))
        far = chord >= max(spacing_m, chip_m * 2**0.5 + BLOCK_GAP_M)
        return bool(np.where(self.epsg[:n] == epsg, ok, far).all())

    def add(self, epsg: int, corner: np.ndarray, block: int, globe: np.ndarray, tile: str) -> None:
        n = self.number
        self.epsg[n], self.corner[n], self.block[n], self.globe[n] = epsg, corner, block, globe
        self.tile.append(tile)
        self.number += 1


def samples(
    *,
    study_area: Path,
    tiles: Path,
    samples: Path,
    tile_km: int,
    chip_m: int,
    spacing_m: float,
    points: int,
    allocation: str,
    splits: dict[str, float],
    block_m: int,
    seed: int,
) -> dict[str, Any]:
    """Draws chips at random within every reach and writes samples.parquet (GeoParquet, chip centres, EPSG:4326).

    A chip is a square of `chip_m` on the 10 m lattice of the UTM zone that owns its centre. It lies whole in its
    reach, in known tiles, in the zone's own strip and in one block of `block_m`; centres keep `spacing_m`, chips do
    not overlap, and chips of different blocks keep 100 m, so that blocks can go to different splits. Positions are
    drawn uniformly and kept when they fit (simple sequential inhibition).

    `inclusion_probability` is the ratio estimate n x chip area / reach area, n being the chips of the same reach and
    split: the chance that a point of the reach falls into a chip of that split. It is the same for all chips of a
    reach and split; that points near the border of a reach or of a block are drawn a little less often is not in it.

    Args:
        tile_km: size of the tiles in `tiles`.
        points: chips over all reaches.
        allocation: "proportional" to the area of the reaches, or "equal".
        splits: share of the chips of every reach for "train", "validation" and "test".
        block_m: side of the blocks that are given to splits as a whole.

    Raises DataError when a reach has no room for a chip, or too few blocks for every split to have one.
    """
    _check(chip_m, spacing_m, block_m, splits, allocation)
    reaches = gpd.read_file(study_area, layer="reaches").to_crs(4326)
    known = gpd.read_file(tiles)
    polygons = {name: shapely.union_all(rows.geometry.values) for name, rows in reaches.groupby("name", sort=True)}
    zones = {name: reach_zones(polygon, name, known, tile_km) for name, polygon in polygons.items()}
    areas = {name: sum(zone.area_m2 for zone in parts) for name, parts in zones.items()}
    if not areas or not all(areas.values()):
        empty = [name for name, area in areas.items() if not area]
        raise DataError(f"reaches {empty or 'none'} have no ground in the tiles of {tiles}; check study area and grid")
    wanted = allocate(areas, points, allocation)
    placed = Placed(sum(wanted.values()))
    frames = []
    for name, parts in zones.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        first = placed.number
        place(name, parts, wanted[name], placed, rng, chip_m, spacing_m, block_m)
        frames.append(_reach_frame(name, placed, first, areas[name], splits, chip_m, rng))
    table = pd.concat(frames, ignore_index=True)
    found = {name: int((table.reach == name).sum()) for name in zones}
    for name, number in found.items():
        if number < wanted[name]:
            log.warning(
                "%s: %d of %d chips found room; lower points or spacing_m, or raise block_m",
                name,
                number,
                wanted[name],
            )
    with raster.atomic(samples) as part:
        table.to_parquet(part)
    per_split = {name: dict(sorted(Counter(table.split[table.reach == name]).items())) for name in zones}
    return {"seed": seed, "wanted": wanted, "placed": found, "splits": per_split, "area_m2": areas}


def _check(chip_m: int, spacing_m: float, block_m: int, splits: dict[str, float], allocation: str) -> None:
    if chip_m % LATTICE_M or chip_m <= 0:
        raise DataError(f"chip_m is {chip_m}; it must be a multiple of {LATTICE_M}")
    if spacing_m < chip_m:
        raise DataError(f"spacing_m is {spacing_m}, less than chip_m {chip_m}: chips would overlap; raise spacing_m")
    if block_m < chip_m:
        raise DataError(f"block_m is {block_m}, less than chip_m {chip_m}: no chip fits a block; raise block_m")
    if set(splits) != {"train", "validation", "test"} or abs(sum(splits.values()) - 1) > 1e-6:
        raise DataError(f"splits are {splits}; expected shares of train, validation and test that add up to 1")
    if min(splits["train"], splits["test"]) <= 0 or splits["validation"] < 0:
        raise DataError(f"splits are {splits}; train and test need a share above 0")
    if allocation not in ("proportional", "equal"):
        raise DataError(f"allocation is {allocation!r}; expected 'proportional' or 'equal'")


def allocate(areas: dict[str, float], count: int, allocation: str) -> dict[str, int]:
    """Chips of every stratum, `count` in all, by the method of largest remainders."""
    weights = {name: area if allocation == "proportional" else 1.0 for name, area in sorted(areas.items())}
    total = sum(weights.values())
    shares = {name: count * weight / total for name, weight in weights.items()}
    out = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (out[name] - shares[name], name))
    for name in by_remainder[: count - sum(out.values())]:
        out[name] += 1
    if not all(out.values()):
        raise DataError(f"{count} points leave a reach without chips: {out}; raise points")
    return out


def reach_zones(polygon: shapely.Geometry, name: str, known: gpd.GeoDataFrame, tile_km: int) -> list[Zone]:
    """What a reach (EPSG:4326) owns in each UTM zone of the known tiles, by zone."""
    mine = known[[name in _names(value) for value in known["reaches"]]]
    zones = []
    for epsg, rows in mine.groupby("epsg", sort=True):
        code = int(epsg)
        squares = sorted((grid.parse_tile(str(tile), tile_km) for tile in rows["tile"]), key=lambda tile: tile.id)
        west = (code % 100 - 1) * 6 - 180
        strip = shapely.intersection(polygon, shapely.box(west, -80, west + 6, 84))
        # Meridians and parallels bow in UTM: short edges keep the outline true to some centimetres.
        here = _to_utm(shapely.segmentize(strip, 0.01), code)
        domain = shapely.intersection(here, shapely.union_all([shapely.box(*tile.bounds) for tile in squares]))
        if domain.area == 0:
            continue
        centre = domain.centroid
        area = float(domain.area / grid.area_scale(code, centre.x, centre.y))
        shapely.prepare(domain)
        zones.append(Zone(code, squares, domain, area))
    return zones


def _names(value: Any) -> list[str]:
    """The names of a list property, which some drivers hand over as text."""
    if isinstance(value, str):
        return [part.strip(" \"'") for part in value.strip("[]").split(",")]
    return list(value)


def _to_utm(geometry: shapely.Geometry, epsg: int) -> shapely.Geometry:
    to_utm = grid.transformer("EPSG:4326", f"EPSG:{epsg}")
    return shapely.transform(geometry, lambda points: np.column_stack(to_utm.transform(points[:, 0], points[:, 1])))


def place(
    name: str,
    zones: list[Zone],
    wanted: int,
    placed: Placed,
    rng: np.random.Generator,
    chip_m: int,
    spacing_m: float,
    block_m: int,
) -> None:
    """Adds up to `wanted` chips of one reach to `placed`; fewer when the reach is full.

    Raises DataError when not one found room.
    """
    squares = [(zone, tile) for zone in zones for tile in zone.tiles]
    origin = np.array([tile.bounds[:2] for _, tile in squares], dtype=np.float64)
    zone_of = np.array([zones.index(zone) for zone, _ in squares])
    steps_per_side = squares[0][1].size_km * 1000 // LATTICE_M
    first, idle = placed.number, 0
    while placed.number - first < wanted and idle < IDLE_DRAWS:
        index = rng.integers(len(squares), size=DRAWS_PER_BATCH)
        steps = rng.integers(steps_per_side, size=(DRAWS_PER_BATCH, 2))
        # Corners are shifted so that it is the centre that falls into the drawn tile.
        corner = origin[index] + steps * LATTICE_M - chip_m // (2 * LATTICE_M) * LATTICE_M
        fits = np.all(corner // block_m == (corner + chip_m - 1) // block_m, axis=1)
        globe = np.empty((DRAWS_PER_BATCH, 3))
        for number, zone in enumerate(zones):
            here = np.flatnonzero(fits & (zone_of[index] == number))
            fits[here] = shapely.covers(zone.domain, shapely.box(*corner[here].T, *(corner[here] + chip_m).T))
            globe[here] = _on_globe(zone.epsg, corner[here] + chip_m / 2)
        for fit, at in zip(fits, range(DRAWS_PER_BATCH)):
            idle += 1
            if not fit:
                continue
            zone, tile = squares[index[at]]
            block = placed.block_number(name, zone.epsg, corner[at], block_m)
            if not placed.has_room(zone.epsg, corner[at], block, globe[at], chip_m, spacing_m):
                continue
            placed.add(zone.epsg, corner[at], block, globe[at], tile.id)
            idle = 0
            if placed.number - first == wanted:
                break
    if placed.number == first:
        raise DataError(
            f"reach {name} has no room for a chip of {chip_m} m in blocks of {block_m} m; lower chip_m or spacing_m"
        )


def _on_globe(epsg: int, points: np.ndarray) -> np.ndarray:
    """Geocentric metres [n, 3] of UTM points [n, 2]."""
    lon, lat = grid.transformer(f"EPSG:{epsg}", "EPSG:4326").transform(points[:, 0], points[:, 1])
    geocentric = grid.transformer("EPSG:4979", "EPSG:4978")
    return np.column_stack(geocentric.transform(lon, lat, np.zeros(len(points))))


def split_blocks(sizes: dict[str, int], splits: dict[str, float], rng: np.random.Generator) -> dict[str, str]:
    """Gives whole blocks to splits so that the splits' chips come near their shares.

    Blocks are taken at random, largest first among equals of size; each goes to the split that lacks the most chips.

    Args:
        sizes: chips of every block.
        splits: share of every split.

    Raises DataError when some split with a share gets no block.
    """
    wanted = {split: share * sum(sizes.values()) for split, share in splits.items() if share > 0}
    if len(sizes) < len(wanted):
        raise DataError(f"{len(sizes)} blocks hold chips but {len(wanted)} splits want one; lower block_m")
    names = sorted(sizes)
    order = [names[i] for i in rng.permutation(len(names))]
    order.sort(key=lambda block: -sizes[block])
    lacks = dict(wanted)
    out: dict[str, str] = {}
    for position, block in enumerate(order):
        empty = [split for split in wanted if split not in out.values()]
        # The last blocks are kept for splits that have none yet.
        choice = empty if len(order) - position <= len(empty) else list(wanted)
        split = max(choice, key=lambda name: (lacks[name], name))
        out[block] = split
        lacks[split] -= sizes[block]
    return out


def _reach_frame(
    name: str,
    placed: Placed,
    first: int,
    area_m2: float,
    splits: dict[str, float],
    chip_m: int,
    rng: np.random.Generator,
) -> gpd.GeoDataFrame:
    corners, epsg = placed.corner[first : placed.number], placed.epsg[first : placed.number]
    keys = list(placed.blocks)
    blocks = ["-".join(map(str, keys[number][1:])) for number in placed.block[first : placed.number]]
    try:
        split_of = split_blocks(dict(Counter(blocks)), splits, rng)
    except DataError as error:
        raise DataError(f"reach {name}: {error}") from None
    split = [split_of[block] for block in blocks]
    number = Counter(split)
    to_lonlat = [grid.transformer(f"EPSG:{code}", "EPSG:4326") for code in epsg]
    centres = [to.transform(x + chip_m / 2, y + chip_m / 2) for to, (x, y) in zip(to_lonlat, corners)]
    return gpd.GeoDataFrame(
        {
            "sample_id": [f"{name}-{i:04d}" for i in range(1, len(corners) + 1)],
            "reach": name,
            "inclusion_probability": [number[part] * chip_m**2 / area_m2 for part in split],
            "split": split,
            "block": blocks,
            "tile": placed.tile[first:],
            "epsg": epsg,
            "minx": corners[:, 0],
            "miny": corners[:, 1],
        },
        geometry=shapely.points(np.array(centres)),
        crs=4326,
    )
