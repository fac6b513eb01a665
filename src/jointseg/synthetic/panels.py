"""Render one panel of the valley in all years and simulate both satellites; runs in a worker process."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from jointseg.synthetic.acquisitions import Jilin1Scene, Sentinel2Acquisition, reach_halves
from jointseg.synthetic.jilin1 import add_clouds, write_scene
from jointseg.synthetic.landscape import BARE_CLASS, CROP_CLASS, GRASS_CLASS, TREE_CLASS, WATER_CLASS, render_static
from jointseg.synthetic.panel_raster import make_textures
from jointseg.synthetic.render import land_cover, render_year
from jointseg.synthetic.sensors import Sentinel2Optics, jilin1_image
from jointseg.synthetic.terrain import MARGIN_M
from jointseg.synthetic.valley import make_valley

COVER_YEAR = 2021
PRODUCT_YEARS = (1972, 1978, *range(1985, 2022))
# Land cover classes (see render.land_cover) whose fractions at 10 m WorldCover is made from.
FRACTION_CLASSES = (TREE_CLASS, GRASS_CLASS, CROP_CLASS, BARE_CLASS, WATER_CLASS)
NEVER = 9999  # construction year of pervious pixels


@dataclass(frozen=True)
class PanelJob:
    """Input of `render_panel`."""

    reach_km: int
    seed: int
    number: int  # index of the panel in `acquisitions.reach_halves`
    acquisitions: dict[int, list[Sentinel2Acquisition]]  # Sentinel-2 acquisitions by year
    scenes: list[Jilin1Scene]  # Jilin-1 scenes of the panel
    years: list[int]
    folder: Path


@dataclass
class PanelResult:
    # Year -> surface reflectance of each acquisition, float32 [4, rows, columns] at 10 m
    surface: dict[int, list[np.ndarray]]
    truth: dict[int, np.ndarray]  # year -> uint8 [rows, columns] at 1 m, 1 impervious
    isa_fraction: np.ndarray  # at 10 m at the end of each of PRODUCT_YEARS, float32 [years, rows, columns]
    land_cover: np.ndarray  # of COVER_YEAR at 1 m, uint8 [rows, columns]
    cover_fraction: np.ndarray  # of FRACTION_CLASSES at 10 m, float32 [classes, rows, columns]


# A worker process renders several panels of one valley.
_valley, _textures = cache(make_valley), cache(make_textures)


def render_panel(job: PanelJob) -> PanelResult:
    """Render a panel in all years and write its Jilin-1 scenes."""
    valley = _valley(job.reach_km, job.seed)
    panel = reach_halves(valley.frame)[job.number]
    wide = panel.grown(MARGIN_M)
    layers = render_static(valley, wide, _textures(job.seed))
    impervious = np.array([False] + [feature.impervious for feature in valley.features])
    years_built = np.array([0] + [feature.year_built for feature in valley.features])
    inner = (slice(MARGIN_M, -MARGIN_M), slice(MARGIN_M, -MARGIN_M))
    surface: dict[int, list[np.ndarray]] = {}
    truth = {}
    for year in job.years:
        view = render_year(valley, layers, year)
        top = view.top[inner]
        truth[year] = impervious[top].astype(np.uint8)
        if year in job.acquisitions:
            optics = Sentinel2Optics(view)
            surface[year] = [optics.observe(each.day_of_year, each.shift_m) for each in job.acquisitions[year]]
        if year == COVER_YEAR:
            cover = land_cover(valley, layers, view.top)[inner]
            first_year = np.where(impervious[top], years_built[top], NEVER)
        for scene in job.scenes:
            if scene.time_beijing.year == year:
                rng = valley.frame.rng(72, scene.number)
                day = scene.time_beijing.timetuple().tm_yday
                image = jilin1_image(view, wide, scene.window, day, scene.shift_m, rng)
                write_scene(job.folder, scene, add_clouds(image, scene, rng))
    isa_fraction = np.stack([_fraction_10m(first_year <= year) for year in PRODUCT_YEARS])
    cover_fraction = np.stack([_fraction_10m(cover == code) for code in FRACTION_CLASSES])
    return PanelResult(surface, truth, isa_fraction, cover, cover_fraction)


def _fraction_10m(mask: np.ndarray) -> np.ndarray:
    """Return the fraction of 1 m pixels in each 10 m pixel: float32."""
    rows, cols = (size // 10 for size in mask.shape)
    return mask.reshape(rows, 10, cols, 10).mean(axis=(1, 3), dtype=np.float32)
