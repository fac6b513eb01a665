import pytest

from jointseg.accuracy.sample_size import allocated, clusters_for, pixels_for_overall
from jointseg.runtime.errors import DataError


def test_the_example_of_olofsson_2014_asks_for_641_pixels() -> None:
    # Section 5.1.1: deforestation, forest gain, stable forest, stable non-forest.
    shares = {"loss": 0.020, "gain": 0.015, "forest": 0.320, "other": 0.645}
    users = {"loss": 0.70, "gain": 0.60, "forest": 0.90, "other": 0.95}
    assert pixels_for_overall(shares, users, 0.01) == 641
    assert pixels_for_overall(shares, users, 0.01, total=5000) < 641
    with pytest.raises(DataError, match=r"shares of classes sum to 0\.98"):
        pixels_for_overall({**shares, "loss": 0.0}, users, 0.01)


def test_half_the_interval_asks_for_four_times_the_clusters() -> None:
    assert clusters_for(100, 0.02, 0.02) == 100
    assert clusters_for(100, 0.02, 0.01) == 400


def test_small_strata_get_their_least_and_the_rest_goes_by_size() -> None:
    given = allocated({"never": 9_000_000, "always": 1_000_000, "gain": 5_000, "loss": 30, "none": 0}, 500, 50)
    assert given == {"never": 50 + 288, "always": 50 + 32, "gain": 50, "loss": 30}
    assert sum(given.values()) == 500
    with pytest.raises(DataError, match="80 points are fewer than 50 in each of 2 strata"):
        allocated({"a": 1000, "b": 1000}, 80, 50)
