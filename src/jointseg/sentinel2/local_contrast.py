"""Local contrast of an image, moved by parts of a pixel: what dates of different haze, light and season still share."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import correlate1d, uniform_filter

# Contrast is seen through a Gaussian of this width, in pixels, that is laid where the shift says: so it smooths and
# resamples at once, and passes 0.7 % at the Nyquist frequency, where the sensor's own sampling has aliased the ground.
SIGMA_PX = 1.0
LOCAL_PX = 17  # contrast is against the mean of a square of this side: haze and light drop out
SEEN = 0.99  # share of the Gaussian's weight that has to lie on clear pixels
MAX_LAG_PX = 24  # correlated so far, whatever shift is believed: one that is too large is to be told as such
NO_SHIFT_PX = np.zeros(2)


@dataclass(frozen=True)
class Contrast:
    """Local contrast of a window.

    Attributes:
        values: float32 [bands, rows, columns], in the image's units; 0 where not seen.
        seen: bool [rows, columns].
    """

    values: np.ndarray
    seen: np.ndarray


def contrast(image: np.ndarray, clear: np.ndarray, shift: np.ndarray = NO_SHIFT_PX) -> Contrast:
    """Local contrast, smoothed and moved.

    Args:
        image: uint16 [bands, rows, columns].
        clear: bool [rows, columns]; nothing else takes part.
        shift: float64 (x east, y south), pixels by which the content is moved.
    """
    radius = math.ceil(3.5 * SIGMA_PX + np.abs(shift).max())
    taps = np.arange(-radius, radius + 1)
    east, south = (np.exp(-((taps + step) ** 2) / (2 * SIGMA_PX**2)) for step in shift)

    def moved(array: np.ndarray) -> np.ndarray:
        across = correlate1d(array, east / east.sum(), axis=-1, mode="constant")
        return correlate1d(across, south / south.sum(), axis=-2, mode="constant")

    weight = moved(clear.astype(np.float32))
    seen = weight > SEEN
    if not seen.any():
        return Contrast(np.zeros(image.shape, np.float32), seen)
    level = image[:, clear].mean(axis=1, dtype=np.float64).astype(np.float32)[:, None, None]
    values = np.where(seen, moved(np.where(clear, image - level, np.float32(0))) / np.maximum(weight, SEEN), 0)
    share = np.maximum(uniform_filter(seen.astype(np.float32), LOCAL_PX, mode="constant"), 1 / LOCAL_PX**2)
    local = uniform_filter(values, (0, LOCAL_PX, LOCAL_PX), mode="constant") / share
    return Contrast(np.where(seen, values - local, np.float32(0)), seen)


def medians_of_others(scenes: list[Contrast], alive: np.ndarray) -> list[Contrast]:
    """For each scene the median contrast of the other ones that are `alive`, bool [scenes]."""
    seen = np.array([one.seen for one in scenes]) & alive[:, None, None]
    values = np.array([one.values for one in scenes])
    ordered = np.where(seen[:, None], values, np.float32(np.inf))
    ordered.sort(axis=0)
    ordered[np.isinf(ordered)] = 0  # ranks that there are not
    count = seen.sum(axis=0)
    a, b, c, d = (
        np.take_along_axis(ordered, np.clip(rank, 0, len(scenes) - 1)[None, None], axis=0)[0]
        for rank in ((count - 2) // 2, (count - 1) // 2, count // 2, (count + 1) // 2)
    )
    medians = []
    for own, inside in zip(values, seen):
        # Without a number the ranks from its own on move down by one.
        low = np.where(inside, np.where(a < own, a, c), b)
        high = np.where(inside, np.where(b < own, b, d), c)
        known = count - inside > 0
        medians.append(Contrast((low + high) * (known * np.float32(0.5)), known))
    return medians


def correlation(scene: Contrast, base: Contrast) -> tuple[np.ndarray, float]:
    """(correlation, pixels): mean over bands for whole pixels' shifts up to FAR_PX, rows south and columns east."""
    both = scene.seen & base.seen
    size = [next_fast_len(side + MAX_LAG_PX, real=True) for side in both.shape]
    norms = [np.sqrt(np.square(view.values * both).sum(axis=(1, 2), keepdims=True)) for view in (scene, base)]
    one, two = (rfft2(view.values / np.maximum(norm, 1e-6), size) for view, norm in zip((scene, base), norms))
    whole = irfft2((one.conj() * two).mean(axis=0), size)
    lags = np.arange(-MAX_LAG_PX, MAX_LAG_PX + 1)
    return whole[np.ix_(lags, lags)], float(both.sum())
