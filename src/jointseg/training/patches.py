"""Chips for super-resolution as normalised tensors: full chips for validation, random patches for training."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.raster.bands import (
    band_names,
    composite_band_indices,
    count_composite_bands,
    merged_from_5m,
    merged_to_5m,
)
from jointseg.runtime.errors import DataError
from jointseg.training.augmentation import dihedral, random_gains

SCALE = 10  # 1 m pixels along the side of a 10 m pixel
RGB = 3  # bands of the 1 m image, and the first bands of the 10 m image

Pair = tuple[np.ndarray, np.ndarray]


class Patches:
    """The chips of one split, normalised per band with one normalisation for 10 m and 1 m images.

    Args:
        index: index.parquet of the dataset.
        root: folder that the paths in the index are relative to.
        normalisation: {"mean", "std"} in reflectance, one value per band of the 10 m image; R, G and B come first.
        jitter: largest random relative change of a band's gain in patches, the same at 10 m and 1 m.
    """

    def __init__(
        self, index: Path, root: Path, split: str, normalisation: dict[str, list[float]], jitter: float = 0.0
    ) -> None:
        self.dataset = ChipDataset(index, root, split, bands=len(normalisation["mean"]))
        self.ids = self.dataset.ids
        self.mean = np.asarray(normalisation["mean"], dtype=np.float32)[:, None, None]
        self.std = np.asarray(normalisation["std"], dtype=np.float32)[:, None, None]
        self.jitter = jitter

    def _normalise(self, low: np.ndarray, high: np.ndarray, gain: np.ndarray | None = None) -> Pair:
        if gain is not None:
            low, high = low * gain, high * gain[: len(high)]
        low, high = (low - self.mean) / self.std, (high - self.mean[: len(high)]) / self.std[: len(high)]
        # Without a clear observation at 10 m, the 1 m image cannot be predicted.
        nodata = np.isnan(low).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
        high[:, nodata] = np.nan
        return low, high

    def evenly_spaced(self, count: int) -> list[str]:
        """Return at most `count` chip ids, evenly spaced over the split."""
        indices = np.unique(np.linspace(0, len(self.ids) - 1, min(count, len(self.ids))).round().astype(int))
        return [self.ids[index] for index in indices]

    def full_chip(self, chip_id: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return one chip as a batch of one: (low, high, valid) as in `batch`."""
        chip = self.dataset.read(chip_id)
        return stack_pairs([self._normalise(chip.lr, chip.hr)])

    def reflectance(self, image: Tensor) -> np.ndarray:
        """Convert a normalised RGB image [1, 3, h, w] to reflectance, float32 [3, h, w]."""
        return image[0].cpu().numpy() * self.std[:RGB] + self.mean[:RGB]

    def patch(self, rng: np.random.Generator, patch_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a patch of a random chip, with a random symmetry and random gains.

        Returns float32 [bands, p, p] and [3, 10 p, 10 p], NaN at nodata, and the label, uint8 [10 p, 10 p], 255 where
        unlabelled. Raises DataError if the chip is smaller than the patch.
        """
        chip_id = self.ids[int(rng.integers(len(self.ids)))]
        rows, cols = self.dataset.size(chip_id)
        if min(rows, cols) < patch_px:
            raise DataError(f"chip {chip_id} is {rows} x {cols} px at 10 m; patch_px {patch_px} must not exceed it")
        row, col = int(rng.integers(rows - patch_px + 1)), int(rng.integers(cols - patch_px + 1))
        chip = self.dataset.read(chip_id, (row, col, patch_px))
        symmetry = int(rng.integers(8))
        gain = None
        if self.jitter:
            # All 5 m pixels of a 10 m pixel get the same gain; different gains would create a pattern.
            names = band_names(len(chip.lr))
            gain = random_gains(rng, count_composite_bands(names), self.jitter)[composite_band_indices(names)]
        low, high = self._normalise(chip.lr, chip.hr, gain)
        return transform_bands(low, symmetry), dihedral(high, symmetry), dihedral(chip.label, symmetry)

    def batch(self, seed: int, step: int, indices: Iterable[int], patch_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the patches of a step's batch at some indices; each depends only on seed, step and index.

        Returns:
            low [n, bands, patch_px, patch_px] at 10 m, 0 (the mean) at nodata;
            high [n, 3, 10 patch_px, 10 patch_px] at 1 m, 0 at nodata;
            valid [n, 1, 10 patch_px, 10 patch_px], 1 where `high` is valid, else 0.
        """
        return stack_pairs([self.patch(np.random.default_rng([seed, step, index]), patch_px)[:2] for index in indices])


def transform_bands(low: np.ndarray, symmetry: int) -> np.ndarray:
    """Apply `dihedral` to a 10 m image [bands, h, w]; the 5 m pixels of merged dates are permuted accordingly."""
    count = count_composite_bands(band_names(len(low)))
    parts = [dihedral(low[:count], symmetry)]
    if count < len(low):
        parts.append(merged_from_5m(dihedral(merged_to_5m(low[count:]), symmetry)))
    return np.concatenate(parts)


def stack_pairs(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack (low, high) images with NaN at nodata into (low filled with 0, high filled with 0, mask of high).

    A pixel that is NaN in one band is nodata in all. The memory layout is channels last, the fastest for convolutions
    on a CPU; the networks' outputs inherit it.
    """
    lows, _ = _fill([low for low, _ in pairs])
    highs, valid = _fill([high for _, high in pairs])
    return lows, highs, torch.from_numpy(valid.astype(np.float32))


def _fill(images: Sequence[np.ndarray]) -> tuple[Tensor, np.ndarray]:
    valid = np.stack([np.isfinite(image).all(axis=0, keepdims=True) for image in images])
    channels_last = np.zeros((len(images), *images[0].shape[1:], images[0].shape[0]), np.float32)
    for filled, image, mask in zip(channels_last, images, valid):
        np.copyto(filled, np.moveaxis(image, 0, -1), where=mask[0, ..., None])
    return torch.from_numpy(channels_last).permute(0, 3, 1, 2), valid
