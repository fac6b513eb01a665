"""Blended pixels do not depend on the bounds, and windows of one image blend to that image."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jointseg.inference import lattice
from jointseg.inference.blending import Bounds, blend
from jointseg.inference.lattice import Window

WINDOW_M = 160


def noise(
    bounds: Bounds, stride_m: int, channels: int, skipped: int = 0
) -> Iterator[tuple[Window, torch.Tensor | None]]:
    """Yield a result of each window that depends only on its position; every `skipped`-th window has none."""
    for window in lattice.windows(bounds, WINDOW_M, stride_m):
        if skipped and (window.row + window.col) % skipped == 0:
            yield window, None
        else:
            rng = np.random.default_rng([window.row + 100, window.col + 100])
            yield window, torch.from_numpy(rng.random((channels, WINDOW_M, WINDOW_M), dtype=np.float32))


def blended(bounds: Bounds, stride_m: int, channels: int = 1, skipped: int = 0) -> np.ndarray:
    minx, miny, maxx, maxy = bounds
    out = np.full((channels, maxy - miny, maxx - minx), np.nan, dtype=np.float32)
    results = noise(bounds, stride_m, channels, skipped)
    for (west, south, east, north), values in blend(results, bounds, WINDOW_M, stride_m, channels):
        target = out[:, maxy - north : maxy - south, west - minx : east - minx]
        assert np.isnan(target).all(), "each pixel is yielded once"
        target[:] = values.numpy()
    assert not np.isnan(out).any()
    return out


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from([60, 80, 100, 120, 160]),
    st.sampled_from([0, 2, 3]),
)
def test_parts_are_bit_identical_to_the_full_area(
    west: int, south: int, cuts: tuple[int, int, int, int], stride_m: int, skipped: int
) -> None:
    minx, miny = 10 * west, 10 * south
    midx, midy = minx + 10 * cuts[0], miny + 10 * cuts[1]
    maxx, maxy = midx + 10 * cuts[2], midy + 10 * cuts[3]
    together = blended((minx, miny, maxx, maxy), stride_m, 2, skipped)
    parts = np.concatenate(
        [
            np.concatenate(
                [blended((a, b, c, d), stride_m, 2, skipped) for a, c in ((minx, midx), (midx, maxx))], axis=2
            )
            for b, d in ((midy, maxy), (miny, midy))
        ],
        axis=1,
    )
    assert np.array_equal(together, parts)


def test_windows_of_one_image_blend_to_that_image() -> None:
    bounds, stride_m = (100, 200, 700, 500), 100
    rng = np.random.default_rng(1)
    image = rng.random((1000, 1000), dtype=np.float32)  # row = northing from the south, column = easting

    def crop() -> Iterator[tuple[Window, torch.Tensor]]:
        for window in lattice.windows(bounds, WINDOW_M, stride_m):
            west, south, east, north = (v + 100 for v in window.bounds)
            yield window, torch.from_numpy(image[south:north, west:east][None, ::-1].copy())

    for (west, south, east, north), values in blend(crop(), bounds, WINDOW_M, stride_m):
        expected = image[south + 100 : north + 100, west + 100 : east + 100][::-1]
        assert values[0].numpy() == pytest.approx(expected, abs=1e-6)


def test_pieces_are_at_most_a_window_in_reading_order() -> None:
    bounds = (0, 0, 1000, 3200)
    pieces = [piece for piece, _ in blend(noise(bounds, 120, 1), bounds, WINDOW_M, 120)]
    assert max(max(east - west, north - south) for west, south, east, north in pieces) <= WINDOW_M
    assert sum((east - west) * (north - south) for west, south, east, north in pieces) == 1000 * 3200
    assert pieces == sorted(pieces, key=lambda piece: (-piece[3], piece[0]))
