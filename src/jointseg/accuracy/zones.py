"""Zones in which the test chips are assessed: sparse and dense areas, rural roads, small buildings."""

import numpy as np
from scipy import ndimage

from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS, UNLABELLED

NEIGHBOURHOOD_M = 100  # side of the square over which the ISA fraction is averaged
SPARSE, DENSE = 0.25, 0.5  # ISA fraction: sparse is below the first, dense is from the second on
SMALL_M2 = 200.0  # maximum area of a small building
ZONES = {
    "all": "whole area",
    "sparse": f"sparse: ISA below {SPARSE:.0%} in the neighbourhood",
    "dense": f"dense: ISA from {DENSE:.0%} in the neighbourhood",
    "rural roads": "roads in sparse areas",
    "small buildings": f"buildings below {SMALL_M2:.0f} m2",
}
OBJECTS = ("rural roads", "small buildings")  # zones that contain only ISA, so only recall is defined


def zone_masks(label: np.ndarray, fraction: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks [h, w] of a chip by the names of ZONES.

    `label` is uint8 [h, w] of 0, 1 and 255, 1 m pixels; `fraction` is uint16 [1 + kinds, h, w], the covered fraction in
    units of 1/10,000, ISA first, 65535 unlabelled.
    """
    labelled = label != UNLABELLED
    isa_fraction = _mean((label == 1).astype(np.float64)) / np.maximum(_mean(labelled.astype(np.float64)), 1e-9)
    majority = {
        kind: labelled & (plane != FRACTION_NODATA) & (plane > FRACTION_SCALE // 2)
        for kind, plane in zip(ISA_KINDS, fraction[1:])
    }
    components, count = ndimage.label(majority["building"], structure=np.ones((3, 3)))
    areas = np.bincount(components.ravel(), minlength=count + 1)
    small = areas < SMALL_M2
    small[0] = False
    return {
        "all": labelled,
        "sparse": labelled & (isa_fraction < SPARSE),
        "dense": labelled & (isa_fraction >= DENSE),
        "rural roads": majority["road"] & (isa_fraction < SPARSE),
        "small buildings": small[components],
    }


def _mean(plane: np.ndarray) -> np.ndarray:
    """Return the mean over the square around each pixel, mirrored at the chip's edges."""
    return ndimage.uniform_filter(plane, NEIGHBOURHOOD_M, mode="reflect")
