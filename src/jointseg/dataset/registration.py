"""Sub-pixel registration of 1 m images against a 10 m composite, and their radiometric match."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

# Sentinel-2's 10 m bands pass about a quarter of the contrast at their Nyquist frequency (1 / 20 m):
# exp(-2 pi^2 sigma^2 / 20^2) = 0.25 for a Gaussian of 5.3 m.
PSF_SIGMA_M = 5.3
RATIO = 10
# Width that the blur needs around what it is evaluated on: three sigma, in whole 10 m pixels.
PSF_MARGIN_M = 20
# Shifts are tried this far apart: the blurred image changes little within it, and a parabola finds the peak between.
STEP_M = 2
# Reflectance noise below which agreement is not asked for: flat water and forest correlate with nothing.
FLAT_SD = 0.01


@dataclass(frozen=True)
class Match:
    """Per-band radiometric fit: reflectance = gain x digital number + offset; float64 [bands] each."""

    gain: np.ndarray
    offset: np.ndarray


def blur(values: np.ndarray, known: np.ndarray, sigma_m: float = PSF_SIGMA_M) -> np.ndarray:
    """A 1 m image [bands, rows, columns] seen through the sensor's point spread; unknown pixels carry no weight."""
    weight = gaussian_filter(known.astype(np.float32), sigma_m, mode="nearest")
    mean = values[:, known].mean(axis=1)[:, None, None] if known.any() else np.zeros((len(values), 1, 1))
    smooth = np.stack([gaussian_filter(np.where(known, band, 0), sigma_m, mode="nearest") for band in values])
    return np.where(weight > 1e-3, smooth / np.maximum(weight, 1e-3), mean).astype(np.float32)


def at_10m(
    smooth: np.ndarray, shape: tuple[int, int], margin_m: int, shift_m: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Samples a blurred 1 m image at the centres of 10 m pixels, as if its content were moved by a shift.

    Args:
        smooth: [bands, rows, columns], with `margin_m` pixels more on every side than the 10 m image.
        shape: (rows, columns) of the 10 m image.
        shift_m: metres added to the image's coordinates (x east, y north).

    Returns:
        [bands, rows, columns] at 10 m.
    """
    centre = (RATIO - 1) / 2  # of a 10 m pixel, counted in 1 m pixels from the centre of its first
    rows = margin_m + shift_m[1] + centre + RATIO * np.arange(shape[0])
    cols = margin_m - shift_m[0] + centre + RATIO * np.arange(shape[1])
    points = np.meshgrid(rows, cols, indexing="ij")
    return np.stack([map_coordinates(band, points, order=1, mode="nearest") for band in smooth])


def surface(lr: np.ndarray, known: np.ndarray, smooth: np.ndarray, margin_m: int, reach_m: int) -> np.ndarray:
    """Normalised correlation of a 10 m image with a blurred 1 m image for shifts in steps of STEP_M.

    Correlated are the differences between neighbouring 10 m pixels, along rows and along columns, which see the
    edges of fields, roads and roofs and not the slow change of brightness between two dates.

    Args:
        lr: float32 [bands, h, w].
        known: bool [h, w], the pixels of `lr` that are known.
        smooth: from `blur`, with `margin_m` pixels around; margin_m >= reach_m + 10.
        reach_m: largest shift tried along x and along y, a multiple of STEP_M.

    Returns:
        float64 [n, n], mean correlation over bands and directions; row i is the shift y = i * STEP_M - reach_m,
        column j the shift x = j * STEP_M - reach_m. All zero where nothing is known.
    """
    shifts = range(-reach_m, reach_m + 1, STEP_M)
    out = np.zeros((len(shifts), len(shifts)))
    inner = _inner(known)
    target, weight = _normalised(_gradients(lr), inner)
    if weight < 9:
        return out
    slopes = _gradients(smooth, RATIO)
    # The centre of a 10 m pixel is the corner that four 1 m pixels share.
    slopes = slopes[:, 1:] + slopes[:, :-1]
    slopes = slopes[:, :, 1:] + slopes[:, :, :-1]
    # The gradients lose one 10 m pixel on every side, in the image and in its surroundings alike.
    first = margin_m + RATIO // 2 - 1
    span = [(size - 3) * RATIO + 1 for size in known.shape]
    for i, y in enumerate(shifts):
        for j, x in enumerate(shifts):
            row, col = first + y, first - x
            moved = slopes[:, row : row + span[0] : RATIO, col : col + span[1] : RATIO]
            out[i, j] = float((target * _normalised(moved, inner)[0]).sum()) / len(target)
    return out


def _gradients(image: np.ndarray, step: int = 1) -> np.ndarray:
    """Central differences over 2 x `step` pixels, [2 x bands, rows - 2 step, columns - 2 step]."""
    across = image[:, step:-step, 2 * step :] - image[:, step:-step, : -2 * step]
    down = image[:, 2 * step :, step:-step] - image[:, : -2 * step, step:-step]
    return np.concatenate([across, down])


def _inner(known: np.ndarray) -> np.ndarray:
    """Pixels whose four neighbours are known, without the outermost ring."""
    return known[1:-1, 1:-1] & known[1:-1, 2:] & known[1:-1, :-2] & known[2:, 1:-1] & known[:-2, 1:-1]


def _normalised(features: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Features [n, pixels of the mask] with zero mean and unit length, and how many pixels they have."""
    values = features[:, mask]
    values = values - values.mean(axis=1, keepdims=True)
    length = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return values / np.maximum(length, 1e-12), values.shape[1]


def peak(correlation: np.ndarray) -> tuple[tuple[float, float], float]:
    """((x, y) shift in metres, correlation) of a surface's maximum, by a parabola through its neighbours.

    At the edge of the surface the shift of its best element is returned.
    """
    half = correlation.shape[0] // 2
    i, j = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    y, x = float(i - half), float(j - half)
    if 0 < i < 2 * half and 0 < j < 2 * half:
        y += _vertex(*correlation[i - 1 : i + 2, j])
        x += _vertex(*correlation[i, j - 1 : j + 2])
    return (x * STEP_M, y * STEP_M), float(correlation[i, j])


def _vertex(before: float, at: float, after: float) -> float:
    bend = before - 2 * at + after
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def value_at(correlation: np.ndarray, shift_m: tuple[float, float]) -> float:
    """The surface's value at its element nearest to a shift."""
    half = correlation.shape[0] // 2
    i, j = (int(np.clip(round(value / STEP_M) + half, 0, 2 * half)) for value in (shift_m[1], shift_m[0]))
    return float(correlation[i, j])


def fit(hr: np.ndarray, lr: np.ndarray, known: np.ndarray) -> Match:
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
    return Match(np.array(gains), np.array(offsets))


def fit_offset(match: Match, hr: np.ndarray, lr: np.ndarray, known: np.ndarray) -> Match:
    """A scene's match with the offsets of one chip: the median difference, which haze and light vary over a scene."""
    if not known.any():
        return match
    difference = np.median((lr - apply(match, hr))[:, known].astype(np.float64), axis=1)
    return Match(match.gain, match.offset + difference)


def apply(match: Match, values: np.ndarray) -> np.ndarray:
    """Reflectance of digital numbers [bands, ...]."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    return values * match.gain.reshape(shape) + match.offset.reshape(shape)


def agreement(image: np.ndarray, lr: np.ndarray, known: np.ndarray) -> float:
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
