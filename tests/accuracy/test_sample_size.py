import pytest

from jointseg.accuracy.sample_size import allocate, clusters_for_half_width, pixels_for_overall_accuracy
from jointseg.runtime.errors import DataError


def test_olofsson_2014_example() -> None:
    # Section 5.1.1: deforestation, forest gain, stable forest, stable non-forest.
    fractions = {"loss": 0.020, "gain": 0.015, "forest": 0.320, "other": 0.645}
    users = {"loss": 0.70, "gain": 0.60, "forest": 0.90, "other": 0.95}
    assert pixels_for_overall_accuracy(fractions, users, 0.01) == 641
    assert pixels_for_overall_accuracy(fractions, users, 0.01, total=5000) < 641
    with pytest.raises(DataError, match=r"class fractions sum to 0\.98"):
        pixels_for_overall_accuracy({**fractions, "loss": 0.0}, users, 0.01)


def test_half_the_interval_needs_four_times_the_clusters() -> None:
    assert clusters_for_half_width(100, 0.02, 0.02) == 100
    assert clusters_for_half_width(100, 0.02, 0.01) == 400


def test_allocation_has_a_minimum_and_is_proportional_above_it() -> None:
    allocation = allocate({"never": 9_000_000, "always": 1_000_000, "gain": 5_000, "loss": 30, "none": 0}, 500, 50)
    assert allocation == {"never": 50 + 288, "always": 50 + 32, "gain": 50, "loss": 30}
    assert sum(allocation.values()) == 500
    with pytest.raises(DataError, match="80 points are fewer than 50 in each of 2 strata"):
        allocate({"a": 1000, "b": 1000}, 80, 50)
