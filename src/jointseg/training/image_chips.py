"""1 m images and labels of the chips, from which the segmenter is trained."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.models.mask2former import Segmenter
from jointseg.models.mask_loss import UNLABELLED
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.training.augmentation import dihedral, random_gains
from jointseg.training.compute import device
from jointseg.training.prefetch import Batch
from jointseg.training.settings import SegmentationSettings
from jointseg.training.threshold import THRESHOLDS, count_by_probability

CACHED_CHIPS = 2048  # image and label of a 320 m chip are 0.7 MB


class ImageChips:
    """1 m images and labels of the chips of one split, read on first access.

    Args:
        index, root, split: as for ChipDataset.
        folder: of {id}.tif, uint16 1 m images, reflectance x 10000, nodata 0.
        normalisation: {"mean", "std"} of reflectance, the image's bands first.
        channels: bands of the images.
    """

    def __init__(
        self, index: Path, root: Path, split: str, folder: Path, normalisation: dict[str, list[float]], channels: int
    ) -> None:
        self.chips, self.folder, self.channels = ChipDataset(index, root, split), folder, channels
        self.ids = self.chips.ids
        self.mean, self.std = (
            np.array(normalisation[key][:channels], np.float32).reshape(channels, 1, 1) for key in ("mean", "std")
        )
        self.read = lru_cache(CACHED_CHIPS)(self._read)

    def _read(self, chip_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (uint16 [channels, h, w], label uint8 [h, w], 255 also where the image is nodata)."""
        path = self.folder / f"{chip_id}.tif"
        image = raster_io.read(path)[0]
        label = raster_io.read(self.chips.root / self.chips.table.loc[chip_id, "label"])[0][0]
        if image.shape != (self.channels, *label.shape):
            raise DataError(
                f"image {path} is {image.shape}, expected {self.channels} bands of {label.shape}; "
                "rebuild the images of this index"
            )
        return image, np.where((image == 0).any(0), UNLABELLED, label)

    def normalise(self, image: np.ndarray, gain: np.ndarray | float = 1.0) -> np.ndarray:
        """Convert uint16 [channels, h, w] to float32 normalised reflectance, 0 (the mean) at nodata."""
        scaled = (image.astype(np.float32) * REFLECTANCE_PER_DN * gain - self.mean) / self.std
        return np.where(image == 0, 0, scaled).astype(np.float32)

    def crop(self, rng: np.random.Generator, size: int, jitter: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw image, float32 [channels, size, size], and label, uint8 [size, size], of a crop of a random chip.

        Symmetry and gains are random. Raises DataError if the chip is smaller than the crop.
        """
        chip_id = self.ids[int(rng.integers(len(self.ids)))]
        image, label = self.read(chip_id)
        if min(label.shape) < size:
            raise DataError(f"chip {chip_id} is {label.shape} px; crop_px {size} must not exceed it")
        row, column = (int(rng.integers(side - size + 1)) for side in label.shape)
        symmetry = int(rng.integers(8))
        window = np.s_[..., row : row + size, column : column + size]
        normalised = self.normalise(image[window], random_gains(rng, self.channels, jitter))
        return dihedral(normalised, symmetry), dihedral(label[window], symmetry)

    def batch(self, seed: int, step: int, indices: Iterable[int], settings: SegmentationSettings) -> Batch:
        """Return the crops of a step's batch at some indices; each depends only on seed, step and index.

        Returns float32 [n, channels, c, c]; uint8 [n, c, c]; int64 [n], one seed per crop for the loss.
        """
        rngs = [np.random.default_rng([seed, step, index]) for index in indices]
        images, labels = zip(*(self.crop(rng, settings.crop_px, settings.jitter) for rng in rngs))
        seeds = torch.tensor([int(rng.integers(2**62)) for rng in rngs])
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels)), seeds

    @torch.inference_mode()
    def predict(self, model: Segmenter, chip_id: str) -> np.ndarray:
        """Return the ISA probability of a chip, float32 [h, w]."""
        x = torch.from_numpy(self.normalise(self.read(chip_id)[0])[None])
        return model(x.to(device()))[0, 0].cpu().numpy()

    def count(self, model: Segmenter) -> np.ndarray:
        """Return `count_by_probability` over all chips, int64 [2, 100]."""
        counts = np.zeros((2, THRESHOLDS + 1), np.int64)
        for chip_id in self.ids:
            counts += count_by_probability(self.read(chip_id)[1], self.predict(model, chip_id))
        return counts
