"""Step `scenes`: the frozen list of the scenes that a composite is made of."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
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
    """Writes the list of scenes of one year and tile, sorted by time and id, with size and sha256 of their files.

    Args:
        scenes: the JSON file to write.
        year: calendar year of the acquisitions.
        tile: id of the tile.
        tile_km: side of the tile.
        source: {"kind": "archive" | "stac" | "earthengine", ...}.
        level: product level, "L1C" or "L2A".
        season: first and last day, "mm-dd", both included; the first may come after the last (winter).
        max_cloud_percent: scenes with more cloud in their metadata are left out.
        bands: bands that the composite needs.
        season_padding_days: scenes so many days before or after the season, in the same year, are listed too, marked `wider`.
        l1c_mask: where the clouds of L1C scenes come from: "classi", "s2cloudless", or "auto": the latter where its
            ten bands are there.
        archive: folder of scenes, for the kind archive.
        sidecar: JSON file that describes plain band files in it.

    Raises:
        DataError: no scene is left, or one lacks a band or a file.
    """
    place = parse_tile(tile, tile_km)
    if level not in LEVELS:
        raise DataError(f"level {level!r} of {year} is not known; allowed are {', '.join(LEVELS)}")
    chosen, rejected = select_scenes(
        _candidates(source, archive, sidecar, place, int(year), level),
        place,
        year=int(year),
        level=level,
        season=season,
        max_cloud_percent=max_cloud_percent,
        season_padding_days=season_padding_days,
    )
    log.info("%s %s: %d scenes; left out: %s", tile, year, len(chosen), dict(rejected))
    if not chosen:
        why = ", ".join(f"{count} by {reason}" for reason, count in sorted(rejected.items())) or "it lists none at all"
        raise DataError(
            f"no {level} scene of {year} covers tile {tile} in {_name(source, archive)} from {season[0]} to {season[1]} "
            f"with at most {max_cloud_percent:g} % cloud (left out: {why}); add scenes, widen sentinel2.season or "
            "max_cloud_percent, or take the year out of the config"
        )
    chosen = [_masked(scene, l1c_mask) for scene in chosen]
    kept = [scene.keep([*bands, *scene.mask_keys]) for scene in chosen]
    if source["kind"] == "archive":
        root = archives.archive_root(source, archive)
        kept = [archives.with_checksums(root, scene) for scene in kept]
    listed = {
        "tile": tile,
        "year": int(year),
        "level": level,
        "source": {key: source[key] for key in ("kind", "url", "collections") if key in source},
        "season": list(season),
        "season_padding_days": season_padding_days,
        "max_cloud_percent": max_cloud_percent,
        "scenes": [scene.record() for scene in kept],
    }
    with atomic_write(scenes) as part:
        part.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return {
        "scenes": [scene.id for scene in kept],
        "wider": sum(scene.wider for scene in kept),
        "masks": dict(sorted(Counter(str(scene.mask) for scene in kept).items())),
        "left_out": dict(sorted(rejected.items())),
    }


def _masked(scene: Scene, l1c_mask: str) -> Scene:
    """The scene with the mask that the settings ask for."""
    if scene.level != "L1C" or scene.mask == "CS":
        return scene
    return replace(scene, mask=clouds.choose_mask(scene.level, scene.assets, l1c_mask, f"scene {scene.id}"))


def _name(source: dict, archive: Path | None) -> str:
    return str(source.get("url") or source.get("path") or archive or source["kind"])


def _candidates(
    source: dict, archive: Path | None, sidecar: Path | None, tile: Tile, year: int, level: str
) -> Iterable[Scene]:
    if source["kind"] == "archive":
        return archives.find_scenes(archives.archive_root(source, archive), sidecar)
    if source["kind"] == "stac":
        return stac.search(source, tile, year, level)
    if source["kind"] == "earthengine":
        return earthengine.search(source, tile, year, level)
    raise DataError(f"source kind {source['kind']!r} is not known; take archive, stac or earthengine")


def select_scenes(
    candidates: Iterable[Scene],
    tile: Tile,
    *,
    year: int,
    level: str,
    season: list[str],
    max_cloud_percent: float,
    season_padding_days: int = 0,
) -> tuple[list[Scene], Counter]:
    """(scenes to use, sorted by time and id; number of scenes left out by the first reason that applied).

    A granule that was delivered again by a newer processing baseline counts once, by the newest. A scene of
    unknown date counts for every year, one of unknown cloudiness as clear.
    """
    chosen: dict[tuple, Scene] = {}
    rejected: Counter = Counter()
    for candidate in candidates:
        off = 0 if candidate.datetime is None else days_outside_season(candidate.datetime, season)
        reason = _unfit(candidate, tile, year, level, off > season_padding_days, max_cloud_percent)
        if reason:
            rejected[reason] += 1
            continue
        scene = replace(candidate, wider=off > 0)
        granule = (scene.datetime, scene.mgrs or scene.id, scene.platform)
        other = chosen.get(granule)
        if other is not None:
            rejected["an older baseline"] += 1
        if other is None or (float(other.baseline or 0), other.id) < (float(scene.baseline or 0), scene.id):
            chosen[granule] = scene
    return sorted(chosen.values(), key=lambda scene: (scene.datetime or "", scene.id)), rejected


def days_outside_season(moment: str, season: list[str]) -> int:
    """Days from a time (ISO) to the season, first and last day "mm-dd", which may span the new year; 0 inside it."""
    first, last, day = (date.fromisoformat(f"2000-{text}").timetuple().tm_yday for text in (*season, moment[5:10]))
    if first <= day <= last if first <= last else day >= first or day <= last:
        return 0
    return min((first - day) % _LEAP_YEAR_DAYS, (day - last) % _LEAP_YEAR_DAYS)


def _unfit(
    scene: Scene, tile: Tile, year: int, level: str, out_of_season: bool, max_cloud_percent: float
) -> str | None:
    if scene.level != level:
        return "level"
    if scene.datetime is not None and int(scene.datetime[:4]) != year:
        return "year"
    if out_of_season:
        return "season"
    if (scene.cloud_percent or 0) > max_cloud_percent:
        return "cloud"
    return None if overlaps_tile(scene, tile) else "footprint"
