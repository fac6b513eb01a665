"""Accuracy and area estimators of a stratified sample of clusters (chips) or of single pixels.

Sources: Olofsson et al. (2014), Remote Sensing of Environment 148, 42-57; Stehman (2014), International Journal of
Remote Sensing 35, 4923-4939; Woodruff (1971), JASA 66, 411-414; Saerndal, Swensson, Wretman (1992), Model Assisted
Survey Sampling, sections 4.6 and 5.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

UNKNOWN = 255
CELLS = ("tp", "fp", "fn", "tn")

# A function of the totals (tp, fp, fn, tn); written with arithmetic alone, since it is also evaluated on complex numbers.
Metric = Callable[[np.ndarray], complex]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error, 95 % interval and the number of sampled units behind it."""

    value: float
    se: float
    lower: float
    upper: float
    units: int


def cells(mapped: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Pixel counts (tp, fp, fn, tn, unknown), int64 [5]; unknown where either raster (0/1/255) is 255."""
    known = (mapped != UNKNOWN) & (reference != UNKNOWN)
    is_isa, truth = (mapped == 1)[known], (reference == 1)[known]
    tp = int(np.count_nonzero(is_isa & truth))
    fp = int(np.count_nonzero(is_isa)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return np.array([tp, fp, fn, truth.size - tp - fp - fn, known.size - truth.size], dtype=np.int64)


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
    """Mean of the F1 of ISA and the F1 of the rest."""
    return (f1(t) + f1(t[::-1])) / 2


def iou(t: np.ndarray) -> complex:
    """Intersection over union of ISA, tp / (tp + fp + fn)."""
    return t[0] / (t[0] + t[1] + t[2])


def overall_accuracy(t: np.ndarray) -> complex:
    """(tp + tn) / n; Olofsson et al. (2014) eq. 1."""
    return (t[0] + t[3]) / t.sum()


def kappa(t: np.ndarray) -> complex:
    """Cohen (1960), Educational and Psychological Measurement 20, 37-46: agreement beyond that of the margins.

    Told because it is asked for. What it subtracts depends on how common the classes are, so it neither ranks maps of different
    ground nor says what user's and producer's accuracy do not (Pontius and Millones 2011, International Journal of Remote
    Sensing 32, 4407-4429; Foody 2020, Remote Sensing of Environment 239, 111630).
    """
    n = t.sum()
    by_chance = ((t[0] + t[1]) * (t[0] + t[2]) + (t[2] + t[3]) * (t[1] + t[3])) / n**2
    return ((t[0] + t[3]) / n - by_chance) / (1 - by_chance)


def map_share(t: np.ndarray) -> complex:
    """Share of the known ground that the map calls ISA."""
    return (t[0] + t[1]) / t.sum()


def reference_share(t: np.ndarray) -> complex:
    """Share of the known ground that the reference calls ISA."""
    return (t[0] + t[2]) / t.sum()


def _cell_share(place: int) -> Metric:
    return lambda t: t[place] / t.sum()


# The confusion matrix as shares of the known ground (Olofsson et al. 2014 eq. 4), in the order of CELLS.
MATRIX: dict[str, Metric] = {
    name: _cell_share(place)
    for place, name in enumerate(("both_share", "only_map_share", "only_reference_share", "neither_share"))
}
METRICS: dict[str, Metric] = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "iou": iou,
    "overall_accuracy": overall_accuracy,
    "mean_f1": mean_f1,
    "kappa": kappa,
    "map_share": map_share,
    "reference_share": reference_share,
    **MATRIX,
}


def calibrated_weights(probability: np.ndarray, strata: np.ndarray, totals: dict[str, float]) -> np.ndarray:
    """Design weights 1 / pi, scaled so that each stratum's sum is its estimated number of units.

    A split keeps a part of each stratum; without the scaling a stratum that gave a larger part would weigh more in the
    estimates of the whole (ratio estimator of a domain's size, Saerndal et al. 1992, section 5.6).

    Args:
        probability: inclusion probability of each unit, float [n].
        strata: stratum of each unit [n].
        totals: estimated number of units by stratum, from the whole sample.
    """
    weights = 1 / np.asarray(probability, dtype=np.float64)
    for stratum in np.unique(strata):
        here = strata == stratum
        weights[here] *= totals[stratum] / weights[here].sum()
    return weights


def collapsed(sizes: dict[str, int]) -> dict[str, str]:
    """Neighbouring strata joined until each holds two units: stratum -> the first of its group.

    Two units are needed to see a spread (collapsed strata, Cochran 1977, Sampling Techniques, section 5A.12); a group
    has fewer only where all strata together do.

    Args:
        sizes: units of every stratum, neighbours beside each other.
    """
    groups: list[list[str]] = []
    open_ = 0  # units in the last group
    for name, size in sizes.items():
        if not groups or open_ >= 2:
            groups.append([])
            open_ = 0
        groups[-1].append(name)
        open_ += size
    if len(groups) > 1 and open_ < 2:
        last = groups.pop()
        groups[-1] += last
    return {name: group[0] for group in groups for name in group}


def linearised(
    totals: np.ndarray,
    weights: np.ndarray,
    strata: np.ndarray,
    function: Metric,
    sizes: Mapping[Any, float] | None = None,
) -> Estimate:
    """A smooth function of weighted totals, with the Taylor-linearised variance of a stratified cluster sample.

    theta = g(T), T = sum_i w_i t_i; z_i = w_i grad g(T) . t_i (Woodruff 1971; Saerndal et al. 1992, eq. 5.5.11);
    V = sum_h (1 - n_h / N_h) n_h / (n_h - 1) sum_i (z_hi - mean z_h)^2. Without `sizes` the clusters of a stratum are
    taken as drawn with replacement (Saerndal et al. 1992, section 4.6), N_h without bound, which errs to the wide side
    when the sample is a large part of the population. The interval is theta -+ t(0.975, n - H) SE. For single pixels as
    clusters this is Stehman (2014) eqs. 25-28, and where the strata are the map's classes Olofsson et al. (2014) eqs. 5-7,
    10. The gradient is taken by a complex step and is exact to rounding.

    Args:
        totals: counts by cluster, [n, k].
        weights: design weights [n].
        strata: stratum of each cluster [n].
        function: g, of a vector of k totals.
        sizes: clusters of each stratum in the population, N_h.

    Returns:
        An Estimate; NaN where g is not defined (0 / 0), and a NaN error where a stratum holds one cluster alone.
    """
    t = np.asarray(totals, dtype=np.float64)
    whole = weights @ t
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.real(function(whole.astype(np.complex128))))
        step = 1e-200 * np.eye(whole.size)
        gradient = np.array([np.imag(function(whole + 1j * row)) for row in step]) * 1e200
    nothing = float("nan")
    if not np.isfinite(value) or not np.isfinite(gradient).all():
        return Estimate(nothing, nothing, nothing, nothing, len(t))
    z = weights * (t @ gradient)
    names, member = np.unique(strata, return_inverse=True)
    counts = np.bincount(member)
    drawn = np.zeros(len(names)) if sizes is None else counts / [sizes[name] for name in names]
    if (counts[drawn < 1] < 2).any():
        return Estimate(value, nothing, nothing, nothing, len(t))
    within = z - (np.bincount(member, z) / counts)[member]
    variance = float(np.sum(((1 - drawn) * counts / np.maximum(counts - 1, 1))[member] * within**2))
    se = variance**0.5
    half = float(stats.t.ppf(0.975, len(t) - len(names))) * se
    return Estimate(value, se, value - half, value + half, len(t))


def within_unit(estimate: Estimate) -> Estimate:
    """The estimate of a share, its interval cut to 0..1."""
    lower, upper = np.clip([estimate.lower, estimate.upper], 0, 1)
    return Estimate(estimate.value, estimate.se, float(lower), float(upper), estimate.units)


def columns(name: str, estimate: Estimate) -> dict[str, Any]:
    """An estimate as columns of a table."""
    return {name: estimate.value, f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}


def difference(metric: Metric) -> Metric:
    """metric of the first four totals minus metric of the last four: two maps scored on the same clusters."""
    return lambda t: metric(t[:4]) - metric(t[4:])


def replicated(totals: np.ndarray, weights: np.ndarray, strata: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Replicates of the weighted totals T, float [draws, k], by the rescaled bootstrap of Rao and Wu (1988, JASA 83, 231-241).

    In every stratum n_h - 1 of its n_h clusters are drawn with replacement and their weights scaled by n_h / (n_h - 1), which
    makes the variance of the replicates that of `linearised`, for totals. It cross-checks that, and gives the law of what has
    no gradient, such as a class. Shapes as there; a stratum that holds one cluster alone does not vary.
    """
    t, generator = np.asarray(totals, dtype=np.float64), np.random.default_rng(seed)
    whole = np.zeros((draws, t.shape[1]))
    for name in np.unique(strata):
        here = np.flatnonzero(strata == name)
        n = len(here)
        times = generator.multinomial(n - 1, np.full(n, 1 / n), draws) * n / (n - 1) if n > 1 else np.ones((draws, 1))
        whole += times @ (weights[here, None] * t[here])
    return whole
