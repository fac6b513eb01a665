"""The bands of a 10 m image are known by their number, and merged dates are filled from the composite."""

import numpy as np
import pytest

from jointseg.raster.bands import (
    COMPOSITE_BANDS,
    MERGED_BANDS,
    RGB,
    band_names,
    composite_band_indices,
    count_composite_bands,
    fill_merged,
    merged_from_5m,
    merged_to_5m,
)
from jointseg.runtime.errors import DataError


@pytest.mark.parametrize("names", [RGB, COMPOSITE_BANDS, RGB + MERGED_BANDS, COMPOSITE_BANDS + MERGED_BANDS])
def test_bands_are_known_by_their_number(names):
    assert band_names(len(names)) == names
    assert count_composite_bands(names) == (4 if "B08" in names else 3)


def test_a_number_that_no_image_has_is_refused():
    with pytest.raises(DataError, match="no 10 m image has 7 bands"):
        band_names(7)


@pytest.mark.parametrize("own", [3, 4])
def test_merged_dates_show_the_composite_where_they_saw_nothing(own):
    dn = np.arange(1, own + 13, dtype=np.uint16)[:, None, None] * np.ones((1, 2, 2), dtype=np.uint16)
    dn[own + 4, 0, 1] = 0  # one band of the north-eastern pixels
    dn[:, 1, 1] = 0  # nothing is known at all
    made = fill_merged(dn)
    assert made.dtype == np.uint16
    wanted = dn.copy()
    wanted[own + 3 : own + 6, 0, 1] = [1, 2, 3]
    assert (made == wanted).all()


def test_an_image_without_merged_dates_is_left_as_it_is():
    dn = np.zeros((4, 3, 3), dtype=np.uint16)
    assert fill_merged(dn) is dn


def test_merged_bands_are_an_image_of_half_the_pixel():
    image = np.arange(3 * 4 * 6).reshape(3, 4, 6)
    bands = dict(zip(MERGED_BANDS, merged_from_5m(image)))
    assert np.array_equal(bands["B03_sw"], image[1, 1::2, ::2]) and np.array_equal(bands["B02_ne"], image[2, ::2, 1::2])
    assert np.array_equal(merged_to_5m(merged_from_5m(image)), image)


def test_a_merged_band_shows_a_band_of_the_composite():
    assert composite_band_indices(COMPOSITE_BANDS + MERGED_BANDS) == [0, 1, 2, 3, *[0, 1, 2] * 4]
