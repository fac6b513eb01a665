"""Rasters moved by parts of a pixel."""

import numpy as np
from scipy.ndimage import correlate1d, minimum_filter1d

from jointseg.sentinel2.scene import SATURATED_DN

LOBES = 3
TAPS = 2 * LOBES


def shift_subpixel(array: np.ndarray, down: float, across: float) -> np.ndarray:
    """What lies `down` rows and `across` columns behind the middle taps, by Lanczos' kernel of three lobes.

    It keeps more of the edges than cubic convolution does. The weights add up to 1, so that a constant added to the pixels is
    added to the result. Where a pixel under the kernel holds no data or is saturated, the nearest pixel stands as it
    is, so that an edge throws no rings.

    Args:
        array: uint16 [bands, rows + 5, columns + 5]; 0 holds no data.
        down, across: parts of a pixel, 0 to below 1.

    Returns:
        uint16 [bands, rows, columns]: pixel (i, j) is the value at row i + 2 + down, column j + 2 + across.
    """
    parts = {1: down, 2: across}
    value, known = array.astype(np.float64), ((array > 0) & (array < SATURATED_DN)).view(np.uint8)
    for axis, part in parts.items():
        whole = _inner(axis, LOBES, array.shape[axis] - TAPS + 1)
        value = correlate1d(value, _weights(part), axis=axis)[whole]
        known = minimum_filter1d(known, TAPS, axis=axis)[whole]
    still = array
    for axis, part in parts.items():
        still = still[_inner(axis, LOBES - 1 + (part >= 0.5), array.shape[axis] - TAPS + 1)]
    rounded = np.clip(np.floor(value + 0.5), 1, SATURATED_DN - 1).astype(np.uint16)
    return np.where(known > 0, rounded, still)


def _weights(part: float) -> np.ndarray:
    distance = np.arange(1 - LOBES, LOBES + 1) - part
    weights = np.sinc(distance) * np.sinc(distance / LOBES)
    return weights / weights.sum()


def _inner(axis: int, start: int, length: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, start + length),)
