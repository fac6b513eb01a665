"""Two-phase sampling: candidates on a lattice, then a simple random sample of them in each stratum."""

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
from jointseg.dataset.candidates import Lattice, border_width_m, draw_candidates, gap_m, regular_positions
from jointseg.dataset.contract import SPLITS
from jointseg.dataset.prior_density import NODATA
from jointseg.dataset.sampling_area import STEP_M, Positions, SamplingArea
from jointseg.dataset.splits import assign_blocks
from jointseg.runtime.errors import DataError

CENTRE_M = 20  # the centre of a chip whose side is a multiple of this lies on the 10 m lattice, like its corners
# Expected candidates per sample and replacement sample of a stratum.
SURPLUS = 1.5
REGULAR_POSITIONS = 200_000
ORDER_STREAM, SPLIT_STREAM = 3, 4
_CLASSES = 100  # a stratum's number is reach x 100 + density class


@dataclass(frozen=True)
class Design:
    """Parameters of the sample; see `sampling.samples`. Raises DataError if they contradict each other."""

    tile_km: int
    chip_m: int
    spacing_m: float
    points: int
    allocation: str
    counts: Mapping[str, int]
    replacement_fraction: float
    classes: tuple[float, ...]  # lower edges of the second, third ... density class, percent; () for no classes
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
        fractions = self.splits
        if set(fractions) != set(SPLITS) or abs(sum(fractions.values()) - 1) > 1e-6:
            raise DataError(
                f"splits are {fractions}; expected fractions of train, validation and test that add up to 1"
            )
        if min(fractions["train"], fractions["test"]) <= 0 or fractions["validation"] < 0:
            raise DataError(f"splits are {fractions}; train and test need a fraction above 0")
        if self.allocation not in ALLOCATIONS:
            raise DataError(f"allocation is {self.allocation!r}; expected one of {', '.join(ALLOCATIONS)}")

    def replacements(self, samples: int) -> int:
        return math.ceil(round(self.replacement_fraction * samples, 9))

    def allocate(self, strata: list[Stratum], *, bounded: bool = True) -> dict[str, int]:
        return allocate(strata, self.points, self.allocation, self.counts, bounded=bounded)


@dataclass(frozen=True)
class SamplingPlan:
    """The strata with their area, and a lattice with enough candidates; independent of the seed."""

    lattice: Lattice
    strata: tuple[int, ...]
    area_m2: tuple[float, ...]


def plan_sampling(area: SamplingArea, design: Design) -> SamplingPlan:
    """Measure the strata on a regular lattice and find the widest window that leaves enough candidates in each.

    The window is at most as wide as the gap. A stratum that gets only its minimum does not narrow it. Raises DataError
    if a reach contains no position.
    """
    positions, represented_m2 = regular_positions(area, REGULAR_POSITIONS)
    if empty := sorted(set(area.names) - {area.names[i] for i in np.unique(positions.reach)}):
        raise DataError(
            f"reaches {empty} have no position for a chip of {design.chip_m} m within their tiles;"
            " lower chip_m, or check study area and grid"
        )
    number = _stratum_numbers(positions, design)
    numbers = tuple(int(value) for value in np.unique(number))
    areas_m2 = tuple(float(represented_m2[number == value].sum()) for value in numbers)
    gap = gap_m(design.spacing_m, design.chip_m)
    densest = [
        _stratum(area, value, design, int(total / gap**2), positions.percent[number == value], positions)
        for value, total in zip(numbers, areas_m2)
    ]
    wanted = design.allocate(densest)
    cells_m2 = [
        total / (SURPLUS * (wanted[stratum.name] + design.replacements(wanted[stratum.name])))
        for stratum, total in zip(densest, areas_m2)
        if wanted[stratum.name] > MIN_SAMPLES
    ]
    pitch = min([math.sqrt(cell) for cell in cells_m2], default=2 * gap)
    window = int(min(max(pitch - gap + STEP_M, STEP_M), gap)) // STEP_M * STEP_M
    return SamplingPlan(Lattice(gap, window), numbers, areas_m2)


def _stratum_numbers(positions: Positions, design: Design) -> np.ndarray:
    if not design.classes:
        return positions.reach.astype(np.int64) * _CLASSES
    density_class = np.searchsorted(design.classes, positions.percent, side="right") + 1
    return positions.reach.astype(np.int64) * _CLASSES + np.where(positions.percent == NODATA, 0, density_class)


def _stratum(
    area: SamplingArea, number: int, design: Design, candidates: int, percent: np.ndarray, positions: Positions
) -> Stratum:
    """Return a stratum, named after its reach, or reach/class with density classes.

    Class 0 is where the prior is nodata; its standard deviation is that of the entire reach.
    """
    if design.classes and number % _CLASSES == 0:
        percent = positions.percent[(positions.reach == number // _CLASSES) & (positions.percent != NODATA)]
    reach = area.names[number // _CLASSES]
    name = f"{reach}/{number % _CLASSES}" if design.classes else reach
    return Stratum(name, reach, candidates, _std_of_fractions(percent))


def _std_of_fractions(percent: np.ndarray) -> float:
    """Return the standard deviation of the fractions, from sums of integers: the same on every machine."""
    n = len(percent)
    if n < 2:
        return 0.0
    values = percent.astype(np.int64)
    squares = n * int((values**2).sum()) - int(values.sum()) ** 2
    return math.sqrt(squares / (n * (n - 1))) / 100


def draw_sample(
    area: SamplingArea, design: Design, plan: SamplingPlan, seed: int
) -> tuple[gpd.GeoDataFrame, list[dict[str, Any]]]:
    """Return the sample with its replacement samples, one row each, and per stratum the wanted and allocated numbers.

    Inclusion probability, that a point on the ground falls in a chip of the sample: chip_m^2 / pitch^2 x border factor x
    n / N of the stratum. 1 / it is the double-expansion weight (Saerndal, Swensson, Wretman 1992, section 9.3), which
    estimates totals over all positions of a chip without bias.
    """
    candidates, factor = draw_candidates(area, plan.lattice, border_width_m(design.spacing_m, design.chip_m), seed)
    number = _stratum_numbers(candidates, design)
    numbers = sorted({*plan.strata, *(int(value) for value in np.unique(number))})
    members = [np.flatnonzero(number == value) for value in numbers]
    strata = [
        _stratum(area, value, design, len(rows), candidates.percent[rows], candidates)
        for value, rows in zip(numbers, members)
    ]
    allocated, wanted = design.allocate(strata), design.allocate(strata, bounded=False)
    area_m2 = dict(zip(plan.strata, plan.area_m2))
    chip_per_cell = design.chip_m**2 / plan.lattice.pitch_m**2
    drawn_rows, facts = [], []
    for value, stratum, rows in zip(numbers, strata, members):
        n = allocated[stratum.name]
        order = rows[_generator(seed, ORDER_STREAM, stratum.name).permutation(len(rows))]
        drawn_rows.append(order[: n + design.replacements(n)])
        facts.append(
            {
                "stratum": stratum.name,
                "reach": stratum.reach,
                "area_km2": round(area_m2.get(value, 0.0) / 1e6, 6),
                "candidates": stratum.candidates,
                "wanted": wanted[stratum.name],
                "allocated": n,
                "replacements": len(drawn_rows[-1]) - n,
                "replacements_wanted": design.replacements(wanted[stratum.name]),
                "inclusion_probability": chip_per_cell * n / max(stratum.candidates, 1),
            }
        )
    drawn, sizes = np.concatenate(drawn_rows), [len(rows) for rows in drawn_rows]
    rank = np.concatenate([np.arange(1, size + 1) for size in sizes])
    main_size = np.repeat([fact["allocated"] for fact in facts], sizes)
    sampled_fraction = main_size / np.repeat([max(stratum.candidates, 1) for stratum in strata], sizes)
    table = _table(area, candidates[drawn], number[drawn], design, seed)
    table.insert(2, "stratum", np.repeat([stratum.name for stratum in strata], sizes))
    table.insert(3, "rank", rank)
    table.insert(4, "replacement", rank > main_size)
    table.insert(5, "inclusion_probability", chip_per_cell * factor[drawn] * sampled_fraction)
    return table, facts


def _table(area: SamplingArea, drawn: Positions, number: np.ndarray, design: Design, seed: int) -> gpd.GeoDataFrame:
    reach = np.array(area.names)[drawn.reach]
    counted: Counter[str] = Counter()
    ids = []
    for name in reach:
        counted[name] += 1
        ids.append(f"{name}-{counted[name]:04d}")
    column, row = drawn.x // design.block_m, drawn.y // design.block_m
    blocks = np.array([f"{name}-{code}-{i}-{j}" for name, code, i, j in zip(reach, drawn.epsg, column, row)])
    split_of: dict[str, str] = {}
    for name in area.names:
        in_reach = reach == name
        try:
            split_of |= assign_blocks(
                _chips_by_class(blocks[in_reach], number[in_reach]), design.splits, _generator(seed, SPLIT_STREAM, name)
            )
        except DataError as error:
            raise DataError(f"reach {name}: {error}") from None
    side = design.tile_km * 1000
    tiles = [
        grid.Tile(code % 100, code < 32700, x // side * design.tile_km, y // side * design.tile_km, design.tile_km).id
        for code, x, y in zip(drawn.epsg.tolist(), drawn.x.tolist(), drawn.y.tolist())
    ]
    return gpd.GeoDataFrame(
        {
            "sample_id": ids,
            "reach": reach,
            "split": [split_of[block] for block in blocks],
            "block": blocks,
            "tile": tiles,
            "epsg": drawn.epsg,
            "minx": (drawn.x - design.chip_m // 2).astype(np.float64),
            "miny": (drawn.y - design.chip_m // 2).astype(np.float64),
        },
        geometry=shapely.points(drawn.lon, drawn.lat),
        crs=4326,
    )


def _chips_by_class(blocks: np.ndarray, number: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return the number of chips per block and density class, the densest class first."""
    classes = (number % _CLASSES).tolist()
    counts = Counter(zip(blocks.tolist(), classes))
    densest_first = sorted(set(classes), reverse=True)
    return {block: tuple(counts[block, value] for value in densest_first) for block in dict.fromkeys(blocks.tolist())}


def _generator(seed: int, stream: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, stream, zlib.crc32(name.encode())])
