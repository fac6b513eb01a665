"""Losses of super-resolution over valid pixels: L1, area degradation, perceptual and adversarial terms.

All losses are quotients of sums over the batch of all processes (`distributed.all_reduce_sum`).
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jointseg.runtime.distributed import all_reduce_sum
from jointseg.runtime.errors import DataError


def l1(prediction: Tensor, target: Tensor, valid: Tensor, max_shift_px: int = 0) -> Tensor:
    """Return the mean absolute difference over the valid pixels; 0 if there are none.

    With `max_shift_px`, each sample has the smallest L1 over shifts of the prediction (`align`). Real image pairs are
    never registered exactly, and without the shift the network learns blurred edges.

    Args:
        prediction, target: float [n, bands, h, w].
        valid: float [n, 1, h, w], 0 or 1; pixels with 0 have no gradient.
        max_shift_px: largest shift along rows and columns; 0 does not shift.
    """
    if max_shift_px:
        prediction, target, valid = align(prediction, target, valid, max_shift_px)
    return _quotient(((prediction - target).abs() * valid).sum(), valid.sum() * prediction.shape[1])


def align(prediction: Tensor, target: Tensor, valid: Tensor, max_shift_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut margins of `max_shift_px` off target and mask, and cut the window of the prediction that fits best.

    The best shift, in whole pixels, has the smallest L1 over the valid pixels of a sample; on a tie, the shortest. All
    shifts are compared over the same pixels of the target, so that the content favours none. Raises DataError if the
    images are too small for the shift.
    """
    rows, cols = (side - 2 * max_shift_px for side in prediction.shape[-2:])
    if min(rows, cols) < 1:
        raise DataError(f"a patch of {prediction.shape[-1]} px cannot be shifted by {max_shift_px} px; lower shift_m")
    inner = np.s_[..., max_shift_px : max_shift_px + rows, max_shift_px : max_shift_px + cols]
    target, valid = target[inner], valid[inner]
    origins = sorted(
        itertools.product(range(2 * max_shift_px + 1), repeat=2),
        key=lambda origin: math.dist(origin, [max_shift_px] * 2),
    )
    with torch.no_grad():
        costs = [
            ((prediction[..., row : row + rows, col : col + cols] - target).abs_() * valid).sum((1, 2, 3))
            for row, col in origins
        ]
        best = torch.stack(costs).argmin(0).tolist()
    windows = [
        image[:, row : row + rows, col : col + cols]
        for image, (row, col) in zip(prediction, (origins[index] for index in best))
    ]
    return torch.stack(windows), target, valid


def max_shifts_px(shift_m: float) -> dict[str, int]:
    """Convert a shift in metres to whole pixels at 2.5 m and 1 m, by the names of the L1 losses."""
    return {"l1_2.5m": int(shift_m / 2.5), "l1_1m": int(shift_m)}


def _quotient(total: Tensor, number: Tensor) -> Tensor:
    """Return total / number over the batch of all processes; 0 if number is 0."""
    total, number = all_reduce_sum(torch.stack([total, number])).unbind()
    return total / number.clamp(min=1)


def area_average(image: Tensor, numerator: int, denominator: int) -> Tensor:
    """Average over cells of numerator / denominator pixels; pixels that cells share are weighted by area.

    From 1 m to 2.5 m, numerator is 5 and denominator 2: every pixel is split into 2 x 2 equal parts, and 5 x 5 parts
    are averaged. [n, bands, h, w] becomes [n, bands, h * denominator / numerator, w * denominator / numerator]; the
    mean is preserved exactly. Raises DataError if h or w is not a multiple of the cell size.
    """
    height, width = image.shape[-2:]
    if height * denominator % numerator or width * denominator % numerator:
        raise DataError(
            f"an image of {height} x {width} px is not divisible into cells of {numerator}/{denominator} px; "
            f"crop it to a multiple of {numerator} px"
        )
    split = image.repeat_interleave(denominator, dim=-2).repeat_interleave(denominator, dim=-1)
    return F.avg_pool2d(split, numerator)


def degrade_to_stage1(target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Average the valid pixels of the 1 m target to 2.5 m; cells with less than half of their area valid are nodata.

    The target, float [n, bands, h, w], has any finite value where `valid`, float [n, 1, h, w], is 0. Returns (float [n,
    bands, h / 2.5, w / 2.5], float mask [n, 1, h / 2.5, w / 2.5]).
    """
    fraction = area_average(valid, 5, 2)
    total = area_average(target * valid, 5, 2)
    return total / fraction.clamp(min=1e-6), (fraction >= 0.5).to(target.dtype)


def perceptual(prediction: Sequence[Tensor], target: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum over layers of the mean absolute difference of two lists of feature maps.

    Each layer's difference is divided by the standard deviation of its target, because the scales of layers differ by
    orders of magnitude. A weight then has the same meaning for every layer, and nearly the same as for the L1 of
    standardised images. Raises DataError if the number of weights is not that of the feature maps.
    """
    if not len(prediction) == len(target) == len(weights):
        raise DataError(
            f"perceptual loss has {len(prediction)} feature maps and {len(weights)} weights; set one weight per map in "
            "perceptual_layers"
        )
    terms = []
    for weight, features, expected in zip(weights, prediction, target):
        number = torch.tensor(float(expected.numel()), device=expected.device)
        deviation = _quotient((expected - _quotient(expected.sum(), number)).square().sum(), number).sqrt()
        terms.append(weight * _quotient((features - expected).abs().sum(), number) / deviation.clamp(min=1e-3))
    return torch.stack(terms).sum()


def generator_adversarial(fake_scores: Tensor, valid: Tensor) -> Tensor:
    """Return the non-saturating generator loss, -log D(fake), averaged over the valid pixels.

    Goodfellow et al. 2014, per pixel as in Real-ESRGAN (Wang et al. 2021). Scores are logits [n, 1, h, w].
    """
    return _quotient((F.softplus(-fake_scores) * valid).sum(), valid.sum())


def discriminator_adversarial(real_scores: Tensor, fake_scores: Tensor, valid: Tensor) -> Tensor:
    """Return the binary cross-entropy of a per-pixel discriminator, averaged over real and generated images."""
    loss = (F.softplus(-real_scores) + F.softplus(fake_scores)) * valid
    return _quotient(loss.sum(), 2 * valid.sum())


def discriminator_accuracy(real_scores: Tensor, fake_scores: Tensor, valid: Tensor) -> float:
    """Return the fraction of valid pixels whose score has the correct sign, over real and generated images."""
    correct = ((real_scores > 0).to(valid.dtype) + (fake_scores < 0).to(valid.dtype)) * valid
    return float(_quotient(correct.sum(), 2 * valid.sum()))


def squared_error(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[float, float]:
    """Return (sum of squared differences, number of values) over the valid pixels, which add up over images.

    Images are float [n, bands, h, w] in the same unit; `valid` is float [n, 1, h, w], 0 or 1.
    """
    total = ((prediction - target).double().square() * valid).sum()
    return float(total), float(valid.sum()) * prediction.shape[1]


def psnr(total: float, count: float, peak: float = 1.0) -> float:
    """Return the PSNR in dB of a sum of squared errors, 10 log10(peak^2 count / total); nan if count is 0.

    The peak of reflectance is 1. Because most surfaces are darker, values are high; only their differences are
    informative.
    """
    if not count:
        return math.nan
    return 10 * math.log10(peak**2 * count / max(total, 1e-20 * count))
