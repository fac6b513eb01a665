"""Local contrast of an image, shifted by subpixels: it is similar on dates of different haze, illumination and season."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import correlate1d, uniform_filter

# Standard deviation, in pixels, of the Gaussian that smooths and, off centre by the shift, resamples the image. It
# passes 0.7 % at the Nyquist frequency, where the sensor's sampling has caused aliasing.
SIGMA_PX = 1.0
LOCAL_PX = 17  # side of the square whose mean is subtracted, which removes haze and illumination
MIN_WEIGHT = 0.99  # fraction of the Gaussian's weight on clear pixels
MAX_LAG_PX = 24  # range of the correlation, beyond the allowed shift: larger shifts must be detected
NO_SHIFT_PX = np.zeros(2)


@dataclass(frozen=True)
class Contrast:
    """Local contrast of a window."""

    values: np.ndarray  # float32 [bands, rows, columns], in the image's units; 0 where not valid
    valid: np.ndarray  # bool [rows, columns]


def contrast(image: np.ndarray, clear: np.ndarray, shift: np.ndarray = NO_SHIFT_PX) -> Contrast:
    """Return the local contrast of an image, uint16 [bands, rows, columns], smoothed and shifted.

    Pixels that are not clear, bool [rows, columns], have no influence. The content is moved by `shift` pixels, (x east,
    y south).
    """
    radius = math.ceil(3.5 * SIGMA_PX + np.abs(shift).max())
    taps = np.arange(-radius, radius + 1)
    east, south = (np.exp(-((taps + step) ** 2) / (2 * SIGMA_PX**2)) for step in shift)

    def smooth(array: np.ndarray) -> np.ndarray:
        rows = correlate1d(array, east / east.sum(), axis=-1, mode="constant")
        return correlate1d(rows, south / south.sum(), axis=-2, mode="constant")

    weight = smooth(clear.astype(np.float32))
    valid = weight > MIN_WEIGHT
    if not valid.any():
        return Contrast(np.zeros(image.shape, np.float32), valid)
    level = image[:, clear].mean(axis=1, dtype=np.float64).astype(np.float32)[:, None, None]
    values = np.where(valid, smooth(np.where(clear, image - level, np.float32(0))) / np.maximum(weight, MIN_WEIGHT), 0)
    fraction = np.maximum(uniform_filter(valid.astype(np.float32), LOCAL_PX, mode="constant"), 1 / LOCAL_PX**2)
    local_mean = uniform_filter(values, (0, LOCAL_PX, LOCAL_PX), mode="constant") / fraction
    return Contrast(np.where(valid, values - local_mean, np.float32(0)), valid)


def medians_of_others(scenes: list[Contrast], included: np.ndarray) -> list[Contrast]:
    """Return, for each scene, the median contrast of the other `included` scenes, bool [scenes]."""
    valid = np.array([scene.valid for scene in scenes]) & included[:, None, None]
    values = np.array([scene.values for scene in scenes])
    ordered = np.where(valid[:, None], values, np.float32(np.inf))
    ordered.sort(axis=0)
    ordered[np.isinf(ordered)] = 0  # ranks above the number of values
    count = valid.sum(axis=0)
    a, b, c, d = (
        np.take_along_axis(ordered, np.clip(rank, 0, len(scenes) - 1)[None, None], axis=0)[0]
        for rank in ((count - 2) // 2, (count - 1) // 2, count // 2, (count + 1) // 2)
    )
    medians = []
    for own, own_valid in zip(values, valid):
        # Removing a value lowers the ranks above its own by one.
        low = np.where(own_valid, np.where(a < own, a, c), b)
        high = np.where(own_valid, np.where(b < own, b, d), c)
        any_other = count - own_valid > 0
        medians.append(Contrast((low + high) * (any_other * np.float32(0.5)), any_other))
    return medians


def correlation(scene: Contrast, base: Contrast) -> tuple[np.ndarray, float]:
    """Return (correlation, number of pixels valid in both).

    The correlation is the mean over bands for whole-pixel shifts up to MAX_LAG_PX, rows south and columns east.
    """
    both = scene.valid & base.valid
    size = [next_fast_len(side + MAX_LAG_PX, real=True) for side in both.shape]
    norms = [np.sqrt(np.square(view.values * both).sum(axis=(1, 2), keepdims=True)) for view in (scene, base)]
    first, second = (rfft2(view.values / np.maximum(norm, 1e-6), size) for view, norm in zip((scene, base), norms))
    surface = irfft2((first.conj() * second).mean(axis=0), size)
    lags = np.arange(-MAX_LAG_PX, MAX_LAG_PX + 1)
    return surface[np.ix_(lags, lags)], float(both.sum())
