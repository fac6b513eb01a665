"""One-dimensional kernels that resample a north-up raster to another lattice of the same CRS, one axis at a time."""

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

Kernel = Callable[[np.ndarray], np.ndarray]


def cubic(distance: np.ndarray) -> np.ndarray:
    """Return the cubic convolution kernel with a = -0.5 (Keys 1981), which is zero beyond 2."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def axis_weights(kernel: Kernel, reach: float, first: float, step: float, count: int, size: int) -> csr_array:
    """Return weights float32 [count, size] of source pixels in output pixels; every row sums to 1.

    Pixels outside the source have no weight. All distances are in source pixels.

    Args:
        kernel: function of the distance; it ends at `reach`.
        first: centre of the first output pixel, from the centre of the first source pixel.
        step: distance between output pixels.
    """
    centres = first + step * np.arange(count)
    taps = np.ceil(centres - reach)[:, None] + np.arange(int(2 * reach) + 1)
    weights = np.where((taps >= 0) & (taps < size), kernel(taps - centres[:, None]), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    weights = (weights / np.where(np.abs(total) > 1e-6, total, 1.0)).astype(np.float32)
    columns = np.clip(taps, 0, size - 1).astype(np.int32)
    starts = np.arange(0, columns.size + 1, columns.shape[1], dtype=np.int32)
    return csr_array((weights.ravel(), columns.ravel(), starts), shape=(count, size))


def antialiased_weights(first: float, step: float, count: int, size: int) -> csr_array:
    """Return `axis_weights` of the cubic kernel, widened to the output pixel when downsampling, which avoids aliasing."""
    wide = max(step, 1.0)
    return axis_weights(lambda distance: cubic(distance / wide), 2 * wide, first, step, count, size)


def gaussian_weights(sigma: float, reach: float, first: float, step: float, count: int, size: int) -> csr_array:
    """Return `axis_weights` of a Gaussian; sigma and reach in source pixels."""
    return axis_weights(lambda distance: np.exp(-0.5 * (distance / sigma) ** 2), reach, first, step, count, size)


def apply_separable(rows: csr_array, cols: csr_array, image: np.ndarray) -> np.ndarray:
    """Apply the weights of both axes to an image [rows, columns]; returns float32."""
    return np.ascontiguousarray((cols @ np.ascontiguousarray((rows @ image).T)).T)


def resample_valid(
    rows: csr_array, cols: csr_array, image: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the weights of both axes to the valid pixels of bands [bands, rows, columns].

    `valid` is bool [rows, columns], or None if all pixels are valid. Return float32 [bands, ...], 0 for nodata, and
    bool [...], true where at least half of the weight is valid.
    """
    if valid is None:
        out = np.stack([apply_separable(rows, cols, band.astype(np.float32)) for band in image])
        return out, np.ones(out.shape[1:], dtype=bool)
    weight = apply_separable(rows, cols, valid.astype(np.float32))
    out = np.stack([apply_separable(rows, cols, np.where(valid, band, 0).astype(np.float32)) for band in image])
    enough = weight >= 0.5
    return np.where(enough, out / np.where(enough, weight, 1), 0).astype(np.float32), enough
