"""Patches of ISA as objects: how many of the reference's a map finds, and how many of the map's are nowhere."""

from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from jointseg.accuracy.cluster_estimators import CELLS, UNKNOWN

SMALL_M2, LARGE_M2 = 200, 2000
SIZES = {f"patches below {SMALL_M2} m2": (0, SMALL_M2), f"patches of {SMALL_M2} to {LARGE_M2} m2": (SMALL_M2, LARGE_M2)}
FOUND_SHARE = 0.5  # of a patch's pixels that the map must call ISA
_TOUCHING = np.ones((3, 3))


def patch_cells(mapped: np.ndarray, reference: np.ndarray, also: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Patches by size: found (tp), missed (fn), and patches of the map without a pixel of the reference's ISA (fp).

    Patches are 8-connected. Those that touch the edge or unknown ground are left out: nobody knows how large they are. Larger
    ones are parts of one network of roads and yards, for which pixels are the better measure.

    Args:
        mapped, reference: 0/1/255 [h, w], 1 m pixels.
        also: masks [h, w] by name; patches below SMALL_M2 with their middle pixel in one are told apart as well.
    """
    known = (mapped != UNKNOWN) & (reference != UNKNOWN)
    real, drawn = known & (reference == 1), known & (mapped == 1)
    wanted, made = _Patches(real, known), _Patches(drawn, known)
    found, false = wanted.shares(drawn) >= FOUND_SHARE, made.shares(real) == 0
    unknown = int(np.count_nonzero(~known))
    rows = []
    for name, (least, most) in SIZES.items():
        groups = {name: (np.ones(len(found), bool), np.ones(len(false), bool))}
        if least == 0:
            groups |= {f"{name}, {where}": (wanted.middles(mask), made.middles(mask)) for where, mask in also.items()}
        for domain, (of_wanted, of_made) in groups.items():
            take = wanted.sized(least, most) & of_wanted
            wrong = made.sized(least, most) & of_made & false
            counts = (np.sum(take & found), np.sum(wrong), np.sum(take & ~found), 0, unknown)
            rows.append({"domain": domain, **dict(zip((*CELLS, "unknown"), map(int, counts)))})
    return rows


class _Patches:
    """The connected parts of a mask that are whole."""

    def __init__(self, mask: np.ndarray, known: np.ndarray) -> None:
        self._parts, count = ndimage.label(mask, structure=_TOUCHING)
        self._areas = np.bincount(self._parts.ravel(), minlength=count + 1)[1:]
        beside = ndimage.binary_dilation(~known, structure=_TOUCHING)
        beside[[0, -1]] = beside[:, [0, -1]] = True
        self._whole = np.ones(count + 1, bool)
        self._whole[self._parts[beside]] = False

    def shares(self, mask: np.ndarray) -> np.ndarray:
        """The share of each patch that lies in a mask, float [n]."""
        inside = np.bincount(self._parts[mask], minlength=len(self._areas) + 1)[1:]
        return inside / np.maximum(self._areas, 1)

    def sized(self, least: int, most: int) -> np.ndarray:
        """Which patches are whole and of an area from `least` to below `most`, bool [n]."""
        return self._whole[1:] & (self._areas >= least) & (self._areas < most)

    def middles(self, mask: np.ndarray) -> np.ndarray:
        """Which patches have their middle pixel in a mask, bool [n]; the middle in raster order, which is one of theirs."""
        return mask.ravel()[self._middle]

    @cached_property
    def _middle(self) -> np.ndarray:
        order = np.argsort(self._parts.ravel(), kind="stable")
        ends = np.bincount(self._parts.ravel(), minlength=len(self._areas) + 1).cumsum()
        return order[(ends[:-1] + ends[1:]) // 2]
