"""Radiometric match of a 1 m scene with the composite, and the structural agreement of the two."""

from dataclasses import dataclass

import numpy as np

# Regularisation of the agreement, reflectance: below this contrast, two images count as equal. Flat water and forest
# have no structure to correlate.
FLAT_SD = 0.01


@dataclass(frozen=True)
class RadiometricMatch:
    """Radiometric fit per band: reflectance = gain x digital number + offset; float64 [bands] each."""

    gain: np.ndarray
    offset: np.ndarray


def fit_match(hr: np.ndarray, lr: np.ndarray, valid: np.ndarray) -> RadiometricMatch:
    """Fit gain and offset per band between the degraded image of a scene and the composite, without changed areas.

    Reduced major axis regression (the ratio of standard deviations), repeated four times, each time without the pixels
    that differ by more than 2.5 robust standard deviations. Least squares would lower the gain with every field that is
    uncorrelated because of another season or crop, and thus reduce the contrast of roads and roofs, which do not
    change. `hr` is [bands, ...] at 10 m, digital numbers; `lr` the reflectance of the same pixels; `valid` is bool
    [...].
    """
    gains, offsets = [], []
    for x_all, y_all in zip(hr[:, valid].astype(np.float64), lr[:, valid].astype(np.float64)):
        keep = np.ones(len(x_all), dtype=bool)
        gain, offset = 0.0, 0.0
        for _ in range(4):
            x, y = x_all[keep], y_all[keep]
            sign = np.sign(((x - x.mean()) * (y - y.mean())).sum())
            gain = float(sign * y.std() / x.std()) if x.std() > 0 else 0.0
            offset = float(y.mean() - gain * x.mean())
            error = np.abs(y_all - gain * x_all - offset)
            keep = error <= max(2.5 * 1.4826 * float(np.median(error)), 1e-9)
        gains.append(gain)
        offsets.append(offset)
    return RadiometricMatch(np.array(gains), np.array(offsets))


def fit_offset(match: RadiometricMatch, hr: np.ndarray, lr: np.ndarray, valid: np.ndarray) -> RadiometricMatch:
    """Return a scene's match with the offsets of one chip (median difference): haze and light vary within a scene."""
    if not valid.any():
        return match
    difference = np.median((lr - apply_match(match, hr))[:, valid].astype(np.float64), axis=1)
    return RadiometricMatch(match.gain, match.offset + difference)


def apply_match(match: RadiometricMatch, values: np.ndarray) -> np.ndarray:
    """Return the reflectance of digital numbers [bands, ...]."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    return values * match.gain.reshape(shape) + match.offset.reshape(shape)


def structural_agreement(image: np.ndarray, lr: np.ndarray, valid: np.ndarray) -> float:
    """Return the mean over bands of the structural agreement of two 10 m images in reflectance, at most 1.

    (covariance + c) / (product of standard deviations + c) with c = FLAT_SD squared, the structure term of
    Wang et al. (2004): the correlation where there is contrast, close to 1 where both images are flat.
    """
    out = []
    c = FLAT_SD**2
    for a, b in zip(image[:, valid].astype(np.float64), lr[:, valid].astype(np.float64)):
        x, y = a - a.mean(), b - b.mean()
        out.append(((x * y).mean() + c) / (np.sqrt((x**2).mean() * (y**2).mean()) + c))
    return float(np.mean(out))
