"""Estimate the server requests of a run's composites from the scene lists, without network access."""

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
from jointseg.sentinel2.cloudless import HALO_M
from jointseg.sentinel2.earthengine import PIXEL_BYTES, split_window
from jointseg.sentinel2.observations import expand_bounds
from jointseg.sentinel2.row_spool import REMOTE_ROWS, row_strips
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, load_scenes
from jointseg.sentinel2.scene_windows import RES_M, Bounds, bounds_shape, window_bounds


@dataclass(frozen=True)
class RequestEstimate:
    """Number of requests and size of the responses."""

    requests: int = 0  # windows of bands (Earth Engine) or windows of files (STAC)
    bytes: int = 0  # uncompressed pixels, each band at 10 m

    def __add__(self, other: "RequestEstimate") -> "RequestEstimate":
        return RequestEstimate(self.requests + other.requests, self.bytes + other.bytes)

    def __mul__(self, factor: int) -> "RequestEstimate":
        return RequestEstimate(self.requests * factor, self.bytes * factor)


@dataclass
class YearEstimate:
    """Requests of one year's composites."""

    year: int
    tiles: int = 0  # number of tiles mapped in the year
    scene_lists: int = 0  # number of these tiles with a scene list
    unlisted_tiles: list[str] = field(default_factory=list)  # tiles without a scene list; the estimate excludes them
    composites: int = 0  # number of listed tiles whose composite exists; it needs no request
    scenes: int = 0  # scenes in the lists, summed over tiles
    # Upper bound for the missing composites: a mask outside a scene's footprint is not requested
    estimate: RequestEstimate = RequestEstimate()
    cached_responses: int = 0  # responses that a stopped run has cached; they are not requested again

    def as_json(self) -> dict[str, Any]:
        record = asdict(self)
        return record | record.pop("estimate")


def estimate_by_year(config: Settings, years: Sequence[int]) -> list[YearEstimate]:
    """Estimate the requests of each year; paths are relative to the working folder.

    Raises DataError if the tile grid does not exist, or the config does not have a year.
    """
    path = Path(config.results) / "grid" / "tiles.geojson"
    if not path.exists():
        raise DataError(f"the tile grid {path} does not exist; create it: jointseg run CONFIG --until grid")
    tiles = [feature["properties"] for feature in json.loads(path.read_text(encoding="utf-8"))["features"]]
    for year in years:
        if year not in config.years:
            raise DataError(f"year {year} is not in the config; choose one of {', '.join(map(str, config.years))}")
    return [
        # Outside the map year only the tiles of cities are mapped.
        _estimate_year(config, year, [tile["tile"] for tile in tiles if year == config.map_year or tile["cities"]])
        for year in years
    ]


def _estimate_year(config: Settings, year: int, tiles: list[str]) -> YearEstimate:
    results, settings = Path(config.results), config.sentinel2
    total = YearEstimate(year, tiles=len(tiles))
    for tile in tiles:
        scene_list = results / "sentinel2" / "scenes" / str(year) / f"{tile}.json"
        if not scene_list.exists():
            total.unlisted_tiles.append(tile)
            continue
        scenes = load_scenes(scene_list)
        total.scene_lists += 1
        total.scenes += len(scenes)
        if (results / "sentinel2" / "composites" / str(year) / f"{tile}.tif").exists():
            total.composites += 1
            continue
        total.estimate += estimate_composite(
            parse_tile(tile, config.tile_km),
            [scene.mask for scene in scenes],
            list(settings.bands),
            settings.source.kind,
            swath_edge_buffer_m=settings.swath_edge_buffer_m,
            mask_dilation_m=settings.mask_dilation_m,
            coregister=settings.coregister and (year != config.map_year or len(scenes) > 1),
        )
        total.cached_responses += _count_responses(results / ".jointseg" / "responses" / str(year) / tile)
    return total


def _count_responses(folder: Path) -> int:
    """Return the number of cached responses; names of incomplete files begin with a dot."""
    return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else 0


def estimate_composite(
    tile: Tile,
    masks: Sequence[str | None],
    bands: Sequence[str],
    source_kind: str,
    *,
    swath_edge_buffer_m: float,
    mask_dilation_m: float,
    coregister: bool,
) -> RequestEstimate:
    """Estimate the requests of one composite without cached responses.

    For each strip of the tile and each registration window, the step reads the bands of every scene, with a halo of
    `swath_edge_buffer_m`, and its mask (`Scene.mask`), with a halo of `mask_dilation_m`. The estimate omits the few
    extra pixels that resampling a shifted scene, or one of another UTM zone, needs.
    """
    edge_px, dilation_px = (math.ceil(metres / RES_M) for metres in (swath_edge_buffer_m, mask_dilation_m))
    mask_counts = Counter(masks)
    mask_assets = sum(count for mask, count in mask_counts.items() if mask not in (None, "S2C"))
    total = RequestEstimate()
    for bounds in _read_bounds(tile, coregister):
        total += _estimate_read(expand_bounds(bounds, edge_px), len(bands), source_kind) * len(masks)
        total += _estimate_read(expand_bounds(bounds, dilation_px), 1, source_kind) * mask_assets
    # s2cloudless reads its ten bands once, for the whole tile and a halo as wide as shadows reach.
    whole = expand_bounds(tile.bounds, dilation_px + HALO_M // RES_M)
    return total + _estimate_read(whole, len(CLOUDLESS_BANDS), source_kind) * mask_counts["S2C"]


def _read_bounds(tile: Tile, coregister: bool) -> Iterator[Bounds]:
    """Yield the bounds in which every scene is read: registration windows, then strips of the tile."""
    shape = tile.shape(RES_M)
    for rows, cols in register.windows(shape) if coregister else []:
        yield window_bounds(tile, rows, cols)
    for rows in row_strips(shape[0], REMOTE_ROWS):
        yield window_bounds(tile, rows, slice(0, shape[1]))


def _estimate_read(bounds: Bounds, keys: int, source_kind: str) -> RequestEstimate:
    rows, cols = bounds_shape(bounds)
    requests = keys if source_kind == "stac" else len(split_window((rows, cols), keys))
    return RequestEstimate(requests, rows * cols * keys * PIXEL_BYTES)
