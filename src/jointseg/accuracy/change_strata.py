"""Strata of a change sample: class sequences of a city's maps over the years."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from jointseg.accuracy.block_counts import Block, Grid, cell_counts, common_grid, map_blocks
from jointseg.accuracy.cluster_estimators import NODATA

NEVER, NEAR, ALWAYS, OTHER = "never", "near", "always", "other"
CELL_PX = 10  # side of the cells that define the stratum NEAR
_NO_STRATUM = 255  # of pixels that are nodata in some year


def stratum_names(years: Sequence[int]) -> list[str]:
    """Return the strata: never ISA, never ISA but near it, always ISA, ISA from a later year on, any other sequence.

    Most omissions are next to mapped ISA. Without the stratum NEAR, each omitted pixel in a sample of all that is never ISA would
    represent a large part of the city (Olofsson et al. 2020, Remote Sensing of Environment 236, 111492).
    """
    return [NEVER, NEAR, ALWAYS, *(f"new {year}" for year in years[1:]), OTHER]


@dataclass(frozen=True)
class Strata:
    grid: Grid
    years: list[int]  # of the maps, ascending
    counts: np.ndarray  # pixels of each block in each stratum, int64 [blocks, strata]
    # Whether a cell of 10 x 10 pixels or one of its eight neighbours has ISA in any year, bool [rows, columns]
    near: np.ndarray
    valid_km2: float  # area that is valid in all years


def stratify(mosaics: Sequence[Path], years: Sequence[int], threads: int) -> Strata:
    """Stratify a city's maps, one per year in the order of `years`, in one pass."""
    grid = common_grid(mosaics)
    rows, cols = (-(-side // CELL_PX) for side in grid.shape)
    isa, never = np.zeros((rows, cols), bool), np.zeros((rows, cols), np.uint8)
    table = _sequence_strata(years)
    number = len(stratum_names(years))

    def count(block: Block) -> tuple[Block, np.ndarray, np.ndarray, np.ndarray]:
        stratum = _by_sequence(block, table)
        counts = np.array([np.count_nonzero(stratum == index) for index in range(number)])
        isa_cells = cell_counts(np.logical_or.reduce([values == 1 for values in block.values]), CELL_PX) > 0
        return block, counts, isa_cells, cell_counts(stratum == 0, CELL_PX)

    counts, valid_km2, corners = [], 0.0, []
    for block, block_counts, isa_cells, never_cells in map_blocks(
        mosaics, count, threads, f"strata of {mosaics[0].stem}"
    ):
        top, left = block.row // CELL_PX, block.col // CELL_PX
        height, width = isa_cells.shape
        isa[top : top + height, left : left + width] = isa_cells
        never[top : top + height, left : left + width] = never_cells
        counts.append(block_counts)
        corners.append((top, left, height, width))
        valid_km2 += block.pixel_km2 * int(block_counts.sum())
    near = ndimage.binary_dilation(isa, np.ones((3, 3), bool))
    for block_counts, (top, left, height, width) in zip(counts, corners):
        cells = np.s_[top : top + height, left : left + width]
        block_counts[1] = int(never[cells][near[cells]].sum())
        block_counts[0] -= block_counts[1]
    return Strata(grid, list(years), np.array(counts), near, valid_km2)


def block_strata(block: Block, strata: Strata) -> np.ndarray:
    """Return the stratum of each pixel of a block, uint8 [rows, columns]: index in `stratum_names`, 255 for nodata."""
    stratum = _by_sequence(block, _sequence_strata(strata.years))
    rows, cols = stratum.shape
    top, left = block.row // CELL_PX, block.col // CELL_PX
    cells = strata.near[top : top + -(-rows // CELL_PX), left : left + -(-cols // CELL_PX)]
    near = cells.repeat(CELL_PX, 0).repeat(CELL_PX, 1)[:rows, :cols]
    stratum[(stratum == 0) & near] = 1
    return stratum


def _sequence_strata(years: Sequence[int]) -> np.ndarray:
    """Return the stratum of each class sequence, uint8 [2 ** years]; bit i of its number is set if year i is ISA."""
    number = len(years)
    names = stratum_names(years)
    table = np.full(2**number, names.index(OTHER), np.uint8)
    all_years = 2**number - 1
    table[0], table[all_years] = names.index(NEVER), names.index(ALWAYS)
    for index, year in enumerate(years[1:], 1):
        table[all_years ^ (2**index - 1)] = names.index(f"new {year}")
    return table


def _by_sequence(block: Block, table: np.ndarray) -> np.ndarray:
    sequence = np.zeros(block.values[0].shape, np.uint8)
    nodata = np.zeros(sequence.shape, bool)
    for index, values in enumerate(block.values):
        nodata |= values == NODATA
        sequence |= (values == 1).view(np.uint8) << np.uint8(index)
    stratum = table[sequence]
    stratum[nodata] = _NO_STRATUM
    return stratum
