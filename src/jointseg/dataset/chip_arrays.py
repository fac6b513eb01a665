"""Reader of the chips of a split as arrays."""

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
    """One chip as north-up arrays with a common upper left corner.

    Attributes:
        lr: float32 [bands, h, w], 10 m reflectance of the composite, NaN for nodata; then of the merged dates, if the
            dataset has them, filled from the composite (see `bands.fill_merged`).
        hr: float32 [bands, 10 h, 10 w], 1 m reflectance, NaN for nodata.
        label: uint8 [10 h, 10 w], 0 not impervious, 1 impervious, 255 unlabelled.
    """

    lr: np.ndarray
    hr: np.ndarray
    label: np.ndarray


class ChipDataset:
    """Chips of one split (or of all), sorted by id.

    Args:
        index: index.parquet, or the table read from it.
        root: the folder that the paths in the index are relative to.
        split: "train", "validation", "test", or None for all.
        cache: keep chips in memory (as integers: 7 bytes per 1 m pixel).
        bands: number of bands of the 10 m image to return, see `bands.band_names`; None for all.

    Raises DataError for an invalid split, or a split without chips.
    """

    def __init__(
        self,
        index: Path | pd.DataFrame,
        root: Path,
        split: str | None = None,
        *,
        cache: bool = True,
        bands: int | None = None,
    ) -> None:
        table = index if isinstance(index, pd.DataFrame) else pd.read_parquet(index)
        if split is not None:
            if split not in SPLITS:
                raise DataError(f"split {split!r} is not one of {', '.join(SPLITS)}")
            table = table[table["split"] == split]
        if table.empty:
            raise DataError(f"the index contains no chip of split {split!r}; draw more samples or change the splits")
        self.root = Path(root)
        self.table = table.set_index("sample_id", drop=False).sort_index()
        self.ids: list[str] = list(self.table.index)
        self._cache: dict[str, tuple[np.ndarray, ...]] | None = {} if cache else None
        self._bands = bands

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, sample_id: str, window: tuple[int, int, int] | None = None) -> ChipArrays:
        """Return a chip, or the square at (first row, first column, side) in 10 m pixels.

        Raises DataError if a file is missing, damaged or of the wrong size.
        """
        lr, hr, label = self._arrays(sample_id)
        if window is not None:
            row, col, side = window
            lr = lr[:, row : row + side, col : col + side]
            fine = np.s_[..., 10 * row : 10 * (row + side), 10 * col : 10 * (col + side)]
            hr, label = hr[fine], label[fine]
        return ChipArrays(_reflectance(lr), _reflectance(hr), label[0])

    def size(self, sample_id: str) -> tuple[int, int]:
        """Return the rows and columns of a chip in 10 m pixels."""
        rows, cols = self._arrays(sample_id)[0].shape[1:]
        return rows, cols

    def _arrays(self, sample_id: str) -> tuple[np.ndarray, ...]:
        if self._cache and sample_id in self._cache:
            return self._cache[sample_id]
        row = self.table.loc[sample_id]
        arrays = tuple(raster_io.read(self.root / row[name])[0] for name in ("lr", "hr", "label"))
        lr, hr, label = (array.shape[1:] for array in arrays)
        if not (lr[0] * 10, lr[1] * 10) == hr == label:
            raise DataError(
                f"chip {sample_id} has 10 m, 1 m and label sizes {lr}, {hr} and {label} px; "
                "expected h x w, 10 h x 10 w twice; rerun step `chips`"
            )
        arrays = (fill_merged(arrays[0], self._bands), *arrays[1:])
        if self._cache is not None:
            self._cache[sample_id] = arrays
        return arrays


def _reflectance(dn: np.ndarray) -> np.ndarray:
    values = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
    values[dn == 0] = np.nan
    return values
