"""Prediction of chips by a trained variant: the image that its segmenter reads, and the ISA probability."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.models.direct_segmenter import DirectSegmenter
from jointseg.models.mask2former import Segmenter
from jointseg.raster import io as raster_io
from jointseg.training.compute import device
from jointseg.training.joint import JointNetwork, mask_unobserved
from jointseg.training.patches import RGB, Patches
from jointseg.training.threshold import THRESHOLDS, count_by_probability


@dataclass(frozen=True)
class ChipPrediction:
    """Output of a variant for one chip."""

    # float32 [3, h, w], reflectance at 1 m, NaN for nodata; None if the variant has no 1 m image
    image: np.ndarray | None
    probability: np.ndarray  # float32 [h, w], ISA probability


Predictor = Callable[[str], ChipPrediction]  # from the id of a chip


def predict_from_images(folder: Path, model: Segmenter, chips: Patches) -> Predictor:
    """Predict from {id}.tif in `folder`, uint16 reflectance x 10000, nodata 0, with the normalisation of `chips`."""
    mean, std = chips.mean[: model.channels], chips.std[: model.channels]

    @torch.inference_mode()
    def predict(chip_id: str) -> ChipPrediction:
        dn = raster_io.read(folder / f"{chip_id}.tif")[0]
        image = np.where(dn == 0, np.nan, dn * np.float32(REFLECTANCE_PER_DN)).astype(np.float32)
        x = torch.from_numpy(np.nan_to_num((image - mean) / std)[None]).to(device())
        return ChipPrediction(image[:RGB], model(x)[0, 0].cpu().numpy())

    return predict


def predict_from_pair(pair: JointNetwork, chips: Patches) -> Predictor:
    """Predict from the 10 m images with a jointly trained generator and segmenter."""
    mean, std = chips.mean[:RGB], chips.std[:RGB]

    @torch.inference_mode()
    def predict(chip_id: str) -> ChipPrediction:
        image, probability = pair(chips.full_chip(chip_id)[0].to(device()))
        return ChipPrediction(image[0].cpu().numpy() * std + mean, probability[0, 0].cpu().numpy())

    return predict


def predict_direct(model: DirectSegmenter, chips: Patches) -> Predictor:
    """Predict from the 10 m images without a 1 m image."""

    @torch.inference_mode()
    def predict(chip_id: str) -> ChipPrediction:
        return ChipPrediction(None, model(chips.full_chip(chip_id)[0].to(device()))[0, 0].cpu().numpy())

    return predict


def probability_histogram(chips: Patches, predict: Predictor) -> np.ndarray:
    """Count the pixels of all chips by class and probability, int64 [2, 100]; see `threshold.count_by_probability`."""
    counts = np.zeros((2, THRESHOLDS + 1), np.int64)
    for chip_id in chips.ids:
        chip = chips.dataset.read(chip_id)
        counts += count_by_probability(mask_unobserved(chip.lr, chip.label), predict(chip_id).probability)
    return counts
