"""The bands of a 10 m image: those of the composite, then those of the dates merged to 5 m pixels."""

from collections.abc import Sequence

import numpy as np

from jointseg.runtime.errors import DataError

RGB = ("B04", "B03", "B02")
COMPOSITE_BANDS = (*RGB, "B08")  # what a composite may have, in this order; the last where the config asks for it
# The four 5 m pixels of each 10 m pixel, by their corner of it.
MERGED_BANDS = tuple(f"{band}_{corner}" for corner in ("nw", "ne", "sw", "se") for band in RGB)
_BY_COUNT = {len(names): names for own in (RGB, COMPOSITE_BANDS) for names in (own, own + MERGED_BANDS)}


def band_names(count: int) -> tuple[str, ...]:
    """The names of the bands of a 10 m image that has so many. Raises DataError where no image has."""
    if count not in _BY_COUNT:
        known = ", ".join(map(str, sorted(_BY_COUNT)))
        raise DataError(f"no 10 m image has {count} bands (they have {known}); make dataset and checkpoints again")
    return _BY_COUNT[count]


def band_indices(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted bands are among those of a 10 m image. Raises DataError where one of them is not."""
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"the 10 m images have no {', '.join(missing)} (they have {', '.join(names)}); "
            "make them with these bands: sentinel2.bands and sentinel2.dates"
        )
    return [names.index(name) for name in wanted]


def composite_band_indices(names: Sequence[str]) -> list[int]:
    """For each band the place of the composite's band that it shows: its own, or that of a merged pixel's."""
    return [names.index(name.partition("_")[0]) for name in names]


def count_composite_bands(names: Sequence[str]) -> int:
    """How many of the names are the composite's own; they come first."""
    return sum(name in COMPOSITE_BANDS for name in names)


def merged_to_5m(merged: np.ndarray) -> np.ndarray:
    """Merged bands [12, h, w] as the image of 5 m pixels [3, 2h, 2w] that they are."""
    _, rows, cols = merged.shape
    return merged.reshape(2, 2, len(RGB), rows, cols).transpose(2, 3, 0, 4, 1).reshape(len(RGB), 2 * rows, 2 * cols)


def merged_from_5m(image: np.ndarray) -> np.ndarray:
    """The other way round: 5 m pixels [3, 2h, 2w] as merged bands [12, h, w]."""
    return np.concatenate([image[:, row::2, col::2] for row in (0, 1) for col in (0, 1)])


def fill_merged(dn: np.ndarray, count: int | None = None) -> np.ndarray:
    """A 10 m image whose merged pixels are the composite's where no date saw them.

    Args:
        dn: uint16 [bands, h, w] with the bands of `of_count`; 0 is unknown.
        count: how many bands to give, those of `of_count`; None for all.

    Raises:
        DataError: the image lacks one of them.
    """
    names = band_names(len(dn))
    own = count_composite_bands(names)
    if own < len(dn):
        merged = dn[own:].reshape(-1, len(RGB), *dn.shape[1:])
        seen = (merged > 0).all(axis=1, keepdims=True)
        dn = np.concatenate([dn[:own], np.where(seen, merged, dn[: len(RGB)]).reshape(-1, *dn.shape[1:])])
    return dn if count in (None, len(dn)) else dn[band_indices(names, band_names(count))]
