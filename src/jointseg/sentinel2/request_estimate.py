"""What the composites of a run would ask of a server, from the frozen scene lists: no network is touched."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.area.grid import Tile, parse_tile
from jointseg.config.schema import Settings
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import register
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.cloudless import HALO_M
from jointseg.sentinel2.earthengine import MAX_BYTES, MAX_SIDE_PX
from jointseg.sentinel2.observations import widened
from jointseg.sentinel2.row_spool import REMOTE_ROWS, strips
from jointseg.sentinel2.scene import CLOUDLESS_BANDS
from jointseg.sentinel2.scene_windows import RES_M, Bounds, bounds_of, shape_of

PIXEL_BYTES = 2


@dataclass(frozen=True)
class Asked:
    """What a server is asked for.

    Attributes:
        requests: of Earth Engine, windows of bands; of a STAC source, windows of files.
        bytes: of the answers, uncompressed, each band at 10 m.
    """

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: "Asked") -> "Asked":
        return Asked(self.requests + other.requests, self.bytes + other.bytes)

    def __mul__(self, times: int) -> "Asked":
        return Asked(self.requests * times, self.bytes * times)


@dataclass
class Year:
    """What one year's composites ask for.

    Attributes:
        tiles: tiles mapped in the year.
        lists: of them, those whose scene list is there.
        unlisted: the others, of which nothing is known yet.
        composites: of the lists, those whose composite is there: it is not asked for again.
        scenes: scenes of the lists, once for every tile.
        asked: by the composites that are still to be made, at most: masks of ground that a scene does not reach are not.
        pieces: answers to those that are kept from a run that was stopped: they are not asked for again.
    """

    year: int
    tiles: int = 0
    lists: int = 0
    unlisted: list[str] = field(default_factory=list)
    composites: int = 0
    scenes: int = 0
    asked: Asked = Asked()
    pieces: int = 0

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self)
        counted = plain.pop("asked")
        return plain | counted


def by_year(config: Settings, years: Sequence[int]) -> list[Year]:
    """What the composites of years ask for, of a run in the working folder.

    Raises:
        DataError: the tiles are not cut yet, or a year is none of the config's.
    """
    path = Path(config.results) / "grid" / "tiles.geojson"
    if not path.exists():
        raise DataError(f"the tile grid {path} is not there yet; make it: jointseg run CONFIG --until grid")
    tiles = [feature["properties"] for feature in json.loads(path.read_text(encoding="utf-8"))["features"]]
    for year in years:
        if year not in config.years:
            raise DataError(f"{year} is none of the years {', '.join(map(str, config.years))}; take one of them")
    return [_year(config, year, [each["tile"] for each in tiles if _mapped(config, year, each)]) for year in years]


def _mapped(config: Settings, year: int, tile: dict) -> bool:
    """Whether a tile is mapped in a year: all are in the map year, those of the cities in the others."""
    return year == config.map_year or bool(tile["cities"])


def _year(config: Settings, year: int, tiles: list[str]) -> Year:
    results, wanted = Path(config.results), config.sentinel2
    told = Year(year, tiles=len(tiles))
    for tile in tiles:
        listed = results / "sentinel2" / "scenes" / str(year) / f"{tile}.json"
        if not listed.exists():
            told.unlisted.append(tile)
            continue
        scenes = scene_list.load(listed)
        told.lists += 1
        told.scenes += len(scenes)
        if (results / "sentinel2" / "composites" / str(year) / f"{tile}.tif").exists():
            told.composites += 1
            continue
        told.asked += asked(
            parse_tile(tile, config.tile_km),
            [scene.mask for scene in scenes],
            list(wanted.bands),
            wanted.source.kind,
            swath_edge_buffer_m=wanted.swath_edge_buffer_m,
            buffer_m=wanted.mask_dilation_m,
            registered=wanted.coregister and (year != config.map_year or len(scenes) > 1),
        )
        told.pieces += _pieces(results / ".jointseg" / "pieces" / str(year) / tile)
    return told


def _pieces(folder: Path) -> int:
    """Answers kept in a folder; those half-written have a name that begins with a dot."""
    return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else 0


def asked(
    tile: Tile,
    masks: Sequence[str | None],
    bands: Sequence[str],
    kind: str,
    *,
    swath_edge_buffer_m: float,
    buffer_m: float,
    registered: bool,
) -> Asked:
    """What the composite of a tile asks for, before any answer is kept.

    Every scene is asked for the bands of each block, as far around as edges reach, and for its mask, as far around as
    clouds reach; likewise for the windows in which the dates are registered. A shift or another zone needs some pixels
    around them besides, which are not counted.

    Args:
        tile: to be made.
        masks: of each scene of its list, what tells its clouds.
        bands: of the composite.
        kind: of the source, "earthengine" or "stac".
        swath_edge_buffer_m: what is nearer to the edge of a granule does not count.
        buffer_m: what is nearer to a cloud does not count.
        registered: whether the dates are registered.
    """
    edge_px, buffer_px = (math.ceil(metres / RES_M) for metres in (swath_edge_buffer_m, buffer_m))
    count = Counter(masks)
    total = Asked()
    for bounds in _areas(tile, registered):
        total += _read(widened(bounds, edge_px), len(bands), kind) * len(masks)
        total += _read(widened(bounds, buffer_px), 1, kind) * sum(
            number for mask, number in count.items() if mask not in (None, "S2C")
        )
    # s2cloudless looks at ten bands, once, of the whole tile and what may throw a shadow into it.
    return total + _read(widened(tile.bounds, buffer_px + HALO_M // RES_M), len(CLOUDLESS_BANDS), kind) * count["S2C"]


def _areas(tile: Tile, registered: bool) -> Iterator[Bounds]:
    """Bounds that every scene is read in: the windows of the registration, then strips of the tile."""
    shape = tile.shape(RES_M)
    for rows, cols in register.windows(shape) if registered else []:
        yield bounds_of(tile, rows, cols)
    for rows in strips(shape[0], REMOTE_ROWS):
        yield bounds_of(tile, rows, slice(0, shape[1]))


def _read(bounds: Bounds, keys: int, kind: str) -> Asked:
    """What one read of some bands or of a mask takes."""
    rows, cols = shape_of(bounds)
    size = rows * cols * keys * PIXEL_BYTES
    return Asked(keys if kind == "stac" else computed(rows, cols, keys), size)


def computed(rows: int, cols: int, keys: int) -> int:
    """Requests into which Earth Engine's limits cut a read of some bands."""
    width = min(cols, MAX_SIDE_PX)
    height = max(1, min(rows, MAX_SIDE_PX, MAX_BYTES // (width * keys * PIXEL_BYTES)))
    return math.ceil(rows / height) * math.ceil(cols / width)
