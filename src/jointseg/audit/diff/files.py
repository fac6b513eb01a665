"""Comparison of two versions of a file: rasters by pixels, tables by rows and columns, JSON by keys."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.audit.diff import map as maps
from jointseg.audit.record_differences import setting_changes
from jointseg.run.console import first_of
from jointseg.runtime.errors import DataError

MAX_NAMES = 6
RASTERS = (".tif", ".tiff")
KEY = "sample_id"  # row key of the dataset's tables


@dataclass(frozen=True)
class FileComparison:
    """Difference between two files: a summary in one line and, for rasters, statistics."""

    summary: str
    raster: maps.RasterDiff | None = None


def compare_files(first: Path, second: Path, image: Path | None = None) -> FileComparison:
    """Compare two files by content, according to their suffix; `image` is a PNG file for differences of rasters."""
    missing = [str(path) for path in (first, second) if not path.is_file()]
    if missing:
        return FileComparison(f"missing file: {', '.join(missing)}")
    kind = first.suffix.lower()
    try:
        if kind in RASTERS:
            found = maps.compare(first, second, image)
            return FileComparison(found.summary(), found)
        return FileComparison(_COMPARISONS.get(kind, _bytes)(first, second))
    except (DataError, ValueError, KeyError, OSError) as error:
        return FileComparison(f"cannot be compared as {kind[1:]} ({error})")


def _bytes(first: Path, second: Path) -> str:
    return f"different content, {first.stat().st_size} and {second.stat().st_size} bytes"


def _json(first: Path, second: Path) -> str:
    changes = setting_changes(*({"": json.loads(path.read_bytes())} for path in (first, second)))
    keys = [change.what.removeprefix(".") or "(root)" for change in changes]
    return f"different values at {first_of(keys, MAX_NAMES)}" if keys else "same values, different bytes"


def _tables(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Differing columns and rows; rows are matched by sample_id if both tables have it, else by index."""
    parts = []
    for name, table, reference in (("A", one, other), ("B", other, one)):
        if only := [str(column) for column in table.columns if column not in reference.columns]:
            parts.append(f"columns only in {name}: {first_of(only, MAX_NAMES)}")
    if all(KEY in table and table[KEY].is_unique for table in (one, other)):
        one, other = one.set_index(KEY), other.set_index(KEY)
    for name, rows in (("A", one.index.difference(other.index)), ("B", other.index.difference(one.index))):
        if len(rows):
            parts.append(f"{len(rows)} rows only in {name}")
    shared = one.index.intersection(other.index, sort=False)
    changed = pd.DataFrame(
        {
            column: [not _equal(*pair) for pair in zip(one.loc[shared, column], other.loc[shared, column])]
            for column in one.columns.intersection(other.columns, sort=False)
        },
        index=shared,
    )
    columns = [str(column) for column in changed.columns[changed.any()]]
    if columns:
        rows = changed.index[changed.any(axis=1)]
        parts.append(
            f"{len(rows)} of {len(shared)} rows differ, first {rows[0]}; columns {first_of(columns, MAX_NAMES)}"
        )
    if not parts and list(one.index) != list(other.index):
        parts.append("same rows, different order")
    return "; ".join(parts) or "same rows, different bytes"


def _equal(one: Any, other: Any) -> bool:
    if pd.api.types.is_scalar(one) and pd.api.types.is_scalar(other):
        return bool(pd.isna(one) and pd.isna(other)) or bool(one == other)
    return np.array_equal(one, other)


def _tensors(first: Path, second: Path) -> str:
    from safetensors import safe_open

    with safe_open(first, "pt") as one, safe_open(second, "pt") as other:
        parts = [] if one.metadata() == other.metadata() else ["different header"]
        shared = sorted(set(one.keys()) & set(other.keys()))
        if odd := len(set(one.keys()) ^ set(other.keys())):
            parts.append(f"{odd} tensors on one side only")
        changed, largest = 0, 0.0
        for name in shared:
            a, b = one.get_tensor(name).double(), other.get_tensor(name).double()
            if a.shape != b.shape:
                changed += 1
            elif not bool((a == b).all()):
                changed += 1
                largest = max(largest, float((a - b).abs().max()))
    if changed:
        parts.append(f"{changed} of {len(shared)} tensors differ, by at most {largest:.3g}")
    return "; ".join(parts) or "same tensors, different bytes"


_COMPARISONS: dict[str, Callable[[Path, Path], str]] = {
    ".json": _json,
    ".geojson": _json,
    ".csv": lambda first, second: _tables(pd.read_csv(first), pd.read_csv(second)),
    ".parquet": lambda first, second: _tables(pd.read_parquet(first), pd.read_parquet(second)),
    ".safetensors": _tensors,
}
