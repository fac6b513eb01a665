"""Ways to combine the dates of a year into one image."""

from collections.abc import Callable

import numpy as np

# Above every reflectance.
BEHIND = np.iinfo(np.uint16).max


def median(stack: np.ndarray, clear: np.ndarray, min_clear: int) -> np.ndarray:
    """Median of the clear observations, band by band; halves round up.

    Args:
        stack: uint16 [scenes, bands, rows, columns].
        clear: bool [scenes, rows, columns].
        min_clear: observations needed, at least 1.

    Returns:
        uint16 [bands + 1, rows, columns]; the last is the number of clear observations.
    """
    count = clear.sum(axis=0)
    known = count >= min_clear
    out = np.zeros((stack.shape[1] + 1, *count.shape), dtype=np.uint16)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(stack) - 1)
    for band in range(stack.shape[1]):
        # Cloudy observations sort behind all valid ones.
        ordered = np.sort(np.where(clear, stack[:, band], BEHIND), axis=0)
        middle = [np.take_along_axis(ordered, place[None], axis=0)[0].astype(np.uint32) for place in (low, high)]
        out[band] = np.where(known, (middle[0] + middle[1] + 1) // 2, 0)
    out[-1] = np.where(known, count, 0)
    return out


def medoid(stack: np.ndarray, clear: np.ndarray, min_clear: int) -> np.ndarray:
    """The clear observation whose summed distance to the other clear ones is least; ties go to the earliest.

    Flood 2013, Seasonal composite Landsat TM/ETM+ images using the medoid, Remote Sensing 5(12).

    Args:
        stack: uint16 [scenes, bands, rows, columns].
        clear: bool [scenes, rows, columns].
        min_clear: observations needed, at least 1.

    Returns:
        uint16 [bands + 2, rows, columns]; the last two are the number of clear observations and the place of
        the one taken, from 1.
    """
    scenes, bands = stack.shape[:2]
    count = clear.sum(axis=0)
    known = count >= min_clear
    total = np.zeros(clear.shape, dtype=np.float32)
    for first in range(scenes):
        for second in range(first + 1, scenes):
            squared = np.zeros(count.shape, dtype=np.float32)
            for band in range(bands):
                squared += (stack[first, band].astype(np.float32) - stack[second, band]) ** 2
            apart = np.where(clear[first] & clear[second], np.sqrt(squared), 0)
            total[first] += apart
            total[second] += apart
    best = np.where(clear, total, np.inf).argmin(axis=0)
    out = np.zeros((bands + 2, *count.shape), dtype=np.uint16)
    out[:bands] = np.where(known, np.take_along_axis(stack, best[None, None], axis=0)[0], 0)
    out[-2] = np.where(known, count, 0)
    out[-1] = np.where(known, best + 1, 0)
    return out


# (stack, clear, observations needed) -> composite.
METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"median": median, "medoid": medoid}
