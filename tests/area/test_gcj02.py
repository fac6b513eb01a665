"""Conversion between WGS 84 and GCJ-02."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointseg.area.gcj02 import gcj02_to_wgs84, wgs84_to_gcj02


def test_offset_has_the_published_size():
    # Tiananmen, Beijing: on GCJ-02 maps, WGS 84 116.391331, 39.907357 is about 555 m further to the east-north-east.
    shifted = wgs84_to_gcj02(np.array([[116.391331, 39.907357]]))[0]
    east_m = (shifted[0] - 116.391331) * 111_320 * np.cos(np.radians(39.9))
    north_m = (shifted[1] - 39.907357) * 110_950
    assert np.hypot(east_m, north_m) == pytest.approx(555, abs=15)


@given(st.floats(75, 134), st.floats(18, 53))
def test_inverse_is_exact(lon, lat):
    point = np.array([[lon, lat]])
    assert gcj02_to_wgs84(wgs84_to_gcj02(point)) == pytest.approx(point, abs=2e-10)
