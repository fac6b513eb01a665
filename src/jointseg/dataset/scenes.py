"""Usable high-resolution scenes, and their ranking for a chip."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import geopandas as gpd
import shapely

from jointseg.area import grid

# Differences that have the same penalty as one percent of cloud: years from the composite's year, days of the year from
# the middle of its season, and degrees of view angle.
YEARS, DAYS, DEGREES = 0.2, 20.0, 5.0


@dataclass(frozen=True)
class Scene:
    """A row of the index of deliveries."""

    id: str
    path: str  # its raster, relative to the folder of deliveries
    time: datetime  # acquisition, UTC
    # cloud_percent, view_angle, sun_elevation: of the entire scene; NaN if the metadata lack them
    cloud_percent: float
    view_angle: float
    sun_elevation: float
    bands: tuple[int, int, int]  # band numbers (from 1) of red, green and blue
    nodata: float  # digital number of nodata, or NaN
    footprint: shapely.Geometry  # EPSG:4326


def load(deliveries: Path) -> list[Scene]:
    """Return the usable scenes of an index of deliveries."""
    table = gpd.read_parquet(deliveries)
    return [
        Scene(
            id=row.scene_id,
            path=row.path,
            time=datetime.fromisoformat(row.time),
            cloud_percent=row.cloud_percent,
            view_angle=row.view_angle,
            sun_elevation=row.sun_elevation,
            bands=(row.red, row.green, row.blue),
            nodata=row.nodata,
            footprint=row.geometry,
        )
        for row in table[table["usable"]].itertuples()
    ]


def mid_season_day(season: Sequence[str]) -> int:
    """Return the day of the year in the middle of a season such as ("04-01", "10-31"); it may span the new year."""
    first, last = (date.fromisoformat(f"2001-{day.replace('02-29', '02-28')}").timetuple().tm_yday for day in season)
    length = (last - first) % 365
    return (first + length // 2 - 1) % 365 + 1


def candidate_scenes(
    scenes: Iterable[Scene], epsg: int, bounds: tuple[float, float, float, float], year: int, mid_season: int
) -> list[Scene]:
    """Return the scenes whose footprint covers a square (min x, min y, max x, max y) of a UTM zone, best first.

    A scene's rank is a sum of penalties: one for each percent of cloud, for each YEARS between its year and the
    composite's, for each DAYS between its day of the year and the middle of the season (`mid_season`), and for each
    DEGREES of view angle. A missing cloud percentage or view angle counts as the worst among the other scenes.
    """
    square = grid.reproject(shapely.box(*bounds), f"EPSG:{epsg}", "EPSG:4326")
    covering = [scene for scene in scenes if shapely.covers(scene.footprint, square)]
    worst_cloud = _worst(scene.cloud_percent for scene in covering)
    worst_angle = _worst(abs(scene.view_angle) for scene in covering)

    def rank(scene: Scene) -> tuple[float, str]:
        days = abs(scene.time.timetuple().tm_yday - mid_season)
        penalties = (
            worst_cloud if math.isnan(scene.cloud_percent) else scene.cloud_percent,
            abs(scene.time.year - year) / YEARS,
            min(days, 365 - days) / DAYS,
            (worst_angle if math.isnan(scene.view_angle) else abs(scene.view_angle)) / DEGREES,
        )
        return round(sum(penalties), 6), scene.id

    return sorted(covering, key=rank)


def _worst(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=0.0)
