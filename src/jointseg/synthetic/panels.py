"""The heavy part: one panel of the valley drawn in every year and seen by both satellites, in a process of its own."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from jointseg.synthetic.acquisitions import HighScene, Look, panels
from jointseg.synthetic.jilin1 import clouded, write_scene
from jointseg.synthetic.render import ground, land_cover, picture, textures
from jointseg.synthetic.sensors import Optics, jilin1
from jointseg.synthetic.terrain import MARGIN_M
from jointseg.synthetic.valley import World, make_world

COVER_YEAR = 2021
PRODUCT_YEARS = (1972, 1978, *range(1985, 2022))
# Land cover classes whose share of a 10 m pixel the products need, in the numbers of draw.land_cover.
SHARED_CLASSES = (2, 4, 5, 7, 9)


@dataclass(frozen=True)
class Job:
    """What to do with one panel."""

    reach_km: int
    seed: int
    number: int
    looks: dict[int, list[Look]]
    high: list[HighScene]
    years: list[int]
    jilin1: Path


@dataclass
class Drawn:
    """What a panel gives to the deliveries.

    Attributes:
        surface: year -> one float32 [4, rows, columns] at 10 m for each look.
        truth: year -> uint8 [rows, columns] at 1 m, 1 is impervious.
        shares: impervious share at 10 m at the end of each of PRODUCT_YEARS, float32 [years, rows, columns].
        cover: land cover of COVER_YEAR at 1 m, uint8.
        cover_shares: of SHARED_CLASSES at 10 m, float32 [classes, rows, columns].
    """

    surface: dict[int, list[np.ndarray]]
    truth: dict[int, np.ndarray]
    shares: np.ndarray
    cover: np.ndarray
    cover_shares: np.ndarray


@cache
def _world(reach_km: int, seed: int) -> World:
    return make_world(reach_km, seed)


@cache
def _textures(seed: int) -> dict[str, np.ndarray]:
    return textures(seed)


def draw_panel(job: Job) -> Drawn:
    """Draws a panel and writes its Jilin-1 scenes."""
    world = _world(job.reach_km, job.seed)
    panel = panels(world.frame)[job.number]
    wide = panel.grown(MARGIN_M)
    land = ground(world, wide, _textures(job.seed))
    isa = np.array([False] + [thing.isa for thing in world.things])
    births = np.array([0] + [thing.birth for thing in world.things])
    inner = (slice(MARGIN_M, -MARGIN_M), slice(MARGIN_M, -MARGIN_M))
    surface: dict[int, list[np.ndarray]] = {}
    truth = {}
    for year in job.years:
        view = picture(world, land, year)
        truth[year] = isa[view.top[inner]].astype(np.uint8)
        if year in job.looks:
            optics = Optics(view)
            surface[year] = [optics.look(look.day_of_year, look.shift_m) for look in job.looks[year]]
        if year == COVER_YEAR:
            cover = land_cover(world, land, view.top)[inner]
            first = np.where(isa[view.top[inner]], births[view.top[inner]], 9999)
        for scene in job.high:
            if scene.when_beijing.year == year:
                rng = world.frame.rng(72, scene.number)
                image = jilin1(view, wide, scene.window, scene.when_beijing.timetuple().tm_yday, scene.shift_m, rng)
                write_scene(job.jilin1, scene, clouded(image, scene, rng))
    shares = np.stack([_tenth(first <= year) for year in PRODUCT_YEARS])
    cover_shares = np.stack([_tenth(cover == code) for code in SHARED_CLASSES])
    return Drawn(surface, truth, shares, cover, cover_shares)


def _tenth(mask: np.ndarray) -> np.ndarray:
    """Share of the 1 m pixels of each 10 m pixel: float32."""
    rows, cols = (size // 10 for size in mask.shape)
    return mask.reshape(rows, 10, cols, 10).mean(axis=(1, 3), dtype=np.float32)
