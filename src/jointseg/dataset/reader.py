"""Reads the chips of a split into memory as plain arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jointseg import raster
from jointseg.errors import DataError

SPLITS = ("train", "validation", "test")
REFLECTANCE_PER_DN = 1e-4


@dataclass(frozen=True)
class Chip:
    """One chip on one grid: north-up arrays that start at the same upper left corner.

    Attributes:
        lr: float32 [bands, h, w], 10 m reflectance of the composite, NaN where it is unknown.
        hr: float32 [bands, 10 h, 10 w], 1 m reflectance, NaN where it is unknown.
        label: uint8 [10 h, 10 w], 0 not impervious, 1 impervious, 255 unknown.
    """

    lr: np.ndarray
    hr: np.ndarray
    label: np.ndarray


class ChipDataset:
    """Chips of one split (or of all), in the order of their ids; each is read once and kept in memory.

    Args:
        index: index.parquet, or the table read from it.
        root: the folder that the index's paths start from.
        split: "train", "validation", "test", or None for all.

    Raises DataError for an unknown split, or one that has no chips.
    """

    def __init__(self, index: Path | pd.DataFrame, root: Path, split: str | None = None) -> None:
        table = index if isinstance(index, pd.DataFrame) else pd.read_parquet(index)
        if split is not None:
            if split not in SPLITS:
                raise DataError(f"split {split!r} is not one of {', '.join(SPLITS)}")
            table = table[table["split"] == split]
        if table.empty:
            raise DataError(f"the index holds no chip of split {split!r}; draw more samples or change the splits")
        self.root = Path(root)
        self.table = table.set_index("sample_id", drop=False).sort_index()
        self.ids: list[str] = list(self.table.index)
        self._read: dict[str, Chip] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, sample_id: str) -> Chip:
        """The chip of an id; DataError when a file is missing, damaged or of another size."""
        if sample_id not in self._read:
            row = self.table.loc[sample_id]
            lr, hr = (_reflectance(self.root / row[name]) for name in ("lr", "hr"))
            label = raster.read(self.root / row["label"])[0][0]
            if not lr.shape[1] * 10 == hr.shape[1] == label.shape[0] or hr.shape[1:] != label.shape:
                raise DataError(
                    f"chip {sample_id} has shapes {lr.shape}, {hr.shape} and {label.shape}; "
                    f"expected [b, h, w], [b, 10 h, 10 w] and [10 h, 10 w]; make the chips again"
                )
            self._read[sample_id] = Chip(lr, hr, label)
        return self._read[sample_id]


def _reflectance(path: Path) -> np.ndarray:
    dn = raster.read(path)[0]
    values = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
    values[dn == 0] = np.nan
    return values
