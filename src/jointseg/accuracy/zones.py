"""Where and of what the test chips are scored: all ground, sparse and dense parts, rural roads, small buildings."""

import numpy as np
from scipy import ndimage

from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS, UNLABELLED

AROUND_M = 100  # side of the square whose share of ISA tells sparse from dense
SPARSE, DENSE = 0.25, 0.5  # share of ISA: below the first, from the second on
SMALL_M2 = 200.0  # buildings below this ground area are small
ZONES = {
    "all": "all ground",
    "sparse": f"sparse: ISA below {SPARSE:.0%} around",
    "dense": f"dense: ISA from {DENSE:.0%} around",
    "rural roads": "roads on sparse ground",
    "small buildings": f"buildings below {SMALL_M2:.0f} m2",
}
OBJECTS = ("rural roads", "small buildings")  # of these ISA is all there is: only recall can be told


def zones(label: np.ndarray, fraction: np.ndarray) -> dict[str, np.ndarray]:
    """Masks [h, w] of a chip, by the names of ZONES.

    Args:
        label: uint8 [h, w], 0, 1 or 255, 1 m pixels.
        fraction: uint16 [1 + kinds, h, w], covered area in parts of 10,000, ISA first, 65535 unknown.
    """
    known = label != UNLABELLED
    share = _mean((label == 1).astype(np.float64)) / np.maximum(_mean(known.astype(np.float64)), 1e-9)
    halves = {
        kind: known & (plane != FRACTION_NODATA) & (plane > FRACTION_SCALE // 2)
        for kind, plane in zip(ISA_KINDS, fraction[1:])
    }
    parts, count = ndimage.label(halves["building"], structure=np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    small = areas < SMALL_M2
    small[0] = False
    return {
        "all": known,
        "sparse": known & (share < SPARSE),
        "dense": known & (share >= DENSE),
        "rural roads": halves["road"] & (share < SPARSE),
        "small buildings": small[parts],
    }


def _mean(plane: np.ndarray) -> np.ndarray:
    """Mean of the square around each pixel, mirrored at the chip's edges."""
    return ndimage.uniform_filter(plane, AROUND_M, mode="reflect")
