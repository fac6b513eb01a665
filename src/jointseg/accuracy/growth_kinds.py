"""Growth rates, growth types, and a curve fitted to areas over time."""

from collections.abc import Sequence

import numpy as np

RAPID_PERCENT = 7.0  # growth is rapid from this mean rate on, percent per year: the area doubles in ten years
SATURATING_RATIO = 0.5  # growth is saturating if the last rate is below this fraction of the first
GROWTH_TYPES = ("saturating", "rapid", "moderate")


def yearly_percent(before_km2: np.ndarray, after_km2: np.ndarray, years: float) -> np.ndarray:
    """Return the compound growth rate, percent per year, of arrays of areas; NaN if either area is zero."""
    before, after = np.asarray(before_km2, float), np.asarray(after_km2, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 100 * ((after / before) ** (1 / years) - 1)
    return np.where((before > 0) & (after > 0), rate, np.nan)


def classify_growth(years: Sequence[int], areas_km2: np.ndarray) -> np.ndarray:
    """Return indices into GROWTH_TYPES, int [n], of time series of areas [n, years]; -1 for fewer than two years.

    saturating: three or more years, and the last interval's rate is below SATURATING_RATIO times the first;
    else rapid: the mean rate over all years is at least RAPID_PERCENT; else moderate.
    """
    areas = np.asarray(areas_km2, float)
    if len(years) < 2:
        return np.full(len(areas), -1)
    first = yearly_percent(areas[:, 0], areas[:, 1], years[1] - years[0])
    last = yearly_percent(areas[:, -2], areas[:, -1], years[-1] - years[-2])
    mean = yearly_percent(areas[:, 0], areas[:, -1], years[-1] - years[0])
    saturates = (last < SATURATING_RATIO * first) & (len(years) > 2)
    return np.where(saturates, 0, np.where(mean >= RAPID_PERCENT, 1, 2))


def growth_type(years: Sequence[int], areas_km2: Sequence[float]) -> str:
    """Return the growth type of one time series; "" for fewer than two years."""
    index = int(classify_growth(years, np.array([areas_km2]))[0])
    return GROWTH_TYPES[index] if index >= 0 else ""


def most_likely_type(years: Sequence[int], replicates: np.ndarray) -> tuple[str, float]:
    """Return the most frequent growth type of area replicates [draws, years], and its fraction of the replicates."""
    fractions = np.bincount(classify_growth(years, replicates), minlength=len(GROWTH_TYPES)) / len(replicates)
    index = int(fractions.argmax())
    return GROWTH_TYPES[index], float(fractions[index])


def fit_curve(years: Sequence[int], areas_km2: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Fit ln A = a + b t + c t^2 to each time series [n, years] by least squares; return km2 [n, len(at)] at other years.

    b is the growth rate and c its change: constant growth is a straight line, saturation bends it down. Fewer than three years
    are fitted by a straight line.
    """
    degree = min(2, len(years) - 1)
    middle = float(np.mean(years))
    basis = np.vander(np.array(years, float) - middle, degree + 1)
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(areas_km2, float))
    coefficients = np.linalg.lstsq(basis, np.where(np.isfinite(logs), logs, np.nan).T, rcond=None)[0]
    return np.exp(np.vander(np.asarray(at, float) - middle, degree + 1) @ coefficients).T
