"""Step `samples`: a stratified random sample of chips with exactly known inclusion probabilities and a minimum spacing."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from jointseg.dataset import table_schemas
from jointseg.dataset.candidates import SamplingArea, retaining_zones
from jointseg.dataset.prior_density import PriorDensity
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
    """Draws chips in two phases and writes samples.parquet (GeoParquet, chip centres, EPSG:4326; `schema.SAMPLES`).

    The population are the positions, on the 10 m lattice of the UTM zone that owns them, of a chip's centre that lies in
    a reach while the chip's square of `chip_m` lies in the known tiles of that reach. Phase 1 takes candidates that keep
    their distance (`candidates`), phase 2 a simple random sample of those of each stratum, in random order, and goes on
    in the same order for the reserves (`drawing`). Blocks of `block_m` are dealt whole to splits (`splits`).

    Args:
        tile_km: size of the tiles in `tiles`.
        chip_m: side of a chip, a multiple of 20.
        spacing_m: smallest distance of two chip centres; chips' squares keep 100 m besides.
        points: samples over all strata.
        allocation: see `allocation.allocate`.
        counts: for allocation "fixed", samples of a reach or stratum.
        replacement_fraction: reserves for each sample of a stratum.
        density_classes: edges of the classes of the prior share of ISA, in 0..1, or None: then a reach is a stratum.
        splits: share of the blocks of every reach for "train", "validation" and "test".
        block_m: side of the blocks, a multiple of 10.
        density: percent of ISA, as step density writes it; with density_classes.

    Raises DataError when parameters contradict each other, a reach has no room for a chip, or too few blocks for every
    split to have one.
    """
    if (density_classes is None) != (density is None):
        raise DataError("density classes need the raster of step density, and that raster needs classes")
    edges = tuple(round(100 * edge, 6) for edge in density_classes or [])
    design = Design(
        tile_km, chip_m, spacing_m, points, allocation, counts, replacement_fraction, edges, splits, block_m
    )
    reaches = gpd.read_file(study_area, layer="reaches").to_crs(4326)
    polygons = {name: shapely.union_all(rows.geometry.values) for name, rows in reaches.groupby("name")}
    known = gpd.read_file(tiles)
    prior = None if density is None else PriorDensity(density)
    ground = SamplingArea(polygons, known, tile_km, chip_m, prior)
    whole = plan_sampling(ground, design)
    table, strata = draw_sample(ground, design, whole, seed)
    _warn(strata)
    with atomic_write(samples) as part:
        table_schemas.validate(table, table_schemas.SAMPLES, samples.name).to_parquet(part)
    main = table[~table["replacement"]]
    coins = retaining_zones(ground.zones, seed)
    return {
        "seed": seed,
        "gap_m": whole.lattice.gap_m,
        "window_m": whole.lattice.window_m,
        "pitch_m": whole.lattice.pitch_m,
        "borders": {f"{west}|{east}": f"{kept} keeps" for (west, east), kept in coins.items()},
        "strata": strata,
        "splits": {name: dict(sorted(Counter(rows["split"]).items())) for name, rows in main.groupby("reach")},
    }


def _warn(strata: list[dict[str, Any]]) -> None:
    """Names the strata that have too few candidates, and what would give them more."""
    remedy = "lower dataset.spacing_m or dataset.count, widen dataset.density.classes, or give the stratum less"
    short = [
        f"{row['stratum']} {row['allocated']} of {row['wanted']}" for row in strata if row["allocated"] < row["wanted"]
    ]
    if short:
        log.warning("too few candidates for the sample: %s; %s", ", ".join(short), remedy)
    bare = [
        f"{row['stratum']} {row['replacements']} of {row['replacements_wanted']}"
        for row in strata
        if row["replacements"] < row["replacements_wanted"]
    ]
    if bare:
        log.warning(
            "too few candidates for the reserves: %s; %s or lower dataset.replacement_fraction", ", ".join(bare), remedy
        )
