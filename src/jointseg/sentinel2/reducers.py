"""Ways to combine the dates of a year into one image."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

IN_SEASON, PADDED = 1, 2  # codes of the band `season`
# Pixels that are worked on at a time: few, so that all their dates stay in the processor's cache, yet enough
# for numpy's own cost of a call not to count.
STRIP_PX = 16_384
MEDOID_STRIP_PX = 8192  # its numbers are twice as long
# What is added to the observation of a pixel by whether (0, 1) it is clear; several times faster than a mask.
NAN_UNLESS = np.array([np.nan, 0], dtype=np.float32)
INF_UNLESS = np.array([np.inf, 0], dtype=np.float32)


def median(stack: np.ndarray, clear: np.ndarray, min_clear_observations: int) -> np.ndarray:
    """Median of the clear observations, band by band; halves round up.

    Whole images are put in order by minima and maxima, two at a time. The lowest and the highest number by turns
    stand for unclear observations: so the median stays in the middle however many of a pixel are clear.

    Args:
        stack: uint16 [scenes, bands, rows, columns].
        clear: bool [scenes, rows, columns].
        min_clear_observations: observations needed, at least 1.

    Returns:
        uint16 [bands + 1, rows, columns]; the last is the number of clear observations.
    """
    bands = stack.shape[1]
    out = np.zeros((bands + 1, *clear.shape[1:]), dtype=np.uint16)
    for rows, seen in _strips(clear, STRIP_PX):
        keep = np.negative(clear[seen, rows].astype(np.uint16))  # all bits where clear, none elsewhere
        count, fill = _count_and_fill(keep)
        known, odd = count >= min_clear_observations, count % 2 == 1
        planes = np.empty_like(keep)
        for band in range(bands):
            for plane, scene, kept, filled in zip(planes, seen, keep, fill):
                np.bitwise_and(stack[scene, band, rows], kept, out=plane)
                np.bitwise_or(plane, filled, out=plane)
            one, two = _middle(planes)
            mean = (one | two) - ((one ^ two) >> 1)  # rounded up, and never above 16 bits
            out[band, rows] = np.where(odd, one, mean) * known
        out[-1, rows] = count * known
    return out


def medoid(stack: np.ndarray, clear: np.ndarray, min_clear_observations: int) -> np.ndarray:
    """The clear observation whose summed distance to the other clear ones is least; ties go to the earliest.

    Distances are added in the order of the scenes, in float32: observations that are equal have equal sums.
    Flood 2013, Seasonal composite Landsat TM/ETM+ images using the medoid, Remote Sensing 5(12).

    Args:
        stack: uint16 [scenes, bands, rows, columns].
        clear: bool [scenes, rows, columns].
        min_clear_observations: observations needed, at least 1.

    Returns:
        uint16 [bands + 2, rows, columns]; the last two are the number of clear observations and the place of
        the one taken, from 1.
    """
    bands = stack.shape[1]
    out = np.zeros((bands + 2, *clear.shape[1:]), dtype=np.uint16)
    for rows, seen in _strips(clear, MEDOID_STRIP_PX):
        there = clear[seen, rows]
        count = there.sum(axis=0, dtype=np.uint16)
        known = count >= min_clear_observations
        values = np.empty((bands, *there.shape), dtype=np.float32)
        for band in range(bands):
            for place, scene in enumerate(seen):
                values[band, place] = stack[scene, band, rows]
        values[0] += NAN_UNLESS.take(there.view(np.uint8))
        best = (_summed_distances(values) + INF_UNLESS.take(there.view(np.uint8))).argmin(axis=0)[None]
        for band in range(bands):
            taken = np.take_along_axis(values[band], best, axis=0)[0]
            out[band, rows] = np.where(known, taken, 0)
        out[-2, rows] = count * known
        out[-1, rows] = (seen[best[0]] + 1) * known
    return out


def _strips(clear: np.ndarray, pixels: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, places of the scenes that are clear somewhere in them), but for rows of which nothing is clear."""
    _, rows, cols = clear.shape
    step = max(1, pixels // max(cols, 1))
    for top in range(0, rows, step):
        strip = slice(top, top + step)
        seen = np.flatnonzero(clear[:, strip].any(axis=(1, 2)))
        if seen.size:
            yield strip, seen


def _count_and_fill(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how many are clear, uint16 [rows, columns]; no bits, all, none ... by turns where one is not, like `keep`)."""
    count, turn = np.zeros((2, *keep.shape[1:]), dtype=np.uint16)
    fill = np.empty_like(keep)
    for kept, filled in zip(keep, fill):
        count -= kept  # all bits are minus one
        np.bitwise_or(turn, kept, out=filled)
        turn ^= ~kept
        np.bitwise_xor(filled, kept, out=filled)
    return count, fill


def _middle(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two images of middle rank among uint16 [images, rows, columns], which is used up.

    For an even number of images these are the two middle ones, the higher first; for an odd one the middle
    and that above it.
    """
    first, second = _ranks(len(planes))
    images, spare = list(planes), np.empty_like(planes[0])
    for one, two, low, high in _network(len(planes)):
        if low and high:
            np.minimum(images[one], images[two], out=spare)
            np.maximum(images[one], images[two], out=images[two])
            images[one], spare = spare, images[one]
        elif low:
            np.minimum(images[one], images[two], out=images[one])
        else:
            np.maximum(images[one], images[two], out=images[two])
    return images[first], images[second]


def _ranks(count: int) -> tuple[int, int]:
    """The ranks from 0 that a median of `count`, or of one fewer, is made of."""
    middle = count // 2
    return middle, min(middle + 1, count - 1) if count % 2 else middle - 1


@lru_cache
def _network(count: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Batcher's odd-even merge sort of `count` numbers, without what the two middle ranks do not need.

    Batcher 1968, Sorting networks and their applications, AFIPS 32; Knuth, The Art of Computer Programming 3,
    5.2.2, algorithm M, for the form of it that takes any count.

    Returns:
        (place, later place, whether the lower is needed in the place, whether the higher is in the later one).
    """
    pairs = []
    top = 1 << max(count - 1, 0).bit_length() >> 1
    part = top
    while part:
        reach, rest, apart = top, 0, part
        while True:
            pairs += [(place, place + apart) for place in range(count - apart) if place & part == rest]
            if reach == part:
                break
            apart, reach, rest = reach - part, reach >> 1, part
        part >>= 1
    needed, steps = set(_ranks(count)), []
    for one, two in reversed(pairs):
        if one in needed or two in needed:
            steps.append((one, two, one in needed, two in needed))
            needed |= {one, two}
    return tuple(reversed(steps))


def _summed_distances(values: np.ndarray) -> np.ndarray:
    """Sums over the others of the distance to each, float32 [scenes, rows, columns].

    Args:
        values: float32 [bands, scenes, rows, columns]; NaN in any band where not clear, which adds nothing.
    """
    total = np.zeros(values.shape[1:], dtype=np.float32)
    room = np.empty((2, *total.shape), dtype=np.float32)
    for first in range(len(total) - 1):
        apart, step = room[:, first + 1 :]
        for band, observed in enumerate(values):
            to = step if band else apart
            np.subtract(observed[first], observed[first + 1 :], out=to)
            np.multiply(to, to, out=to)
            if band:
                apart += step
        np.sqrt(apart, out=apart)
        np.fmax(apart, 0, out=apart)
        total[first + 1 :] += apart
        for each in apart:  # one by one: numpy's own sum may take another order
            total[first] += each
    return total


# (stack, clear, observations needed) -> composite.
METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"median": median, "medoid": medoid}
