"""The ground of a city by what its maps say over the years: the strata of a sample of points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from jointseg.accuracy.block_counts import Block, Grid, cell_counts, common_grid, looked_at
from jointseg.accuracy.cluster_estimators import UNKNOWN

NEVER, NEAR, ALWAYS, OTHER = "never", "near", "always", "other"
CELL = 10  # px along the side of the cells in which nearness is told
_UNKNOWN = 255  # stratum of pixels that some year does not know; they are in no stratum


def names(years: Sequence[int]) -> list[str]:
    """The strata: never ISA, never but near some, always, new in a year and from then on, and any other course.

    What a map missed lies mostly beside what it found; were it sought in all that is never ISA, each missed pixel that a
    sample meets would stand for a large part of the city (Olofsson et al. 2020, Remote Sensing of Environment 236, 111492).
    """
    return [NEVER, NEAR, ALWAYS, *(f"new {year}" for year in years[1:]), OTHER]


@dataclass(frozen=True)
class Strata:
    """The strata of a city.

    Attributes:
        place: the grid of its maps.
        years: of the maps, ascending.
        counts: pixels of each block in each stratum, int64 [blocks, strata].
        near: by cell of 10 x 10 pixels, whether there is ISA in some year in it or in one of its eight neighbours.
        km2: ground that every year knows.
    """

    place: Grid
    years: list[int]
    counts: np.ndarray
    near: np.ndarray
    km2: float


def stratified(mosaics: Sequence[Path], years: Sequence[int], threads: int) -> Strata:
    """Looks at a city's maps, one a year in the order of `years`, once."""
    place = common_grid(mosaics)
    rows, cols = (-(-side // CELL) for side in place.shape)
    isa, never = np.zeros((rows, cols), bool), np.zeros((rows, cols), np.uint8)
    table = _courses(years)
    number = len(names(years))

    def look(block: Block) -> tuple[Block, np.ndarray, np.ndarray, np.ndarray]:
        stratum = _of_block(block, table)
        counts = np.array([np.count_nonzero(stratum == place) for place in range(number)])
        found = cell_counts(np.logical_or.reduce([values == 1 for values in block.values]), CELL) > 0
        return block, counts, found, cell_counts(stratum == 0, CELL)

    counts, km2, corners = [], 0.0, []
    for block, each, found, free in looked_at(mosaics, look, threads, f"strata of {mosaics[0].stem}"):
        top, left = block.row // CELL, block.col // CELL
        isa[top : top + found.shape[0], left : left + found.shape[1]] = found
        never[top : top + free.shape[0], left : left + free.shape[1]] = free
        counts.append(each)
        corners.append((top, left, *found.shape))
        km2 += block.pixel_km2 * int(each.sum())
    near = ndimage.binary_dilation(isa, np.ones((3, 3), bool))
    for each, (top, left, height, width) in zip(counts, corners):
        cells = np.s_[top : top + height, left : left + width]
        each[1] = int(never[cells][near[cells]].sum())
        each[0] -= each[1]
    return Strata(place, list(years), np.array(counts), near, km2)


def of_block(block: Block, strata: Strata) -> np.ndarray:
    """Stratum of each pixel of a block, uint8 [rows, columns]: its place in `names`; 255 where some year is unknown."""
    stratum = _of_block(block, _courses(strata.years))
    rows, cols = stratum.shape
    top, left = block.row // CELL, block.col // CELL
    cells = strata.near[top : top + -(-rows // CELL), left : left + -(-cols // CELL)]
    near = cells.repeat(CELL, 0).repeat(CELL, 1)[:rows, :cols]
    stratum[(stratum == 0) & near] = 1
    return stratum


def _courses(years: Sequence[int]) -> np.ndarray:
    """Stratum of each course, uint8 [2 ** years]; bit i of its number is whether the ground is ISA in the i-th year."""
    number = len(years)
    listed = names(years)
    table = np.full(2**number, listed.index(OTHER), np.uint8)
    everything = 2**number - 1
    table[0], table[everything] = listed.index(NEVER), listed.index(ALWAYS)
    for place, year in enumerate(years[1:], 1):
        table[everything ^ (2**place - 1)] = listed.index(f"new {year}")
    return table


def _of_block(block: Block, table: np.ndarray) -> np.ndarray:
    course = np.zeros(block.values[0].shape, np.uint8)
    unknown = np.zeros(course.shape, bool)
    for place, values in enumerate(block.values):
        unknown |= values == UNKNOWN
        course |= (values == 1).view(np.uint8) << np.uint8(place)
    stratum = table[course]
    stratum[unknown] = _UNKNOWN
    return stratum
