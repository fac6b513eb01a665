"""The lattice of inference windows, anchored to the origin of the UTM zone, and their blending weights."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jointseg.runtime.errors import DataError

LR_M = 10
SEGMENTER_M = 32
# Weight of a window's outermost pixel before normalisation: positive, but far below that of its neighbour.
MIN_WEIGHT = 1e-3


class Window(NamedTuple):
    """One lattice window: `row` counts strides north of the zone's origin, `col` strides east of it."""

    row: int
    col: int
    bounds: tuple[int, int, int, int]
    """(minx, miny, maxx, maxy), metres of the UTM zone."""


def check_sizes(window_m: int, stride_m: int) -> None:
    """Raise DataError for sizes that are not multiples of 10 m and of the segmenter's stride (32 m), and strides that leave gaps."""
    step = int(np.lcm(LR_M, SEGMENTER_M))
    if window_m <= 0 or window_m % step:
        raise DataError(f"window_m is {window_m}: it must be a positive multiple of {step} m; use {step * 4}")
    if stride_m <= 0 or stride_m % LR_M or stride_m > window_m:
        raise DataError(
            f"stride_m is {stride_m}: it must be a multiple of {LR_M} m between {LR_M} and {window_m} (window_m)"
        )


def rows(bounds: tuple[float, float, float, float], window_m: int, stride_m: int) -> list[list[Window]]:
    """Return the windows that intersect `bounds` (metres), rows from north to south, each row from west to east.

    A window (row, col) covers [col * stride_m, col * stride_m + window_m) eastwards and the same northwards. It
    does not depend on the bounds, so windows of the same area are the same in any call.
    """
    check_sizes(window_m, stride_m)
    minx, miny, maxx, maxy = bounds
    cols = _indices(minx, maxx, window_m, stride_m)
    return [
        [
            Window(row, col, (col * stride_m, row * stride_m, col * stride_m + window_m, row * stride_m + window_m))
            for col in cols
        ]
        for row in reversed(_indices(miny, maxy, window_m, stride_m))
    ]


def windows(bounds: tuple[float, float, float, float], window_m: int, stride_m: int) -> Iterator[Window]:
    """Yield the windows of `rows` in blending order."""
    for row in rows(bounds, window_m, stride_m):
        yield from row


def blend_weights(window_m: int, stride_m: int) -> np.ndarray:
    """Return the blending weight of each 1 m pixel along one side of a window: float32[window_m], positive and symmetric.

    A raised cosine over the overlap, divided by the sum over all windows that contain the pixel. That sum is periodic with the
    stride, so the weights of a pixel add up to 1. The weight of a pixel is the product of its weights along both sides.
    """
    check_sizes(window_m, stride_m)
    overlap = window_m - stride_m
    ramp = np.ones(window_m)
    if overlap:
        length = min(overlap, window_m // 2)
        rise = MIN_WEIGHT + (1 - MIN_WEIGHT) * np.sin(np.pi / 2 * (np.arange(length) + 0.5) / length) ** 2
        ramp[:length] = rise
        ramp[-length:] = rise[::-1]
    total = np.zeros(stride_m)
    np.add.at(total, np.arange(window_m) % stride_m, ramp)
    weight = (ramp / total[np.arange(window_m) % stride_m]).astype(np.float32)
    # Rounding can differ in the last bit between the two sides: mirror one side to make the symmetry exact.
    half = window_m // 2
    weight[-half:] = weight[:half][::-1]
    return weight


def _indices(low: float, high: float, window_m: int, stride_m: int) -> range:
    first = int(np.floor((low - window_m) / stride_m)) + 1
    last = int(np.ceil(high / stride_m)) - 1
    return range(first, last + 1)
