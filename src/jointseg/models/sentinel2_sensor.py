"""Simulation of a Sentinel-2 image at 10 m from a 1 m image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from jointseg.raster.sentinel2_psf import PSF_SIGMA_M

SCALE = 10
PSF_TAPS = 32  # side of the point spread function's kernel in 1 m pixels: three sigma to either side
EPSILON = 1e-6


def gaussian_kernel(taps: int, sigma: float, like: Tensor) -> Tensor:
    """Return the weights [taps] of a centred Gaussian, float64, which sum to 1, on the device of `like`."""
    offsets = torch.arange(taps, dtype=torch.float64, device=like.device) - (taps - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def separable_filter(image: Tensor, weights: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolve each band of [n, c, h, w] with a separable kernel, along rows and then columns."""
    bands, kernel = image.shape[1], weights.to(image.dtype)
    for shape, axis in (((1, 1, -1, 1), 0), ((1, 1, 1, -1), 1)):
        strides, paddings = [1, 1], [0, 0]
        strides[axis], paddings[axis] = stride, padding
        image = F.conv2d(image, kernel.view(shape).expand(bands, *shape[1:]), None, strides, paddings, groups=bands)
    return image


def blur_and_downsample(image: Tensor) -> Tensor:
    """Simulate the 10 m image [n, c, h, w] of a 1 m image [n, c, 10 h, 10 w] without nodata.

    Edge pixels are repeated beyond the edge. For the sensor model see `simulate_sentinel2`.
    """
    padding = (PSF_TAPS - SCALE) // 2
    padded = F.pad(image, (padding,) * 4, mode="replicate")
    return separable_filter(padded, gaussian_kernel(PSF_TAPS, PSF_SIGMA_M, image), SCALE)


def simulate_sentinel2(image: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Simulate the 10 m image of a 1 m image: Gaussian point spread function, sigma 5.3 m, sampled every 10 m.

    Nodata pixels and pixels beyond the edge have no weight. A 10 m pixel is nodata if less than half of its weight or
    less than half of its area is valid. The function is differentiable.

    Args:
        image: float [n, c, 10 h, 10 w], any finite value at nodata.
        valid: float [n, 1, 10 h, 10 w], 0 or 1.

    Returns:
        Image, float [n, c, h, w], and mask, float [n, 1, h, w], 0 or 1.
    """
    weights, padding = gaussian_kernel(PSF_TAPS, PSF_SIGMA_M, image), (PSF_TAPS - SCALE) // 2
    weight = separable_filter(valid, weights, SCALE, padding)
    inside = separable_filter(torch.ones_like(valid), weights, SCALE, padding)
    mask = (weight >= inside / 2) & (F.avg_pool2d(valid, SCALE) >= 0.5)
    blurred = separable_filter(image * valid, weights, SCALE, padding)
    return blurred / weight.clamp(min=EPSILON), mask.to(image.dtype)
