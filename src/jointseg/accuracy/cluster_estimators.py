"""Accuracy and area estimators of a stratified sample of clusters (chips) or of single pixels.

Sources: Olofsson et al. (2014), Remote Sensing of Environment 148, 42-57; Stehman (2014), International Journal of
Remote Sensing 35, 4923-4939; Woodruff (1971), JASA 66, 411-414; Saerndal, Swensson, Wretman (1992), Model Assisted
Survey Sampling, sections 4.6 and 5.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

NODATA = 255
CELLS = ("tp", "fp", "fn", "tn")

# A function of the totals (tp, fp, fn, tn). It uses arithmetic only, because it is also evaluated on complex numbers.
Metric = Callable[[np.ndarray], complex]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error, 95 % confidence interval and number of sampled units."""

    value: float
    se: float
    lower: float
    upper: float
    units: int


def confusion_counts(mapped: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return pixel counts (tp, fp, fn, tn, nodata), int64 [5], of two rasters of 0/1/255; nodata where either is 255."""
    valid = (mapped != NODATA) & (reference != NODATA)
    is_isa, truth = (mapped == 1)[valid], (reference == 1)[valid]
    tp = int(np.count_nonzero(is_isa & truth))
    fp = int(np.count_nonzero(is_isa)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return np.array([tp, fp, fn, truth.size - tp - fp - fn, valid.size - truth.size], dtype=np.int64)


def named_counts(mapped: np.ndarray, reference: np.ndarray) -> dict[str, int]:
    """Return `confusion_counts` as table columns: CELLS and nodata."""
    return dict(zip((*CELLS, "nodata"), confusion_counts(mapped, reference).tolist()))


def precision(t: np.ndarray) -> complex:
    """User's accuracy of ISA, tp / (tp + fp); Olofsson et al. (2014) eq. 2."""
    return t[0] / (t[0] + t[1])


def recall(t: np.ndarray) -> complex:
    """Producer's accuracy of ISA, tp / (tp + fn); Olofsson et al. (2014) eq. 3."""
    return t[0] / (t[0] + t[2])


def f1(t: np.ndarray) -> complex:
    """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn)."""
    return 2 * t[0] / (2 * t[0] + t[1] + t[2])


def mean_f1(t: np.ndarray) -> complex:
    """Mean of the F1 of ISA and the F1 of non-ISA."""
    return (f1(t) + f1(t[::-1])) / 2


def iou(t: np.ndarray) -> complex:
    """Intersection over union of ISA, tp / (tp + fp + fn)."""
    return t[0] / (t[0] + t[1] + t[2])


def overall_accuracy(t: np.ndarray) -> complex:
    """(tp + tn) / n; Olofsson et al. (2014) eq. 1."""
    return (t[0] + t[3]) / t.sum()


def kappa(t: np.ndarray) -> complex:
    """Cohen's kappa (Cohen 1960, Educational and Psychological Measurement 20, 37-46).

    Reported for comparability with other studies. It depends on prevalence, so it cannot rank maps of different areas,
    and it adds no information to user's and producer's accuracy (Pontius and Millones 2011, International Journal of
    Remote Sensing 32, 4407-4429; Foody 2020, Remote Sensing of Environment 239, 111630).
    """
    n = t.sum()
    by_chance = ((t[0] + t[1]) * (t[0] + t[2]) + (t[2] + t[3]) * (t[1] + t[3])) / n**2
    return ((t[0] + t[3]) / n - by_chance) / (1 - by_chance)


def map_fraction(t: np.ndarray) -> complex:
    """Fraction of the valid area that is ISA on the map."""
    return (t[0] + t[1]) / t.sum()


def reference_fraction(t: np.ndarray) -> complex:
    """Fraction of the valid area that is ISA in the reference."""
    return (t[0] + t[2]) / t.sum()


def _cell_fraction(cell: int) -> Metric:
    return lambda t: t[cell] / t.sum()


# The confusion matrix as fractions of the valid area (Olofsson et al. 2014 eq. 4).
MATRIX: dict[str, Metric] = {f"{name}_fraction": _cell_fraction(cell) for cell, name in enumerate(CELLS)}
_METRICS = (precision, recall, f1, iou, overall_accuracy, mean_f1, kappa, map_fraction, reference_fraction)
METRICS: dict[str, Metric] = {metric.__name__: metric for metric in _METRICS} | MATRIX


def calibrated_weights(probability: np.ndarray, strata: np.ndarray, totals: dict[str, float]) -> np.ndarray:
    """Return design weights 1 / pi, scaled so that they sum to the estimated number of units of each stratum.

    A split contains a part of each stratum. Without the scaling, a stratum with a larger part would have more weight in
    overall estimates (ratio estimator of a domain's size, Saerndal et al. 1992, section 5.6).

    Args:
        probability: inclusion probability of each unit, float [n].
        strata: stratum of each unit [n].
        totals: estimated number of units by stratum, from the full sample.
    """
    weights = 1 / np.asarray(probability, dtype=np.float64)
    for stratum in np.unique(strata):
        members = strata == stratum
        weights[members] *= totals[stratum] / weights[members].sum()
    return weights


def collapse_strata(sizes: dict[str, int]) -> dict[str, str]:
    """Merge neighbouring strata until each group has two units; return stratum -> first stratum of its group.

    A variance needs two units (collapsed strata, Cochran 1977, Sampling Techniques, section 5A.12). A group has fewer only
    if all strata together do.

    Args:
        sizes: number of units of every stratum, in an order that puts similar strata next to each other.
    """
    groups: list[list[str]] = []
    last_size = 0  # units in the last group
    for name, size in sizes.items():
        if not groups or last_size >= 2:
            groups.append([])
            last_size = 0
        groups[-1].append(name)
        last_size += size
    if len(groups) > 1 and last_size < 2:
        last = groups.pop()
        groups[-1] += last
    return {name: group[0] for group in groups for name in group}


def linearised_estimate(
    totals: np.ndarray,
    weights: np.ndarray,
    strata: np.ndarray,
    function: Metric,
    sizes: Mapping[Any, float] | None = None,
) -> Estimate:
    """Estimate a smooth function of weighted totals with the Taylor-linearised variance of a stratified cluster sample.

    theta = g(T), T = sum_i w_i t_i; z_i = w_i grad g(T) . t_i (Woodruff 1971; Saerndal et al. 1992, eq. 5.5.11);
    V = sum_h (1 - n_h / N_h) n_h / (n_h - 1) sum_i (z_hi - mean z_h)^2. Without `sizes` the clusters are
    treated as drawn with replacement (Saerndal et al. 1992, section 4.6; N_h infinite), which is conservative when the
    sample is a large part of the population. The interval is theta -+ t(0.975, n - H) SE. With single pixels as clusters
    this is Stehman (2014) eqs. 25-28; if the strata are the map's classes, Olofsson et al. (2014) eqs. 5-7 and 10. The
    gradient uses a complex step and is exact up to rounding.

    Args:
        totals: counts by cluster, [n, k].
        weights: design weights [n].
        strata: stratum of each cluster [n].
        function: g, of a vector of k totals.
        sizes: number of clusters of each stratum in the population, N_h.

    Returns:
        An Estimate. All values are NaN where g is undefined (0 / 0); the error is NaN if a stratum has only one cluster.
    """
    t = np.asarray(totals, dtype=np.float64)
    total = weights @ t
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.real(function(total.astype(np.complex128))))
        step = 1e-200 * np.eye(total.size)
        gradient = np.array([np.imag(function(total + 1j * row)) for row in step]) * 1e200
    if not np.isfinite(value) or not np.isfinite(gradient).all():
        return Estimate(np.nan, np.nan, np.nan, np.nan, len(t))
    z = weights * (t @ gradient)
    names, member = np.unique(strata, return_inverse=True)
    counts = np.bincount(member)
    sampling_fraction = np.zeros(len(names)) if sizes is None else counts / [sizes[name] for name in names]
    if (counts[sampling_fraction < 1] < 2).any():
        return Estimate(value, np.nan, np.nan, np.nan, len(t))
    within = z - (np.bincount(member, z) / counts)[member]
    variance = float(np.sum(((1 - sampling_fraction) * counts / np.maximum(counts - 1, 1))[member] * within**2))
    se = variance**0.5
    half_width = float(stdtrit(len(t) - len(names), 0.975)) * se
    return Estimate(value, se, value - half_width, value + half_width, len(t))


def clip_to_unit(estimate: Estimate) -> Estimate:
    """Return the estimate of a fraction with its interval clipped to 0..1."""
    lower, upper = np.clip([estimate.lower, estimate.upper], 0, 1)
    return Estimate(estimate.value, estimate.se, float(lower), float(upper), estimate.units)


def estimate_columns(name: str, estimate: Estimate) -> dict[str, Any]:
    """Return an estimate and its interval as table columns."""
    return {name: estimate.value, f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}


def metric_difference(metric: Metric) -> Metric:
    """Return the metric of the first four totals minus that of the last four: two maps assessed on the same clusters."""
    return lambda t: metric(t[:4]) - metric(t[4:])


def bootstrap_totals(totals: np.ndarray, weights: np.ndarray, strata: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return replicates of the weighted totals T, float [draws, k], by the rescaled bootstrap.

    Rao and Wu (1988, JASA 83, 231-241): n_h - 1 of the n_h clusters of each stratum are drawn with replacement and their
    weights scaled by n_h / (n_h - 1). For totals, the variance of the replicates is that of `linearised_estimate`. The
    replicates also give the distribution of quantities without a gradient, such as a class. Shapes are as in
    `linearised_estimate`; a stratum with only one cluster does not vary.
    """
    t, generator = np.asarray(totals, dtype=np.float64), np.random.default_rng(seed)
    replicates = np.zeros((draws, t.shape[1]))
    for name in np.unique(strata):
        members = np.flatnonzero(strata == name)
        n = len(members)
        times = generator.multinomial(n - 1, np.full(n, 1 / n), draws) * n / (n - 1) if n > 1 else np.ones((draws, 1))
        replicates += times @ (weights[members, None] * t[members])
    return replicates
