"""Joins the reaches into one dataset with its statistics and its card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from jointseg import raster
from jointseg.dataset.reader import SPLITS, ChipDataset
from jointseg.errors import DataError
from jointseg.progress import track


def dataset(
    *,
    indexes: Sequence[Path],
    chips: Sequence[Path],
    index: Path,
    statistics: Path,
    card: Path,
    pairs: Sequence[Path] = (),
) -> dict[str, Any]:
    """Writes index.parquet (all reaches), statistics.json (of the train split) and card.md.

    Statistics are means and standard deviations per band over the known pixels of the train split, in reflectance,
    for the 10 m and the 1 m images; with the share of ISA and the number of chips per split.

    Args:
        indexes: one a reach.
        chips: one folder a reach, all in the same folder.
        pairs: one a reach, named by it; the card then tells why samples were rejected.

    Raises DataError when a chip's file is missing or of another size, or a split has no chips.
    """
    frames = [gpd.read_parquet(path) for path in sorted(indexes)]
    table = pd.concat(frames, ignore_index=True).sort_values("sample_id", ignore_index=True)
    root = Path(chips[0]).parent
    _check_files(table, chips, root)
    facts = _statistics(table, root)
    with raster.atomic(index) as part:
        table.to_parquet(part)
    with raster.atomic(statistics) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n")
    with raster.atomic(card) as part:
        part.write_text(_card(table, facts, pairs))
    return {"chips": facts["chips"], "isa_share": facts["isa_share"]}


def _check_files(table: pd.DataFrame, chips: Sequence[Path], root: Path) -> None:
    if any(Path(folder).parent != root for folder in chips):
        raise DataError(f"chip folders {[str(folder) for folder in chips]} do not lie in one folder")
    there = {f"{Path(folder).name}/{path.name}" for folder in chips for path in Path(folder).iterdir()}
    named = {path for kind in ("lr", "hr", "label") for path in table[kind]}
    if missing := sorted(named - there):
        raise DataError(f"{len(missing)} chip files of the index are missing under {root}, the first {missing[0]}")
    if table["sample_id"].duplicated().any():
        raise DataError(f"sample {table['sample_id'][table['sample_id'].duplicated()].iloc[0]} is in two indexes")


def _statistics(table: gpd.GeoDataFrame, root: Path) -> dict[str, Any]:
    train = ChipDataset(table, root, "train", keep=False)
    sums = {kind: _Moments() for kind in ("lr", "hr")}
    for sample_id in track(train.ids, "statistics of the train split", unit="chip"):
        chip = train.read(sample_id)
        sums["lr"].add(chip.lr)
        sums["hr"].add(chip.hr)
    by_split = table.groupby("split")
    present = [split for split in SPLITS if split in by_split.groups]
    with raster.opened(root / table["lr"].iloc[0]) as source:
        bands = list(source.descriptions)
    return {
        **{kind: moments.summary() for kind, moments in sums.items()},
        "isa_share": {split: round(float(table.loc[table.split == split, "isa_share"].mean()), 6) for split in present},
        "chips": {split: int((table.split == split).sum()) for split in present},
        "bands": bands,
    }


class _Moments:
    """Running sums of known pixels, per band, in double precision."""

    def __init__(self) -> None:
        self.count: np.ndarray | float = 0.0
        self.sum: np.ndarray | float = 0.0
        self.square: np.ndarray | float = 0.0

    def add(self, image: np.ndarray) -> None:
        values = image.astype(np.float64).reshape(len(image), -1)
        self.count = self.count + np.isfinite(values).sum(axis=1)
        self.sum = self.sum + np.nansum(values, axis=1)
        self.square = self.square + np.nansum(values**2, axis=1)

    def summary(self) -> dict[str, list[float]]:
        mean = np.asarray(self.sum / self.count)
        std = np.sqrt(np.asarray(self.square / self.count) - mean**2)
        return {"mean": [round(float(m), 8) for m in mean], "std": [round(float(s), 8) for s in std]}


def _card(table: gpd.GeoDataFrame, facts: dict[str, Any], pairs: Sequence[Path]) -> str:
    """The dataset in a page of Markdown."""
    side_m = round(float(np.median(np.sqrt(table.to_crs(int(table["epsg"].iloc[0])).area))))
    lines = [
        "# ISASeg: chips for 1-m impervious surface area",
        "",
        f"{len(table)} chips of {side_m} m: a 10 m Sentinel-2 composite of "
        f"{', '.join(map(str, sorted(table['s2_year'].unique())))}, a Jilin-1 image resampled to 1 m and registered on "
        f"it, and a 1 m label (0 not impervious, 1 impervious, 255 unknown).",
        "",
        "## Chips and impervious share",
        "",
        "| reach | " + " | ".join(f"{split} | ISA" for split in SPLITS) + " |",
        "|---|" + "---:|---:|" * len(SPLITS),
    ]
    for reach, rows in table.groupby("reach", sort=True):
        lines.append(f"| {reach} | " + " | ".join(_cell(rows[rows.split == split]) for split in SPLITS) + " |")
    lines.append("| all | " + " | ".join(_cell(table[table.split == split]) for split in SPLITS) + " |")
    lines += [
        "",
        "ISA is the mean share of impervious pixels among the labelled ones. A chip's inclusion probability is that of "
        "a point of ground to fall in a chip of the sample, over all splits; chips that "
        "no high-resolution scene could be paired with are missing from the index and not made up for.",
        "",
        "## High-resolution images",
        "",
        "| scene | chips | date (UTC) | median shift east, north (m) | median agreement |",
        "|---|---:|---|---|---:|",
    ]
    for scene_id, rows in table.groupby("scene_id", sort=True):
        shift = rows[["shift_x_m", "shift_y_m"]].median()
        lines.append(
            f"| {scene_id} | {len(rows)} | {rows['hr_date'].iloc[0]} | {shift.iloc[0]:+.2f}, {shift.iloc[1]:+.2f} "
            f"| {rows['quality'].median():.2f} |"
        )
    if pairs:
        lines += ["", "## Pairing", "", "| reach | outcome | samples |", "|---|---|---:|"]
        for path in sorted(Path(path) for path in pairs):
            statuses = pd.read_parquet(path, columns=["status"])["status"].value_counts().sort_index()
            lines += [f"| {path.stem} | {status} | {number} |" for status, number in statuses.items()]
    lines += [
        "",
        "## Reflectance of the train split",
        "",
        "| image | " + " | ".join(facts["bands"]) + " |",
        "|---|" + "---:|" * len(facts["bands"]),
    ]
    for kind, name in (("lr", "10 m"), ("hr", "1 m")):
        cells = [f"{mean:.4f} +- {std:.4f}" for mean, std in zip(facts[kind]["mean"], facts[kind]["std"])]
        lines.append(f"| {name} | " + " | ".join(cells + [""] * (len(facts["bands"]) - len(cells))) + " |")
    lines += [
        "",
        "## Sources",
        "",
        "Sentinel-2: Copernicus. High resolution: Jilin-1 (Chang Guang Satellite Technology). Labels: OpenStreetMap "
        "contributors (ODbL), building footprints, and corrections drawn in Labelme.",
        "",
    ]
    return "\n".join(lines)


def _cell(rows: pd.DataFrame) -> str:
    return f"{len(rows)} | {rows['isa_share'].mean():.3f}" if len(rows) else "0 | -"
