"""What a trained variant gives of a chip: the image that its segmenter read, and the probability of ISA."""

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
    """A chip as an variant sees it.

    Attributes:
        image: float32 [3, h, w] reflectance at 1 m, NaN where unknown; None where the variant makes no image.
        probability: float32 [h, w], of ISA.
    """

    image: np.ndarray | None
    probability: np.ndarray


Predictor = Callable[[str], ChipPrediction]


def predict_from_images(folder: Path, model: Segmenter, chips: Patches) -> Predictor:
    """Maps chips from {id}.tif of `folder`, uint16 reflectance x 10000, 0 unknown, normalised as `chips` are."""
    mean, std = chips.mean[: model.channels], chips.std[: model.channels]

    @torch.inference_mode()
    def mapped(chip_id: str) -> ChipPrediction:
        dn = raster_io.read(folder / f"{chip_id}.tif")[0]
        image = np.where(dn == 0, np.nan, dn * np.float32(REFLECTANCE_PER_DN)).astype(np.float32)
        x = torch.from_numpy(np.nan_to_num((image - mean) / std)[None]).to(device())
        return ChipPrediction(image[:RGB], model(x)[0, 0].cpu().numpy())

    return mapped


def predict_from_pair(pair: JointNetwork, chips: Patches) -> Predictor:
    """Maps chips from their 10 m images by a generator and the segmenter trained with it."""
    mean, std = chips.mean[:RGB], chips.std[:RGB]

    @torch.inference_mode()
    def mapped(chip_id: str) -> ChipPrediction:
        image, probability = pair(chips.full_chip(chip_id)[0].to(device()))
        return ChipPrediction(image[0].cpu().numpy() * std + mean, probability[0, 0].cpu().numpy())

    return mapped


def predict_direct(model: DirectSegmenter, chips: Patches) -> Predictor:
    """Maps chips from their 10 m images without an image at 1 m."""

    @torch.inference_mode()
    def mapped(chip_id: str) -> ChipPrediction:
        return ChipPrediction(None, model(chips.full_chip(chip_id)[0].to(device()))[0, 0].cpu().numpy())

    return mapped


def probability_histogram(chips: Patches, mapper: Predictor) -> np.ndarray:
    """Over all chips: pixels by class and probability, int64 [2, 100]; see `segmentation.count`."""
    counts = np.zeros((2, THRESHOLDS + 1), np.int64)
    for chip_id in chips.ids:
        chip = chips.dataset.read(chip_id)
        counts += count_by_probability(mask_unobserved(chip.lr, chip.label), mapper(chip_id).probability)
    return counts
