"""How two versions of a file differ, in a line: rasters by pixels, tables by rows and columns, JSON by keys."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.audit.diff import map as maps
from jointseg.audit.record_differences import setting_changes
from jointseg.runtime.errors import DataError

MAX_NAMES = 6
RASTERS = (".tif", ".tiff")
KEY = "sample_id"  # names the rows of the dataset's tables


@dataclass(frozen=True)
class FileComparison:
    """How two files differ: in words, and (of rasters) in figures."""

    summary: str
    raster: maps.RasterDiff | None = None


def compare_files(first: Path, second: Path, picture: Path | None = None) -> FileComparison:
    """Compares two files by what their suffix says that they are.

    Args:
        picture: a PNG to write where two rasters differ.
    """
    gone = [str(path) for path in (first, second) if not path.is_file()]
    if gone:
        return FileComparison(f"{' and '.join(gone)} is not there to be compared")
    kind = first.suffix.lower()
    try:
        if kind in RASTERS:
            found = maps.compare(first, second, picture)
            return FileComparison(found.summary(), found)
        return FileComparison(_READERS[kind](first, second) if kind in _READERS else _bytes(first, second))
    except (DataError, ValueError, KeyError, OSError) as error:
        return FileComparison(f"cannot be compared as {kind[1:]} ({error})")


def _bytes(first: Path, second: Path) -> str:
    return f"other bytes, {first.stat().st_size} and {second.stat().st_size} of them"


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _json(first: Path, second: Path) -> str:
    changes = setting_changes(*({"": json.loads(path.read_bytes())} for path in (first, second)))
    keys = [change.what.removeprefix(".") or "all of it" for change in changes]
    return f"other at {_some(keys)}" if keys else "the same content in other bytes"


def _tables(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Columns and rows that differ; rows are matched by sample_id where both have it, else by their place."""
    parts = [
        f"columns only in {name}: {_some(columns)}"
        for name, columns in (("A", _without(one, other)), ("B", _without(other, one)))
        if columns
    ]
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
        parts.append(f"{len(rows)} of {len(shared)} rows differ, the first is {rows[0]}; in columns {_some(columns)}")
    if not parts and list(one.index) != list(other.index):
        parts.append("the same rows in another order")
    return "; ".join(parts) or "the same rows in other bytes"


def _without(table: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    return [str(column) for column in table.columns if column not in other.columns]


def _equal(one: Any, other: Any) -> bool:
    if pd.api.types.is_scalar(one) and pd.api.types.is_scalar(other):
        return bool(pd.isna(one) and pd.isna(other)) or bool(one == other)
    return np.array_equal(one, other)


def _tensors(first: Path, second: Path) -> str:
    from safetensors import safe_open

    with safe_open(first, "pt") as one, safe_open(second, "pt") as other:
        parts = [] if one.metadata() == other.metadata() else ["another header"]
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
    return "; ".join(parts) or "the same tensors in other bytes"


_READERS: dict[str, Callable[[Path, Path], str]] = {
    ".json": _json,
    ".geojson": _json,
    ".csv": lambda first, second: _tables(pd.read_csv(first), pd.read_csv(second)),
    ".parquet": lambda first, second: _tables(pd.read_parquet(first), pd.read_parquet(second)),
    ".safetensors": _tensors,
}
