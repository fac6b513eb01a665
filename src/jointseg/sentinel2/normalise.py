"""Relative radiometric normalisation of the scenes of one year to the base year's composite."""

import logging
from dataclasses import asdict, dataclass, replace

import numpy as np

log = logging.getLogger(__name__)

MIN_PIXELS, MAX_PIXELS = 500, 250_000
# A pixel is stable if its residual is below this many robust standard deviations in every band.
STABLE_SIGMAS, SIGMA_FLOOR_DN = 2.5, 5.0
MAD_TO_SIGMA = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
GAIN_RANGE = (0.4, 2.5)
# Below this ratio of contrast to residual the slope of a line is not significant.
MIN_CONTRAST = 1.5
_ROUNDS = 30
# Percentile of dark objects, and their reflectance x 10000.
DARKEST_PERCENT, DARK_DN = 0.1, 100.0


@dataclass(frozen=True)
class Fit:
    """reference = gain * value + offset_dn, with the robust standard deviation of the residual over stable pixels."""

    band: str  # name of the band
    # "line", "shift" (gain 1: too little contrast for a slope), "shared" (too few pixels: the median line of the other
    # scenes), "dark object" or "none" (too few pixels in every scene: not normalised).
    kind: str
    gain: float
    offset_dn: float
    residual_dn: float
    stable: int  # number of stable pixels

    def record(self) -> dict:
        return asdict(self)


def fit_scene(values: np.ndarray, reference: np.ndarray, clear: np.ndarray, bands: list[str]) -> list[Fit]:
    """Return one line per band, fitted to unchanged pixels by iteratively trimmed orthogonal regression.

    Both images, uint16 [bands, rows, columns], contain noise, so the line is the major axis of the scatter (as in the
    MAD normalisation of Canty and Nielsen 2008, Remote Sensing of Environment 112) of the pixels that are valid in both
    (`clear`, bool [rows, columns]). It starts from quantiles and is refitted to the pixels with small residuals in all
    bands until these do not change. The method requires that most pixels are unchanged.
    """
    index = np.flatnonzero(clear)
    index = index[:: max(1, -(-index.size // MAX_PIXELS))]
    if index.size < MIN_PIXELS:
        return _no_fits(bands, int(index.size))
    x = values.reshape(len(values), -1)[:, index].astype(np.float64)
    y = reference.reshape(len(reference), -1)[:, index].astype(np.float64)
    lines = [_quantile_line(*pair) for pair in zip(x, y)]
    stable = np.ones(index.size, dtype=bool)
    for _ in range(_ROUNDS):
        residuals = np.stack([_distance(a, b, line) for a, b, line in zip(x, y, lines)])
        spread = np.maximum(MAD_TO_SIGMA * np.median(np.abs(residuals), axis=1), SIGMA_FLOOR_DN)
        inliers = (np.abs(residuals) < STABLE_SIGMAS * spread[:, None]).all(axis=0)
        if inliers.sum() < MIN_PIXELS or (inliers == stable).all():
            break
        stable = inliers
        lines = [_major_axis(a[stable], b[stable]) for a, b in zip(x, y)]
    return [_band_fit(a[stable], b[stable], line, band) for a, b, line, band in zip(x, y, lines, bands)]


def dark_object_fits(values: np.ndarray, clear: np.ndarray, bands: list[str]) -> list[Fit]:
    """Return offsets that set the darkest clear pixels of each band to 1 % reflectance: haze adds to every pixel alike.

    Chavez 1988, An improved dark-object subtraction technique, Remote Sensing of Environment 24. The method requires
    deep shade, dense forest or clear water in the tile. Values are reflectance x 10000, uint16 [bands, rows, columns].
    """
    pixels = values[:, clear]
    if pixels.shape[1] < MIN_PIXELS:
        return _no_fits(bands, int(pixels.shape[1]))
    darkest = np.percentile(pixels, DARKEST_PERCENT, axis=1)
    return [
        Fit(band, "dark object", 1.0, round(min(0.0, DARK_DN - float(dark)), 3), 0.0, int(pixels.shape[1]))
        for band, dark in zip(bands, darkest)
    ]


def _no_fits(bands: list[str], pixels: int) -> list[Fit]:
    return [Fit(band, "none", 1.0, 0.0, 0.0, pixels) for band in bands]


def fill_missing_fits(fits: list[list[Fit]]) -> list[list[Fit]]:
    """Return the fits of all scenes; scenes with too few pixels get the median line of the others."""
    good = [lines for lines in fits if all(line.kind != "none" for line in lines)]
    if not good:
        log.warning("no scene has %d valid pixels in common with the base year: no scene is normalised", MIN_PIXELS)
        return fits
    medians = [
        (float(np.median([line.gain for line in lines])), float(np.median([line.offset_dn for line in lines])))
        for lines in zip(*good)
    ]
    return [
        [
            replace(line, kind="shared", gain=gain, offset_dn=offset) if line.kind == "none" else line
            for line, (gain, offset) in zip(lines, medians)
        ]
        for lines in fits
    ]


def apply_fits(values: np.ndarray, fits: list[Fit]) -> np.ndarray:
    """Return uint16 [bands, rows, columns] adjusted by the fits; 0 (nodata) stays 0 and no other value becomes 0."""
    out = np.empty_like(values)
    for band, (layer, line) in enumerate(zip(values, fits)):
        adjusted = np.clip(np.rint(line.gain * layer.astype(np.float64) + line.offset_dn), 1, 65534)
        out[band] = np.where(layer == 0, 0, adjusted)
    return out


def _quantile_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
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


def _band_fit(x: np.ndarray, y: np.ndarray, line: tuple[float, float], band: str) -> Fit:
    kind = "line"
    residual = float(MAD_TO_SIGMA * np.median(np.abs(_distance(x, y, line))))
    if x.std() < MIN_CONTRAST * residual:
        kind, line = "shift", (1.0, float(np.median(y - x)))
        residual = float(MAD_TO_SIGMA * np.median(np.abs(_distance(x, y, line))))
    return Fit(band, kind, round(line[0], 6), round(line[1], 3), round(residual, 3), int(x.size))
