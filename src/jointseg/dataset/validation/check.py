"""Validation of a dataset's folder against the contract."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from jointseg.dataset.band_statistics import band_sums
from jointseg.dataset.contract import CHIP_RASTERS, map_ahead
from jointseg.dataset.validation import documents, files, index, splits, values  # noqa: F401
from jointseg.dataset.validation.base import (
    CHIP_CHECKS,
    DATASET_CHECKS,
    FOLDER_CHECKS,
    INDEX,
    Check,
    Chip,
    ChipSummary,
    Finding,
    Folder,
    RasterFile,
    Violation,
    read_raster,
)
from jointseg.runtime.errors import DataError

THEMES = ("index", "files", "values", "splits", "documents")
_ALL = [entry for registry in (FOLDER_CHECKS, CHIP_CHECKS, DATASET_CHECKS) for entry in registry.values()]
CHECKS: dict[str, Check] = {entry.name: entry for entry in sorted(_ALL, key=lambda entry: THEMES.index(entry.theme))}


@dataclass(frozen=True)
class Report:
    """The result of a validation."""

    findings: list[Finding]  # sorted by check, chip and file
    # chips, files, bytes: amounts read
    chips: int
    files: int
    bytes: int
    version: str  # of the dataset, empty if missing

    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(finding.check for finding in self.findings).items()))

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "chips": self.chips,
            "files": self.files,
            "bytes": self.bytes,
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(
    path: Path,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    on_progress: Callable[[int], None] = lambda count: None,
) -> Report:
    """Run all checks on a folder. Every file of a chip is read once; memory holds a few chips at a time.

    Raises DataError for a folder that is not a dataset.

    Args:
        path: of the dataset, such as results/NAME/dataset.
        workers: threads that read chips; default one per CPU.
        on_start: called with the number of chips.
        on_progress: called with the number of completed chips.
    """
    folder = load(path)
    findings = [finding for entry in FOLDER_CHECKS.values() for finding in entry.run(folder)]
    summaries: dict[str, ChipSummary] = {}
    size = 0
    rows = folder.table.drop(columns="geometry", errors="ignore").to_dict("records")
    on_start(len(rows))
    bands = _bands(folder, rows)
    for chip in map_ahead(lambda row: _check_chip(folder, row, bands), rows, workers or os.cpu_count() or 1):
        findings += chip.findings
        summaries[chip.id] = chip.summary
        size += chip.size
        on_progress(1)
    findings += [finding for entry in DATASET_CHECKS.values() for finding in entry.run(folder, summaries)]
    file_count = sum(len(summary.digests) for summary in summaries.values())
    version = folder.document(documents.STATISTICS).get("version") or ""
    return Report(sorted(set(findings)), len(rows), file_count, size, str(version))


def load(path: Path) -> Folder:
    """Return the folder with its tables and documents. Raises DataError if it is not a dataset."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected the folder of a dataset, such as results/NAME/dataset")
    if not any((path / name).exists() for name in (INDEX, "chips", "index", documents.COLLECTION)):
        raise DataError(
            f"{path} is not a dataset: it contains neither {INDEX} nor chips/; expected the output folder of the step "
            "`dataset`, such as results/NAME/dataset"
        )
    folder = Folder(path)
    for name, table in _tables(folder):
        if name == INDEX:
            folder.index = table
        else:
            folder.tables[name] = table
    for name in documents.DOCUMENTS:
        if name in folder.files and not name.endswith(".parquet"):
            try:
                folder.documents[name] = documents.parse(name, (path / name).read_bytes())
            except ValueError as error:
                folder.unreadable.append(Violation("", name, str(error), "an output of the step `dataset`"))
    return folder


def _tables(folder: Folder) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in sorted(folder.files):
        if name.endswith(".parquet") and name.startswith((INDEX, "samples", "index/", "pairs")):
            try:
                yield name, _read_table(folder.path / name)
            except (OSError, ValueError) as error:  # the base classes of pyarrow's errors
                reason = " ".join(str(error).split())[:120]
                folder.unreadable.append(Violation("", name, reason, "a GeoParquet or Parquet table"))


def _read_table(path: Path) -> pd.DataFrame:
    import pyarrow.parquet

    has_geometry = b"geo" in (pyarrow.parquet.read_schema(path).metadata or {})
    return gpd.read_parquet(path) if has_geometry else pd.read_parquet(path)


def _bands(folder: Folder, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the band names of the 10 m images: from the statistics, else the most common of the first chips."""
    if bands := folder.document(documents.STATISTICS).get("bands"):
        return tuple(map(str, bands))
    rasters = (read_raster(folder.path, row["lr"]) for row in rows[:9] if isinstance(row.get("lr"), str))
    names = Counter(raster.profile["names"] for raster in rasters if raster.opened)
    return names.most_common(1)[0][0] if names else ()


@dataclass(frozen=True)
class _CheckedChip:
    id: str
    findings: list[Finding]
    summary: ChipSummary
    size: int


def _check_chip(folder: Folder, row: dict[str, Any], bands: tuple[str, ...]) -> _CheckedChip:
    rasters: dict[str, RasterFile] = {
        kind: read_raster(folder.path, row[kind]) for kind in CHIP_RASTERS if isinstance(row.get(kind), str)
    }
    chip = Chip(row, folder.chip_m, bands, rasters)
    findings = [finding for entry in CHIP_CHECKS.values() for finding in entry.run(chip)]
    images = {kind: pixels for kind in ("lr", "hr") if (pixels := chip.pixels(kind)) is not None}
    label = chip.pixels("label")
    summary = ChipSummary(
        {raster.file: raster.digest for raster in rasters.values() if raster.digest is not None},
        {kind: hashlib.sha256(pixels.tobytes()).hexdigest() for kind, pixels in images.items() if pixels.any()},
        {kind: band_sums(pixels) for kind, pixels in images.items()},
        values.isa_fraction_of(label) if label is not None else float(row.get("isa_fraction", "nan")),
    )
    return _CheckedChip(chip.id, findings, summary, sum(raster.size for raster in rasters.values()))
