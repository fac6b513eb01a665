"""Cluster estimators compared with hand-made counts, identities and a bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointseg.accuracy import cluster_estimators
from jointseg.accuracy.cluster_estimators import METRICS, linearised_estimate


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("precision", 0.8),
        ("recall", 2 / 3),
        ("f1", 80 / 110),
        ("iou", 40 / 70),
        ("overall_accuracy", 0.7),
        ("kappa", 0.4),
        ("map_fraction", 0.5),
        ("reference_fraction", 0.6),
        ("mean_f1", (80 / 110 + 60 / 90) / 2),
    ],
)
def test_hand_made_confusion(metric: str, expected: float) -> None:
    value = METRICS[metric](np.array([40.0, 10.0, 20.0, 30.0]))
    assert value == pytest.approx(expected, rel=1e-12)


def test_confusion_counts_leave_out_nodata_of_either_raster() -> None:
    mapped = np.array([[1, 1, 0, 0, 255, 1]], dtype=np.uint8)
    reference = np.array([[1, 0, 1, 0, 1, 255]], dtype=np.uint8)
    assert cluster_estimators.confusion_counts(mapped, reference).tolist() == [1, 1, 1, 1, 2]


counts = st.lists(st.integers(1, 10_000), min_size=4, max_size=4).map(lambda c: np.array(c, dtype=float))


@given(counts)
def test_iou_follows_from_f1(t: np.ndarray) -> None:
    f1 = METRICS["f1"](t).real
    assert METRICS["iou"](t).real == pytest.approx(f1 / (2 - f1), rel=1e-12)
    p, r = METRICS["precision"](t).real, METRICS["recall"](t).real
    assert f1 == pytest.approx(2 * p * r / (p + r), rel=1e-12)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=2, max_size=20))
def test_perfect_map_has_accuracy_one_and_no_error(parts: list[tuple[int, int]]) -> None:
    totals = np.array([(tp, 0, 0, tn) for tp, tn in parts])
    ones = np.ones(len(totals))
    for metric in ("precision", "recall", "f1", "iou", "overall_accuracy", "kappa"):
        made = linearised_estimate(totals, ones, np.zeros(len(totals)), METRICS[metric])
        assert made.value == pytest.approx(1) and made.se == pytest.approx(0, abs=1e-12)


def _clusters(rng: np.random.Generator, n: int) -> np.ndarray:
    fraction, p, r = rng.beta(2, 5, n), rng.beta(16, 4, n), rng.beta(14, 6, n)
    isa = rng.binomial(10_000, fraction)
    tp = rng.binomial(isa, r)
    fp = np.minimum(np.rint(tp * (1 - p) / p).astype(int), 10_000 - isa)
    return np.stack([tp, fp, isa - tp, 10_000 - isa - fp], axis=1)


@pytest.mark.parametrize("metric", ["precision", "f1", "iou", "kappa"])
def test_linearised_error_agrees_with_a_cluster_bootstrap(metric: str) -> None:
    rng = np.random.default_rng(7)
    sizes, per_unit = (60, 40), (3.0, 8.0)
    groups = [_clusters(rng, size) for size in sizes]
    totals, strata = np.vstack(groups), np.repeat([0, 1], sizes)
    made = linearised_estimate(totals, np.repeat(per_unit, sizes), strata, METRICS[metric])
    draws = []
    for _ in range(3000):
        total = sum(
            w * group[rng.integers(0, len(group), len(group))].sum(axis=0) for group, w in zip(groups, per_unit)
        )
        draws.append(METRICS[metric](np.asarray(total, dtype=float)).real)
    assert made.se == pytest.approx(np.std(draws), rel=0.08)
    assert made.value == pytest.approx(np.mean(draws), abs=made.se / 5)


def test_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(11)
    population = _clusters(rng, 20_000)
    truth = METRICS["f1"](population.sum(axis=0).astype(float)).real
    inside = 0
    for _ in range(600):
        drawn = population[rng.integers(0, len(population), 30)]
        made = linearised_estimate(drawn, np.full(30, 5.0), np.zeros(30), METRICS["f1"])
        inside += made.lower <= truth <= made.upper
    assert 0.91 <= inside / 600 <= 0.98


def test_difference_of_a_map_to_itself_is_zero_without_error() -> None:
    totals = _clusters(np.random.default_rng(3), 12)
    made = linearised_estimate(
        np.hstack([totals, totals]), np.ones(12), np.zeros(12), cluster_estimators.metric_difference(METRICS["f1"])
    )
    assert made.value == 0 and made.se == pytest.approx(0, abs=1e-12)


def test_undefined_estimates_are_nan() -> None:
    none = np.array([[0, 0, 0, 100], [0, 0, 0, 100]])
    made = linearised_estimate(none, np.ones(2), np.zeros(2), METRICS["f1"])
    assert np.isnan(made.value) and made.units == 2
    single = linearised_estimate(np.array([[5, 1, 1, 9]]), np.ones(1), np.zeros(1), METRICS["f1"])
    assert single.value == pytest.approx(10 / 12) and np.isnan(single.lower)


def test_calibrated_weights_sum_to_stratum_totals() -> None:
    probability, strata = np.array([0.1, 0.1, 0.2]), np.array(["a", "a", "b"])
    weights = cluster_estimators.calibrated_weights(probability, strata, {"a": 50.0, "b": 10.0})
    assert weights.tolist() == [25.0, 25.0, 10.0]


def test_strata_are_merged_until_each_has_two_units() -> None:
    assert cluster_estimators.collapse_strata({"a": 2, "b": 5}) == {"a": "a", "b": "b"}
    assert cluster_estimators.collapse_strata({"a": 0, "b": 1, "c": 1, "d": 3}) == {
        "a": "a",
        "b": "a",
        "c": "a",
        "d": "d",
    }
    assert cluster_estimators.collapse_strata({"a": 3, "b": 2, "c": 1}) == {"a": "a", "b": "b", "c": "b"}
    assert cluster_estimators.collapse_strata({"a": 1, "b": 0}) == {"a": "a", "b": "a"}


def test_rescaled_bootstrap_agrees_with_the_linearised_error() -> None:
    rng = np.random.default_rng(5)
    totals, strata = np.vstack([_clusters(rng, 12), _clusters(rng, 25)]), np.repeat([0, 1], [12, 25])
    weights = np.repeat([3.0, 8.0], [12, 25])
    made = linearised_estimate(totals, weights, strata, METRICS["f1"])
    draws = cluster_estimators.bootstrap_totals(totals, weights, strata, 4000, seed=1)
    assert draws.mean(0) == pytest.approx(weights @ totals, rel=0.02)
    assert np.std([METRICS["f1"](row).real for row in draws]) == pytest.approx(made.se, rel=0.1)
    constant = cluster_estimators.bootstrap_totals(totals[:1], weights[:1], np.zeros(1), 5, seed=1)
    assert (constant == weights[0] * totals[0]).all()


def test_finite_population_correction() -> None:
    totals, strata = _clusters(np.random.default_rng(3), 12), np.repeat([0, 1], [5, 7])
    made = linearised_estimate(totals, np.ones(12), strata, METRICS["f1"], {0: 5, 1: 7})
    assert made.se == 0
    half = linearised_estimate(totals, np.full(12, 2.0), strata, METRICS["f1"], {0: 10, 1: 14})
    free = linearised_estimate(totals, np.full(12, 2.0), strata, METRICS["f1"])
    assert half.se == pytest.approx(free.se / 2**0.5)
    single = linearised_estimate(totals[:6], np.ones(6), np.array([0, 0, 0, 0, 0, 1]), METRICS["f1"], {0: 10, 1: 1})
    assert 0 < single.se < np.inf  # a completely sampled stratum of one cluster adds no error
