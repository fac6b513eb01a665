"""Combine the clear observations of a year into one image: median and medoid."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

IN_SEASON, PADDED = 1, 2  # codes of the band `season`
# Pixels per strip: few enough for all observations to stay in the processor's cache, enough to amortise numpy's call
# overhead.
STRIP_PX = 16_384
MEDOID_STRIP_PX = 8192  # its values are twice as long
# Added to an observation by its clear flag (0, 1); several times faster than boolean indexing.
NAN_UNLESS = np.array([np.nan, 0], dtype=np.float32)
INF_UNLESS = np.array([np.inf, 0], dtype=np.float32)


def median(stack: np.ndarray, clear: np.ndarray, min_clear_observations: int) -> np.ndarray:
    """Return the median of the clear observations by band, and their number: uint16 [bands + 1, rows, columns].

    Halves round up. A sorting network of pairwise minima and maxima sorts whole images. Observations that are not clear
    are replaced by the lowest and the highest value in turn, so that the median stays in the middle.

    Args:
        stack: uint16 [scenes, bands, rows, columns].
        clear: bool [scenes, rows, columns].
        min_clear_observations: at least 1.
    """
    bands = stack.shape[1]
    out = np.zeros((bands + 1, *clear.shape[1:]), dtype=np.uint16)
    for rows, scenes in _strips(clear, STRIP_PX):
        masks = np.negative(clear[scenes, rows].astype(np.uint16))  # all bits if clear, else none
        count, fills = _count_and_fill(masks)
        valid, odd = count >= min_clear_observations, count % 2 == 1
        planes = np.empty_like(masks)
        for band in range(bands):
            for plane, scene, mask, fill in zip(planes, scenes, masks, fills):
                np.bitwise_and(stack[scene, band, rows], mask, out=plane)
                np.bitwise_or(plane, fill, out=plane)
            first, second = _middle(planes)
            mean = (first | second) - ((first ^ second) >> 1)  # rounds up and does not exceed 16 bits
            out[band, rows] = np.where(odd, first, mean) * valid
        out[-1, rows] = count * valid
    return out


def medoid(stack: np.ndarray, clear: np.ndarray, min_clear_observations: int) -> np.ndarray:
    """Return the clear observation with the least sum of distances to the others; ties go to the earliest.

    Distances are summed in the order of the scenes, in float32, so equal observations have equal sums. Flood 2013,
    Seasonal composite Landsat TM/ETM+ images using the medoid, Remote Sensing 5(12). Arguments as for `median`.

    Returns:
        uint16 [bands + 2, rows, columns]; the last two are the number of clear observations and the 1-based index of
        the selected scene.
    """
    bands = stack.shape[1]
    out = np.zeros((bands + 2, *clear.shape[1:]), dtype=np.uint16)
    for rows, scenes in _strips(clear, MEDOID_STRIP_PX):
        is_clear = clear[scenes, rows]
        count = is_clear.sum(axis=0, dtype=np.uint16)
        valid = count >= min_clear_observations
        values = np.empty((bands, *is_clear.shape), dtype=np.float32)
        for band in range(bands):
            for index, scene in enumerate(scenes):
                values[band, index] = stack[scene, band, rows]
        values[0] += NAN_UNLESS.take(is_clear.view(np.uint8))
        best = (_summed_distances(values) + INF_UNLESS.take(is_clear.view(np.uint8))).argmin(axis=0)[None]
        for band in range(bands):
            out[band, rows] = np.where(valid, np.take_along_axis(values[band], best, axis=0)[0], 0)
        out[-2, rows] = count * valid
        out[-1, rows] = (scenes[best[0]] + 1) * valid
    return out


def _strips(clear: np.ndarray, pixels: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, indices of scenes with clear pixels in them); strips without clear pixels are skipped."""
    _, rows, cols = clear.shape
    step = max(1, pixels // max(cols, 1))
    for top in range(0, rows, step):
        strip = slice(top, top + step)
        scenes = np.flatnonzero(clear[:, strip].any(axis=(1, 2)))
        if scenes.size:
            yield strip, scenes


def _count_and_fill(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of clear observations and fill values for the others: lowest and highest in turn.

    The uint16 masks [scenes, rows, columns] have all bits set where clear, else none. The fill values have this shape.
    """
    count, turn = np.zeros((2, *masks.shape[1:]), dtype=np.uint16)
    fills = np.empty_like(masks)
    for mask, fill in zip(masks, fills):
        count -= mask  # all bits are -1
        np.bitwise_or(turn, mask, out=fill)
        turn ^= ~mask
        np.bitwise_xor(fill, mask, out=fill)
    return count, fills


def _middle(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two images of middle rank among uint16 [images, rows, columns], which are overwritten.

    For an even number of images these are the two middle ones, the higher first; for an odd number the middle one
    and the next higher.
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
    """Return the 0-based ranks that determine a median of `count`, or of one fewer."""
    middle = count // 2
    return middle, min(middle + 1, count - 1) if count % 2 else middle - 1


@lru_cache
def _network(count: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return Batcher's odd-even merge sort of `count` values, without comparisons that do not affect the middle ranks.

    Batcher 1968, Sorting networks and their applications, AFIPS 32; Knuth, The Art of Computer Programming 3, 5.2.2,
    algorithm M, for its form for any count. A comparison is (index, later index, whether the lower value is needed at
    the index, whether the higher is at the later one).
    """
    pairs = []
    top = 1 << max(count - 1, 0).bit_length() >> 1
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(index, index + d) for index in range(count - d) if index & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    needed, steps = set(_ranks(count)), []
    for one, two in reversed(pairs):
        if one in needed or two in needed:
            steps.append((one, two, one in needed, two in needed))
            needed |= {one, two}
    return tuple(reversed(steps))


def _summed_distances(values: np.ndarray) -> np.ndarray:
    """Return, for each scene, the sum of the distances to the others, float32 [scenes, rows, columns].

    Values are float32 [bands, scenes, rows, columns]; NaN in any band (not clear) adds nothing.
    """
    total = np.zeros(values.shape[1:], dtype=np.float32)
    buffer = np.empty((2, *total.shape), dtype=np.float32)
    for first in range(len(total) - 1):
        distance, term = buffer[:, first + 1 :]
        for band, observed in enumerate(values):
            target = term if band else distance
            np.subtract(observed[first], observed[first + 1 :], out=target)
            np.multiply(target, target, out=target)
            if band:
                distance += term
        np.sqrt(distance, out=distance)
        np.fmax(distance, 0, out=distance)
        total[first + 1 :] += distance
        for other in distance:  # in sequence: numpy's own sum may use another order
            total[first] += other
    return total


# (stack, clear, min_clear_observations) -> composite.
METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"median": median, "medoid": medoid}
