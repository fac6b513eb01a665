"""Step `synthetic`: draws the valley and delivers it in the formats of the real sources, with the truth apart."""

import csv
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.features import geometry_mask

from jointseg.area import grid
from jointseg.raster import cog
from jointseg.runtime import process_pool
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track
from jointseg.synthetic import acquisitions, sentinel2_archive, vectors
from jointseg.synthetic import reference_products as reference
from jointseg.synthetic.panels import COVER_YEAR, PRODUCT_YEARS, Drawn, Job, draw_panel
from jointseg.synthetic.terrain import EPSG, REACHES
from jointseg.synthetic.valley import World, make_world, reach_box, to_utm

log = logging.getLogger(__name__)

WORKERS = 2


def synthetic(
    *,
    study_area: Path,
    sentinel2: Path,
    jilin1: Path,
    osm: Path,
    footprints: Path,
    corrections: Path,
    products: Path,
    elevation: Path,
    truth: Path,
    world: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Makes every source of a run out of one seed.

    Args:
        study_area: GeoPackage with the layers regions and cities.
        sentinel2: folder, static STAC catalogue of Sentinel-2 products.
        jilin1: folder of Jilin-1 scenes.
        osm: GeoPackage with GDAL's OSM layers lines and multipolygons.
        footprints: GeoPackage of building outlines.
        corrections: folder of Labelme files.
        products: folder with worldcover, gisa, gisd30 and sinolc1.
        elevation: model of the ground's height, as Copernicus GLO-30.
        truth: folder with {year}/{reach}.tif at 1 m (0, 1), growth.csv, and what the scenes' shifts are.
        world: reach_km (side of a reach), years (of the Sentinel-2 products), dates_per_year, jilin_year (of the
            Jilin-1 scenes and of the map data).
        seed: of everything.

    Returns the seed, and the impervious share of each year.
    """
    valley = make_world(int(world["reach_km"]), seed)
    frame = valley.frame
    years, jilin_year = sorted(map(int, world["years"])), int(world["jilin_year"])
    looks = {
        year: acquisitions.looks(frame, year, int(world["dates_per_year"]), world.get("date_shift_m", 3.0))
        for year in years
    }
    scenes = acquisitions.high_scenes(frame, jilin_year)
    to_scenes = os.path.relpath(jilin1, corrections)
    with ExitStack() as parts:
        study_area, sentinel2, jilin1, osm, footprints, corrections, products, truth = (
            parts.enter_context(atomic_write(path))
            for path in (study_area, sentinel2, jilin1, osm, footprints, corrections, products, truth)
        )
        reference.elevation(elevation, valley.terrain)
        jobs = [
            Job(
                int(world["reach_km"]),
                seed,
                number,
                looks,
                [scene for scene in scenes if scene.panel == number],
                sorted({*years, jilin_year, COVER_YEAR}),
                jilin1,
            )
            for number in range(2 * len(REACHES))
        ]
        drawn = _draw(jobs)
        _vectors(valley, jilin_year, scenes, study_area, osm, footprints, corrections, to_scenes)
        surface = {
            year: [np.concatenate([panel.surface[year][k] for panel in drawn], axis=2) for k in range(len(looks[year]))]
            for year in years
        }
        sentinel2_archive.deliver(sentinel2, frame, looks, surface)
        _products(products, valley, drawn)
        shares = _truth(truth, valley, drawn, scenes, looks)
    return {"seed": seed, "isa_fraction": shares}


def _draw(jobs: list[Job]) -> list[Drawn]:
    with process_pool.spawn_pool(WORKERS) as workers:
        return list(track(workers.map(draw_panel, jobs), "drawing the valley", total=len(jobs), unit="panel"))


def _vectors(
    valley: World,
    year: int,
    scenes: list[acquisitions.HighScene],
    study_area: Path,
    osm: Path,
    footprints: Path,
    corrections: Path,
    to_scenes: str,
) -> None:
    vectors.study_area(study_area, valley)
    mapped = vectors.mapped(valley, year)
    vectors.osm(osm, valley, year, mapped)
    known = mapped | vectors.footprints(footprints, valley, year)
    vectors.corrections(corrections, to_scenes, valley, scenes, year, known)


def _products(folder: Path, valley: World, drawn: list[Drawn]) -> None:
    shares = np.concatenate([panel.shares for panel in drawn], axis=2)
    cover_shares = np.concatenate([panel.cover_shares for panel in drawn], axis=2)
    frame = valley.frame
    reference.worldcover(folder / "worldcover", frame, shares[PRODUCT_YEARS.index(COVER_YEAR)], cover_shares)
    reference.gisa(folder / "gisa", frame, PRODUCT_YEARS, shares)
    reference.gisd30(folder / "gisd30", frame, PRODUCT_YEARS, shares)
    reference.sinolc1(
        folder / "sinolc1", frame, valley.cities, np.concatenate([panel.cover for panel in drawn], axis=1)
    )


def _truth(
    folder: Path,
    valley: World,
    drawn: list[Drawn],
    scenes: list[acquisitions.HighScene],
    looks: dict[int, list[acquisitions.Look]],
) -> dict[int, float]:
    """Truth rasters, the cities' growth, and the shifts that registration has to find."""
    frame, rows = valley.frame, []
    shares = {}
    for year in sorted(drawn[0].truth):
        total = 0.0
        for number, reach in enumerate(REACHES):
            isa = np.concatenate([drawn[2 * number + half].truth[year] for half in (0, 1)], axis=1)
            west, _, _, north = reach_box(frame, number).bounds
            transform = Affine(1, 0, west, 0, -1, north)
            path = folder / str(year) / f"{reach}.tif"
            cog.write(path, isa[None], crs=f"EPSG:{EPSG}", transform=transform, overviews="nearest")
            outline = to_utm(valley.cities[number].outline)
            inside = geometry_mask([outline], isa.shape, transform, invert=True)
            scale = float(grid.area_scale(EPSG, *outline.centroid.coords[0]))
            rows.append((valley.cities[number].name, year, f"{np.count_nonzero(isa[inside]) / scale / 1e6:.6f}"))
            total += float(isa.mean()) / len(REACHES)
        shares[year] = round(total, 6)
    with (folder / "growth.csv").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("city", "year", "isa_km2"), *sorted(rows)])
    _shifts(folder / "shifts.csv", scenes, looks)
    return shares


def _shifts(path: Path, scenes: list[acquisitions.HighScene], looks: dict[int, list[acquisitions.Look]]) -> None:
    """What to add to each scene's coordinates, in metres, to land on the ground it shows."""
    every: list[acquisitions.HighScene | acquisitions.Look] = [
        *scenes,
        *(look for year in sorted(looks) for look in looks[year]),
    ]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("scene", "shift_x_m", "shift_y_m"))
        writer.writerows((scene.id, *(f"{shift:.3f}" for shift in scene.shift_m)) for scene in every)
