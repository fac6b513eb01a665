"""Band names and order of a 10 m image: the bands of the composite, then the bands of the dates merged to 5 m pixels."""

from collections.abc import Sequence

import numpy as np

from jointseg.runtime.errors import DataError

RGB = ("B04", "B03", "B02")
COMPOSITE_BANDS = (*RGB, "B08")  # in this order; B08 is optional
# The 5 m pixels of the merged dates, four per 10 m pixel, named by their corner in it.
MERGED_BANDS = tuple(f"{band}_{corner}" for corner in ("nw", "ne", "sw", "se") for band in RGB)
_BY_COUNT = {
    len(names): names for composite in (RGB, COMPOSITE_BANDS) for names in (composite, composite + MERGED_BANDS)
}


def band_names(count: int) -> tuple[str, ...]:
    """Return the band names of a 10 m image with `count` bands. Raises DataError if no image has this number."""
    if count not in _BY_COUNT:
        valid = ", ".join(map(str, sorted(_BY_COUNT)))
        raise DataError(f"no 10 m image has {count} bands (expected {valid}); rebuild the dataset and the checkpoints")
    return _BY_COUNT[count]


def band_indices(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the indices of the wanted bands among the bands of a 10 m image. Raises DataError if one is missing."""
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"the 10 m images have no {', '.join(missing)} (they have {', '.join(names)}); "
            "rebuild them with these bands: sentinel2.bands and sentinel2.merged_dates"
        )
    return [names.index(name) for name in wanted]


def composite_band_indices(names: Sequence[str]) -> list[int]:
    """Return, for each band, the index of the composite's band of the same wavelength."""
    return [names.index(name.partition("_")[0]) for name in names]


def count_composite_bands(names: Sequence[str]) -> int:
    """Return how many of the bands belong to the composite; they come first."""
    return sum(name in COMPOSITE_BANDS for name in names)


def merged_to_5m(merged: np.ndarray) -> np.ndarray:
    """Rearrange merged bands [12, h, w] to an image of 5 m pixels [3, 2h, 2w]."""
    _, rows, cols = merged.shape
    return merged.reshape(2, 2, len(RGB), rows, cols).transpose(2, 3, 0, 4, 1).reshape(len(RGB), 2 * rows, 2 * cols)


def merged_from_5m(image: np.ndarray) -> np.ndarray:
    """Rearrange an image of 5 m pixels [3, 2h, 2w] to merged bands [12, h, w]; the inverse of `merged_to_5m`."""
    return np.concatenate([image[:, row::2, col::2] for row in (0, 1) for col in (0, 1)])


def fill_merged(dn: np.ndarray, count: int | None = None) -> np.ndarray:
    """Return a 10 m image with the composite in the merged pixels that no date observed.

    `dn` is uint16 [bands, h, w] with the bands of `band_names`, 0 at nodata; the result has the first `count` of them,
    or all for None. Raises DataError if the image lacks one of these bands.
    """
    names = band_names(len(dn))
    composite_count = count_composite_bands(names)
    if composite_count < len(dn):
        merged = dn[composite_count:].reshape(-1, len(RGB), *dn.shape[1:])
        valid = (merged > 0).all(axis=1, keepdims=True)
        filled = np.where(valid, merged, dn[: len(RGB)]).reshape(-1, *dn.shape[1:])
        dn = np.concatenate([dn[:composite_count], filled])
    return dn if count in (None, len(dn)) else dn[band_indices(names, band_names(count))]
