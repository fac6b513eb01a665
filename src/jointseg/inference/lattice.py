"""The lattice of inference windows, anchored to the origin of the UTM zone, and the weights that blend them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jointseg.runtime.errors import DataError

LR_M = 10
SEGMENTER_M = 32
# Weight of a window's outermost pixel before normalisation: strictly positive, yet far below its neighbour's.
FLOOR = 1e-3


class Window(NamedTuple):
    """One lattice window: `row` counts strides north of the zone's origin, `col` strides east of it."""

    row: int
    col: int
    bounds: tuple[int, int, int, int]
    """(minx, miny, maxx, maxy), metres of the UTM zone."""


def check(window_m: int, stride_m: int) -> None:
    """Refuse sizes off the 10 m lattice or the segmenter's coarsest cell (32 px of 1 m), and strides that leave gaps.

    Raises:
        DataError: naming the size, its value and what is allowed.
    """
    step = int(np.lcm(LR_M, SEGMENTER_M))
    if window_m <= 0 or window_m % step:
        raise DataError(f"window_m is {window_m}: it must be a positive multiple of {step} m; use {step * 4}")
    if stride_m <= 0 or stride_m % LR_M or stride_m > window_m:
        raise DataError(
            f"stride_m is {stride_m}: it must be a multiple of {LR_M} m between {LR_M} and {window_m} (window_m)"
        )


def rows(bounds: tuple[float, float, float, float], window_m: int, stride_m: int) -> list[list[Window]]:
    """The windows that share ground with `bounds` (metres), north to south, each row west to east.

    A window (row, col) covers [col * stride_m, col * stride_m + window_m) eastwards and the same northwards, whatever
    the bounds, so any two requests that need the same ground get the same windows.
    """
    check(window_m, stride_m)
    minx, miny, maxx, maxy = bounds
    cols = _indices(minx, maxx, window_m, stride_m)
    return [
        [
            Window(
                row,
                col,
                (col * stride_m, row * stride_m, col * stride_m + window_m, row * stride_m + window_m),
            )
            for col in cols
        ]
        for row in reversed(_indices(miny, maxy, window_m, stride_m))
    ]


def windows(bounds: tuple[float, float, float, float], window_m: int, stride_m: int) -> Iterator[Window]:
    """The windows of `rows`, one after another, in the order in which they are blended."""
    for row in rows(bounds, window_m, stride_m):
        yield from row


def weights(window_m: int, stride_m: int) -> np.ndarray:
    """Share of each 1 m pixel along one side of a window: float32[window_m], strictly positive and symmetric.

    A raised cosine over the overlap, normalised by the sum over all lattice windows that hold the pixel; that sum
    repeats every stride, so the shares of a pixel add up to 1 without any window knowing its neighbours. The weight
    of a pixel is the product of its share along each side.
    """
    check(window_m, stride_m)
    overlap = window_m - stride_m
    ramp = np.ones(window_m)
    if overlap:
        length = min(overlap, window_m // 2)
        rise = FLOOR + (1 - FLOOR) * np.sin(np.pi / 2 * (np.arange(length) + 0.5) / length) ** 2
        ramp[:length] = rise
        ramp[-length:] = rise[::-1]
    total = np.zeros(stride_m)
    np.add.at(total, np.arange(window_m) % stride_m, ramp)
    share = (ramp / total[np.arange(window_m) % stride_m]).astype(np.float32)
    # Rounding may differ in the last bit between the two sides: the mirror image makes the symmetry exact.
    half = window_m // 2
    share[-half:] = share[:half][::-1]
    return share


def _indices(low: float, high: float, window_m: int, stride_m: int) -> range:
    first = int(np.floor((low - window_m) / stride_m)) + 1
    last = int(np.ceil(high / stride_m)) - 1
    return range(first, last + 1)
