"""Differences in the probability due to inference options that change pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jointseg.inference.predictor import Predictor
from jointseg.models.mask2former import CLASSES, EPSILON, Segmenter


def measure_differences(
    segmentation: Path, superres: Path, windows: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, dict[str, float]]:
    """Compare each option with fp32 and every query's mask upsampled to 1 m, on the dn and validity of each window.

    Return, by option, mean and 99th percentile of the absolute difference in probability, and the fraction of pixels
    with another class.
    """
    fp32 = Predictor.load("superres", segmentation, superres, "fp32")
    bf16 = Predictor.load("superres", segmentation, superres, "bf16")
    segmenter = fp32.segmenter
    assert isinstance(segmenter, Segmenter)
    options: dict[str, Callable[[np.ndarray, np.ndarray], Tensor]] = {
        "logits contracted on the mask grid": fp32.probability,
        "the same, bf16": bf16.probability,
    }
    pairs: dict[str, list[Tensor]] = {name: [] for name in options}
    for dn, valid in windows:
        reference = _at_full_size(fp32, segmenter, dn, valid)
        for name, option in options.items():
            pairs[name].append(torch.stack((reference, option(dn, valid))).cpu())
    return {name: _summary(torch.stack(of_option), fp32.threshold) for name, of_option in pairs.items()}


def _summary(pairs: Tensor, threshold: float) -> dict[str, float]:
    difference = (pairs[:, 0] - pairs[:, 1]).abs()
    classes = pairs >= threshold
    return {
        "mean": float(difference.mean()),
        "p99": float(np.quantile(difference.numpy(), 0.99)),
        "changed": float((classes[:, 0] != classes[:, 1]).float().mean()),
    }


@torch.inference_mode()
def _at_full_size(predictor: Predictor, segmenter: Segmenter, dn: np.ndarray, valid: np.ndarray) -> Tensor:
    """Return the probability of the published method, which upsamples every query's mask to 1 m before the sum; [1, h, w]."""
    captured: dict[str, Tensor] = {}

    def capture(x: Tensor) -> Tensor:
        captured["x"] = x
        return x[:, :1]

    predictor.segmenter = capture  # type: ignore[assignment]
    try:
        predictor.predict_window(dn, valid)
    finally:
        predictor.segmenter = segmenter
    x = captured["x"]
    padded = segmenter.pad(x)
    classes, masks = segmenter.final_layer(padded)
    full = F.interpolate(masks, size=padded.shape[2:], mode="bilinear", align_corners=False).sigmoid()
    scores = torch.einsum("nqc,nqhw->nchw", classes.softmax(2)[..., :CLASSES], full)[..., : x.shape[2], : x.shape[3]]
    logs = (scores + EPSILON).log()
    return (logs[:, 1] - logs[:, 0]).sigmoid()
