"""Step `synthetic`: generate the synthetic scene, write it in the formats of the real sources, and its truth separately."""

import csv
import os
from contextlib import ExitStack
from dataclasses import dataclass
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
from jointseg.synthetic import reference_products as products_of
from jointseg.synthetic.panels import COVER_YEAR, PRODUCT_YEARS, PanelJob, PanelResult, render_panel
from jointseg.synthetic.terrain import EPSG, REACHES
from jointseg.synthetic.valley import Valley, make_valley, reach_box, to_utm

WORKERS = 2


@dataclass(frozen=True)
class SceneSettings:
    """Size and dates of the synthetic scene."""

    reach_km: int  # side of a reach
    years: list[int]  # years of the Sentinel-2 products
    dates_per_year: int  # Sentinel-2 dates in each year, besides a nearly overcast one
    jilin1_year: int  # year of the Jilin-1 scenes and of the map data
    date_shift_m: float = 3.0  # largest registration error of a Sentinel-2 date


Acquisitions = dict[int, list[acquisitions.Sentinel2Acquisition]]


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
    settings: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Generate all sources of a run from one seed.

    Args:
        study_area: GeoPackage with the layers regions and cities.
        sentinel2: folder, static STAC catalogue of Sentinel-2 products.
        osm: GeoPackage with GDAL's OSM layers lines and multipolygons.
        footprints: GeoPackage of building footprints.
        corrections: folder of Labelme files.
        products: folder with worldcover, gisa, gisd30 and sinolc1.
        elevation: GeoTIFF, terrain model on the lattice of Copernicus GLO-30.
        truth: folder with {year}/{reach}.tif at 1 m (0, 1), growth.csv and shifts.csv.
        settings: attributes of `SceneSettings`.
    """
    scene = SceneSettings(**settings)
    valley = make_valley(scene.reach_km, seed)
    dates = {
        year: acquisitions.sentinel2_acquisitions(valley.frame, year, scene.dates_per_year, scene.date_shift_m)
        for year in sorted(scene.years)
    }
    scenes = acquisitions.jilin1_scenes(valley.frame, scene.jilin1_year)
    scenes_path = os.path.relpath(jilin1, corrections)
    with ExitStack() as parts:
        study_area, sentinel2, jilin1, osm, footprints, corrections, products, truth = (
            parts.enter_context(atomic_write(path))
            for path in (study_area, sentinel2, jilin1, osm, footprints, corrections, products, truth)
        )
        products_of.write_elevation(elevation, valley.terrain)
        panels = _render(scene, seed, dates, scenes, jilin1)
        vectors.write_study_area(study_area, valley)
        in_osm = vectors.osm_coverage(valley, scene.jilin1_year)
        vectors.write_osm(osm, valley, scene.jilin1_year, in_osm)
        mapped = in_osm | vectors.write_footprints(footprints, valley, scene.jilin1_year)
        vectors.write_corrections(corrections, scenes_path, valley, scenes, scene.jilin1_year, mapped)
        surface = {
            year: [
                np.concatenate([panel.surface[year][k] for panel in panels], axis=2) for k in range(len(dates[year]))
            ]
            for year in dates
        }
        sentinel2_archive.write_archive(sentinel2, valley.frame, dates, surface)
        _write_products(products, valley, panels)
        fractions = _write_truth(truth, valley, panels)
        _write_shifts(truth / "shifts.csv", scenes, dates)
    return {"seed": seed, "isa_fraction": fractions}


def _render(
    scene: SceneSettings, seed: int, dates: Acquisitions, scenes: list[acquisitions.Jilin1Scene], jilin1: Path
) -> list[PanelResult]:
    """Render all panels in worker processes, from west to east."""
    years = sorted({*dates, scene.jilin1_year, COVER_YEAR})
    jobs = [
        PanelJob(scene.reach_km, seed, number, dates, [each for each in scenes if each.panel == number], years, jilin1)
        for number in range(2 * len(REACHES))
    ]
    with process_pool.spawn_pool(WORKERS) as workers:
        return list(track(workers.map(render_panel, jobs), "synthetic scene", total=len(jobs), unit="panel"))


def _write_products(folder: Path, valley: Valley, panels: list[PanelResult]) -> None:
    isa_fraction = np.concatenate([panel.isa_fraction for panel in panels], axis=2)
    cover_fraction = np.concatenate([panel.cover_fraction for panel in panels], axis=2)
    land_cover = np.concatenate([panel.land_cover for panel in panels], axis=1)
    frame, latest = valley.frame, isa_fraction[PRODUCT_YEARS.index(COVER_YEAR)]
    products_of.write_worldcover(folder / "worldcover", frame, latest, cover_fraction)
    products_of.write_gisa(folder / "gisa", frame, PRODUCT_YEARS, isa_fraction)
    products_of.write_gisd30(folder / "gisd30", frame, PRODUCT_YEARS, isa_fraction)
    products_of.write_sinolc1(folder / "sinolc1", frame, valley.cities, land_cover)


def _write_truth(folder: Path, valley: Valley, panels: list[PanelResult]) -> dict[int, float]:
    """Write the true maps and the ISA of the cities; return the ISA fraction of each year."""
    frame, rows = valley.frame, []
    fractions = {}
    for year in sorted(panels[0].truth):
        total = 0.0
        for number, reach in enumerate(REACHES):
            isa = np.concatenate([panels[2 * number + half].truth[year] for half in (0, 1)], axis=1)
            west, _, _, north = reach_box(frame, number).bounds
            transform = Affine(1, 0, west, 0, -1, north)
            path = folder / str(year) / f"{reach}.tif"
            cog.write(path, isa[None], crs=f"EPSG:{EPSG}", transform=transform, overviews="nearest")
            outline = to_utm(valley.cities[number].outline)
            inside = geometry_mask([outline], isa.shape, transform, invert=True)
            scale = float(grid.area_scale(EPSG, *outline.centroid.coords[0]))
            rows.append((valley.cities[number].name, year, f"{np.count_nonzero(isa[inside]) / scale / 1e6:.6f}"))
            total += float(isa.mean()) / len(REACHES)
        fractions[year] = round(total, 6)
    with (folder / "growth.csv").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("city", "year", "isa_km2"), *sorted(rows)])
    return fractions


def _write_shifts(path: Path, scenes: list[acquisitions.Jilin1Scene], dates: Acquisitions) -> None:
    """Write the true registration shifts, metres to add to the coordinates of each scene."""
    images: list[acquisitions.Jilin1Scene | acquisitions.Sentinel2Acquisition] = [*scenes]
    for year in sorted(dates):
        images += dates[year]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("scene", "shift_x_m", "shift_y_m"))
        writer.writerows((image.id, *(f"{shift:.3f}" for shift in image.shift_m)) for image in images)
