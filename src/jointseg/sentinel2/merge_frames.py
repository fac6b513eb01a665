"""Several dates merged into one image of 5 m pixels, by what the dates' sub-pixel shifts tell.

A 10 m image holds more than its pixels show: what is finer than 20 m folds onto coarser waves, on every date another
way, because every date lies elsewhere by a part of a pixel. Where the shifts are known, a few dates together tell the
two apart. The weights by which they do are those of the best linear estimate of the ground from all pixels around
(kriging), so they depend on the shifts alone, and what is written means the same whatever the shifts were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.interpolate import CubicSpline
from scipy.special import j0

from jointseg.sentinel2.scene_windows import RES_M, Shift

RADIUS_PX = 2  # a 5 m pixel is estimated from the 5 x 5 pixels of each date around it
SUBPIXELS = 2  # 5 m pixels along the side of one of 10 m
# The ground's covariance falls to 1/e within so many metres; see also docs/sentinel2.md for what was tried.
CORRELATION_LENGTH_M = 20.0
# Standard deviations of the blur of a date (MTF 0.24 at 20 m, inside the 0.15 to 0.30 of the mission's requirement)
# and of what is estimated.
BLUR_M, FINE_BLUR_M = 5.38, 2.5
NOISE = 1e-3  # variance of a date's own changes and noise, in parts of that of its pixels
EXACT = 1 << 24  # weights are multiples of 1 / EXACT, so that sums of them are exact in whatever order


@dataclass(frozen=True)
class Date:
    """A pass of the satellite over a tile.

    Attributes:
        scenes: places in the scene list; the ground that several show counts for the first.
        offset_m: (east, south) from a pixel's place to the ground that it shows, at most half a pixel.
        clear_share: of the tile.
        quality: of the registration, 0..1.
    """

    scenes: tuple[int, ...]
    offset_m: tuple[float, float]
    clear_share: float
    quality: float


def split_shift(shift_m: Shift) -> tuple[Shift, tuple[float, float]]:
    """A shift (east, north) as whole pixels, by which pixels are read elsewhere as they are, and the offset that is left."""
    whole = tuple(RES_M * float(np.floor(each / RES_M + 0.5)) + 0.0 for each in shift_m)
    east, north = (round(each - there, 3) for each, there in zip(shift_m, whole))
    return (whole[0], whole[1]), (east, 0.0 - north)


def select_dates(dates: Sequence[Date], count: int) -> list[Date]:
    """At most `count` dates, the best first: one by one that which most lessens what is unknown.

    That is the estimate's error, times the date's clear share and the quality of its registration; so after the
    clearest the ones that lie elsewhere by a part of a pixel come. Of equal ones the earlier goes first.
    """
    chosen: list[Date] = []
    left = [date for date in dates if date.clear_share > 0 and date.quality > 0]
    error = 1.0
    while left and len(chosen) < count:
        errors = [_estimate(tuple(date.offset_m for date in [*chosen, each]))[1] for each in left]
        gains = [(error - after) * each.clear_share * each.quality for each, after in zip(left, errors)]
        place = int(np.argmax(np.round(gains, 9)))
        error = errors[place]
        chosen.append(left.pop(place))
    return chosen


def merge_dates(stack: np.ndarray, dates: Sequence[Date]) -> np.ndarray:
    """The dates as 5 m pixels.

    A date counts where all of its pixels around are clear.

    Args:
        stack: uint16 [dates, 3, rows + 4, columns + 4], moved by whole pixels alone, 0 where not clear.
        dates: their facts.

    Returns:
        uint16 [4 * 3, rows, columns]: the bands of the north-western 5 m pixel of each 10 m pixel, then of the
        north-eastern, south-western and south-eastern one; 0 where no date counts.
    """
    side = 2 * RADIUS_PX + 1
    around = sliding_window_view(stack, (side, side), axis=(2, 3))
    rows, cols = around.shape[2:4]
    counts = (stack > 0).all(axis=1)
    for axis in (1, 2):
        counts = sliding_window_view(counts, side, axis=axis).all(axis=-1)
    pattern = (counts << np.arange(len(dates))[:, None, None]).sum(axis=0)
    out = np.zeros((SUBPIXELS**2, stack.shape[1], rows, cols), dtype=np.uint16)
    for code in np.unique(pattern[pattern > 0]):
        used = [number for number in range(len(dates)) if code >> number & 1]
        weights = _estimate(tuple(dates[number].offset_m for number in used))[0].T
        row, col = np.nonzero(pattern == code)
        for band in range(stack.shape[1]):
            for some in _pieces(len(row)):
                values = around[np.array(used)[:, None], band, row[some], col[some]]
                pixels = np.ascontiguousarray(values.transpose(1, 0, 2, 3), dtype=np.float64).reshape(
                    len(row[some]), -1
                )
                made = np.clip(np.floor(pixels @ weights / EXACT + 0.5), 1, 65534)
                out[:, band, row[some], col[some]] = made.T
    return out.reshape(-1, rows, cols)


def _pieces(count: int, most: int = 16_384) -> Iterator[slice]:
    return (slice(start, start + most) for start in range(0, count, most))


@cache
def _estimate(offsets: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, float]:
    """(weights x EXACT, float64 [4, dates * 25], in the order of `merge`; error of the estimate, in parts of the variance).

    Ordinary kriging (Cressie 1993, Statistics for Spatial Data, 3.2) of the ground, blurred to 5 m, from pixels that
    are known to be blurred more. The weights of each date add up to the same, so that a date that is brighter as a
    whole leaves no pattern.
    """
    steps, half = RES_M * np.arange(-RADIUS_PX, RADIUS_PX + 1), RES_M / SUBPIXELS / 2
    at = np.concatenate([_places(steps + east, steps + south) for east, south in offsets])
    known, across, variance = _covariances()
    between = known(_distances(at, at)) + NOISE * np.eye(len(at))
    toward = across(_distances(at, _places(np.array([-half, half]), np.array([-half, half]))))
    same = np.kron(np.eye(len(offsets)), np.ones((len(steps) ** 2, 1)))
    system = np.block([[between, same], [same.T, np.zeros((len(offsets), len(offsets)))]])
    right = np.concatenate([toward, np.full((len(offsets), SUBPIXELS**2), 1 / len(offsets))])
    weights = np.linalg.solve(system, right)[: len(at)]
    error = variance + np.mean(((between @ weights - 2 * toward) * weights).sum(axis=0))
    return np.rint(weights.T * EXACT), float(error / variance)


def _places(east: np.ndarray, south: np.ndarray) -> np.ndarray:
    """float64 [n, 2], row by row."""
    across, down = np.meshgrid(east, south)
    return np.stack([across.ravel(), down.ravel()], axis=1)


def _distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.hypot(*(one[:, None] - two[None]).transpose(2, 0, 1))


@cache
def _covariances() -> tuple[CubicSpline, CubicSpline, float]:
    """Covariance by distance (m): of two blurred pixels, of one with the fine ground; and that of the fine ground.

    In parts of a blurred pixel's variance; the ground's own covariance is exponential (Hankel transform of its
    spectrum times the blurs').
    """
    wave = np.arange(0.5, 2000) / 8000  # cycles a metre, up to 0.25
    power = wave / (1 / (2 * np.pi * CORRELATION_LENGTH_M) ** 2 + wave**2) ** 1.5
    far = np.arange(0, 201, dtype=float)
    waves = j0(2 * np.pi * far[:, None] * wave)
    blur, fine = (np.exp(-2 * (np.pi * sigma * wave) ** 2) for sigma in (BLUR_M, FINE_BLUR_M))
    known, across = waves @ (power * blur * blur), waves @ (power * blur * fine)
    variance = float((power * fine * fine).sum())
    return CubicSpline(far, known / known[0]), CubicSpline(far, across / known[0]), variance / known[0]
