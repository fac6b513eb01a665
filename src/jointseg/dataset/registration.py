"""Sub-pixel registration of 1 m images against a 10 m composite."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from jointseg.raster.sentinel2_psf import PSF_SIGMA_M

RATIO = 10
# Width that the blur needs around the area it is evaluated in: three sigma, in whole 10 m pixels.
PSF_MARGIN_M = 20
# Step between the shifts of the correlation surface: the blurred image varies little within it, and a parabola
# interpolates the peak.
STEP_M = 2
# Degrees of freedom of the residuals' t distribution: few, so that fields of another season or crop have little weight.
FREEDOM = 4
# Residuals are assumed independent between squares of this many 10 m pixels.
SQUARE_PX = 4
MAX_ITERATIONS, CONVERGED_M, MAX_STEP_M = 30, 0.005, 2.0


@dataclass(frozen=True)
class RegistrationShift:
    """A shift to add to an image's coordinates (x east, y north), m, and its standard deviation along an axis."""

    shift_m: tuple[float, float]
    sd_m: float


def blur(values: np.ndarray, valid: np.ndarray, sigma_m: float = PSF_SIGMA_M) -> np.ndarray:
    """Blur a 1 m image [bands, rows, columns] by the sensor's point spread function; nodata pixels have no weight."""
    weight = gaussian_filter(valid.astype(np.float32), sigma_m, mode="nearest")
    mean = values[:, valid].mean(axis=1)[:, None, None] if valid.any() else np.zeros((len(values), 1, 1))
    smooth = np.stack([gaussian_filter(np.where(valid, band, 0), sigma_m, mode="nearest") for band in values])
    return np.where(weight > 1e-3, smooth / np.maximum(weight, 1e-3), mean).astype(np.float32)


def sample_at_10m(
    smooth: np.ndarray, shape: tuple[int, int], margin_m: int, shift_m: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Sample a blurred 1 m image at the centres of 10 m pixels, [bands, rows, columns], moved by a shift.

    Args:
        smooth: [bands, rows, columns], `margin_m` pixels larger on every side than the 10 m image.
        shape: (rows, columns) of the 10 m image.
        shift_m: metres added to the image's coordinates (x east, y north).
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
    lr: np.ndarray, valid: np.ndarray, smooth: np.ndarray, margin_m: int, reach_m: int
) -> np.ndarray:
    """Return the normalised correlation of a 10 m image with a blurred 1 m image for shifts in steps of STEP_M.

    The correlated features are differences between neighbouring 10 m pixels, along rows and columns: they respond to
    the edges of fields, roads and roofs and not to gradual changes of brightness between two dates. The surface is
    float64 [n, n], the mean over bands and directions; row i is the shift y = i * STEP_M - reach_m, column j the shift
    x = j * STEP_M - reach_m. It is zero if too few pixels are valid.

    Args:
        lr: float32 [bands, h, w].
        valid: bool [h, w], the valid pixels of `lr`.
        smooth: from `blur`, with a margin of `margin_m` pixels; margin_m >= reach_m + 10.
        reach_m: largest shift along x and along y, a multiple of STEP_M.
    """
    shifts = range(-reach_m, reach_m + 1, STEP_M)
    out = np.zeros((len(shifts), len(shifts)))
    inner = _inner(valid)
    target, weight = _normalised(_gradients(lr), inner)
    if weight < 9:
        return out
    slopes = _gradients(smooth, RATIO)
    # The centre of a 10 m pixel is the corner that four 1 m pixels share.
    slopes = slopes[:, 1:] + slopes[:, :-1]
    slopes = slopes[:, :, 1:] + slopes[:, :, :-1]
    # The gradients drop one 10 m pixel on every side, of the image and of its margin.
    first = margin_m + RATIO // 2 - 1
    span = [(size - 3) * RATIO + 1 for size in valid.shape]
    for i, y in enumerate(shifts):
        for j, x in enumerate(shifts):
            row, col = first + y, first - x
            moved = slopes[:, row : row + span[0] : RATIO, col : col + span[1] : RATIO]
            out[i, j] = float((target * _normalised(moved, inner)[0]).sum()) / len(target)
    return out


def _gradients(image: np.ndarray, step: int = 1) -> np.ndarray:
    """Return central differences over 2 x `step` pixels, [2 x bands, rows - 2 step, columns - 2 step]."""
    across = image[:, step:-step, 2 * step :] - image[:, step:-step, : -2 * step]
    down = image[:, 2 * step :, step:-step] - image[:, : -2 * step, step:-step]
    return np.concatenate([across, down])


def _inner(valid: np.ndarray) -> np.ndarray:
    """Return the mask of pixels that are valid like their four neighbours, without the outermost ring."""
    return valid[1:-1, 1:-1] & valid[1:-1, 2:] & valid[1:-1, :-2] & valid[2:, 1:-1] & valid[:-2, 1:-1]


def _normalised(features: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the features [n, pixels of the mask] with zero mean and unit length, and their number of pixels."""
    values = features[:, mask]
    values = values - values.mean(axis=1, keepdims=True)
    length = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return values / np.maximum(length, 1e-12), values.shape[1]


def find_peak(correlation: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return ((x, y) shift in metres, correlation) of a surface's maximum, interpolated by a parabola.

    At the edge of the surface, return the shift of the maximum without interpolation.
    """
    half = correlation.shape[0] // 2
    i, j = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    y, x = float(i - half), float(j - half)
    if 0 < i < 2 * half and 0 < j < 2 * half:
        y += _vertex(*correlation[i - 1 : i + 2, j])
        x += _vertex(*correlation[i, j - 1 : j + 2])
    return (x * STEP_M, y * STEP_M), float(correlation[i, j])


def _vertex(before: float, centre: float, after: float) -> float:
    curvature = before - 2 * centre + after
    return 0.0 if curvature >= 0 else float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5))


def refine_shift(
    lr: np.ndarray, valid: np.ndarray, smooth: np.ndarray, margin_m: int, start_m: tuple[float, float], reach_m: float
) -> RegistrationShift:
    """Return the shift that best matches the differences between neighbouring 10 m pixels, with its standard deviation.

    Least squares matching by Gauss-Newton steps (Foerstner 1982; Gruen 1985), with a gain and an offset per band and
    direction, and residuals that follow a t distribution with few degrees of freedom (Lange, Little and Taylor 1989),
    so that changed fields do not bias the shift. The standard deviation is the sandwich estimate over squares of
    SQUARE_PX, which does not require neighbouring pixels to be independent. If the iteration does not converge within
    `reach_m`, the result is `start_m` with `sd_m` NaN.

    Args:
        lr: float32 [bands, h, w], reflectance.
        valid: bool [h, w].
        smooth: from `blur`, with a margin of `margin_m` pixels; margin_m >= reach_m + 2.
        start_m: initial shift, within a few metres, such as from `find_peak`.
        reach_m: largest shift along an axis.
    """
    inner = _inner(valid)
    target = _gradients(lr)[:, inner].astype(np.float64)
    failed = RegistrationShift(start_m, math.nan)
    if target.shape[1] < 9:
        return failed

    def gradients_at(x: float, y: float) -> np.ndarray:
        return _gradients(sample_at_10m(smooth, valid.shape, margin_m, (x, y)))[:, inner].astype(np.float64)

    shift, weight = np.array(start_m, dtype=np.float64), np.ones(target.shape[1])
    bands = len(target)
    for _ in range(MAX_ITERATIONS):
        x, y = shift
        share = weight / weight.sum()

        def centred(values: np.ndarray, share: np.ndarray = share) -> np.ndarray:
            return values - (values * share).sum(axis=-1, keepdims=True)

        image, wanted = centred(gradients_at(x, y)), centred(target)
        slope_x = gradients_at(x + 1, y) - gradients_at(x - 1, y)
        slope_y = gradients_at(x, y + 1) - gradients_at(x, y - 1)
        slopes = centred(np.stack([slope_x, slope_y]) / 2)
        gain = (image * wanted * share).sum(axis=1) / np.maximum((image**2 * share).sum(axis=1), 1e-30)
        residual = wanted - gain[:, None] * image
        variance = np.maximum((residual**2 * weight).mean(axis=1), 1e-12)[:, None]
        slopes *= gain[:, None]
        weight = (FREEDOM + bands) / (FREEDOM + (residual**2 / variance).sum(axis=0))
        scores = (slopes * residual / variance).sum(axis=1) * weight
        normal = np.einsum("kbn,lbn,n->kl", slopes / variance, slopes, weight)
        if not np.linalg.cond(normal) < 1e8:
            return failed
        step = np.clip(np.linalg.solve(normal, scores.sum(axis=1)), -MAX_STEP_M, MAX_STEP_M)
        shift = shift + step
        if np.abs(shift).max() > reach_m:
            return failed
        if np.abs(step).max() < CONVERGED_M:
            return RegistrationShift((float(shift[0]), float(shift[1])), _sandwich_sd(inner, scores, normal))
    return failed


def _sandwich_sd(inner: np.ndarray, scores: np.ndarray, normal: np.ndarray) -> float:
    """Return the standard deviation along an axis from the scores [2, pixels], summed over squares of SQUARE_PX."""
    rows, cols = np.nonzero(inner)
    square = (rows // SQUARE_PX) * inner.shape[1] + cols // SQUARE_PX
    sums = np.stack([np.bincount(square, score) for score in scores])
    bread = np.linalg.inv(normal)
    covariance = bread @ (sums @ sums.T) @ bread
    return math.sqrt(float(np.trace(covariance)) / 2)
