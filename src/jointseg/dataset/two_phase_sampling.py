"""The two-phase draw: candidates on a lattice, then simple random samples of them within strata."""

import math
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from jointseg.area import grid
from jointseg.dataset.allocation import ALLOCATIONS, MIN_SAMPLES, Stratum, allocate
from jointseg.dataset.candidates import (
    STEP_M,
    Lattice,
    Positions,
    SamplingArea,
    border_width_m,
    draw_candidates,
    gap_m,
    regular_positions,
)
from jointseg.dataset.contract import SPLITS
from jointseg.dataset.prior_density import NODATA
from jointseg.dataset.splits import assign_blocks
from jointseg.runtime.errors import DataError

CENTRE_M = 20  # a chip of a multiple of this has its centre, like its corners, on the 10 m lattice
# Candidates that are to be expected for each sample and reserve of a stratum.
SURPLUS = 1.5
PROBES = 200_000
ORDER_STREAM, DEAL_STREAM = 3, 4
_CLASSES = 100  # a stratum's number is reach x 100 + class


@dataclass(frozen=True)
class Design:
    """What the sample is to be; see `sampling.samples`. DataError when its parts contradict each other."""

    tile_km: int
    chip_m: int
    spacing_m: float
    points: int
    allocation: str
    counts: Mapping[str, int]
    replacement_fraction: float
    classes: tuple[float, ...]  # lower edges of the second, third ... density class, percent; () without classes
    splits: Mapping[str, float]
    block_m: int

    def __post_init__(self) -> None:
        if self.chip_m % CENTRE_M or self.chip_m <= 0:
            raise DataError(f"chip_m is {self.chip_m}; it must be a multiple of {CENTRE_M}")
        if self.spacing_m < self.chip_m:
            raise DataError(
                f"spacing_m is {self.spacing_m}, less than chip_m {self.chip_m}: chips would overlap; raise spacing_m"
            )
        if self.block_m % 10 or self.block_m < self.chip_m:
            raise DataError(
                f"block_m is {self.block_m}; it must be a multiple of 10, not less than chip_m {self.chip_m}"
            )
        shares = self.splits
        if set(shares) != set(SPLITS) or abs(sum(shares.values()) - 1) > 1e-6:
            raise DataError(f"splits are {shares}; expected shares of train, validation and test that add up to 1")
        if min(shares["train"], shares["test"]) <= 0 or shares["validation"] < 0:
            raise DataError(f"splits are {shares}; train and test need a share above 0")
        if self.allocation not in ALLOCATIONS:
            raise DataError(f"allocation is {self.allocation!r}; expected one of {', '.join(ALLOCATIONS)}")

    def reserves(self, number: int) -> int:
        """Reserves wanted for so many samples."""
        return math.ceil(round(self.replacement_fraction * number, 9))


@dataclass(frozen=True)
class SamplingPlan:
    """The strata with their area, and the lattice that has room for the sample: the same for every seed."""

    lattice: Lattice
    strata: tuple[int, ...]
    area_m2: tuple[float, ...]


def stratum_name(ground: SamplingArea, number: int, design: Design) -> str:
    """`upstream`, or `upstream/2` with its class of density; class 0 is ground of unknown density."""
    reach = ground.names[number // _CLASSES]
    return f"{reach}/{number % _CLASSES}" if design.classes else reach


def plan_sampling(ground: SamplingArea, design: Design) -> SamplingPlan:
    """Measures the strata on a regular lattice and finds the widest window that leaves enough candidates in each.

    The window is at most as wide as the gap. A stratum that is wanted for its minimum alone does not narrow it.

    Raises DataError when a reach holds no position.
    """
    positions, area = regular_positions(ground, PROBES)
    if empty := sorted(set(ground.names) - {ground.names[i] for i in np.unique(positions.reach)}):
        raise DataError(
            f"reaches {empty} have no room for a chip of {design.chip_m} m in the known tiles;"
            " lower chip_m, or check study area and grid"
        )
    number = _strata(positions, design)
    strata = tuple(int(each) for each in np.unique(number))
    areas = tuple(float(area[number == each].sum()) for each in strata)
    gap = gap_m(design.spacing_m, design.chip_m)
    most = [
        _stratum(ground, each, design, int(total / gap**2), positions.percent[number == each], positions)
        for each, total in zip(strata, areas)
    ]
    wanted = allocate(most, design.points, design.allocation, design.counts)
    room = [
        total / (SURPLUS * (wanted[each.name] + design.reserves(wanted[each.name])))
        for each, total in zip(most, areas)
        if wanted[each.name] > MIN_SAMPLES
    ]
    pitch = min([math.sqrt(one) for one in room], default=2 * gap)
    window = int(min(max(pitch - gap + STEP_M, STEP_M), gap)) // STEP_M * STEP_M
    return SamplingPlan(Lattice(gap, window), strata, areas)


def _strata(positions: Positions, design: Design) -> np.ndarray:
    """Number of the stratum of each position."""
    if not design.classes:
        return positions.reach.astype(np.int64) * _CLASSES
    place = np.searchsorted(design.classes, positions.percent, side="right") + 1
    return positions.reach.astype(np.int64) * _CLASSES + np.where(positions.percent == NODATA, 0, place)


def _stratum(
    ground: SamplingArea, number: int, design: Design, size: int, percent: np.ndarray, every: Positions
) -> Stratum:
    """A stratum of so many candidates, with the spread of their prior share; of the whole reach where it is unknown."""
    if design.classes and number % _CLASSES == 0:
        percent = every.percent[(every.reach == number // _CLASSES) & (every.percent != NODATA)]
    name, reach = stratum_name(ground, number, design), ground.names[number // _CLASSES]
    return Stratum(name, reach, size, _spread(percent))


def _spread(percent: np.ndarray) -> float:
    """Standard deviation of shares given in percent; sums of whole numbers, so that every machine finds the same."""
    n = len(percent)
    if n < 2:
        return 0.0
    values = percent.astype(np.int64)
    squares = n * int((values**2).sum()) - int(values.sum()) ** 2
    return math.sqrt(squares / (n * (n - 1))) / 100


def draw_sample(
    ground: SamplingArea, design: Design, whole: SamplingPlan, seed: int
) -> tuple[gpd.GeoDataFrame, list[dict[str, Any]]]:
    """The sample with its reserves, a row each, and for every stratum what was wanted and found.

    Inclusion probability, that a point of ground falls in a chip of the sample: chip_m^2 / pitch^2 x border factor x
    n / N of the stratum. 1 / it is the double-expansion weight (Saerndal, Swensson, Wretman 1992, section 9.3), with which
    totals over all positions of a chip are estimated without bias.
    """
    found, factor = draw_candidates(ground, whole.lattice, border_width_m(design.spacing_m, design.chip_m), seed)
    number = _strata(found, design)
    strata = sorted({*whole.strata, *(int(each) for each in np.unique(number))})
    members = [np.flatnonzero(number == each) for each in strata]
    sized = [
        _stratum(ground, each, design, len(rows), found.percent[rows], found) for each, rows in zip(strata, members)
    ]
    given = allocate(sized, design.points, design.allocation, design.counts)
    wanted = allocate(sized, design.points, design.allocation, design.counts, bounded=False)
    area = dict(zip(whole.strata, whole.area_m2))
    rows, ranks, shares, facts = [], [], [], []
    for each, stratum, here in zip(strata, sized, members):
        n = given[stratum.name]
        order = here[_generator(seed, ORDER_STREAM, stratum.name).permutation(len(here))]
        taken = order[: n + design.reserves(n)]
        rows.append(taken)
        ranks.append(np.arange(1, len(taken) + 1))
        shares.append(np.full(len(taken), n / max(stratum.number, 1)))
        facts.append(
            {
                "stratum": stratum.name,
                "reach": stratum.reach,
                "area_km2": round(area.get(each, 0.0) / 1e6, 6),
                "candidates": stratum.number,
                "wanted": wanted[stratum.name],
                "allocated": n,
                "replacements": len(taken) - n,
                "replacements_wanted": design.reserves(wanted[stratum.name]),
                "inclusion_probability": design.chip_m**2 / whole.lattice.pitch_m**2 * n / max(stratum.number, 1),
            }
        )
    taken = np.concatenate(rows)
    names = np.repeat([stratum.name for stratum in sized], [len(each) for each in rows])
    reserve = np.concatenate([rank > given[stratum.name] for stratum, rank in zip(sized, ranks)])
    probability = design.chip_m**2 / whole.lattice.pitch_m**2 * factor[taken] * np.concatenate(shares)
    table = _table(ground, found[taken], number[taken], design, seed)
    table.insert(2, "stratum", names)
    table.insert(3, "rank", np.concatenate(ranks))
    table.insert(4, "replacement", reserve)
    table.insert(5, "inclusion_probability", probability)
    return table, facts


def _table(ground: SamplingArea, taken: Positions, number: np.ndarray, design: Design, seed: int) -> gpd.GeoDataFrame:
    reach = np.array(ground.names)[taken.reach]
    counted: Counter[str] = Counter()
    ids = []
    for name in reach:
        counted[name] += 1
        ids.append(f"{name}-{counted[name]:04d}")
    column, row = taken.x // design.block_m, taken.y // design.block_m
    blocks = np.array([f"{name}-{code}-{i}-{j}" for name, code, i, j in zip(reach, taken.epsg, column, row)])
    split_of: dict[str, str] = {}
    for name in ground.names:
        mine = reach == name
        try:
            split_of |= assign_blocks(
                _by_class(blocks[mine], number[mine]), design.splits, _generator(seed, DEAL_STREAM, name)
            )
        except DataError as error:
            raise DataError(f"reach {name}: {error}") from None
    side = design.tile_km * 1000
    tiles = [
        grid.Tile(code % 100, code < 32700, x // side * design.tile_km, y // side * design.tile_km, design.tile_km).id
        for code, x, y in zip(taken.epsg.tolist(), taken.x.tolist(), taken.y.tolist())
    ]
    return gpd.GeoDataFrame(
        {
            "sample_id": ids,
            "reach": reach,
            "split": [split_of[block] for block in blocks],
            "block": blocks,
            "tile": tiles,
            "epsg": taken.epsg,
            "minx": (taken.x - design.chip_m // 2).astype(np.float64),
            "miny": (taken.y - design.chip_m // 2).astype(np.float64),
        },
        geometry=shapely.points(taken.lon, taken.lat),
        crs=4326,
    )


def _by_class(blocks: np.ndarray, number: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Chips of every block by class, the densest class first."""
    classes = (number % _CLASSES).tolist()
    counts = Counter(zip(blocks.tolist(), classes))
    densest_first = sorted(set(classes), reverse=True)
    return {block: tuple(counts[block, each] for each in densest_first) for block in dict.fromkeys(blocks.tolist())}


def _generator(seed: int, stream: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, stream, zlib.crc32(name.encode())])
