"""Estimates from several training seeds on one sample of chips, with intervals that cover both."""

import numpy as np
from scipy.special import stdtrit

from jointseg.accuracy.cluster_estimators import Estimate, Metric, linearised_estimate


def estimate_over_seeds(
    counts: list[np.ndarray], weights: np.ndarray, strata: np.ndarray, function: Metric
) -> Estimate:
    """Estimate a function of the totals of some variants, each trained with several seeds and scored on the same chips.

    Chips are a stratified sample and seeds an independent sample of all seeds. The variance is that of the mean counts
    over the chips (`cluster_estimators.linearised_estimate`) plus that of the mean over the seeds, sum_s (theta_s -
    mean)^2 / (S (S - 1)), with the degrees of freedom of Satterthwaite (1946, Biometrics Bulletin 2, 110-114). With one
    seed the interval covers the chips only and is too narrow.

    `counts` has, per variant, the counts by seed and chip, [seeds, chips, k]; `weights` and `strata` are those of the
    chips; `function` is one of the concatenated totals of all variants, [variants * k].
    """
    joined = np.concatenate(counts, axis=2).astype(np.float64)
    chips = linearised_estimate(joined.mean(axis=0), weights, strata, function)
    seeds = len(joined)
    if seeds < 2 or not np.isfinite(chips.se):
        return chips
    with np.errstate(divide="ignore", invalid="ignore"):
        values = [float(np.real(function((weights @ of_seed).astype(np.complex128)))) for of_seed in joined]
    seed_variance = float(np.var(values, ddof=1)) / seeds
    variance = chips.se**2 + seed_variance
    if variance == 0:
        return chips
    degrees = len(weights) - len(np.unique(strata))
    freedom = variance**2 / max(chips.se**4 / degrees + seed_variance**2 / (seeds - 1), 1e-300)
    half = float(stdtrit(freedom, 0.975)) * variance**0.5
    return Estimate(chips.value, variance**0.5, chips.value - half, chips.value + half, chips.units)


def gap_closed(metric: Metric) -> Metric:
    """Return how far the first of three variants is on the way from the second (0) to the third (1)."""
    return lambda t: (metric(t[:4]) - metric(t[4:8])) / (metric(t[8:]) - metric(t[4:8]))
