"""How Sentinel-2 sees a 1 m image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from jointseg.raster.sentinel2_psf import PSF_SIGMA_M

SCALE = 10
PSF_TAPS = 32  # 1 m pixels along the side of the point spread's kernel: three sigma on either side
SMALL = 1e-6


def gaussian_kernel(taps: int, sigma: float, like: Tensor) -> Tensor:
    """Weights [taps] of a Gaussian about the middle, in float64, which sum to 1."""
    at = torch.arange(taps, dtype=torch.float64, device=like.device) - (taps - 1) / 2
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    return weights / weights.sum()


def separable_filter(image: Tensor, weights: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Each band of [n, c, h, w] through a kernel that is separable along rows and columns."""
    bands, kernel = image.shape[1], weights.to(image.dtype)
    for shape, axis in (((1, 1, -1, 1), 0), ((1, 1, 1, -1), 1)):
        step, edge = [1, 1], [0, 0]
        step[axis], edge[axis] = stride, padding
        image = F.conv2d(image, kernel.view(shape).expand(bands, *shape[1:]), None, step, edge, groups=bands)
    return image


def blur_and_downsample(image: Tensor) -> Tensor:
    """A 1 m image [n, c, 10 h, 10 w] without unknown pixels as Sentinel-2 sees it, [n, c, h, w]; its edge pixels go on beyond
    the edge. See `seen_at_10m`.
    """
    edge = (PSF_TAPS - SCALE) // 2
    return separable_filter(
        F.pad(image, (edge,) * 4, mode="replicate"), gaussian_kernel(PSF_TAPS, PSF_SIGMA_M, image), SCALE
    )


def simulate_sentinel2(image: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A 1 m image as Sentinel-2 sees it: through a Gaussian point spread of sigma 5.3 m, sampled every 10 m.

    Unknown pixels and those beyond the edge carry no weight; a 10 m pixel of whose weight, or of whose own ground, less
    than half is known is unknown. Differentiable.

    Args:
        image: float [n, c, 10 h, 10 w], any finite value where unknown.
        valid: float [n, 1, 10 h, 10 w] of 0 and 1.

    Returns:
        (float [n, c, h, w], float mask [n, 1, h, w]).
    """
    weights, edge = gaussian_kernel(PSF_TAPS, PSF_SIGMA_M, image), (PSF_TAPS - SCALE) // 2
    weight = separable_filter(valid, weights, SCALE, edge)
    inside = separable_filter(torch.ones_like(valid), weights, SCALE, edge)
    known = (weight >= inside / 2) & (F.avg_pool2d(valid, SCALE) >= 0.5)
    return separable_filter(image * valid, weights, SCALE, edge) / weight.clamp(min=SMALL), known.to(image.dtype)
