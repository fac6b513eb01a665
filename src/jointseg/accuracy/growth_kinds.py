"""Rates of growth, what kind of growth they are, and a curve through the areas."""

from collections.abc import Sequence

import numpy as np

RAPID_PERCENT = 7.0  # mean growth, percent a year, from which a city grows rapidly: twice its area in ten years
SATURATING_RATIO = 0.5  # a city saturates when its last rate is below this part of its first one
KINDS = ("saturating", "rapid", "moderate")


def yearly_percent(before_km2: np.ndarray, after_km2: np.ndarray, years: float) -> np.ndarray:
    """Compound growth, percent a year, of areas of any one shape; NaN from or to nothing."""
    before, after = np.asarray(before_km2, float), np.asarray(after_km2, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 100 * ((after / before) ** (1 / years) - 1)
    return np.where((before > 0) & (after > 0), rate, np.nan)


def kinds(years: Sequence[int], areas_km2: np.ndarray) -> np.ndarray:
    """Places in KINDS, int [n], of courses of areas [n, years]; -1 where there is none to tell (fewer than two years).

    saturating: of three or more years, the last interval's rate is below SATURATING_RATIO of the first one's;
    else rapid: the mean rate over all years reaches RAPID_PERCENT; else moderate.
    """
    areas = np.asarray(areas_km2, float)
    if len(years) < 2:
        return np.full(len(areas), -1)
    first = yearly_percent(areas[:, 0], areas[:, 1], years[1] - years[0])
    last = yearly_percent(areas[:, -2], areas[:, -1], years[-1] - years[-2])
    mean = yearly_percent(areas[:, 0], areas[:, -1], years[-1] - years[0])
    saturates = (last < SATURATING_RATIO * first) & (len(years) > 2)
    return np.where(saturates, 0, np.where(mean >= RAPID_PERCENT, 1, 2))


def kind_of_growth(years: Sequence[int], areas_km2: Sequence[float]) -> str:
    """The name of one course's kind; "" for fewer than two years."""
    place = int(kinds(years, np.array([areas_km2]))[0])
    return KINDS[place] if place >= 0 else ""


def likeliest(years: Sequence[int], replicates: np.ndarray) -> tuple[str, float]:
    """The kind that most replicates [draws, years] of the areas are of, and their share."""
    shares = np.bincount(kinds(years, replicates), minlength=len(KINDS)) / len(replicates)
    place = int(shares.argmax())
    return KINDS[place], float(shares[place])


def fitted(years: Sequence[int], areas_km2: np.ndarray, at: np.ndarray) -> np.ndarray:
    """ln A = a + b t + c t^2 fitted by least squares to each course [n, years], read at other years: km2 [n, len(at)].

    b is the rate, c how it changes: growth by a constant rate is a straight line here, saturation bends it down. Fewer
    than three years are joined by a straight line.
    """
    degree = min(2, len(years) - 1)
    middle = float(np.mean(years))
    basis = np.vander(np.array(years, float) - middle, degree + 1)
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(areas_km2, float))
    coefficients = np.linalg.lstsq(basis, np.where(np.isfinite(logs), logs, np.nan).T, rcond=None)[0]
    return np.exp(np.vander(np.asarray(at, float) - middle, degree + 1) @ coefficients).T
