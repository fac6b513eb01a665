"""Checks of the sample: distances, leakage between splits, duplicate images, balance."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from jointseg.area import grid
from jointseg.dataset.contract import SPLITS
from jointseg.dataset.validation.base import (
    DATASET_CHECKS,
    FOLDER_CHECKS,
    INDEX,
    ChipSummary,
    Folder,
    Violation,
    check,
    is_utm,
)

GAP_M = 100  # between chips of two splits, edge to edge
SCALE = 0.002  # upper bound of the relative difference of UTM metres and metres on the ground
# Largest difference of the ISA fractions of two splits: absolute, and in standard errors.
MAX_DIFFERENCE, MAX_STANDARD_ERRORS = 0.25, 4

_RESAMPLE = "rerun step `samples`"


@check(FOLDER_CHECKS, "leakage", "chips of two splits overlap or are closer than the gap", _RESAMPLE)
def leakage(folder: Folder) -> Iterator[Violation]:
    for pair in _neighbours(folder, 1.5 * (folder.chip_m + GAP_M)):
        if pair.splits[0] != pair.splits[1] and pair.gap_m < GAP_M:
            relation = "overlaps" if pair.gap_m < 0 else f"{pair.gap_m:.0f} m from"
            value = f"{pair.splits[0]}, {relation} {pair.ids[1]} of {pair.splits[1]}"
            yield Violation(pair.ids[0], INDEX, value, f"{GAP_M} m between chips of two splits")


@check(FOLDER_CHECKS, "overlap", "chips of one split overlap", _RESAMPLE)
def overlap(folder: Folder) -> Iterator[Violation]:
    for pair in _neighbours(folder, 1.5 * folder.chip_m):
        if pair.splits[0] == pair.splits[1] and -folder.chip_m < pair.gap_m < 0:
            yield Violation(pair.ids[0], INDEX, f"overlaps {pair.ids[1]} by {-pair.gap_m:.0f} m", "no overlap")


@check(FOLDER_CHECKS, "spacing", "two centres are closer than the minimum spacing", _RESAMPLE)
def spacing(folder: Folder) -> Iterator[Violation]:
    minimum = folder.document("statistics.json").get("spacing_m")
    if not isinstance(minimum, int | float):
        return
    for pair in _neighbours(folder, minimum):
        if pair.gap_m >= 0 and pair.distance_m < minimum:
            value = f"{pair.distance_m:.0f} m from {pair.ids[1]}"
            yield Violation(pair.ids[0], INDEX, value, f"{minimum:g} m between centres")


@check(FOLDER_CHECKS, "block-split", "a block has chips in two splits", _RESAMPLE)
def block(folder: Folder) -> Iterator[Violation]:
    if not {"block", "split"} <= set(folder.table):
        return
    for (reach, name), rows in folder.table.groupby(["reach", "block"]):
        common = rows["split"].mode().iloc[0]
        for row in rows[rows["split"] != common].to_dict("records"):
            yield Violation(row["sample_id"], INDEX, f"{row['split']}", f"{common}, as block {name} of {reach}")


@check(FOLDER_CHECKS, "split-empty", "a split has no chip", "draw more samples, or use smaller blocks")
def split_empty(folder: Folder) -> Iterator[Violation]:
    if "split" in folder.table:
        for split in SPLITS:
            if not (folder.table["split"] == split).any():
                yield Violation("", INDEX, f"no chip of {split}", "chips in every split")


@check(DATASET_CHECKS, "split-balance", "the ISA fractions of two splits differ strongly", "use smaller blocks")
def split_balance(folder: Folder, summaries: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    if "split" not in folder.table:
        return
    fractions = {}
    for split in SPLITS:
        ids = folder.table["sample_id"][folder.table["split"] == split]
        values = np.array([summaries[name].isa_fraction for name in ids])
        fractions[split] = values[np.isfinite(values)]
    train = fractions.pop("train")
    for split, values in fractions.items():
        if len(values) < 2 or len(train) < 2:
            continue
        difference = abs(values.mean() - train.mean())
        error = np.sqrt(values.var(ddof=1) / len(values) + train.var(ddof=1) / len(train))
        if difference > MAX_DIFFERENCE and difference > MAX_STANDARD_ERRORS * error:
            value = f"ISA {values.mean():.2f} in {split}, {train.mean():.2f} in train"
            expected = f"a difference of at most {MAX_DIFFERENCE} or {MAX_STANDARD_ERRORS} standard errors"
            yield Violation("", INDEX, value, expected)


@check(DATASET_CHECKS, "duplicate-image", "two chips contain the same image", "find the cause and remove one chip")
def duplicate_image(folder: Folder, summaries: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    chips: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, summary in sorted(summaries.items()):
        for kind, digest in summary.images.items():
            chips[kind, digest].append(name)
    split = folder.table.set_index("sample_id")["split"] if "split" in folder.table else defaultdict(str)
    for (kind, _), names in sorted(chips.items()):
        for name in names[1:]:
            across = f", of {split[names[0]]}" if split[names[0]] != split[name] else ""
            file = next(file for file in summaries[name].digests if file.endswith(f"_{kind}.tif"))
            yield Violation(name, file, f"the pixels of {names[0]}{across}", "a unique image")


class _ChipPair(NamedTuple):
    """Two close chips: ids, splits, distance of the centres, and gap between the edges (negative: overlap), m."""

    ids: tuple[str, str]
    splits: tuple[str, str]
    distance_m: float
    gap_m: float


def _neighbours(folder: Folder, within_m: float) -> Iterator[_ChipPair]:
    """Yield the pairs of chips whose centres are at most `within_m` apart, in the order of their ids."""
    table = folder.table
    if not folder.chip_m or not {"split"} <= set(table):
        return
    table = table[table["epsg"].map(is_utm).astype(bool)].sort_values("sample_id")
    centre = table[["minx", "miny"]].to_numpy(dtype=float) + folder.chip_m / 2
    ids, splits, zones = (table[name].to_numpy() for name in ("sample_id", "split", "epsg"))
    geocentric = np.empty((len(table), 3))
    for zone in set(zones):
        in_zone = zones == zone
        to = grid.transformer(f"EPSG:{int(zone)}", "EPSG:4978")
        x, y = centre[in_zone].T
        geocentric[in_zone] = np.column_stack(to.transform(x, y, np.zeros(len(x))))
    for i, j in sorted(cKDTree(geocentric).query_pairs(within_m * (1 + SCALE))):
        step = np.abs(centre[i] - centre[j])
        distance = float(np.linalg.norm(geocentric[i] - geocentric[j]))
        # Squares of two zones are rotated against each other: only the distance of their centres is exact.
        same_zone = zones[i] == zones[j]
        gap = float(step.max()) - folder.chip_m if same_zone else distance - folder.chip_m
        distance = float(np.hypot(*step)) if same_zone else distance * (1 + SCALE)
        yield _ChipPair((ids[i], ids[j]), (splits[i], splits[j]), distance, gap)
