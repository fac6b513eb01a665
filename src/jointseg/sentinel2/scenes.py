"""Step `scenes`: write the list of the scenes of one composite."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from jointseg.area.grid import Tile, parse_tile
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.sentinel2 import archive as archives
from jointseg.sentinel2 import clouds, earthengine, stac
from jointseg.sentinel2.scene import LEVELS, Scene, overlaps_tile

log = logging.getLogger(__name__)
_LEAP_YEAR_DAYS = 366


@dataclass(frozen=True)
class Selection:
    """Criteria that a scene must meet; parameters of the step `scenes`."""

    year: int
    level: str
    season: list[str]
    max_cloud_percent: float
    season_padding_days: int = 0


def scenes(
    *,
    scenes: Path,
    year: int | str,
    tile: str,
    tile_km: int,
    source: dict,
    level: str,
    season: list[str],
    max_cloud_percent: float,
    bands: list[str],
    season_padding_days: int = 0,
    l1c_mask: str = "auto",
    archive: Path | None = None,
    sidecar: Path | None = None,
) -> dict:
    """Write the scene list of one tile and year, sorted by time and id, with size and sha256 of the files.

    Settings are keys of the config section `sentinel2`; `archive` is the folder of an archive source, `sidecar` the
    JSON file that describes plain band files in it. Raises DataError if no scene meets the criteria, or a scene lacks a
    band or a file.
    """
    area = parse_tile(tile, tile_km)
    if level not in LEVELS:
        raise DataError(f"level {level!r} of {year} is not valid; allowed are {', '.join(LEVELS)}")
    criteria = Selection(int(year), level, season, max_cloud_percent, season_padding_days)
    selected, rejected = select_scenes(_candidates(source, archive, sidecar, area, int(year), level), area, criteria)
    log.info("%s %s: %d scenes; rejected: %s", tile, year, len(selected), dict(rejected))
    if not selected:
        name = source.get("url") or source.get("path") or archive or source["kind"]
        counts = ", ".join(f"{count} by {reason}" for reason, count in sorted(rejected.items()))
        raise DataError(
            f"no {level} scene of {year} covers tile {tile} in {name} from {season[0]} to {season[1]} with at most "
            f"{max_cloud_percent:g} % cloud (rejected: {counts or 'none, the source lists no scene'}); add scenes, extend "
            "sentinel2.season, raise max_cloud_percent, or remove the year from the config"
        )
    selected = [_with_mask(scene, l1c_mask) for scene in selected]
    selected = [scene.with_assets([*bands, *scene.mask_keys]) for scene in selected]
    if source["kind"] == "archive":
        root = archives.archive_root(source, archive)
        selected = [archives.with_checksums(root, scene) for scene in selected]
    content = {
        "tile": tile,
        "year": int(year),
        "level": level,
        "source": {key: source[key] for key in ("kind", "url", "collections") if key in source},
        "season": list(season),
        "season_padding_days": season_padding_days,
        "max_cloud_percent": max_cloud_percent,
        "scenes": [scene.record() for scene in selected],
    }
    with atomic_write(scenes) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return {
        "scenes": [scene.id for scene in selected],
        "in_padding": sum(scene.in_padding for scene in selected),
        "masks": dict(sorted(Counter(str(scene.mask) for scene in selected).items())),
        "rejected": dict(sorted(rejected.items())),
    }


def _with_mask(scene: Scene, l1c_mask: str) -> Scene:
    """Return the scene with the cloud mask of the setting."""
    if scene.level != "L1C" or scene.mask == "CS":
        return scene
    return replace(scene, mask=clouds.choose_mask(scene.level, scene.assets, l1c_mask, f"scene {scene.id}"))


def _candidates(
    source: dict, archive: Path | None, sidecar: Path | None, tile: Tile, year: int, level: str
) -> Iterable[Scene]:
    if source["kind"] == "archive":
        return archives.find_scenes(archives.archive_root(source, archive), sidecar)
    if source["kind"] == "stac":
        return stac.search(source, tile, year, level)
    if source["kind"] == "earthengine":
        return earthengine.search(source, tile, year, level)
    raise DataError(f"source kind {source['kind']!r} is not valid; choose archive, stac or earthengine")


def select_scenes(candidates: Iterable[Scene], tile: Tile, criteria: Selection) -> tuple[list[Scene], Counter]:
    """Return (selected scenes, sorted by time and id; number of rejected scenes by reason).

    Of a granule that was processed by several baselines only the newest is selected. A scene without date matches
    every year; one without cloud cover counts as cloud-free.
    """
    selected: dict[tuple, Scene] = {}
    rejected: Counter = Counter()
    for candidate in candidates:
        days = 0 if candidate.datetime is None else days_outside_season(candidate.datetime, criteria.season)
        reason = _rejection(candidate, tile, criteria, days)
        if reason:
            rejected[reason] += 1
            continue
        scene = replace(candidate, in_padding=days > 0)
        granule = (scene.datetime, scene.mgrs or scene.id, scene.platform)
        other = selected.get(granule)
        if other is not None:
            rejected["older baseline"] += 1
        if other is None or (float(other.baseline or 0), other.id) < (float(scene.baseline or 0), scene.id):
            selected[granule] = scene
    return sorted(selected.values(), key=lambda scene: (scene.datetime or "", scene.id)), rejected


def days_outside_season(moment: str, season: list[str]) -> int:
    """Return the days from a time (ISO 8601) to the season, which may span the new year; 0 within it."""
    first, last, day = (date.fromisoformat(f"2000-{text}").timetuple().tm_yday for text in (*season, moment[5:10]))
    if first <= day <= last if first <= last else day >= first or day <= last:
        return 0
    return min((first - day) % _LEAP_YEAR_DAYS, (day - last) % _LEAP_YEAR_DAYS)


def _rejection(scene: Scene, tile: Tile, criteria: Selection, days: int) -> str | None:
    """Return the first criterion that a scene does not meet; `days` is its distance to the season."""
    if scene.level != criteria.level:
        return "level"
    if scene.datetime is not None and int(scene.datetime[:4]) != criteria.year:
        return "year"
    if days > criteria.season_padding_days:
        return "season"
    if (scene.cloud_percent or 0) > criteria.max_cloud_percent:
        return "cloud"
    return None if overlaps_tile(scene, tile) else "footprint"
