"""Merge several dates into one image of 5 m pixels, using their subpixel shifts (multi-frame super-resolution).

A 10 m image contains more detail than its pixels resolve: wavelengths below 20 m are aliased to longer ones, and the
aliasing differs between dates with different subpixel shifts. If the shifts are known, a few dates together separate
the two. The weights are those of the best linear estimate of the surface from all surrounding pixels (kriging): they
depend only on the shifts, and the estimate has the same resolution for any shifts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.interpolate import CubicSpline
from scipy.special import j0

from jointseg.sentinel2.scene_windows import RES_M, Shift

RADIUS_PX = 2  # a 5 m pixel is estimated from 5 x 5 pixels of each date
PART_PX = 16_384  # pixels that are estimated at once
SUBPIXELS = 2  # 5 m pixels along the side of a 10 m pixel
# Distance at which the covariance of the surface falls to 1/e; docs/explanation/composites.md compares inputs.
CORRELATION_LENGTH_M = 20.0
# Standard deviations of the blur of a date (MTF 0.24 at 20 m; the mission requires 0.15 to 0.30) and of the estimate.
BLUR_M, FINE_BLUR_M = 5.38, 2.5
NOISE = 1e-3  # variance of noise and change of a date, relative to the variance of its pixels
WEIGHT_SCALE = 1 << 24  # weights are integer multiples of 1 / WEIGHT_SCALE: their sums are exact in any order


@dataclass(frozen=True)
class Date:
    """A satellite pass over a tile."""

    scenes: tuple[int, ...]  # indices in the scene list; where several overlap, the first counts
    # (east, south), metres, from the position of a pixel to the area that it shows, at most half a pixel
    offset_m: tuple[float, float]
    clear_fraction: float  # of the tile
    quality: float  # of the registration, 0..1


def split_shift(shift_m: Shift) -> tuple[Shift, tuple[float, float]]:
    """Split a shift (east, north) into whole pixels, which need no resampling, and the remaining offset (east, south)."""
    whole = tuple(RES_M * float(np.floor(part / RES_M + 0.5)) + 0.0 for part in shift_m)
    east, north = (round(part - rounded, 3) for part, rounded in zip(shift_m, whole))
    return (whole[0], whole[1]), (east, 0.0 - north)


def select_dates(dates: Sequence[Date], count: int) -> list[Date]:
    """Return at most `count` dates, selected greedily by the reduction of the estimation error.

    The reduction is weighted by clear fraction and registration quality: after the clearest date follow those with
    different subpixel shifts. Ties go to the earlier date.
    """
    selected: list[Date] = []
    remaining = [date for date in dates if date.clear_fraction > 0 and date.quality > 0]
    error = 1.0
    while remaining and len(selected) < count:
        errors = [_estimator(tuple(date.offset_m for date in [*selected, new]))[1] for new in remaining]
        gains = [(error - after) * new.clear_fraction * new.quality for new, after in zip(remaining, errors)]
        index = int(np.argmax(np.round(gains, 9)))
        error = errors[index]
        selected.append(remaining.pop(index))
    return selected


def merge_dates(stack: np.ndarray, dates: Sequence[Date]) -> np.ndarray:
    """Return the dates merged to 5 m pixels.

    A pixel uses the dates whose 5 x 5 surrounding pixels are all clear.

    Args:
        stack: uint16 [dates, 3, rows + 4, columns + 4], shifted only by whole pixels; 0 where not clear.

    Returns:
        uint16 [4 * 3, rows, columns]: the bands of the north-western 5 m pixel of each 10 m pixel, then of the
        north-eastern, south-western and south-eastern one; 0 without a date.
    """
    side = 2 * RADIUS_PX + 1
    neighbours = sliding_window_view(stack, (side, side), axis=(2, 3))
    rows, cols = neighbours.shape[2:4]
    usable = (stack > 0).all(axis=1)
    for axis in (1, 2):
        usable = sliding_window_view(usable, side, axis=axis).all(axis=-1)
    pattern = (usable << np.arange(len(dates))[:, None, None]).sum(axis=0)
    out = np.zeros((SUBPIXELS**2, stack.shape[1], rows, cols), dtype=np.uint16)
    for code in np.unique(pattern[pattern > 0]):
        used = [index for index in range(len(dates)) if code >> index & 1]
        weights = _estimator(tuple(dates[index].offset_m for index in used))[0].T
        row, col = np.nonzero(pattern == code)
        for band in range(stack.shape[1]):
            for start in range(0, len(row), PART_PX):
                part = slice(start, start + PART_PX)
                values = neighbours[np.array(used)[:, None], band, row[part], col[part]]
                ordered = np.ascontiguousarray(values.transpose(1, 0, 2, 3), dtype=np.float64)
                estimate = ordered.reshape(len(row[part]), -1) @ weights / WEIGHT_SCALE
                out[:, band, row[part], col[part]] = np.clip(np.floor(estimate + 0.5), 1, 65534).T
    return out.reshape(-1, rows, cols)


@cache
def _estimator(offsets: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, float]:
    """Return the weights and the relative error variance of the estimate from dates with these offsets.

    Ordinary kriging (Cressie 1993, Statistics for Spatial Data, 3.2) of the surface, blurred to 5 m, from pixels with
    more blur. The weights of each date have the same sum, so a brightness difference between dates causes no pattern.
    They are weights x WEIGHT_SCALE, float64 [4, dates * 25], in the pixel order of `merge_dates`.
    """
    steps, half = RES_M * np.arange(-RADIUS_PX, RADIUS_PX + 1), RES_M / SUBPIXELS / 2
    pixels = np.concatenate([_positions(steps + east, steps + south) for east, south in offsets])
    coarse, cross, variance = _covariances()
    between = coarse(_distances(pixels, pixels)) + NOISE * np.eye(len(pixels))
    targets = _positions(np.array([-half, half]), np.array([-half, half]))
    to_targets = cross(_distances(pixels, targets))
    of_date = np.kron(np.eye(len(offsets)), np.ones((len(steps) ** 2, 1)))
    system = np.block([[between, of_date], [of_date.T, np.zeros((len(offsets), len(offsets)))]])
    right = np.concatenate([to_targets, np.full((len(offsets), SUBPIXELS**2), 1 / len(offsets))])
    weights = np.linalg.solve(system, right)[: len(pixels)]
    error = variance + np.mean(((between @ weights - 2 * to_targets) * weights).sum(axis=0))
    return np.rint(weights.T * WEIGHT_SCALE), float(error / variance)


def _positions(east: np.ndarray, south: np.ndarray) -> np.ndarray:
    """Return the positions of a grid, float64 [n, 2], row by row."""
    x, y = np.meshgrid(east, south)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1))


@cache
def _covariances() -> tuple[CubicSpline, CubicSpline, float]:
    """Return covariances by distance (m) of two blurred pixels and of a blurred with a fine pixel, and the fine variance.

    All are relative to the variance of a blurred pixel. The covariance of the surface is exponential; the results are
    Hankel transforms of its spectrum times those of the blurs.
    """
    wave = np.arange(0.5, 2000) / 8000  # cycles per metre, up to 0.25
    power = wave / (1 / (2 * np.pi * CORRELATION_LENGTH_M) ** 2 + wave**2) ** 1.5
    distance = np.arange(0, 201, dtype=float)
    waves = j0(2 * np.pi * distance[:, None] * wave)
    blur, fine = (np.exp(-2 * (np.pi * sigma * wave) ** 2) for sigma in (BLUR_M, FINE_BLUR_M))
    coarse, cross = waves @ (power * blur * blur), waves @ (power * blur * fine)
    variance = float((power * fine * fine).sum())
    return CubicSpline(distance, coarse / coarse[0]), CubicSpline(distance, cross / coarse[0]), variance / coarse[0]
