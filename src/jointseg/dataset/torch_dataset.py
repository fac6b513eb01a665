"""The chips as a map-style torch Dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.dataset.contract import LATTICE_M, UNLABELLED
from jointseg.runtime.errors import DataError


class TorchChips(Dataset):
    """Chips of a dataset's folder as tensors, read by `ChipDataset`.

    An item is a dictionary with `id` and
        lr: float32 [bands, h, w], reflectance of the 10 m image (see ChipDataset) or standardised; 0 for nodata.
        hr: float32 [3, 10 h, 10 w], the same of the 1 m image.
        label: uint8 [10 h, 10 w], 0 or 1; 0 where unlabelled.
        lr_valid, hr_valid, label_valid: bool [h, w], [10 h, 10 w] twice; False for nodata and where unlabelled.

    Random crops and flips depend only on seed, epoch and chip, not on workers or the order of reading.

    Args:
        folder: of the dataset, with index.parquet and chips/.
        split: "train", "validation" or "test"; None for all.
        reaches: names of reaches; None for all.
        min_correlation: minimum `registration_correlation`.
        dates: first and last day of the 1 m image, such as ("2022-05-01", "2022-08-31").
        normalisation: {"lr": {"mean", "std"}, "hr": {"mean", "std"}}, such as the content of statistics.json.
        crop_px: side of a random crop in pixels of the 10 m image; None for entire chips.
        flips: rotate by multiples of 90 degrees and mirror at random.

    Raises DataError if no chip matches, or if a chip is smaller than the crop.
    """

    def __init__(
        self,
        folder: Path,
        split: str | None = None,
        *,
        reaches: Sequence[str] | None = None,
        min_correlation: float | None = None,
        dates: tuple[str, str] | None = None,
        normalisation: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
        crop_px: int | None = None,
        flips: bool = False,
        seed: int = 0,
    ) -> None:
        table = pd.read_parquet(Path(folder) / "index.parquet")
        if reaches is not None:
            table = table[table["reach"].isin(reaches)]
        if min_correlation is not None:
            table = table[table["registration_correlation"] >= min_correlation]
        if dates is not None:
            table = table[table["hr_date"].str[:10].between(*dates)]
        if table.empty:
            raise DataError(
                f"{folder} contains no chip of reaches {reaches} with registration_correlation >= {min_correlation} and "
                f"dates {dates}; relax the filters"
            )
        self.chips = ChipDataset(table, Path(folder) / "chips", split, cache=False)
        self.ids = self.chips.ids
        self._scale = {kind: _scale(normalisation[kind]) for kind in ("lr", "hr")} if normalisation else {}
        self.crop_px, self.flips, self.seed = crop_px, flips, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # shared with persistent workers

    def __len__(self) -> int:
        return len(self.ids)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines crops and flips."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        chip = self.chips.read(self.ids[index])
        lr, hr, label = self._augment(index, chip.lr, chip.hr, chip.label)
        return {
            "id": self.ids[index],
            **self._image("lr", lr),
            **self._image("hr", hr),
            "label": torch.from_numpy(np.where(label == UNLABELLED, 0, label)),
            "label_valid": torch.from_numpy(label != UNLABELLED),
        }

    def _augment(self, index: int, *images: np.ndarray) -> list[np.ndarray]:
        """Crop, rotate and mirror the 10 m image and the 1 m images consistently."""
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        parts = list(images)
        if self.crop_px is not None:
            rows, cols = images[0].shape[-2:]
            if min(rows, cols) < self.crop_px:
                raise DataError(
                    f"chip {self.ids[index]} is {rows} x {cols} px at 10 m; crop_px {self.crop_px} must not exceed it"
                )
            row, col = (int(rng.integers(side - self.crop_px + 1)) for side in (rows, cols))
            for number, ratio in enumerate((1, LATTICE_M, LATTICE_M)):
                edges = (row, row + self.crop_px, col, col + self.crop_px)
                top, bottom, left, right = (ratio * edge for edge in edges)
                parts[number] = parts[number][..., top:bottom, left:right]
        if self.flips:
            turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            parts = [np.rot90(part, turns, axes=(-2, -1)) for part in parts]
            parts = [part[..., ::-1] for part in parts] if mirrored else parts
        return [np.ascontiguousarray(part) for part in parts]

    def _image(self, kind: str, image: np.ndarray) -> dict[str, Tensor]:
        valid = np.isfinite(image).all(axis=0)
        if kind in self._scale:
            mean, std = self._scale[kind]
            image = (image - mean) / std
        return {kind: torch.from_numpy(np.where(valid, image, np.float32(0))), f"{kind}_valid": torch.from_numpy(valid)}


def _scale(statistics: Mapping[str, Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (np.asarray(statistics[name], dtype=np.float32)[:, None, None] for name in ("mean", "std"))
    return mean, std
