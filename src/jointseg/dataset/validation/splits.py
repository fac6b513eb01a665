"""Checks of the sample as a whole: distances, leakage between splits, copies, balance."""

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
SCALE = 0.002  # UTM metres and ground metres differ by at most this
APART, ERRORS = 0.25, 4  # ISA shares of two splits: difference, and in standard errors

_DRAW = "draw the samples again"


@check(FOLDER_CHECKS, "leakage", "chips of two splits overlap, or lie nearer than the gap", _DRAW)
def leakage(folder: Folder) -> Iterator[Violation]:
    for one in _neighbours(folder, 1.5 * (folder.chip_m + GAP_M)):
        if one.splits[0] != one.splits[1] and one.gap_m < GAP_M:
            told = "overlaps" if one.gap_m < 0 else f"{one.gap_m:.0f} m from"
            told = f"{one.splits[0]}, {told} {one.ids[1]} of {one.splits[1]}"
            yield Violation(one.ids[0], INDEX, told, f"{GAP_M} m between chips of two splits")


@check(FOLDER_CHECKS, "overlap", "chips of one split overlap", _DRAW)
def overlap(folder: Folder) -> Iterator[Violation]:
    for one in _neighbours(folder, 1.5 * folder.chip_m):
        if one.splits[0] == one.splits[1] and -folder.chip_m < one.gap_m < 0:
            yield Violation(
                one.ids[0], INDEX, f"overlaps {one.ids[1]} by {-one.gap_m:.0f} m", "chips side by side at most"
            )


@check(FOLDER_CHECKS, "spacing", "two centres are nearer than the spacing", _DRAW)
def spacing(folder: Folder) -> Iterator[Violation]:
    wanted = folder.document("statistics.json").get("spacing_m")
    if not isinstance(wanted, int | float):
        return
    for one in _neighbours(folder, wanted):
        if one.gap_m >= 0 and one.apart_m < wanted:
            yield Violation(
                one.ids[0], INDEX, f"{one.apart_m:.0f} m from {one.ids[1]}", f"{wanted:g} m between centres"
            )


@check(FOLDER_CHECKS, "block-split", "a block lies in two splits", _DRAW)
def block(folder: Folder) -> Iterator[Violation]:
    if not {"block", "split"} <= set(folder.table):
        return
    for (reach, name), rows in folder.table.groupby(["reach", "block"]):
        common = rows["split"].mode().iloc[0]
        for row in rows[rows["split"] != common].to_dict("records"):
            yield Violation(row["sample_id"], INDEX, f"{row['split']}", f"{common}, as block {name} of {reach}")


@check(FOLDER_CHECKS, "split-empty", "a split has no chip", "draw more samples, or smaller blocks")
def split_empty(folder: Folder) -> Iterator[Violation]:
    if "split" in folder.table:
        for split in SPLITS:
            if not (folder.table["split"] == split).any():
                yield Violation("", INDEX, f"no chip of {split}", "chips in every split")


@check(DATASET_CHECKS, "split-balance", "the shares of ISA of two splits are far apart", "draw with smaller blocks")
def split_balance(folder: Folder, tales: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    if "split" not in folder.table:
        return
    of = {
        split: np.array([tales[name].share for name in folder.table["sample_id"][folder.table["split"] == split]])
        for split in SPLITS
    }
    found = {split: values[np.isfinite(values)] for split, values in of.items()}
    whole = found.pop("train")
    for split, values in found.items():
        if len(values) < 2 or len(whole) < 2:
            continue
        apart = abs(values.mean() - whole.mean())
        error = np.sqrt(values.var(ddof=1) / len(values) + whole.var(ddof=1) / len(whole))
        if apart > APART and apart > ERRORS * error:
            told = f"ISA {values.mean():.2f} in {split}, {whole.mean():.2f} in train"
            yield Violation("", INDEX, told, f"at most {APART} or {ERRORS} standard errors apart")


@check(DATASET_CHECKS, "copy", "two chips hold the same picture", "leave one of them out, and look why")
def copy(folder: Folder, tales: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, tale in sorted(tales.items()):
        for kind, digest in tale.pictures.items():
            seen[kind, digest].append(name)
    split = folder.table.set_index("sample_id")["split"] if "split" in folder.table else defaultdict(str)
    for (kind, _), names in sorted(seen.items()):
        for name in names[1:]:
            across = f", of {split[names[0]]}" if split[names[0]] != split[name] else ""
            file = next(file for file in tales[name].digests if file.endswith(f"_{kind}.tif"))
            yield Violation(name, file, f"the pixels of {names[0]}{across}", "a picture of its own")


class _Near(NamedTuple):
    """Two chips that lie near: ids, splits, metres between the centres, and between the edges (negative: overlap)."""

    ids: tuple[str, str]
    splits: tuple[str, str]
    apart_m: float
    gap_m: float


def _neighbours(folder: Folder, within_m: float) -> Iterator[_Near]:
    """Pairs of chips whose centres are at most so far apart, in the order of their ids."""
    table = folder.table
    if not folder.chip_m or not {"split"} <= set(table):
        return
    table = table[table["epsg"].map(is_utm).astype(bool)].sort_values("sample_id")
    centre = table[["minx", "miny"]].to_numpy(dtype=float) + folder.chip_m / 2
    ids, splits, zones = (table[name].to_numpy() for name in ("sample_id", "split", "epsg"))
    globe = np.empty((len(table), 3))
    for zone in set(zones):
        here = zones == zone
        to = grid.transformer(f"EPSG:{int(zone)}", "EPSG:4978")
        globe[here] = np.column_stack(to.transform(centre[here, 0], centre[here, 1], np.zeros(here.sum())))
    for i, j in sorted(cKDTree(globe).query_pairs(within_m * (1 + SCALE))):
        step = np.abs(centre[i] - centre[j])
        apart = float(np.linalg.norm(globe[i] - globe[j]))
        # Across zones squares are turned against each other: what is sure is the distance of their centres.
        gap = float(step.max()) - folder.chip_m if zones[i] == zones[j] else apart - folder.chip_m
        apart = float(np.hypot(*step)) if zones[i] == zones[j] else apart * (1 + SCALE)
        yield _Near((ids[i], ids[j]), (splits[i], splits[j]), apart, gap)
