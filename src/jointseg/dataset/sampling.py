"""Step `samples`: a stratified random sample of chips with known inclusion probabilities and a minimum spacing."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from jointseg.dataset import table_schemas
from jointseg.dataset.candidates import retaining_zones
from jointseg.dataset.prior_density import PriorDensity
from jointseg.dataset.sampling_area import SamplingArea
from jointseg.dataset.two_phase_sampling import Design, draw_sample, plan_sampling
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

log = logging.getLogger(__name__)


def samples(
    *,
    study_area: Path,
    tiles: Path,
    samples: Path,
    tile_km: int,
    chip_m: int,
    spacing_m: float,
    points: int,
    allocation: str,
    counts: Mapping[str, int],
    replacement_fraction: float,
    density_classes: list[float] | None,
    splits: dict[str, float],
    block_m: int,
    seed: int,
    density: Path | None = None,
) -> dict[str, Any]:
    """Draw chips in two phases and write samples.parquet (GeoParquet, chip centres, EPSG:4326;
    `table_schemas.SAMPLES`).

    The population is the set of positions, on the 10 m lattice of the UTM zone that owns them, where a chip's centre
    lies in a reach and the chip's square of `chip_m` lies in the tiles of that reach. Phase 1 draws candidates with a
    minimum distance (`candidates`). Phase 2 draws a simple random sample of the candidates of each stratum, in random
    order; the next candidates in the same order are the replacement samples (`two_phase_sampling`). Each block of
    `block_m` is assigned to one split (`splits`). Raises DataError if parameters contradict each other, a reach has no
    position for a chip, or there are fewer blocks than splits.

    Args:
        chip_m: side of a chip, a multiple of 20.
        spacing_m: minimum distance between two chip centres; chip squares are at least 100 m apart as well.
        allocation: see `allocation.allocate`.
        counts: for allocation "fixed", samples per reach or stratum.
        replacement_fraction: replacement samples per sample of a stratum.
        density_classes: class limits of the prior ISA fraction, 0..1; None to use reaches as strata.
        splits: fraction of the blocks of every reach for "train", "validation" and "test".
        block_m: side of the blocks, a multiple of 10.
        density: percent of ISA, from step `prior_density`; required with density_classes.
    """
    if (density_classes is None) != (density is None):
        raise DataError("density classes and the raster of step prior_density need each other; pass both or neither")
    limits = tuple(round(100 * limit, 6) for limit in density_classes or [])
    design = Design(
        tile_km, chip_m, spacing_m, points, allocation, counts, replacement_fraction, limits, splits, block_m
    )
    reaches = gpd.read_file(study_area, layer="reaches").to_crs(4326)
    polygons = {name: shapely.union_all(rows.geometry.values) for name, rows in reaches.groupby("name")}
    prior = None if density is None else PriorDensity(density)
    area = SamplingArea(polygons, gpd.read_file(tiles), tile_km, chip_m, prior)
    plan = plan_sampling(area, design)
    table, strata = draw_sample(area, design, plan, seed)
    _warn_of_shortage(strata)
    with atomic_write(samples) as part:
        table_schemas.validate(table, table_schemas.SAMPLES, samples.name).to_parquet(part)
    main = table[~table["replacement"]]
    return {
        "seed": seed,
        "gap_m": plan.lattice.gap_m,
        "window_m": plan.lattice.window_m,
        "pitch_m": plan.lattice.pitch_m,
        "borders": {f"{west}|{east}": zone for (west, east), zone in retaining_zones(area.zones, seed).items()},
        "strata": strata,
        "splits": {name: dict(sorted(Counter(rows["split"]).items())) for name, rows in main.groupby("reach")},
    }


def _warn_of_shortage(strata: list[dict[str, Any]]) -> None:
    remedy = (
        "lower dataset.spacing_m or dataset.count, widen dataset.prior_density.classes, or allocate fewer samples to "
        "the stratum"
    )
    for found, wanted, name, more in (
        ("allocated", "wanted", "sample", ""),
        ("replacements", "replacements_wanted", "replacement samples", ", or lower dataset.replacement_fraction"),
    ):
        short = [f"{row['stratum']} {row[found]} of {row[wanted]}" for row in strata if row[found] < row[wanted]]
        if short:
            log.warning("too few candidates for the %s: %s; %s%s", name, ", ".join(short), remedy, more)
