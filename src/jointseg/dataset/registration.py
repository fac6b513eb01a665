"""Sub-pixel registration of 1 m images against a 10 m composite."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from jointseg.raster.sentinel2_psf import PSF_SIGMA_M

RATIO = 10
# Width that the blur needs around what it is evaluated on: three sigma, in whole 10 m pixels.
PSF_MARGIN_M = 20
# Shifts are tried this far apart: the blurred image changes little within it, and a parabola finds the peak between.
STEP_M = 2
# Degrees of freedom of the residuals of `refine`: few, so that fields of another season or crop carry little weight.
FREEDOM = 4
# Residuals are taken for independent between squares of so many 10 m pixels.
SQUARE_PX = 4
ROUNDS, STEP_END_M, STEP_MOST_M = 30, 0.005, 2.0


@dataclass(frozen=True)
class RegistrationShift:
    """A shift in metres to add to an image's coordinates (x east, y north), and its standard deviation along an axis."""

    shift_m: tuple[float, float]
    sd_m: float


def blur(values: np.ndarray, known: np.ndarray, sigma_m: float = PSF_SIGMA_M) -> np.ndarray:
    """A 1 m image [bands, rows, columns] seen through the sensor's point spread; unknown pixels carry no weight."""
    weight = gaussian_filter(known.astype(np.float32), sigma_m, mode="nearest")
    mean = values[:, known].mean(axis=1)[:, None, None] if known.any() else np.zeros((len(values), 1, 1))
    smooth = np.stack([gaussian_filter(np.where(known, band, 0), sigma_m, mode="nearest") for band in values])
    return np.where(weight > 1e-3, smooth / np.maximum(weight, 1e-3), mean).astype(np.float32)


def sample_at_10m(
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
    first = margin_m + (RATIO - 1) / 2  # the centre of a 10 m pixel, counted from the centre of its first 1 m pixel
    row, col = first + shift_m[1], first - shift_m[0]
    top, left = math.floor(row), math.floor(col)
    down, right = np.float32(row - top), np.float32(col - left)
    height, width = ((size - 1) * RATIO + 1 for size in shape)

    def moved(i: int, j: int) -> np.ndarray:
        return smooth[:, top + i : top + i + height : RATIO, left + j : left + j + width : RATIO]

    upper = (1 - right) * moved(0, 0) + right * moved(0, 1)
    lower = (1 - right) * moved(1, 0) + right * moved(1, 1)
    return (1 - down) * upper + down * lower


def correlation_surface(
    lr: np.ndarray, known: np.ndarray, smooth: np.ndarray, margin_m: int, reach_m: int
) -> np.ndarray:
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


def find_peak(correlation: np.ndarray) -> tuple[tuple[float, float], float]:
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


def refine_shift(
    lr: np.ndarray,
    known: np.ndarray,
    smooth: np.ndarray,
    margin_m: int,
    start_m: tuple[float, float],
    reach_m: float,
) -> RegistrationShift:
    """The shift that matches the differences between neighbouring 10 m pixels best, and how sure it is.

    Least squares matching by Gauss-Newton steps (Foerstner 1982; Gruen 1985), with a gain and an offset for every
    band and direction, and residuals that follow a t distribution of few degrees of freedom (Lange, Little and
    Taylor 1989): a field that has changed is a residual, not a pull. The standard deviation is the sandwich
    estimate over squares of SQUARE_PX, which needs no independence of neighbouring pixels.

    Args:
        lr: float32 [bands, h, w], reflectance.
        known: bool [h, w].
        smooth: from `blur`, with `margin_m` pixels around; margin_m >= reach_m + 2.
        start_m: shift to start from, within a few metres, as `peak` finds it.
        reach_m: a shift that leaves this is not found.

    Returns:
        The place; `sd_m` is nan where none was found.
    """
    inner = _inner(known)
    target = _gradients(lr)[:, inner].astype(np.float64)
    lost = RegistrationShift(start_m, math.nan)
    if target.shape[1] < 9:
        return lost

    def seen(x: float, y: float) -> np.ndarray:
        return _gradients(sample_at_10m(smooth, known.shape, margin_m, (x, y)))[:, inner].astype(np.float64)

    place, weight = np.array(start_m, dtype=np.float64), np.ones(target.shape[1])
    bands = len(target)
    for _ in range(ROUNDS):
        x, y = place
        share = weight / weight.sum()

        def centred(values: np.ndarray, share: np.ndarray = share) -> np.ndarray:
            return values - (values * share).sum(axis=-1, keepdims=True)

        image, wanted = centred(seen(x, y)), centred(target)
        slopes = centred(np.stack([seen(x + 1, y) - seen(x - 1, y), seen(x, y + 1) - seen(x, y - 1)]) / 2)
        gain = (image * wanted * share).sum(axis=1) / np.maximum((image**2 * share).sum(axis=1), 1e-30)
        residual = wanted - gain[:, None] * image
        variance = np.maximum((residual**2 * weight).mean(axis=1), 1e-12)[:, None]
        slopes *= gain[:, None]
        after = (FREEDOM + bands) / (FREEDOM + (residual**2 / variance).sum(axis=0))
        scores = (slopes * residual / variance).sum(axis=1) * after
        normal = np.einsum("kbn,lbn,n->kl", slopes / variance, slopes, after)
        if not np.linalg.cond(normal) < 1e8:
            return lost
        step = np.clip(np.linalg.solve(normal, scores.sum(axis=1)), -STEP_MOST_M, STEP_MOST_M)
        place, weight = place + step, after
        if np.abs(place).max() > reach_m:
            return lost
        if np.abs(step).max() < STEP_END_M:
            rows, cols = np.nonzero(inner)
            square = (rows // SQUARE_PX) * inner.shape[1] + cols // SQUARE_PX
            sums = np.stack([np.bincount(square, score) for score in scores])
            bread = np.linalg.inv(normal)
            covariance = bread @ (sums @ sums.T) @ bread
            return RegistrationShift((float(place[0]), float(place[1])), math.sqrt(float(np.trace(covariance)) / 2))
    return lost
