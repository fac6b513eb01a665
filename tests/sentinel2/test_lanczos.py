"""The Lanczos kernel, compared with its definition."""

import math

import numpy as np
import pytest

from jointseg.sentinel2.lanczos import TAPS, shift_subpixel


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(7).integers(1, 12_000, (2, 40 + TAPS - 1, 30 + TAPS - 1), dtype=np.uint16)


def kernel(d: float) -> float:
    """Lanczos 1979, three lobes."""
    return 1.0 if d == 0 else 3 * math.sin(math.pi * d) * math.sin(math.pi * d / 3) / (math.pi * d) ** 2


@pytest.mark.parametrize(("down", "right"), [(0.25, 0.8), (0.0, 0.5), (0.999, 0.001)])
def test_kernel_definition(array, down, right):
    out = shift_subpixel(array, down, right)
    assert out.shape == (2, 40, 30) and out.dtype == np.uint16
    for band, i, j in [(0, 0, 0), (1, 39, 29), (0, 17, 23)]:
        total = weight = 0.0
        for k in range(TAPS):
            for m in range(TAPS):
                w = kernel(k - 2 - down) * kernel(m - 2 - right)
                total, weight = total + w * float(array[band, i + k, j + m]), weight + w
        assert out[band, i, j] == min(max(round(total / weight), 1), 65534)


def test_zero_shift_and_constant_images(array):
    assert (shift_subpixel(array, 0.0, 0.0) == array[:, 2:-3, 2:-3]).all()
    assert (shift_subpixel(np.full_like(array, 4321), 0.3, 0.7) == 4321).all()


def test_constant_offset_is_preserved(array):
    expected = shift_subpixel(array + 2000, 0.37, 0.61)
    assert (shift_subpixel(array + 3000, 0.37, 0.61) - expected == 1000).mean() == 1 - (
        (expected == 1) | (expected == 65534)
    ).mean()


def test_window_equals_the_whole_image(array):
    full = shift_subpixel(array, 0.4, 0.9)
    assert (shift_subpixel(array[:, 10 : 20 + TAPS, 5 : 15 + TAPS], 0.4, 0.9) == full[:, 10:21, 5:16]).all()


@pytest.mark.parametrize("value", [0, 65535])
def test_no_ringing_beside_nodata_and_saturated_pixels(array, value):
    damaged = array.copy()
    damaged[:, 20, 15] = value
    out, expected = shift_subpixel(damaged, 0.3, 0.6), shift_subpixel(array, 0.3, 0.6)
    affected = np.zeros((40, 30), bool)
    affected[20 - TAPS + 1 : 21, 15 - TAPS + 1 : 16] = True
    assert (out[:, ~affected] == expected[:, ~affected]).all()
    # The nearest of the taps: the third row (0.3), the fourth column (0.6).
    assert (out[:, affected] == damaged[:, 2:42, 3:33][:, affected]).all() and (out[:, 18, 12] == value).all()


def test_sharper_than_cubic_convolution():
    """A wave of 30 m shifted by half a pixel keeps more amplitude than by the cubic convolution of Keys 1981."""
    x = np.arange(60 + TAPS - 1)
    wave = (5000 + 2000 * np.cos(2 * np.pi * x / 3)).round().astype(np.uint16)
    out = shift_subpixel(np.tile(wave, (1, 20, 1)), 0.0, 0.5)[0, 0].astype(float)
    expected = 5000 + 2000 * np.cos(2 * np.pi * (np.arange(60) + 2.5) / 3)
    height = np.polyfit(expected - 5000, out - 5000, 1)[0]
    keys = 2 * (0.5625 * math.cos(math.pi / 3) - 0.0625 * math.cos(math.pi))
    assert height > keys + 0.05 and height < 1.02
