"""What a run will take, before anything is spent: tiles, jobs, requests, hours, disk, and what holds it up."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jointseg.area.grid import parse_tile
from jointseg.area.study_area import study_area
from jointseg.area.tiles import grid
from jointseg.config.schema import Settings
from jointseg.runtime.errors import DataError
from jointseg.sentinel2.request_estimate import RequestEstimate, estimate_composite

PROFILE_REQUESTS = 40  # that all jobs together may make at a time, in the profiles
REVISIT_DAYS = 5  # of the two satellites together, at the equator
# Seconds that composing takes on two cores, a scene and km2: 6.3 s for 24 scenes of 400 km2 (benchmarks/composite.md).
COMPOSE_S = 6.3 / (24 * 400)
PER_TILE = ("scenes", "composite", "predict")  # jobs of a tile and year
SCENE_CODES = {"L2A": "SCL", "L1C": "CS"}  # masks that Earth Engine gives; a STAC catalogue's are as large


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted.

    Attributes:
        scenes: that a tile's composite is made of.
        mb_s: megabytes a second that come from the server.
        devices: that map at a time.
    """

    scenes: int
    mb_s: float
    devices: int


@dataclass(frozen=True)
class YearPlan:
    """One year of a plan."""

    year: int
    tiles: int
    km2: float
    """Of the tiles, each whole: what is mapped, overlaps at zone edges twice."""
    jobs: int
    requests: int
    bytes: int
    compose_h: float
    map_h: float | None
    """On one device; None without a measurement."""
    disk: int | None
    """Bytes of composites and maps; None without a measurement."""


def expected_scenes(config: Settings) -> int:
    """Scenes that a tile's composite is made of, where none are listed yet: one every five days of the season, and of
    these the share that the allowed cloud leaves if all degrees of cloud were as likely.
    """
    (first_month, first_day), (last_month, last_day) = (
        tuple(map(int, day.split("-"))) for day in config.sentinel2.season
    )
    days = (last_month - first_month) * 30.44 + last_day - first_day + 1
    if days <= 0:
        days += 365
    return max(1, round(days / REVISIT_DAYS * config.sentinel2.max_cloud_percent / 100))


def run_tiles(config: Settings) -> list[dict[str, Any]]:
    """The tiles of a run, each with its id, reaches and cities: as they were cut, or cut here without keeping them."""
    path = Path(config.results) / "grid" / "tiles.geojson"
    with tempfile.TemporaryDirectory(prefix="jointseg-plan-") as folder:
        if not path.exists():
            area, path = Path(folder) / "study_area.gpkg", Path(folder) / "tiles.geojson"
            given = config.study_area
            study_area(study_area=area, **given.model_dump())
            grid(study_area=area, tiles=path, tile_km=config.tile_km)
        return [feature["properties"] for feature in json.loads(path.read_text(encoding="utf-8"))["features"]]


def measurement(records: Sequence[dict[str, Any]], name: str | None, path: Path) -> dict[str, Any] | None:
    """The measurement to plan with: the fastest of those of the name, or of all.

    Raises DataError when none has the name.
    """
    named = [each for each in records if name in (None, each["name"])]
    if not named and name is not None:
        known = ", ".join(sorted({each["name"] for each in records})) or "none"
        raise DataError(
            f"{path} has no measurement named {name!r} (it has {known}); measure it: jointseg bench inference"
        )
    return max(named, key=lambda each: each["km2_per_hour"], default=None)


def plan(
    config: Settings, tiles: Sequence[dict[str, Any]], assumed: Assumptions, bench: dict[str, Any] | None
) -> list[YearPlan]:
    """What each year of a run takes.

    Args:
        config: the run.
        tiles: of `tiles_of`.
        assumed: what is not known before it is tried.
        bench: a measurement of `jointseg bench inference`; its rate is brought to the config's overlap of windows.
    """
    told = []
    for year in sorted(config.years):
        mapped = [tile["tile"] for tile in tiles if year == config.map_year or tile["cities"]]
        km2 = len(mapped) * config.tile_km**2
        wanted = _asked(config, year, mapped, assumed.scenes)
        told.append(
            YearPlan(
                year=year,
                tiles=len(mapped),
                km2=km2,
                jobs=len(mapped) * len(PER_TILE) + len(config.study_area.city_reach) + 1,
                requests=wanted.requests,
                bytes=wanted.bytes,
                compose_h=km2 * assumed.scenes * COMPOSE_S / 3600,
                map_h=km2 / _rate(config, bench) if bench else None,
                disk=round(km2 * (bench["map_bytes_per_km2"] + bench["composite_bytes_per_km2"])) if bench else None,
            )
        )
    return told


def _rate(config: Settings, bench: dict[str, Any]) -> float:
    """km2 an hour with the config's lattice: what overlaps is computed twice."""
    window, stride = bench["lattice"]
    times = (window / stride) ** 2 / (config.inference.window_m / config.inference.stride_m) ** 2
    return bench["km2_per_hour"] * times


def _asked(config: Settings, year: int, tiles: Sequence[str], scenes: int) -> RequestEstimate:
    source = config.sentinel2
    if not source.remote or not tiles:
        return RequestEstimate()
    mask = SCENE_CODES[source.level_by_year.get(year, source.level)]
    one = estimate_composite(
        parse_tile(tiles[0], config.tile_km),
        [mask] * scenes,
        list(source.bands),
        source.source.kind,
        swath_edge_buffer_m=source.swath_edge_buffer_m,
        mask_dilation_m=source.mask_dilation_m,
        coregister=source.coregister,
    )
    return one * len(tiles)


def hours_by_part(years: Sequence[YearPlan], assumed: Assumptions) -> dict[str, float]:
    """Hours of each part that takes time, over all years, the longest first."""
    hours = {
        "retrieval": sum(year.bytes for year in years) / (assumed.mb_s * 1e6) / 3600,
        "composites": sum(year.compose_h for year in years),
    }
    if all(year.map_h is not None for year in years):
        hours["mapping"] = sum(year.map_h or 0 for year in years) / assumed.devices
    return dict(sorted(hours.items(), key=lambda each: -each[1]))


def peak_disk(config: Settings, years: Sequence[YearPlan], assumed: Assumptions) -> int | None:
    """Bytes on disk at most: what is made, and what the jobs under way keep beside it until their tile is whole.

    Answers of the server of as many tiles as may ask at a time (PROFILE_REQUESTS over `sentinel2.parallel_requests`), and the
    uncompressed rows (a byte a pixel and product; `rgb` six) of a tile a device. None without a measurement.
    """
    if any(year.disk is None for year in years):
        return None
    a_tile = max((year.bytes / year.tiles for year in years if year.tiles), default=0)
    asking = PROFILE_REQUESTS // max(1, config.sentinel2.parallel_requests or 8) if config.sentinel2.remote else 0
    rows = sum(6 if product == "rgb" else 1 for product in config.inference.products) * (config.tile_km * 1000) ** 2
    return round(sum(year.disk or 0 for year in years) + asking * a_tile + assumed.devices * rows)


def as_json(
    config: Settings, years: Sequence[YearPlan], assumed: Assumptions, bench: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything of a plan."""
    return {
        "title": config.title,
        "assumed": asdict(assumed),
        "measured": {name: bench[name] for name in ("name", "device", "threads", "precision")} if bench else None,
        "overlap": (config.inference.window_m / config.inference.stride_m) ** 2,
        "years": [asdict(year) for year in years],
        "hours": hours_by_part(years, assumed),
        "peak_disk": peak_disk(config, years, assumed),
    }
