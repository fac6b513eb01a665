"""Radiometric match of a 1 m scene with the composite, and what its differences tell."""

from dataclasses import dataclass

import numpy as np

# Reflectance noise below which agreement is not asked for: flat water and forest correlate with nothing.
FLAT_SD = 0.01


@dataclass(frozen=True)
class RadiometricMatch:
    """Per-band radiometric fit: reflectance = gain x digital number + offset; float64 [bands] each."""

    gain: np.ndarray
    offset: np.ndarray


def fit_match(hr: np.ndarray, lr: np.ndarray, known: np.ndarray) -> RadiometricMatch:
    """Gain and offset per band between the degraded images of a scene and the composite, changed ground left out.

    Reduced major axis (the ratio of standard deviations), four times, each without what differs by more than 2.5
    robust standard deviations. Least squares would lower the gain with every field that another season or crop
    makes uncorrelated, and wash out roads and roofs, which do not change.

    Args:
        hr: [bands, ...] at 10 m, digital numbers.
        lr: [bands, ...] reflectance on the same pixels.
        known: bool [...].
    """
    gains, offsets = [], []
    for x_all, y_all in zip(hr[:, known].astype(np.float64), lr[:, known].astype(np.float64)):
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


def fit_offset(match: RadiometricMatch, hr: np.ndarray, lr: np.ndarray, known: np.ndarray) -> RadiometricMatch:
    """A scene's match with the offsets of one chip: the median difference, which haze and light vary over a scene."""
    if not known.any():
        return match
    difference = np.median((lr - apply_match(match, hr))[:, known].astype(np.float64), axis=1)
    return RadiometricMatch(match.gain, match.offset + difference)


def apply_match(match: RadiometricMatch, values: np.ndarray) -> np.ndarray:
    """Reflectance of digital numbers [bands, ...]."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    return values * match.gain.reshape(shape) + match.offset.reshape(shape)


def structural_agreement(image: np.ndarray, lr: np.ndarray, known: np.ndarray) -> float:
    """Mean over bands of the structural agreement of two 10 m images in reflectance, at most 1.

    (covariance + c) / (product of standard deviations + c) with c = FLAT_SD squared, the structure term of
    Wang et al. (2004): the correlation where there is contrast, near 1 where both are flat.
    """
    out = []
    c = FLAT_SD**2
    for a, b in zip(image[:, known].astype(np.float64), lr[:, known].astype(np.float64)):
        x, y = a - a.mean(), b - b.mean()
        out.append(((x * y).mean() + c) / (np.sqrt((x**2).mean() * (y**2).mean()) + c))
    return float(np.mean(out))
