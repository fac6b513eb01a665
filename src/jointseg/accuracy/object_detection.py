"""Object-based accuracy: detected, missed and false patches of ISA."""

from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from jointseg.accuracy.cluster_estimators import CELLS, NODATA

SMALL_M2, LARGE_M2 = 200, 2000
SIZES = {f"patches below {SMALL_M2} m2": (0, SMALL_M2), f"patches of {SMALL_M2} to {LARGE_M2} m2": (SMALL_M2, LARGE_M2)}
DETECTED_FRACTION = 0.5  # a patch is detected if at least this fraction of its pixels is mapped as ISA
_EIGHT_NEIGHBOURS = np.ones((3, 3))


def patch_counts(mapped: np.ndarray, reference: np.ndarray, zones: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Count patches by size: detected (tp), missed (fn), and mapped patches without any ISA pixel in the reference
    (fp).

    Both rasters are 0/1/255 [h, w] at 1 m. Patches are 8-connected. Patches at the chip's edge or next to nodata are
    left out, because their size is undefined. Patches above LARGE_M2 belong to one network of roads and yards, for
    which pixel counts are the better measure. Patches below SMALL_M2 whose middle pixel is in one of the zones, masks
    [h, w] by name, are also counted by zone.
    """
    valid = (mapped != NODATA) & (reference != NODATA)
    reference_isa, mapped_isa = valid & (reference == 1), valid & (mapped == 1)
    expected, found = _Patches(reference_isa, valid), _Patches(mapped_isa, valid)
    detected = expected.fractions_in(mapped_isa) >= DETECTED_FRACTION
    false = found.fractions_in(reference_isa) == 0
    nodata = int(np.count_nonzero(~valid))
    rows = []
    for name, (lower, upper) in SIZES.items():
        groups = {name: (np.ones(len(detected), bool), np.ones(len(false), bool))}
        if lower == 0:
            groups |= {
                f"{name}, {zone}": (expected.centred_in(mask), found.centred_in(mask)) for zone, mask in zones.items()
            }
        for domain, (of_expected, of_found) in groups.items():
            counted = expected.of_size(lower, upper) & of_expected
            wrong = found.of_size(lower, upper) & of_found & false
            counts = (np.sum(counted & detected), np.sum(wrong), np.sum(counted & ~detected), 0, nodata)
            rows.append({"domain": domain, **dict(zip((*CELLS, "nodata"), map(int, counts)))})
    return rows


class _Patches:
    """Connected components of a mask; complete ones do not touch the edge or nodata."""

    def __init__(self, mask: np.ndarray, valid: np.ndarray) -> None:
        self._components, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        self._areas = np.bincount(self._components.ravel(), minlength=count + 1)[1:]
        border = ndimage.binary_dilation(~valid, structure=_EIGHT_NEIGHBOURS)
        border[[0, -1]] = border[:, [0, -1]] = True
        self._complete = np.ones(count + 1, bool)
        self._complete[self._components[border]] = False

    def fractions_in(self, mask: np.ndarray) -> np.ndarray:
        """Return the fraction of each patch inside a mask, float [n]."""
        inside = np.bincount(self._components[mask], minlength=len(self._areas) + 1)[1:]
        return inside / np.maximum(self._areas, 1)

    def of_size(self, lower: int, upper: int) -> np.ndarray:
        """Return which patches are complete and have an area in [lower, upper) pixels, bool [n]."""
        return self._complete[1:] & (self._areas >= lower) & (self._areas < upper)

    def centred_in(self, mask: np.ndarray) -> np.ndarray:
        """Return which patches have their middle pixel, in raster order, inside a mask, bool [n]."""
        return mask.ravel()[self._middle_pixels]

    @cached_property
    def _middle_pixels(self) -> np.ndarray:
        order = np.argsort(self._components.ravel(), kind="stable")
        ends = np.bincount(self._components.ravel(), minlength=len(self._areas) + 1).cumsum()
        return order[(ends[:-1] + ends[1:]) // 2]
