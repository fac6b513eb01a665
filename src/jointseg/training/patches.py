"""Chips for super-resolution as normalised tensors: whole ones to validate on, random patches to train on."""

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
RGB = 3  # bands of the 1 m image, and the first of the 10 m image

Pair = tuple[np.ndarray, np.ndarray]
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


class Patches:
    """The chips of one split, standardised per band with one normalisation for 10 m and 1 m images.

    Args:
        index: index.parquet of the dataset.
        root: the folder that the index's paths start from.
        split: "train", "validation" or "test".
        normalisation: {"mean", "std"} in reflectance, a number for each band to give of the 10 m image, R, G and B first.
        jitter: largest relative change of a band's gain in training, the same at 10 m and 1 m.
    """

    def __init__(
        self, index: Path, root: Path, split: str, normalisation: dict[str, list[float]], jitter: float = 0.0
    ) -> None:
        self.dataset = ChipDataset(index, root, split, bands=len(normalisation["mean"]))
        self.ids = self.dataset.ids
        self.mean = np.asarray(normalisation["mean"], dtype=np.float32)[:, None, None]
        self.std = np.asarray(normalisation["std"], dtype=np.float32)[:, None, None]
        self.jitter = jitter

    def _normalised(self, low: np.ndarray, high: np.ndarray, gain: np.ndarray | None = None) -> Pair:
        if gain is not None:
            low, high = low * gain, high * gain[: len(high)]
        low, high = (low - self.mean) / self.std, (high - self.mean[: len(high)]) / self.std[: len(high)]
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
        return stack_pairs([self._normalised(chip.lr, chip.hr)])

    def patch(self, rng: np.random.Generator, patch_px: int) -> Triple:
        """A random patch of a random chip, turned and flipped.

        Returns:
            float32 [bands, p, p] and [3, 10 p, 10 p], NaN where unknown; label uint8 [10 p, 10 p], 255 where unknown.

        Raises:
            DataError: the chip is smaller than the patch.
        """
        chip_id = self.ids[int(rng.integers(len(self.ids)))]
        rows, cols = self.dataset.size(chip_id)
        if min(rows, cols) < patch_px:
            raise DataError(f"chip {chip_id} is {rows} x {cols} px at 10 m; patch_px {patch_px} must not exceed it")
        row, col = int(rng.integers(rows - patch_px + 1)), int(rng.integers(cols - patch_px + 1))
        chip = self.dataset.read(chip_id, (row, col, patch_px))
        which = int(rng.integers(8))
        names = band_names(len(chip.lr))
        # Gains that differed within a 10 m pixel would draw a pattern that no date shows.
        gain = (
            random_gains(rng, count_composite_bands(names), self.jitter)[composite_band_indices(names)]
            if self.jitter
            else None
        )
        low, high = self._normalised(chip.lr, chip.hr, gain)
        return transform_bands(low, which), dihedral(high, which), dihedral(chip.label, which)

    def batch(self, seed: int, step: int, places: Iterable[int], patch_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """The patches at some places of the batch of a step (0-based); each depends on seed, step and place alone.

        Returns:
            low [places, bands, patch_px, patch_px] at 10 m with unknown pixels at the mean (0);
            high [places, 3, 10 patch_px, 10 patch_px] at 1 m with unknown pixels at 0;
            valid [places, 1, 10 patch_px, 10 patch_px], 1 where `high` is known.
        """
        return stack_pairs([self.patch(np.random.default_rng([seed, step, place]), patch_px)[:2] for place in places])


def transform_bands(low: np.ndarray, which: int) -> np.ndarray:
    """`turn` of a 10 m image [bands, h, w], whose merged pixels change corners with it."""
    own = count_composite_bands(band_names(len(low)))
    parts = [dihedral(low[:own], which)]
    if own < len(low):
        parts.append(merged_from_5m(dihedral(merged_to_5m(low[own:]), which)))
    return np.concatenate(parts)


def stack_pairs(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Stacks images with NaN for unknown into (low filled with 0, high filled with 0, mask of high).

    A pixel is unknown in every band where it is in one. The images are laid out channels last, in which convolutions
    are fastest on a CPU; what is computed from them inherits it.
    """
    low, high = ([pair[which] for pair in pairs] for which in (0, 1))
    lows, _ = _filled(low)
    highs, known = _filled(high)
    return lows, highs, torch.from_numpy(known.astype(np.float32))


def _filled(images: Sequence[np.ndarray]) -> tuple[Tensor, np.ndarray]:
    known = np.stack([np.isfinite(image).all(axis=0, keepdims=True) for image in images])
    last = np.zeros((len(images), *images[0].shape[1:], images[0].shape[0]), np.float32)
    for filled, image, there in zip(last, images, known):
        np.copyto(filled, np.moveaxis(image, 0, -1), where=there[0, ..., None])
    return torch.from_numpy(last).permute(0, 3, 1, 2), known
