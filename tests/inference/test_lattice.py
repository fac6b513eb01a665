"""The lattice does not depend on the bounds; the weights of each pixel sum to one."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointseg.inference import lattice
from jointseg.runtime.errors import DataError

sizes = st.sampled_from([160, 320, 480, 640]).flatmap(
    lambda window: st.tuples(st.just(window), st.integers(window // 30, window // 10).map(lambda n: 10 * n))
)
areas = st.tuples(st.integers(-50, 70_000), st.integers(-50, 400_000), st.integers(1, 40), st.integers(1, 40)).map(
    lambda p: (10 * p[0], 10 * p[1], 10 * (p[0] + 2 * p[2]), 10 * (p[1] + 2 * p[3]))
)


def test_windows_of_one_kilometre() -> None:
    windows = list(lattice.windows((1000, 2000, 2000, 3000), 640, 512 - 12))
    assert [w.col for w in windows[:3]] == [1, 2, 3]
    assert [w.row for w in windows[::3]] == [5, 4, 3]
    assert windows[0].bounds == (500, 2500, 1140, 3140)
    assert windows[-1].bounds == (1500, 1500, 2140, 2140)


def test_adjacent_window_is_left_out() -> None:
    assert [w.bounds for w in lattice.windows((640, 640, 1280, 1280), 640, 640)] == [(640, 640, 1280, 1280)]


@given(areas, sizes)
def test_windows_cover_and_intersect_the_bounds(bounds: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    minx, miny, maxx, maxy = bounds
    windows = list(lattice.windows(bounds, *size))
    for axis, low, high in ((0, minx, maxx), (1, miny, maxy)):
        spans = sorted({(w.bounds[axis], w.bounds[axis + 2]) for w in windows})
        assert spans[0][0] <= low and spans[-1][1] >= high
        assert all(after[0] <= before[1] for before, after in pairwise(spans))
        assert all(start < high and end > low for start, end in spans)
    assert len(windows) == len({w.row for w in windows}) * len({w.col for w in windows})


@given(areas, sizes)
def test_quarters_of_a_tile_have_its_windows_in_the_same_order(
    bounds: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    minx, miny, maxx, maxy = bounds
    midx, midy = (minx + maxx) // 2, (miny + maxy) // 2
    quarters = [(minx, miny, midx, midy), (midx, miny, maxx, midy), (minx, midy, midx, maxy), (midx, midy, maxx, maxy)]
    all_windows = list(lattice.windows(bounds, *size))
    parts = [list(lattice.windows(q, *size)) for q in quarters]
    assert set(all_windows) == {w for part in parts for w in part}
    for part in parts:
        assert part == [w for w in all_windows if w in set(part)]


@given(sizes)
def test_weights_are_positive_symmetric_and_sum_to_one(size: tuple[int, int]) -> None:
    window_m, stride_m = size
    weights = lattice.blend_weights(window_m, stride_m)
    assert weights.dtype == np.float32 and weights.shape == (window_m,)
    assert (weights > 0).all()
    assert np.array_equal(weights, weights[::-1])
    total = np.zeros(stride_m)
    np.add.at(total, np.arange(window_m) % stride_m, weights.astype(float))
    assert np.allclose(total, 1, atol=1e-6)


def test_weights_without_overlap_are_one() -> None:
    assert (lattice.blend_weights(320, 320) == 1).all()


@pytest.mark.parametrize(("window_m", "stride_m", "message"), [(500, 400, "160"), (640, 645, "640"), (640, 0, "10")])
def test_invalid_sizes_raise(window_m: int, stride_m: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(lattice.windows((0, 0, 1000, 1000), window_m, stride_m))
