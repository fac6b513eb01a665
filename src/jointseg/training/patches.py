"""Chips for super-resolution as normalised tensors: whole ones to validate on, random patches to train on."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jointseg.dataset.reader import ChipDataset
from jointseg.errors import DataError
from jointseg.training.loop import turn
from jointseg.training.losses import split_valid

SCALE = 10  # 1 m pixels along the side of a 10 m pixel


class Patches:
    """The chips of one split, standardised per band with one normalisation for 10 m and 1 m images.

    Args:
        index: index.parquet of the dataset.
        root: the folder that the index's paths start from.
        split: "train", "validation" or "test".
        normalisation: {"mean": [r, g, b], "std": [r, g, b]} in reflectance.
    """

    def __init__(self, index: Path, root: Path, split: str, normalisation: dict[str, list[float]]) -> None:
        self.dataset = ChipDataset(index, root, split)
        self.ids = self.dataset.ids
        self.mean = np.asarray(normalisation["mean"], dtype=np.float32)[:, None, None]
        self.std = np.asarray(normalisation["std"], dtype=np.float32)[:, None, None]

    def _normalised(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = (low - self.mean) / self.std, (high - self.mean) / self.std
        # Where Sentinel-2 was never clear, nothing can be learnt about the 1 m image.
        unknown = np.isnan(low).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
        high[:, unknown] = np.nan
        return low, high

    def spread(self, count: int) -> list[str]:
        """At most `count` chip ids, evenly spread over the split."""
        places = np.unique(np.linspace(0, len(self.ids) - 1, min(count, len(self.ids))).round().astype(int))
        return [self.ids[place] for place in places]

    def whole(self, chip_id: str) -> tuple[Tensor, Tensor, Tensor]:
        """One chip as a batch of one: (low, high, valid) as `batch` gives them."""
        chip = self.dataset.read(chip_id)
        low, high = self._normalised(chip.lr, chip.hr)
        return tensors([low], [high])

    def batch(self, rng: np.random.Generator, size: int, patch_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random patches of random chips, turned and flipped.

        Returns:
            low [size, 3, patch_px, patch_px] at 10 m with unknown pixels at the mean (0);
            high [size, 3, 10 patch_px, 10 patch_px] at 1 m with unknown pixels at 0;
            valid [size, 1, 10 patch_px, 10 patch_px], 1 where `high` is known.
        """
        lows, highs = [], []
        for _ in range(size):
            chip_id = self.ids[int(rng.integers(len(self.ids)))]
            chip = self.dataset.read(chip_id)
            rows, cols = chip.lr.shape[1:]
            if min(rows, cols) < patch_px:
                raise DataError(f"chip {chip_id} is {rows} x {cols} px at 10 m; patch_px {patch_px} must not exceed it")
            row, col = int(rng.integers(rows - patch_px + 1)), int(rng.integers(cols - patch_px + 1))
            low, high = self._normalised(
                chip.lr[:, row : row + patch_px, col : col + patch_px],
                chip.hr[:, SCALE * row : SCALE * (row + patch_px), SCALE * col : SCALE * (col + patch_px)],
            )
            which = int(rng.integers(8))
            lows.append(turn(low, which))
            highs.append(turn(high, which))
        return tensors(lows, highs)


def tensors(lows: list[np.ndarray], highs: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Stacks images with NaN for unknown into (low filled with 0, high filled with 0, mask of high)."""
    low, _ = split_valid(torch.from_numpy(np.stack(lows)))
    high, valid = split_valid(torch.from_numpy(np.stack(highs)))
    # The layout in which convolutions are fastest on a CPU; what is computed from these images inherits it.
    return low.contiguous(memory_format=torch.channels_last), high.contiguous(memory_format=torch.channels_last), valid
