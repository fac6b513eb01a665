"""Reads the chips of a split into memory as plain arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jointseg.dataset.contract import REFLECTANCE_PER_DN, SPLITS
from jointseg.raster import io as raster_io
from jointseg.raster.bands import fill_merged
from jointseg.runtime.errors import DataError


@dataclass(frozen=True)
class ChipArrays:
    """One chip on one grid: north-up arrays that start at the same upper left corner.

    Attributes:
        lr: float32 [bands, h, w], 10 m reflectance of the composite, NaN where it is unknown; then of the merged dates,
            where the dataset has them, filled from the composite (see `bands.filled`).
        hr: float32 [bands, 10 h, 10 w], 1 m reflectance, NaN where it is unknown.
        label: uint8 [10 h, 10 w], 0 not impervious, 1 impervious, 255 unknown.
    """

    lr: np.ndarray
    hr: np.ndarray
    label: np.ndarray


class ChipDataset:
    """Chips of one split (or of all), in the order of their ids.

    Args:
        index: index.parquet, or the table read from it.
        root: the folder that the index's paths start from.
        split: "train", "validation", "test", or None for all.
        keep: whether read chips stay in memory (as integers: 7 bytes a 1 m pixel).
        bands: how many bands of the 10 m image to give, those of `bands.of_count`; None for all that it has.

    Raises DataError for an unknown split, or one that has no chips.
    """

    def __init__(
        self,
        index: Path | pd.DataFrame,
        root: Path,
        split: str | None = None,
        *,
        keep: bool = True,
        bands: int | None = None,
    ) -> None:
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
        self._keep, self._bands = keep, bands
        self._kept: dict[str, tuple[np.ndarray, ...]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, sample_id: str, window: tuple[int, int, int] | None = None) -> ChipArrays:
        """The chip of an id, or a square of it; DataError when a file is missing, damaged or of another size.

        Args:
            window: first row, first column and side of the square in 10 m pixels.
        """
        lr, hr, label = self._arrays(sample_id)
        if window is not None:
            row, col, side = window
            lr = lr[:, row : row + side, col : col + side]
            fine = np.s_[..., 10 * row : 10 * (row + side), 10 * col : 10 * (col + side)]
            hr, label = hr[fine], label[fine]
        return ChipArrays(_reflectance(lr), _reflectance(hr), label[0])

    def size(self, sample_id: str) -> tuple[int, int]:
        """Rows and columns of a chip in 10 m pixels."""
        rows, cols = self._arrays(sample_id)[0].shape[1:]
        return rows, cols

    def _arrays(self, sample_id: str) -> tuple[np.ndarray, ...]:
        if sample_id in self._kept:
            return self._kept[sample_id]
        row = self.table.loc[sample_id]
        arrays = tuple(raster_io.read(self.root / row[name])[0] for name in ("lr", "hr", "label"))
        lr, hr, label = (array.shape[1:] for array in arrays)
        if not (lr[0] * 10, lr[1] * 10) == hr == label:
            raise DataError(
                f"chip {sample_id} has 10 m, 1 m and label sizes {lr}, {hr} and {label} px; "
                f"expected h x w, 10 h x 10 w twice; make the chips again"
            )
        arrays = (fill_merged(arrays[0], self._bands), *arrays[1:])
        if self._keep:
            self._kept[sample_id] = arrays
        return arrays


def _reflectance(dn: np.ndarray) -> np.ndarray:
    values = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
    values[dn == 0] = np.nan
    return values
