"""Band names by band count, and merged dates filled from the composite."""

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
def test_band_names_follow_from_the_count(names):
    assert band_names(len(names)) == names
    assert count_composite_bands(names) == (4 if "B08" in names else 3)


def test_invalid_band_count_is_an_error():
    with pytest.raises(DataError, match="no 10 m image has 7 bands"):
        band_names(7)


@pytest.mark.parametrize("composite_count", [3, 4])
def test_unobserved_merged_pixels_are_filled_from_the_composite(composite_count):
    dn = np.arange(1, composite_count + 13, dtype=np.uint16)[:, None, None] * np.ones((1, 2, 2), dtype=np.uint16)
    dn[composite_count + 4, 0, 1] = 0  # one band of the north-eastern pixels
    dn[:, 1, 1] = 0  # nodata in all bands
    filled = fill_merged(dn)
    assert filled.dtype == np.uint16
    expected = dn.copy()
    expected[composite_count + 3 : composite_count + 6, 0, 1] = [1, 2, 3]
    assert (filled == expected).all()


def test_image_without_merged_dates_is_returned_unchanged():
    dn = np.zeros((4, 3, 3), dtype=np.uint16)
    assert fill_merged(dn) is dn


def test_merged_bands_convert_to_5m_pixels_and_back():
    image = np.arange(3 * 4 * 6).reshape(3, 4, 6)
    bands = dict(zip(MERGED_BANDS, merged_from_5m(image)))
    assert np.array_equal(bands["B03_sw"], image[1, 1::2, ::2]) and np.array_equal(bands["B02_ne"], image[2, ::2, 1::2])
    assert np.array_equal(merged_to_5m(merged_from_5m(image)), image)


def test_merged_bands_map_to_the_composite_band_of_their_wavelength():
    assert composite_band_indices(COMPOSITE_BANDS + MERGED_BANDS) == [0, 1, 2, 3, *[0, 1, 2] * 4]
