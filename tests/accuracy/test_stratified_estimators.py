"""Stratified estimators compared with published examples and with 10,000 samples of a known map."""

import numpy as np
import pytest

from jointseg.accuracy.cluster_estimators import METRICS, Estimate, linearised_estimate
from jointseg.accuracy.stratified_estimators import StratifiedSample, estimate_accuracy
from jointseg.runtime.errors import DataError

# Olofsson et al. (2014), table 8: deforestation, forest gain, stable forest, stable non-forest; map classes in rows.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HA_A_PIXEL = 0.09


def test_olofsson_2014() -> None:
    mapped = np.repeat(np.arange(4), OLOFSSON.sum(1))
    reference = np.concatenate([np.repeat(np.arange(4), row) for row in OLOFSSON])
    made = estimate_accuracy(StratifiedSample(mapped, dict(enumerate(PIXELS))), mapped, reference, range(4))

    def rounded(estimates: dict[int, Estimate], digits: int) -> tuple[list[float], list[float]]:
        return (
            [round(each.value, digits) for each in estimates.values()],
            [round(1.96 * each.se, digits) for each in estimates.values()],
        )

    assert made.overall.units == 640
    assert round(made.overall.value, 3) == 0.947 and round(1.96 * made.overall.se, 2) == 0.02
    assert rounded(made.users, 2) == ([0.88, 0.73, 0.93, 0.96], [0.07, 0.10, 0.04, 0.02])
    assert rounded(made.producers, 2) == ([0.75, 0.85, 0.93, 0.96], [0.21, 0.25, 0.03, 0.02])
    hectares = PIXELS.sum() * HA_A_PIXEL
    assert [round(each.value * hectares) for each in made.area.values()] == [21158, 11686, 285770, 581386]
    assert 1.96 * made.area[0].se * hectares == pytest.approx(6158, abs=1)
    # The published matrix of area fractions, table 9.
    assert np.round(made.matrix[0], 4).tolist() == [0.0176, 0, 0.0013, 0.0011]


# Stehman (2014), table 2: strata of 40, 30, 20 and 10 thousand pixels, ten sampled in each.
STRATA = np.repeat(list("ABCD"), 10)
MAPPED = np.array(list("AAAAAAABBB" + "ABBBBBBBBB" + "BBCCCCCCBB" + "DDDDDDDDDD"))
REFERENCE = np.array(list("AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"))
SIZES = {"A": 40_000, "B": 30_000, "C": 20_000, "D": 10_000}


def test_stehman_2014() -> None:
    made = estimate_accuracy(StratifiedSample(STRATA, SIZES), MAPPED, REFERENCE, "ABCD")

    def rounded(estimate: Estimate) -> tuple[float, float]:
        return round(estimate.value, 3), round(estimate.se, 3)

    assert rounded(made.area["A"]) == (0.35, 0.082)
    assert rounded(made.area["C"]) == (0.2, 0.064)
    assert rounded(made.overall) == (0.63, 0.085)
    assert rounded(made.users["B"]) == (0.574, 0.125)
    assert rounded(made.producers["B"]) == (0.794, 0.117)
    assert round(made.matrix[1, 2], 2) == 0.08  # mapped B, in truth C


def test_results_agree_with_an_independent_implementation() -> None:
    # R package mapac 0.1, aa_stratified on the same example, from its documentation: value and standard error of
    # user's and of producer's accuracy, without correction for a finite population.
    published = {
        "A": (0.7419355, 0.1645627, 0.6571429, 0.1477318),
        "B": (0.5744681, 0.1248023, 0.7941176, 0.1165671),
        "C": (0.5000000, 0.2151657, 0.3000000, 0.1504438),
    }
    weights = StratifiedSample(STRATA, SIZES).weights
    for name, expected in published.items():
        is_map, is_reference = name == MAPPED, name == REFERENCE
        cells = [is_map & is_reference, is_map & ~is_reference, ~is_map & is_reference, ~is_map & ~is_reference]
        made = [linearised_estimate(np.stack(cells, 1), weights, STRATA, METRICS[m]) for m in ("precision", "recall")]
        assert [number for e in made for number in (e.value, e.se)] == pytest.approx(expected, abs=6e-8)


def known_map(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strata, map and truth of 60,000 pixels; the strata are those of another map."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(60_000) < 0.25).astype(int)
    mapped = np.where(rng.random(truth.size) < np.where(truth == 1, 0.8, 0.06), 1, 0)
    strata = np.where(rng.random(truth.size) < 0.1, 1 - mapped, mapped)
    return strata, mapped, truth


def test_estimates_are_unbiased_with_nominal_coverage() -> None:
    strata, mapped, truth = known_map(1)
    members = [np.flatnonzero(strata == stratum) for stratum in (0, 1)]
    sizes = {stratum: len(pixels) for stratum, pixels in enumerate(members)}
    expected = {
        "overall": (mapped == truth).mean(),
        "users": truth[mapped == 1].mean(),
        "producers": mapped[truth == 1].mean(),
        "area": truth.mean(),
    }
    rng = np.random.default_rng(2)
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in expected}
    for _ in range(10_000):
        drawn = np.concatenate([rng.choice(pixels, 150, replace=False, shuffle=False) for pixels in members])
        sample = StratifiedSample(strata[drawn], sizes)
        is_map, is_true = mapped[drawn].astype(float), truth[drawn].astype(float)
        made = {
            "overall": sample.mean((is_map == is_true).astype(float)),
            "users": sample.estimate([is_map * is_true, is_map], lambda t: t[0] / t[1]),
            "producers": sample.estimate([is_map * is_true, is_true], lambda t: t[0] / t[1]),
            "area": sample.mean(is_true),
        }
        for name, estimate in made.items():
            found[name].append((estimate.value, estimate.lower <= expected[name] <= estimate.upper))
    for name, results in found.items():
        values, inside = np.array(results).T
        simulated = values.std() / 100  # standard error of the mean of 10,000
        # A ratio estimator has a bias of order 1 / n (Cochran 1977, 6.4); a mean is unbiased.
        allowed = 4 * simulated + (0 if name in ("overall", "area") else 0.02 * values.std())
        assert abs(values.mean() - expected[name]) < allowed, name
        assert 0.93 <= inside.mean() <= 0.97, name


def test_paired_difference_of_correlated_maps_has_a_smaller_error() -> None:
    right = REFERENCE == MAPPED
    better = right.copy()
    better[np.flatnonzero(~right)[:3]] = True
    gain = StratifiedSample(STRATA, SIZES).mean(better.astype(float) - right.astype(float))
    single = estimate_accuracy(StratifiedSample(STRATA, SIZES), MAPPED, REFERENCE, "ABCD").overall
    assert gain.value > 0 and gain.se < single.se


def test_stratum_needs_two_pixels_and_a_size() -> None:
    with pytest.raises(DataError, match="stratum 'D' of 10,000 pixels has 1 in the sample"):
        StratifiedSample(STRATA[:31], SIZES)
    with pytest.raises(DataError, match="stratum 'A' of the sample has no size"):
        StratifiedSample(STRATA, {"B": 1, "C": 1, "D": 1})
    with pytest.raises(DataError, match="class 'D' of the sample is not one of"):
        estimate_accuracy(StratifiedSample(STRATA, SIZES), MAPPED, REFERENCE, "ABC")
