"""Estimates of several trainings on one sample of chips: the interval covers both the chips and the seeds."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from jointseg.accuracy.cluster_estimators import Estimate, Metric, linearised

Arrays = list[np.ndarray]


def estimate_over_seeds(parts: Arrays, weights: np.ndarray, strata: np.ndarray, function: Metric) -> Estimate:
    """A function of the totals of some variants, trained with several seeds and scored on the same chips.

    The chips are a stratified sample and the seeds a sample of all seeds, drawn apart from each other: the variance is
    that of the mean counts over the chips (`estimators.linearised`) plus that of the mean over the seeds,
    sum_s (theta_s - mean)^2 / (S (S - 1)). The degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2,
    110-114). One seed alone shows nothing of their spread: the interval is then that of the chips, too narrow.

    Args:
        parts: for each variant, counts by seed and chip, [seeds, chips, k].
        weights, strata: of the chips, see `linearised`.
        function: of the totals of all variants, one after another, [variants * k].
    """
    joined = np.concatenate(parts, axis=2).astype(np.float64)
    chips = linearised(joined.mean(axis=0), weights, strata, function)
    count = len(joined)
    if count < 2 or not np.isfinite(chips.se):
        return chips
    with np.errstate(divide="ignore", invalid="ignore"):
        values = [float(np.real(function((weights @ each).astype(np.complex128)))) for each in joined]
    of_seed = float(np.var(values, ddof=1)) / count
    variance = chips.se**2 + of_seed
    if variance == 0:
        return chips
    degrees = len(weights) - len(np.unique(strata))
    freedom = variance**2 / max(chips.se**4 / degrees + of_seed**2 / (count - 1), 1e-300)
    half = float(stats.t.ppf(0.975, freedom)) * variance**0.5
    return Estimate(chips.value, variance**0.5, chips.value - half, chips.value + half, chips.units)


def difference(metric: Metric) -> Metric:
    """The metric of the first of two variants minus that of the second."""
    return _combine(metric, lambda values: values[0] - values[1])


def gap_closed(metric: Metric) -> Metric:
    """How much of the way from the second of three variants to the third the first one goes."""
    return _combine(metric, lambda values: (values[0] - values[1]) / (values[2] - values[1]))


def _combine(metric: Metric, combine: Callable[[list[complex]], complex]) -> Metric:
    return lambda totals: combine([metric(totals[start : start + 4]) for start in range(0, len(totals), 4)])
