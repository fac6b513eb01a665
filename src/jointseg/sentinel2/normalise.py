"""Relative radiometric normalisation: the scenes of one year made comparable with the base year's composite."""

import logging
from dataclasses import asdict, dataclass, replace

import numpy as np

log = logging.getLogger(__name__)

MIN_PIXELS, MAX_PIXELS = 500, 250_000
# A pixel is stable while its residual stays under this many robust standard deviations in every band.
STABLE_SIGMAS, SIGMA_FLOOR_DN = 2.5, 5.0
GAIN_RANGE = (0.4, 2.5)
# Below this ratio of contrast to residual a slope says more about noise than about the ground.
MIN_CONTRAST = 1.5
_ROUNDS = 30
# The share of the ground that is taken as dark, and its reflectance x 10000.
DARKEST_PERCENT, DARK_DN = 0.1, 100.0


@dataclass(frozen=True)
class Fit:
    """reference = gain * value + offset_dn, with the robust standard deviation of the residual over stable pixels.

    `kind` is "line", "shift" (gain 1: the pixels span too little contrast for a slope), "shared" (too few
    pixels: the median line of the other scenes), "dark object" or "none" (too few in every scene: left as it is).
    """

    band: str
    kind: str
    gain: float
    offset_dn: float
    residual_dn: float
    stable: int

    def record(self) -> dict:
        return asdict(self)


def fit_scene(values: np.ndarray, reference: np.ndarray, clear: np.ndarray, bands: list[str]) -> list[Fit]:
    """One line per band from the pixels that did not change, by iteratively trimmed orthogonal regression.

    Both images have noise, so that the line is the major axis of the scatter (as in the MAD normalisation of
    Canty and Nielsen 2008, Remote Sensing of Environment 112), started from quantiles and refitted on the
    pixels whose residuals in all bands are small until they no longer change. It holds as long as most
    pixels of the tile did not change.

    Args:
        values: uint16 [bands, rows, columns], the scene to adjust.
        reference: uint16 [bands, rows, columns], the base year.
        clear: bool [rows, columns], pixels known in both.
        bands: names of the bands.
    """
    index = np.flatnonzero(clear)
    index = index[:: max(1, -(-index.size // MAX_PIXELS))]
    if index.size < MIN_PIXELS:
        return [Fit(band, "none", 1.0, 0.0, 0.0, int(index.size)) for band in bands]
    x = values.reshape(len(values), -1)[:, index].astype(np.float64)
    y = reference.reshape(len(reference), -1)[:, index].astype(np.float64)
    lines = [_from_quantiles(*pair) for pair in zip(x, y)]
    stable = np.ones(index.size, dtype=bool)
    for _ in range(_ROUNDS):
        residuals = np.stack([_distance(a, b, line) for a, b, line in zip(x, y, lines)])
        spread = np.maximum(1.4826 * np.median(np.abs(residuals), axis=1), SIGMA_FLOOR_DN)
        kept = (np.abs(residuals) < STABLE_SIGMAS * spread[:, None]).all(axis=0)
        if kept.sum() < MIN_PIXELS or (kept == stable).all():
            break
        stable = kept
        lines = [_major_axis(a[stable], b[stable]) for a, b in zip(x, y)]
    return [_finish(a[stable], b[stable], line, band) for a, b, line, band in zip(x, y, lines, bands)]


def dark_object_fits(values: np.ndarray, clear: np.ndarray, bands: list[str]) -> list[Fit]:
    """Offsets that leave the darkest clear ground of each band at 1 % reflectance: haze adds to every pixel alike.

    Chavez 1988, An improved dark-object subtraction technique, Remote Sensing of Environment 24. It holds where the
    tile has deep shade, dense forest or clear water.

    Args:
        values: uint16 [bands, rows, columns], reflectance x 10000.
        clear: bool [rows, columns].
        bands: names of the bands.
    """
    seen = values[:, clear]
    if seen.shape[1] < MIN_PIXELS:
        return [Fit(band, "none", 1.0, 0.0, 0.0, int(seen.shape[1])) for band in bands]
    darkest = np.percentile(seen, DARKEST_PERCENT, axis=1)
    return [
        Fit(band, "dark object", 1.0, round(min(0.0, DARK_DN - float(dark)), 3), 0.0, int(seen.shape[1]))
        for band, dark in zip(bands, darkest)
    ]


def fill_missing_fits(fits: list[list[Fit]]) -> list[list[Fit]]:
    """The fits of all scenes, where those with too few pixels take the median line of the others."""
    good = [lines for lines in fits if all(line.kind != "none" for line in lines)]
    if not good:
        log.warning("no scene has %d pixels known in the base year too: none is normalised", MIN_PIXELS)
        return fits
    middle = [
        (float(np.median([line.gain for line in lines])), float(np.median([line.offset_dn for line in lines])))
        for lines in zip(*good)
    ]
    return [
        [
            replace(line, kind="shared", gain=gain, offset_dn=offset) if line.kind == "none" else line
            for line, (gain, offset) in zip(lines, middle)
        ]
        for lines in fits
    ]


def apply_fits(values: np.ndarray, fits: list[Fit]) -> np.ndarray:
    """uint16 [bands, rows, columns] adjusted by the fits; 0 (nodata) stays 0 and no value becomes 0."""
    out = np.empty_like(values)
    for band, (layer, line) in enumerate(zip(values, fits)):
        adjusted = np.clip(np.rint(line.gain * layer.astype(np.float64) + line.offset_dn), 1, 65534)
        out[band] = np.where(layer == 0, 0, adjusted)
    return out


def _from_quantiles(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    (x_low, x_mid, x_high), (y_low, y_mid, y_high) = (np.quantile(part, [0.1, 0.5, 0.9]) for part in (x, y))
    gain = float(np.clip((y_high - y_low) / max(x_high - x_low, 1.0), *GAIN_RANGE))
    return gain, float(y_mid - gain * x_mid)


def _major_axis(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    (xx, xy), (_, yy) = np.cov(x, y)
    # Slope of the first principal axis of the 2 x 2 covariance.
    gain = (yy - xx + np.hypot(yy - xx, 2 * xy)) / (2 * xy) if xy > 0 else 1.0
    gain = float(np.clip(gain, *GAIN_RANGE))
    return gain, float(y.mean() - gain * x.mean())


def _distance(x: np.ndarray, y: np.ndarray, line: tuple[float, float]) -> np.ndarray:
    return (y - line[0] * x - line[1]) / np.hypot(1, line[0])


def _finish(x: np.ndarray, y: np.ndarray, line: tuple[float, float], band: str) -> Fit:
    kind = "line"
    residual = float(1.4826 * np.median(np.abs(_distance(x, y, line))))
    # Without a slope the two years are only brought to one level.
    if x.std() < MIN_CONTRAST * residual:
        kind, line = "shift", (1.0, float(np.median(y - x)))
        residual = float(1.4826 * np.median(np.abs(_distance(x, y, line))))
    return Fit(band, kind, round(line[0], 6), round(line[1], 3), round(residual, 3), int(x.size))
