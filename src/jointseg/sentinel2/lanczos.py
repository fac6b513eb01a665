"""Shift rasters by fractions of a pixel with the Lanczos kernel."""

import numpy as np
from scipy.ndimage import correlate1d, minimum_filter1d

from jointseg.sentinel2.scene import SATURATED_DN

LOBES = 3
TAPS = 2 * LOBES


def shift_subpixel(array: np.ndarray, down: float, right: float) -> np.ndarray:
    """Shift an image by fractions of a pixel, 0 to below 1, with the Lanczos kernel of three lobes.

    It preserves edges better than cubic convolution. The weights add up to 1, so a constant offset of the input is an
    equal offset of the output. Where the kernel covers a nodata or saturated pixel, the nearest pixel is copied, which
    avoids ringing at edges.

    Args:
        array: uint16 [bands, rows + 5, columns + 5]; 0 is nodata.

    Returns:
        uint16 [bands, rows, columns]: pixel (i, j) is the value at row i + 2 + down, column j + 2 + right.
    """
    fractions = {1: down, 2: right}
    value, valid = array.astype(np.float64), ((array > 0) & (array < SATURATED_DN)).view(np.uint8)
    for axis, fraction in fractions.items():
        inner = _slice(axis, LOBES, array.shape[axis] - TAPS + 1)
        value = correlate1d(value, _weights(fraction), axis=axis)[inner]
        valid = minimum_filter1d(valid, TAPS, axis=axis)[inner]
    nearest = array
    for axis, fraction in fractions.items():
        nearest = nearest[_slice(axis, LOBES - 1 + (fraction >= 0.5), array.shape[axis] - TAPS + 1)]
    rounded = np.clip(np.floor(value + 0.5), 1, SATURATED_DN - 1).astype(np.uint16)
    return np.where(valid > 0, rounded, nearest)


def _weights(fraction: float) -> np.ndarray:
    distance = np.arange(1 - LOBES, LOBES + 1) - fraction
    weights = np.sinc(distance) * np.sinc(distance / LOBES)
    return weights / weights.sum()


def _slice(axis: int, start: int, length: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, start + length),)
