"""Resource estimate of a run: tiles, jobs, requests, hours, disk, and the bottleneck."""

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

PROFILE_REQUESTS = 40  # parallel requests of all jobs together, in the profiles
REVISIT_DAYS = 5  # of the two satellites together, at the equator
# Compositing time on two cores per scene and km2: 6.3 s for 24 scenes of 400 km2 (benchmarks/composite.md).
COMPOSITE_S = 6.3 / (24 * 400)
TILE_RULES = ("scenes", "composite", "predict")  # jobs per tile and year
SCENE_CODES = {"L2A": "SCL", "L1C": "CS"}  # masks of Earth Engine; those of a STAC catalogue are as large


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of a plan: scenes per composite, download rate in MB/s, devices for inference."""

    scenes: int
    mb_s: float
    devices: int


@dataclass(frozen=True)
class YearPlan:
    """Estimate for one year."""

    year: int
    tiles: int  # tiles to map
    km2: float  # their area; overlaps at zone edges count twice
    jobs: int  # jobs of the tiles, mosaics and the composite quality
    requests: int
    bytes: int
    composite_h: float  # compositing, hours on two cores
    inference_h: float | None  # inference on one device, hours; None without a measurement
    disk: int | None  # composites and maps, bytes; None without a measurement


def expected_scenes(config: Settings) -> int:
    """Return the expected scenes per composite, for tiles without a scene list.

    One scene per REVISIT_DAYS of the season, times the fraction that the allowed cloud cover leaves if cloud cover is
    uniformly distributed.
    """
    (first_month, first_day), (last_month, last_day) = (
        tuple(map(int, day.split("-"))) for day in config.sentinel2.season
    )
    days = (last_month - first_month) * 30.44 + last_day - first_day + 1
    if days <= 0:
        days += 365
    return max(1, round(days / REVISIT_DAYS * config.sentinel2.max_cloud_percent / 100))


def run_tiles(config: Settings) -> list[dict[str, Any]]:
    """Return the tiles of a run, each with its id, reaches and cities. A missing grid is built in a temporary folder."""
    path = Path(config.results) / "grid" / "tiles.geojson"
    with tempfile.TemporaryDirectory(prefix="jointseg-plan-") as folder:
        if not path.exists():
            area, path = Path(folder) / "study_area.gpkg", Path(folder) / "tiles.geojson"
            study_area(study_area=area, **config.study_area.model_dump())
            grid(study_area=area, tiles=path, tile_km=config.tile_km)
        return [feature["properties"] for feature in json.loads(path.read_text(encoding="utf-8"))["features"]]


def measurement(records: Sequence[dict[str, Any]], name: str | None, path: Path) -> dict[str, Any] | None:
    """Return the fastest measurement with a name, or of all if `name` is None; None without measurements.

    Raises DataError if no measurement has the name; its message contains `path`, the file of the measurements.
    """
    named = [record for record in records if name in (None, record["name"])]
    if not named and name is not None:
        names = ", ".join(sorted({record["name"] for record in records})) or "none"
        raise DataError(
            f"{path} has no measurement named {name!r} (it has {names}); measure it with jointseg bench inference"
        )
    return max(named, key=lambda record: record["km2_per_hour"], default=None)


def plan(
    config: Settings, tiles: Sequence[dict[str, Any]], assumptions: Assumptions, bench: dict[str, Any] | None
) -> list[YearPlan]:
    """Return the estimate for each year of a run with the tiles of `run_tiles`.

    `bench` is a measurement of `jointseg bench inference`; its rate is scaled to the window overlap of the config.
    """
    years, km2_per_hour = [], 0.0
    if bench:
        window, stride = bench["lattice"]
        km2_per_hour = bench["km2_per_hour"] * (window / stride) ** 2 / window_overlap(config)
    for year in sorted(config.years):
        mapped = [tile["tile"] for tile in tiles if year == config.map_year or tile["cities"]]
        km2 = len(mapped) * config.tile_km**2
        requests = _requests(config, year, mapped, assumptions.scenes)
        years.append(
            YearPlan(
                year=year,
                tiles=len(mapped),
                km2=km2,
                jobs=len(mapped) * len(TILE_RULES) + len(config.study_area.city_reach) + 1,
                requests=requests.requests,
                bytes=requests.bytes,
                composite_h=km2 * assumptions.scenes * COMPOSITE_S / 3600,
                inference_h=km2 / km2_per_hour if bench else None,
                disk=round(km2 * (bench["map_bytes_per_km2"] + bench["composite_bytes_per_km2"])) if bench else None,
            )
        )
    return years


def window_overlap(config: Settings) -> float:
    """Return how many times inference computes each pixel."""
    return (config.inference.window_m / config.inference.stride_m) ** 2


def _requests(config: Settings, year: int, tiles: Sequence[str], scenes: int) -> RequestEstimate:
    source = config.sentinel2
    if not source.remote or not tiles:
        return RequestEstimate()
    mask = SCENE_CODES[source.level_by_year.get(year, source.level)]
    per_tile = estimate_composite(
        parse_tile(tiles[0], config.tile_km),
        [mask] * scenes,
        list(source.bands),
        source.source.kind,
        swath_edge_buffer_m=source.swath_edge_buffer_m,
        mask_dilation_m=source.mask_dilation_m,
        coregister=source.coregister,
    )
    return per_tile * len(tiles)


def hours_by_part(years: Sequence[YearPlan], assumptions: Assumptions) -> dict[str, float]:
    """Return the hours of download, compositing and inference over all years, the longest (the bottleneck) first."""
    hours = {
        "download": sum(year.bytes for year in years) / (assumptions.mb_s * 1e6) / 3600,
        "composites": sum(year.composite_h for year in years),
    }
    if all(year.inference_h is not None for year in years):
        hours["inference"] = sum(year.inference_h or 0 for year in years) / assumptions.devices
    return dict(sorted(hours.items(), key=lambda item: -item[1]))


def peak_disk(config: Settings, years: Sequence[YearPlan], assumptions: Assumptions) -> int | None:
    """Return the peak disk use in bytes: composites and maps, and the temporary files of running jobs.

    Temporary are the responses of as many tiles as can be composited in parallel (PROFILE_REQUESTS /
    `sentinel2.parallel_requests`), and per device the uncompressed rows of a tile (one byte per pixel and product, six
    for `rgb`). None without a measurement.
    """
    if any(year.disk is None for year in years):
        return None
    tile_bytes = max((year.bytes / year.tiles for year in years if year.tiles), default=0)
    tiles = PROFILE_REQUESTS // max(1, config.sentinel2.parallel_requests or 8) if config.sentinel2.remote else 0
    rows = sum(6 if product == "rgb" else 1 for product in config.inference.products) * (config.tile_km * 1000) ** 2
    return round(sum(year.disk or 0 for year in years) + tiles * tile_bytes + assumptions.devices * rows)


def as_json(
    config: Settings, years: Sequence[YearPlan], assumptions: Assumptions, bench: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "title": config.title,
        "assumed": asdict(assumptions),
        "measured": {name: bench[name] for name in ("name", "device", "threads", "precision")} if bench else None,
        "overlap": window_overlap(config),
        "years": [asdict(year) for year in years],
        "hours": hours_by_part(years, assumptions),
        "peak_disk": peak_disk(config, years, assumptions),
    }
