"""Checks a dataset's folder against the contract and names every fault."""

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
_EVERY = [each for registry in (FOLDER_CHECKS, CHIP_CHECKS, DATASET_CHECKS) for each in registry.values()]
CHECKS: dict[str, Check] = {each.name: each for each in sorted(_EVERY, key=lambda each: THEMES.index(each.theme))}


@dataclass(frozen=True)
class Report:
    """What a check saw.

    Attributes:
        findings: sorted by check, chip and file.
        chips, files, bytes: that were read.
        version: of the dataset, empty where it tells none.
    """

    findings: list[Finding]
    chips: int
    files: int
    bytes: int
    version: str

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each check that found something."""
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
    begun: Callable[[int], None] = lambda total: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Report:
    """Runs every check on a folder. Every file of a chip is read once; memory holds a few chips at a time.

    Args:
        path: of the dataset, such as results/NAME/dataset.
        workers: threads that read chips; one a CPU when not given.
        begun: is told the number of chips.
        advance: is told of chips that are done.

    Raises DataError for a folder that is no dataset at all.
    """
    folder = load(path)
    findings = [finding for each in FOLDER_CHECKS.values() for finding in each.run(folder)]
    tales: dict[str, ChipSummary] = {}
    size = 0
    rows = folder.table.drop(columns="geometry", errors="ignore").to_dict("records")
    begun(len(rows))
    bands = _bands(folder, rows)
    for found, tale, count in map_ahead(lambda row: _chip(folder, row, bands), rows, workers or os.cpu_count() or 1):
        findings += found[0]
        tales[found[1]] = tale
        size += count
        advance(1)
    findings += [finding for each in DATASET_CHECKS.values() for finding in each.run(folder, tales)]
    file_count = sum(len(tale.digests) for tale in tales.values())
    version = folder.document(documents.STATISTICS).get("version") or ""
    return Report(sorted(set(findings)), len(rows), file_count, size, str(version))


def load(path: Path) -> Folder:
    """The folder with its tables and documents. Raises DataError when it is no dataset at all."""
    if not path.is_dir():
        raise DataError(f"{path} is no folder; give the folder of a dataset, such as results/NAME/dataset")
    if not any((path / name).exists() for name in (INDEX, "chips", "index", documents.COLLECTION)):
        raise DataError(
            f"{path} is no dataset: it holds neither {INDEX} nor chips/; give the folder that the step `dataset` "
            f"writes to, such as results/NAME/dataset"
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
                folder.documents[name] = documents.parsed(name, (path / name).read_bytes())
            except ValueError as error:
                folder.unreadable.append(Violation("", name, str(error), "what the step `dataset` writes"))
    return folder


def _tables(folder: Folder) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in sorted(folder.files):
        if name.endswith(".parquet") and name.startswith((INDEX, "samples", "index/", "pairs")):
            try:
                yield name, _read_table(folder.path / name)
            except (OSError, ValueError) as error:  # pyarrow's own errors are both
                told = " ".join(str(error).split())[:120]
                folder.unreadable.append(Violation("", name, told, "a GeoParquet or Parquet table"))


def _read_table(path: Path) -> pd.DataFrame:
    import pyarrow.parquet

    has_geometry = b"geo" in (pyarrow.parquet.read_schema(path).metadata or {})
    return gpd.read_parquet(path) if has_geometry else pd.read_parquet(path)


def _bands(folder: Folder, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names of the bands of the 10 m images: as the statistics tell, else as most of the first chips have them."""
    if told := folder.document(documents.STATISTICS).get("bands"):
        return tuple(map(str, told))
    found = (read_raster(folder.path, row["lr"]) for row in rows[:9] if isinstance(row.get("lr"), str))
    names = Counter(each.facts["names"] for each in found if each.opened)
    return names.most_common(1)[0][0] if names else ()


def _chip(
    folder: Folder, row: dict[str, Any], bands: tuple[str, ...]
) -> tuple[tuple[list[Finding], str], ChipSummary, int]:
    """The findings on one chip with its id, what it tells the checks of the whole, and the bytes read."""
    rasters: dict[str, RasterFile] = {
        kind: read_raster(folder.path, row[kind]) for kind in CHIP_RASTERS if isinstance(row.get(kind), str)
    }
    chip = Chip(row, folder.chip_m, bands, rasters)
    findings = [finding for each in CHIP_CHECKS.values() for finding in each.run(chip)]
    pictures = {kind: pixels for kind in ("lr", "hr") if (pixels := chip.pixels(kind)) is not None}
    label = chip.pixels("label")
    tale = ChipSummary(
        {each.file: each.digest for each in rasters.values() if each.digest is not None},
        {kind: hashlib.sha256(pixels.tobytes()).hexdigest() for kind, pixels in pictures.items() if pixels.any()},
        {kind: band_sums(pixels) for kind, pixels in pictures.items()},
        values.share_of(label) if label is not None else float(row.get("isa_fraction", "nan")),
    )
    return (findings, chip.id), tale, sum(each.size for each in rasters.values())
