"""Scores of a super-resolved image on its known pixels: against the true image, and against the image it was made of."""

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
RANGE = 0.3  # of reflectance, for SSIM's constants: that of the display; with 1 they would outweigh dark ground
SSIM_SIDE, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
REACH_M = 15  # largest displacement looked for
# Calibration of the three scores of `correctness` (opensr-test's published ones), and its share of calm pixels.
GAMMA_IMPROVEMENT, GAMMA_OMISSION, GAMMA_HALLUCINATION = 0.8, 0.8, 0.4
CALM = 0.75
SMALL = 1e-6


class Correctness(NamedTuple):
    """Shares of the pixels with detail, which sum to 1 (all nan where no pixel has any)."""

    improvement: float
    omission: float
    hallucination: float


def psnr(sr: Tensor, hr: Tensor, valid: Tensor, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB over the known pixels; nan where none is known.

    sr, hr: float [n, 3, h, w]; valid: float [n, 1, h, w] of 0 and 1; peak in their unit.
    """
    return losses.psnr(*losses.squared_error(sr, hr, valid), peak)


def ssim(sr: Tensor, hr: Tensor, valid: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004) over windows of 11 x 11 px, Gaussian sigma 1.5, known throughout.

    Constants (0.01 L)^2 and (0.03 L)^2 with L = 0.3, about the range of reflectance on land. Bands are scored apart
    and averaged. nan where no window is known.

    sr, hr: reflectance, float [n, 3, h, w]; valid: float [n, 1, h, w] of 0 and 1.
    """
    weights = gaussian_kernel(SSIM_SIDE, SSIM_SIGMA, sr)
    known = -F.max_pool2d(-valid, SSIM_SIDE, 1) if min(valid.shape[2:]) >= SSIM_SIDE else valid[..., :0, :0]
    if not bool(known.any()):
        return math.nan
    x, y = (image.double() * valid for image in (sr, hr))
    mean_x, mean_y = separable_filter(x, weights), separable_filter(y, weights)
    var_x, var_y = separable_filter(x * x, weights) - mean_x**2, separable_filter(y * y, weights) - mean_y**2
    covariance = separable_filter(x * y, weights) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * RANGE) ** 2, (SSIM_K2 * RANGE) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float((likeness.mean(1, keepdim=True) * known).sum() / known.sum())


@torch.no_grad()
def perceptual_distance(sr: Tensor, hr: Tensor, valid: Tensor, backbone: Backbone) -> float:
    """Squared difference of feature maps of unit length over channels, averaged over pixels, summed over layers.

    The form of LPIPS (Zhang et al. 2018) without its learned weights of channels, which belong to other networks.
    0 for equal images. Where the truth is unknown the image is compared with itself, and weighs as far as it is known.

    Args:
        sr, hr: standardised per band as the backbone expects, float [n, 3, h, w].
        valid: float [n, 1, h, w] of 0 and 1.
        backbone: frozen.
    """
    true = torch.where(valid > 0, hr, sr)
    total = 0.0
    for made, wanted in zip(backbone(sr), backbone(true)):
        unit_made, unit_wanted = (each / each.norm(dim=1, keepdim=True).clamp(min=SMALL) for each in (made, wanted))
        share = F.adaptive_avg_pool2d(valid, made.shape[2:])
        difference = (unit_made - unit_wanted).square().sum(1, keepdim=True)
        total += float((difference * share).sum() / share.sum().clamp(min=SMALL))
    return total


def consistency(sr: Tensor, lr: Tensor, valid: Tensor) -> dict[str, float]:
    """How far the super-resolved image, seen at 10 m again, is from the image it was made of.

    Args:
        sr: reflectance, float [n, 3, 10 h, 10 w]; lr: reflectance, float [n, 3 or more, h, w], of which the first
            three bands count; valid: float [n, 1, 10 h, 10 w] of 0 and 1.

    Returns:
        reflectance: mean absolute difference; spectral: mean angle between the two spectra of a pixel, degrees
        (Kruse et al. 1993); colour: largest relative difference of a band's mean. nan where nothing is known.
    """
    low = lr[:, :RGB]
    seen, known = simulate_sentinel2(sr, valid)
    if not bool(known.any()):
        return dict.fromkeys(("reflectance", "spectral", "colour"), math.nan)
    cosine = F.cosine_similarity(seen.double(), low.double(), dim=1).clamp(-1, 1).unsqueeze(1)
    means = [(image * known).sum((0, 2, 3)) / known.sum() for image in (seen, low)]
    return {
        "reflectance": float(losses.l1(seen, low, known)),
        "spectral": float((torch.rad2deg(cosine.acos()) * known).sum() / known.sum()),
        "colour": float(((means[0] - means[1]).abs() / means[1].abs().clamp(min=SMALL)).max()),
    }


def displacement_m(sr: Tensor, lr: Tensor, valid: Tensor) -> float:
    """Mean distance in metres by which the super-resolved images lie off the 10 m images they were made of.

    Found by least squares matching as chips are registered (dataset.registration); a ring of two 10 m pixels is needed
    around what is matched. nan where no image has enough structure. Shapes as in `consistency`.
    """
    margin = registration.PSF_MARGIN_M
    ring = margin // SCALE
    found = []
    for image, low, known in zip(sr.cpu().numpy(), lr[:, :RGB].cpu().numpy(), valid.cpu().numpy() > 0):
        inner = low[:, ring:-ring, ring:-ring]
        cells = known[0, margin:-margin, margin:-margin]
        whole = cells.reshape(inner.shape[1], SCALE, inner.shape[2], SCALE).all((1, 3))
        if whole.any():
            smooth = registration.blur(image, known[0])
            found.append(registration.refine_shift(inner, whole, smooth, margin, (0.0, 0.0), REACH_M))
    distances = [math.hypot(*place.shift_m) for place in found if math.isfinite(place.sd_m)]
    return float(np.mean(distances)) if distances else math.nan


def _normalised_difference(x: Tensor, y: Tensor) -> Tensor:
    """|x - y| / |x + y| of reflectances, averaged over bands: [n, 1, h, w]."""
    return ((x - y).abs() / (x + y).abs().clamp(min=SMALL)).mean(1, keepdim=True)


def correctness(sr: Tensor, hr: Tensor, lr: Tensor, valid: Tensor) -> Correctness:
    """Shares of pixels whose detail is true (improvement), missing (omission) or made up (hallucination).

    After opensr-test (Aybar et al. 2024, IEEE GRSL 21, "A comprehensive benchmark for optical remote sensing image
    super-resolution", and the equations of its documentation). With LR the bilinear upsampling of the 10 m image,
    every pixel has three distances d: reference d(LR, HR), and, divided by it, d_im = d(SR, HR) and d_om = d(SR, LR).
    Then, with H = d_im + d_om - 1,

        I = d_im + d_om (1 - exp(-g H)),   O = d_om + d_im (1 - exp(-g H)),   F = exp(-g d_im d_om)

    and the pixel belongs to the smallest of the three; g is 0.8, 0.8 and 0.4. The distance is the normalised
    difference |x - y| / |x + y| of reflectance, averaged over the bands of one pixel (opensr-test's `nd`). Counted
    are the known pixels where one of the three distances exceeds the reference's 75 % quantile over all images given
    (opensr-test's `auto75`): elsewhere there is no detail to speak of. Left out are neighbours of wholly unknown 10 m
    pixels, which their bilinear image is mixed with. Unlike opensr-test, SR is not first matched to HR in histogram and
    place: the pairs given here are of one place and radiometry.

    sr, hr: reflectance, float [n, 3, 10 h, 10 w]; lr: reflectance, float [n, 3 or more, h, w];
    valid: float [n, 1, 10 h, 10 w] of 0 and 1.
    """
    unknown = F.max_pool2d((F.avg_pool2d(valid, SCALE) == 0).to(sr.dtype), 3, 1, 1)
    low, known = upsample(lr[:, :RGB], SCALE), (valid > 0) & (F.interpolate(unknown, scale_factor=SCALE) == 0)
    pairs = ((low, hr), (sr, hr), (sr, low))
    reference, to_high, to_low = (_normalised_difference(x, y)[known].double() for x, y in pairs)
    if not len(reference):
        return Correctness(math.nan, math.nan, math.nan)
    threshold = reference.kthvalue(max(1, int(CALM * len(reference)))).values
    detail = (reference > threshold) | (to_high > threshold) | (to_low > threshold)
    unit = reference[detail].clamp(min=SMALL)
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
    """All scores of super-resolved images on their known pixels.

    Args:
        sr, hr: reflectance at 1 m, float [n, 3, 10 h, 10 w]; any finite value where unknown.
        lr: reflectance at 10 m, float [n, 3 or more, h, w], red, green and blue first.
        valid: float [n, 1, 10 h, 10 w], 1 where `hr` and `lr` are known.
        backbone, normalisation: {"mean", "std"} of reflectance; with both the perceptual distance is added.

    Returns:
        psnr (dB, peak 1), ssim, reflectance, spectral (degrees), colour, displacement_m, improvement, omission,
        hallucination, and perceptual where asked for.

    Raises:
        DataError: the shapes do not belong together.
    """
    high = (sr.shape[0], RGB, SCALE * lr.shape[2], SCALE * lr.shape[3])
    if tuple(sr.shape) != high or tuple(hr.shape) != high or tuple(valid.shape) != (high[0], 1, *high[2:]):
        raise DataError(
            f"images of {tuple(sr.shape)}, {tuple(hr.shape)} and a mask of {tuple(valid.shape)} are scored beside a "
            f"10 m image of {tuple(lr.shape)}; expected {high} twice and one band of it"
        )
    shares = correctness(sr, hr, lr, valid)._asdict()
    scores = {"psnr": psnr(sr, hr, valid), "ssim": ssim(sr, hr, valid), **consistency(sr, lr, valid)}
    scores |= {"displacement_m": displacement_m(sr, lr, valid), **shares}
    if backbone is not None and normalisation is not None:
        mean, std = (torch.tensor(normalisation[key][:RGB]).to(sr).view(1, RGB, 1, 1) for key in ("mean", "std"))
        scores["perceptual"] = perceptual_distance((sr - mean) / std, (hr - mean) / std, valid, backbone)
    return scores
