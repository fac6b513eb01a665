"""The lattice depends on the ground alone; the weights share out every pixel."""

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
places = st.tuples(st.integers(-50, 70_000), st.integers(-50, 400_000), st.integers(1, 40), st.integers(1, 40)).map(
    lambda p: (10 * p[0], 10 * p[1], 10 * (p[0] + 2 * p[2]), 10 * (p[1] + 2 * p[3]))
)


def test_windows_of_one_kilometre_are_these() -> None:
    found = list(lattice.windows((1000, 2000, 2000, 3000), 640, 512 - 12))
    assert [w.col for w in found[:3]] == [1, 2, 3]
    assert [w.row for w in found[::3]] == [5, 4, 3]
    assert found[0].bounds == (500, 2500, 1140, 3140)
    assert found[-1].bounds == (1500, 1500, 2140, 2140)


def test_a_window_that_only_touches_the_bounds_is_left_out() -> None:
    assert [w.bounds for w in lattice.windows((640, 640, 1280, 1280), 640, 640)] == [(640, 640, 1280, 1280)]


@given(places, sizes)
def test_windows_cover_the_bounds_and_each_shares_ground_with_them(
    bounds: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    minx, miny, maxx, maxy = bounds
    found = list(lattice.windows(bounds, *size))
    for axis, low, high in ((0, minx, maxx), (1, miny, maxy)):
        spans = sorted({(w.bounds[axis], w.bounds[axis + 2]) for w in found})
        assert spans[0][0] <= low and spans[-1][1] >= high
        assert all(after[0] <= before[1] for before, after in pairwise(spans))
        assert all(start < high and end > low for start, end in spans)
    assert len(found) == len({w.row for w in found}) * len({w.col for w in found})


@given(places, sizes)
def test_quarters_of_a_tile_have_the_windows_of_the_tile_in_the_same_order(
    bounds: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    minx, miny, maxx, maxy = bounds
    midx, midy = (minx + maxx) // 2, (miny + maxy) // 2
    quarters = [(minx, miny, midx, midy), (midx, miny, maxx, midy), (minx, midy, midx, maxy), (midx, midy, maxx, maxy)]
    whole = list(lattice.windows(bounds, *size))
    parts = [list(lattice.windows(q, *size)) for q in quarters]
    assert set(whole) == {w for part in parts for w in part}
    for part in parts:
        assert part == [w for w in whole if w in set(part)]


@given(sizes)
def test_weights_are_positive_symmetric_and_share_out_every_pixel(size: tuple[int, int]) -> None:
    window_m, stride_m = size
    share = lattice.weights(window_m, stride_m)
    assert share.dtype == np.float32 and share.shape == (window_m,)
    assert (share > 0).all()
    assert np.array_equal(share, share[::-1])
    total = np.zeros(stride_m)
    np.add.at(total, np.arange(window_m) % stride_m, share.astype(float))
    assert np.allclose(total, 1, atol=1e-6)


def test_weights_without_overlap_are_one() -> None:
    assert (lattice.weights(320, 320) == 1).all()


@pytest.mark.parametrize(("window_m", "stride_m", "said"), [(500, 400, "160"), (640, 645, "640"), (640, 0, "10")])
def test_sizes_off_the_lattice_are_refused(window_m: int, stride_m: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(lattice.windows((0, 0, 1000, 1000), window_m, stride_m))
