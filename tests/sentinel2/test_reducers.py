"""Median and medoid, compared with reference implementations."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jointseg.sentinel2 import reducers
from jointseg.sentinel2.reducers import median, medoid


def reference_median(stack, clear, min_clear_observations):
    """Return the median, pixel by pixel, by Python's sort."""
    out = np.zeros((stack.shape[1] + 1, *clear.shape[1:]), dtype=np.uint16)
    for row, col in np.ndindex(*clear.shape[1:]):
        seen = stack[clear[:, row, col], :, row, col]
        if len(seen) >= min_clear_observations:
            for band, values in enumerate(seen.T.tolist()):
                ordered = sorted(values)
                low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
                out[band, row, col] = (low + high + 1) // 2
            out[-1, row, col] = len(seen)
    return out


def reference_medoid(stack, clear, min_clear_observations):
    """Return the medoid, pixel by pixel; float32 distances are added in the order of the scenes."""
    out = np.zeros((stack.shape[1] + 2, *clear.shape[1:]), dtype=np.uint16)
    for row, col in np.ndindex(*clear.shape[1:]):
        seen = np.flatnonzero(clear[:, row, col])
        if len(seen) < min_clear_observations:
            continue
        least, best = np.inf, 0
        for one in seen:
            total = np.float32(0)
            for two in seen:
                squared = np.float32(0)
                for band in range(stack.shape[1]):
                    apart = np.float32(stack[one, band, row, col]) - np.float32(stack[two, band, row, col])
                    squared += apart * apart
                total += np.sqrt(squared)
            if total < least:
                least, best = total, one
        out[:, row, col] = [*stack[best, :, row, col], len(seen), best + 1]
    return out


@st.composite
def observations(draw, most=12):
    """Draw (stack, clear) of a few pixels, with equal values, extremes, and scenes without clear pixel."""
    scenes, bands = draw(st.integers(1, most)), draw(st.integers(1, 4))
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    values = draw(st.sampled_from([st.integers(1, 4), st.integers(0, 65535), st.sampled_from([0, 1, 65534, 65535])]))
    stack = draw(arrays(np.uint16, (scenes, bands, rows, cols), elements=values))
    clear = draw(arrays(bool, (scenes, rows, cols)))
    clear[draw(arrays(bool, scenes))] = False
    return stack, clear


@given(observations(), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_median_equals_the_reference(drawn, min_clear_observations):
    np.testing.assert_array_equal(
        median(*drawn, min_clear_observations), reference_median(*drawn, min_clear_observations)
    )


@given(observations(), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_medoid_equals_the_reference(drawn, min_clear_observations):
    np.testing.assert_array_equal(
        medoid(*drawn, min_clear_observations), reference_medoid(*drawn, min_clear_observations)
    )


@pytest.mark.parametrize("scenes", [1, 2, 3, 4, 7, 8, 9, 16, 23, 24, 64, 65, 127, 128, 200])
def test_any_number_of_scenes(scenes):
    rng = np.random.default_rng(scenes)
    stack = rng.integers(1, 65535, (scenes, 2, 3, 8), dtype=np.uint16)
    clear = rng.random((scenes, 3, 8)) < np.linspace(0, 1, 8)
    clear[0, 0, 0] = True
    for min_clear_observations in (1, 3):
        np.testing.assert_array_equal(
            median(stack, clear, min_clear_observations), reference_median(stack, clear, min_clear_observations)
        )
    np.testing.assert_array_equal(medoid(stack, clear, 1), reference_medoid(stack, clear, 1))


@pytest.mark.parametrize("count", range(2, 14))
def test_network_sorts_every_pattern_of_zeros_and_ones(count):
    """Knuth's 0-1 principle: a network that sorts every sequence of zeros and ones sorts every sequence."""
    patterns = (np.arange(2**count) >> np.arange(count)[:, None] & 1).astype(np.uint16)
    ordered = np.sort(patterns, axis=0)
    higher, other = reducers._middle(patterns[:, None].copy())
    np.testing.assert_array_equal(higher[0], ordered[count // 2])
    np.testing.assert_array_equal(other[0], ordered[count // 2 + 1 if count % 2 and count > 1 else count // 2 - 1])


@pytest.mark.parametrize("method", [median, medoid])
def test_strips_do_not_affect_the_result(monkeypatch, method):
    rng = np.random.default_rng(5)
    stack = rng.integers(1, 3000, (9, 3, 37, 11), dtype=np.uint16)
    clear = rng.random((9, 37, 11)) < 0.5
    clear[4:, :20] = clear[:, 30] = False
    full = method(stack, clear, 1)
    for pixels in (1, 11, 50, 200):
        monkeypatch.setattr(reducers, "STRIP_PX", pixels)
        monkeypatch.setattr(reducers, "MEDOID_STRIP_PX", pixels)
        np.testing.assert_array_equal(method(stack, clear, 1), full)
    assert not full[:, 30].any() and full[:, :30].any(axis=0).mean() > 0.9


@pytest.mark.parametrize("method", [median, medoid])
def test_inputs_are_not_modified(method):
    """The inputs may be views of larger arrays, which are not written to."""
    rng = np.random.default_rng(6)
    stack = rng.integers(1, 3000, (6, 4, 12, 20), dtype=np.uint16)
    clear = rng.random((6, 12, 20)) < 0.6
    before = stack.copy(), clear.copy()
    part = method(stack[::2, 1:3, 2:9, ::3], clear[::2, 2:9, ::3], 1)
    np.testing.assert_array_equal(stack, before[0])
    np.testing.assert_array_equal(clear, before[1])
    copies = np.ascontiguousarray(stack[::2, 1:3, 2:9, ::3]), np.ascontiguousarray(clear[::2, 2:9, ::3])
    np.testing.assert_array_equal(part, method(*copies, 1))


def test_halves_round_up_without_overflow():
    stack = np.array([65535, 65534, 2, 1], dtype=np.uint16).reshape(4, 1, 1, 1)
    clear = np.ones((4, 1, 1), dtype=bool)
    assert median(stack[:2], clear[:2], 1).ravel().tolist() == [65535, 2]
    assert median(stack[2:], clear[2:], 1).ravel().tolist() == [2, 2]
    assert median(stack, clear, 1).ravel().tolist() == [32768, 4]


def test_medoid_of_equal_observations_is_the_earliest():
    """Scenes 2 and 5 are equal and in the middle; scene 1 is not clear."""
    stack = np.array([[500, 500], [100, 900], [500, 501], [900, 200], [500, 501], [700, 700]], dtype=np.uint16)
    stack = np.repeat(stack[..., None, None], 9, axis=3)
    clear = np.ones((6, 1, 9), dtype=bool)
    clear[0] = False
    out = medoid(stack, clear, 1)
    assert np.unique(out.reshape(4, -1), axis=1).ravel().tolist() == [500, 501, 5, 3]


@pytest.mark.parametrize("method", [median, medoid])
def test_working_memory_is_a_fraction_of_the_stack(method):
    scenes, bands, side = 48, 4, 512
    stack = np.random.default_rng(7).integers(1, 3000, (scenes, bands, side, side), dtype=np.uint16)
    clear = np.ones((scenes, side, side), dtype=bool)
    tracemalloc.start()
    method(stack[:, :, :128], clear[:, :128], 1)
    _, quarter = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    out = method(stack, clear, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * stack.nbytes
    assert peak - quarter <= 1.1 * out.nbytes  # except for the result, memory does not grow with the image
