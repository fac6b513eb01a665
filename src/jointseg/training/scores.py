"""Scores of a super-resolved (SR) image over its valid pixels, against the true (HR) and the 10 m (LR) image."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jointseg.dataset import registration
from jointseg.models.prog_esrgan import RGB, upsample
from jointseg.models.sentinel2_sensor import gaussian_kernel, separable_filter, simulate_sentinel2
from jointseg.runtime.errors import DataError
from jointseg.training import losses
from jointseg.training.backbone import Backbone

SCALE = 10
RANGE = 0.3  # of reflectance, for SSIM's constants; with 1 they would dominate dark surfaces
SSIM_SIDE, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
MAX_DISPLACEMENT_M = 15
# Parameters of `correctness`, as published by opensr-test: exponents, and the quantile above which pixels have detail.
GAMMA_IMPROVEMENT, GAMMA_OMISSION, GAMMA_HALLUCINATION = 0.8, 0.8, 0.4
DETAIL_QUANTILE = 0.75
EPSILON = 1e-6


class Correctness(NamedTuple):
    """Fractions of the pixels with detail, which sum to 1; all nan if no pixel has detail."""

    improvement: float
    omission: float
    hallucination: float


def psnr(sr: Tensor, hr: Tensor, valid: Tensor, peak: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB over the valid pixels; nan if there are none.

    Args:
        sr, hr: float [n, 3, h, w].
        valid: float [n, 1, h, w], 0 or 1.
        peak: in the unit of the images.
    """
    return losses.psnr(*losses.squared_error(sr, hr, valid), peak)


def ssim(sr: Tensor, hr: Tensor, valid: Tensor) -> float:
    """Return the mean structural similarity (Wang et al. 2004) over completely valid windows; nan if there are none.

    Windows have 11 x 11 px and Gaussian weights with sigma 1.5. The constants are (0.01 L)^2 and (0.03 L)^2 with
    L = 0.3, about the range of reflectance on land. The SSIM of the bands is averaged.

    Args:
        sr, hr: reflectance, float [n, 3, h, w].
        valid: float [n, 1, h, w], 0 or 1.
    """
    weights = gaussian_kernel(SSIM_SIDE, SSIM_SIGMA, sr)
    window_valid = -F.max_pool2d(-valid, SSIM_SIDE, 1) if min(valid.shape[2:]) >= SSIM_SIDE else valid[..., :0, :0]
    if not bool(window_valid.any()):
        return math.nan
    x, y = (image.double() * valid for image in (sr, hr))
    mean_x, mean_y = separable_filter(x, weights), separable_filter(y, weights)
    var_x, var_y = separable_filter(x * x, weights) - mean_x**2, separable_filter(y * y, weights) - mean_y**2
    covariance = separable_filter(x * y, weights) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * RANGE) ** 2, (SSIM_K2 * RANGE) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float((similarity.mean(1, keepdim=True) * window_valid).sum() / window_valid.sum())


@torch.no_grad()
def perceptual_distance(sr: Tensor, hr: Tensor, valid: Tensor, backbone: Backbone) -> float:
    """Return the squared difference of normalised feature vectors, averaged over pixels and summed over layers.

    The formula is that of LPIPS (Zhang et al. 2018) without its learned channel weights, which are for other networks.
    At nodata of the HR image, the SR image is compared with itself; feature pixels are weighted by their valid
    fraction.

    Args:
        sr, hr: standardised per band as the backbone expects, float [n, 3, h, w].
        valid: float [n, 1, h, w], 0 or 1.
        backbone: frozen.
    """
    target = torch.where(valid > 0, hr, sr)
    total = 0.0
    for layers in zip(backbone(sr), backbone(target)):
        unit_sr, unit_hr = (layer / layer.norm(dim=1, keepdim=True).clamp(min=EPSILON) for layer in layers)
        fraction = F.adaptive_avg_pool2d(valid, unit_sr.shape[2:])
        difference = (unit_sr - unit_hr).square().sum(1, keepdim=True)
        total += float((difference * fraction).sum() / fraction.sum().clamp(min=EPSILON))
    return total


def consistency(sr: Tensor, lr: Tensor, valid: Tensor) -> dict[str, float]:
    """Return the differences between the super-resolved image degraded to 10 m and the 10 m image.

    Args:
        sr: reflectance, float [n, 3, 10 h, 10 w].
        lr: reflectance, float [n, 3 or more, h, w]; only the first three bands count.
        valid: float [n, 1, 10 h, 10 w], 0 or 1.

    Returns:
        reflectance: mean absolute difference; spectral: mean angle between the two spectra of a pixel, degrees
        (Kruse et al. 1993); colour: largest relative difference of a band's mean. nan without valid pixels.
    """
    low = lr[:, :RGB]
    degraded, mask = simulate_sentinel2(sr, valid)
    if not bool(mask.any()):
        return dict.fromkeys(("reflectance", "spectral", "colour"), math.nan)
    cosine = F.cosine_similarity(degraded.double(), low.double(), dim=1).clamp(-1, 1).unsqueeze(1)
    means = [(image * mask).sum((0, 2, 3)) / mask.sum() for image in (degraded, low)]
    return {
        "reflectance": float(losses.l1(degraded, low, mask)),
        "spectral": float((torch.rad2deg(cosine.acos()) * mask).sum() / mask.sum()),
        "colour": float(((means[0] - means[1]).abs() / means[1].abs().clamp(min=EPSILON)).max()),
    }


def displacement_m(sr: Tensor, lr: Tensor, valid: Tensor) -> float:
    """Return the mean displacement in metres between the super-resolved and the 10 m images.

    It is estimated by least-squares matching, as in the registration of chips (dataset.registration), which needs a
    margin of two 10 m pixels. nan if no image has enough structure. Shapes as in `consistency`.
    """
    margin = registration.PSF_MARGIN_M
    margin_px = margin // SCALE
    shifts = []
    for image, low, mask in zip(sr.cpu().numpy(), lr[:, :RGB].cpu().numpy(), valid.cpu().numpy() > 0):
        inner = low[:, margin_px:-margin_px, margin_px:-margin_px]
        pixels = mask[0, margin:-margin, margin:-margin]
        inner_valid = pixels.reshape(inner.shape[1], SCALE, inner.shape[2], SCALE).all((1, 3))
        if inner_valid.any():
            blurred = registration.blur(image, mask[0])
            shift = registration.refine_shift(inner, inner_valid, blurred, margin, (0.0, 0.0), MAX_DISPLACEMENT_M)
            shifts.append(shift)
    distances = [math.hypot(*shift.shift_m) for shift in shifts if math.isfinite(shift.sd_m)]
    return float(np.mean(distances)) if distances else math.nan


def _normalised_difference(x: Tensor, y: Tensor) -> Tensor:
    """Return |x - y| / |x + y| of reflectances, averaged over bands, [n, 1, h, w]."""
    return ((x - y).abs() / (x + y).abs().clamp(min=EPSILON)).mean(1, keepdim=True)


def correctness(sr: Tensor, hr: Tensor, lr: Tensor, valid: Tensor) -> Correctness:
    """Return the fractions of pixels with true (improvement), missing (omission) or false detail (hallucination).

    After opensr-test (Aybar et al. 2024, IEEE GRSL 21, "A comprehensive benchmark for optical remote sensing image
    super-resolution", and the equations of its documentation). With LR the bilinear upsampling of the 10 m image,
    every pixel has three distances d: reference d(LR, HR), and, divided by it, d_im = d(SR, HR) and d_om = d(SR, LR).
    Then, with H = d_im + d_om - 1,

        I = d_im + d_om (1 - exp(-g H)),   O = d_om + d_im (1 - exp(-g H)),   F = exp(-g d_im d_om)

    and the pixel belongs to the class with the smallest value; g is 0.8, 0.8 and 0.4. The distance is the normalised
    difference |x - y| / |x + y| of reflectance, averaged over bands (opensr-test's `nd`). A valid pixel has detail and
    is counted if one of its distances exceeds the 75 % quantile of the reference over all images (opensr-test's
    `auto75`). Neighbours of completely nodata 10 m pixels are excluded, because the bilinear image mixes in nodata.
    Unlike opensr-test, SR is not matched to HR by histogram and location, because the pairs of this package already
    match.

    Args:
        sr, hr: reflectance, float [n, 3, 10 h, 10 w].
        lr: reflectance, float [n, 3 or more, h, w].
        valid: float [n, 1, 10 h, 10 w], 0 or 1.
    """
    excluded = F.max_pool2d((F.avg_pool2d(valid, SCALE) == 0).to(sr.dtype), 3, 1, 1)
    low, counted = upsample(lr[:, :RGB], SCALE), (valid > 0) & (F.interpolate(excluded, scale_factor=SCALE) == 0)
    pairs = ((low, hr), (sr, hr), (sr, low))
    reference, to_high, to_low = (_normalised_difference(x, y)[counted].double() for x, y in pairs)
    if not len(reference):
        return Correctness(math.nan, math.nan, math.nan)
    threshold = reference.kthvalue(max(1, int(DETAIL_QUANTILE * len(reference)))).values
    detail = (reference > threshold) | (to_high > threshold) | (to_low > threshold)
    unit = reference[detail].clamp(min=EPSILON)
    d_im, d_om = to_high[detail] / unit, to_low[detail] / unit
    h = d_im + d_om - 1
    improvement = d_im + d_om * (1 - torch.exp(-GAMMA_IMPROVEMENT * h))
    omission = d_om + d_im * (1 - torch.exp(-GAMMA_OMISSION * h))
    hallucination = torch.exp(-GAMMA_HALLUCINATION * d_im * d_om)
    nearest = torch.stack([improvement, omission, hallucination]).argmin(0)
    counts = torch.bincount(nearest, minlength=3).double()
    return Correctness(*(counts / counts.sum()).tolist())


def score(
    sr: Tensor,
    hr: Tensor,
    lr: Tensor,
    valid: Tensor,
    *,
    backbone: Backbone | None = None,
    normalisation: dict[str, list[float]] | None = None,
) -> dict[str, float]:
    """Return all scores of super-resolved images over their valid pixels.

    Args:
        sr, hr: reflectance at 1 m, float [n, 3, 10 h, 10 w]; any finite value at nodata.
        lr: reflectance at 10 m, float [n, 3 or more, h, w], red, green and blue first.
        valid: float [n, 1, 10 h, 10 w], 1 where `hr` and `lr` are valid.
        backbone: for the perceptual distance, with `normalisation`, {"mean", "std"} of reflectance; None omits it.

    Returns:
        psnr (dB, peak 1), ssim, reflectance, spectral (degrees), colour, displacement_m, improvement, omission,
        hallucination, and optionally perceptual.

    Raises:
        DataError: the shapes are inconsistent.
    """
    high = (sr.shape[0], RGB, SCALE * lr.shape[2], SCALE * lr.shape[3])
    if tuple(sr.shape) != high or tuple(hr.shape) != high or tuple(valid.shape) != (high[0], 1, *high[2:]):
        raise DataError(
            f"scored images have shapes {tuple(sr.shape)} and {tuple(hr.shape)} and a mask of {tuple(valid.shape)}, "
            f"expected {high}, and one band for the mask, for a 10 m image of {tuple(lr.shape)}"
        )
    scores = {"psnr": psnr(sr, hr, valid), "ssim": ssim(sr, hr, valid), **consistency(sr, lr, valid)}
    scores |= {"displacement_m": displacement_m(sr, lr, valid), **correctness(sr, hr, lr, valid)._asdict()}
    if backbone is not None and normalisation is not None:
        mean, std = (torch.tensor(normalisation[key][:RGB]).to(sr).view(1, RGB, 1, 1) for key in ("mean", "std"))
        scores["perceptual"] = perceptual_distance((sr - mean) / std, (hr - mean) / std, valid, backbone)
    return scores
