"""Losses of super-resolution: known pixels only, exact area degradation, perceptual and adversarial terms.

All are quotients of sums over the whole batch, also where several processes share it (`processes.everywhere`).
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


def l1(prediction: Tensor, target: Tensor, valid: Tensor, reach_px: int = 0) -> Tensor:
    """Mean absolute difference over the known pixels; 0 when none is known.

    With `reach_px`, that of every sample at the shift of the prediction where it is smallest (`registered`): real
    pairs are never aligned to the pixel, and a network that is punished for it blurs its edges.

    Args:
        prediction, target: float [n, bands, h, w].
        valid: float [n, 1, h, w] of 0 and 1; pixels of 0 have no gradient.
        reach_px: largest shift along rows and columns; 0 takes the images as they lie.
    """
    if reach_px:
        prediction, target, valid = align(prediction, target, valid, reach_px)
    return _quotient(((prediction - target).abs() * valid).sum(), valid.sum() * prediction.shape[1])


def align(prediction: Tensor, target: Tensor, valid: Tensor, reach_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """The inner part of target and mask, margins of `reach_px` cut, and the window of the prediction that fits it best.

    Every sample has a shift of its own, whole pixels, of the smallest L1 over its known pixels; of equal ones the
    shortest. All shifts are measured against the same pixels of the target, so that none is favoured by its content.

    Raises:
        DataError: the images are too small to be shifted so far.
    """
    rows, cols = (side - 2 * reach_px for side in prediction.shape[-2:])
    if min(rows, cols) < 1:
        raise DataError(f"a patch of {prediction.shape[-1]} px cannot be shifted by {reach_px} px; lower shift_m")
    inner = np.s_[..., reach_px : reach_px + rows, reach_px : reach_px + cols]
    target, valid = target[inner], valid[inner]
    places = sorted(itertools.product(range(2 * reach_px + 1), repeat=2), key=lambda at: math.dist(at, [reach_px] * 2))
    with torch.no_grad():
        costs = [
            ((prediction[..., row : row + rows, col : col + cols] - target).abs_() * valid).sum((1, 2, 3))
            for row, col in places
        ]
        best = torch.stack(costs).argmin(0).tolist()
    fitting = [
        image[:, row : row + rows, col : col + cols]
        for image, (row, col) in zip(prediction, (places[which] for which in best))
    ]
    return torch.stack(fitting), target, valid


def max_shifts_px(shift_m: float) -> dict[str, int]:
    """The whole pixels of a shift in metres on the grids of both stages, by the names of their losses."""
    return {"l1_2.5m": int(shift_m / 2.5), "l1_1m": int(shift_m)}


def _quotient(total: Tensor, number: Tensor) -> Tensor:
    """A mean over the batch of all processes; 0 where nothing is counted."""
    total, number = all_reduce_sum(torch.stack([total, number])).unbind()
    return total / number.clamp(min=1)


def area_average(image: Tensor, numerator: int, denominator: int) -> Tensor:
    """Exact average over cells of numerator / denominator pixels, split pixels counted by their share.

    1 m to 2.5 m is numerator 5, denominator 2: every pixel is cut into 2 x 2 equal parts and 5 x 5 parts are
    averaged, so the mean of the image is kept.

    Args:
        image: float [n, bands, h, w]; h and w must be whole numbers of cells.

    Returns:
        float [n, bands, h * denominator / numerator, w * denominator / numerator].
    """
    height, width = image.shape[-2:]
    if height * denominator % numerator or width * denominator % numerator:
        raise DataError(
            f"an image of {height} x {width} px has no whole number of {numerator}/{denominator} px cells; "
            f"cut it to a multiple of {numerator} px"
        )
    cut = image.repeat_interleave(denominator, dim=-2).repeat_interleave(denominator, dim=-1)
    return F.avg_pool2d(cut, numerator)


def degrade_to_stage1(target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The 1 m target seen at 2.5 m, from its known pixels; cells less than half known become unknown.

    Args:
        target: float [n, bands, h, w] at 1 m, any finite value where unknown.
        valid: float [n, 1, h, w] of 0 and 1.

    Returns:
        (float [n, bands, h / 2.5, w / 2.5], float mask [n, 1, h / 2.5, w / 2.5]).
    """
    share = area_average(valid, 5, 2)
    total = area_average(target * valid, 5, 2)
    return total / share.clamp(min=1e-6), (share >= 0.5).to(target.dtype)


def perceptual(prediction: Sequence[Tensor], target: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum over layers of the mean absolute difference of two lists of feature maps.

    Each layer's difference is divided by the deviation of its target, because layers differ in scale by tens; a weight
    then means the same for every layer, and nearly the same as for the L1 of standardised images.
    """
    if not len(prediction) == len(target) == len(weights):
        raise DataError(
            f"perceptual loss has {len(prediction)} feature maps and {len(weights)} weights; give one weight a map"
        )
    terms = []
    for weight, made, wanted in zip(weights, prediction, target):
        number = torch.tensor(float(wanted.numel()), device=wanted.device)
        spread = _quotient((wanted - _quotient(wanted.sum(), number)).square().sum(), number).sqrt()
        terms.append(weight * _quotient((made - wanted).abs().sum(), number) / spread.clamp(min=1e-3))
    return torch.stack(terms).sum()


def generator_adversarial(fake_scores: Tensor, valid: Tensor) -> Tensor:
    """Non-saturating generator loss, -log D(fake), averaged over the known pixels.

    Goodfellow et al. 2014, per pixel as in Real-ESRGAN (Wang et al. 2021).

    Args:
        fake_scores: logits [n, 1, h, w] of the discriminator on generated images.
        valid: float [n, 1, h, w] of 0 and 1.
    """
    return _quotient((F.softplus(-fake_scores) * valid).sum(), valid.sum())


def discriminator_adversarial(real_scores: Tensor, fake_scores: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of a per-pixel discriminator, mean of its real and its generated half."""
    loss = (F.softplus(-real_scores) + F.softplus(fake_scores)) * valid
    return _quotient(loss.sum(), 2 * valid.sum())


def discriminator_accuracy(real_scores: Tensor, fake_scores: Tensor, valid: Tensor) -> float:
    """Share of known pixels whose score has the right sign, over real and generated images together."""
    right = ((real_scores > 0).to(valid.dtype) + (fake_scores < 0).to(valid.dtype)) * valid
    return float(_quotient(right.sum(), 2 * valid.sum()))


def squared_error(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[float, float]:
    """(sum of squared differences, number of values) over the known pixels, to be added up over images.

    Args:
        prediction, target: float [n, bands, h, w] in one unit.
        valid: float [n, 1, h, w] of 0 and 1.
    """
    total = ((prediction - target).double().square() * valid).sum()
    return float(total), float(valid.sum()) * prediction.shape[1]


def psnr(total: float, count: float, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of a sum of squared errors: 10 log10(peak^2 count / total).

    The peak of reflectance is 1; dark ground then gives high figures, and only differences of them tell something.
    """
    if not count:
        return math.nan
    return 10 * math.log10(peak**2 * count / max(total, 1e-20 * count))
