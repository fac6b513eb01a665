"""Which pixels of a scene show clear ground, by the scene's own classification."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from jointseg.errors import DataError

# Classes of the L2A scene classification: 0 no data, 1 saturated, 2 dark, 3 cloud shadow, 4 vegetation,
# 5 bare, 6 water, 7 unclassified, 8 and 9 cloud, 10 cirrus, 11 snow.
NO_DATA, UNCLASSIFIED, CLOUD, CIRRUS, SNOW = 0, 7, 9, 10, 11
# Cloud Score+ (GOOGLE/CLOUD_SCORE_PLUS, band cs_cdf): 1 is clear; its authors' common threshold, in percent.
CLEAR_SCORE_PERCENT = 60


def classes(kind: str, values: np.ndarray, what: str) -> np.ndarray:
    """Scene classes, uint8 [rows, columns], of a mask asset.

    Args:
        kind: "SCL" (the classes themselves), "CLASSI" (bits 1 opaque cloud, 2 cirrus, 4 snow of the L1C
            product's three mask bands) or "CS" (Cloud Score+ in percent plus 1; 0 no data).
        values: the asset's values [rows, columns].
        what: name of the scene, for the error.

    Raises:
        DataError: a class above 11.
    """
    if kind == "SCL":
        if values.max(initial=0) > SNOW:
            raise DataError(f"{what} has SCL class {values.max()}; classes go from 0 to {SNOW}: the file is damaged")
        return values.astype(np.uint8)
    found = np.full(values.shape, UNCLASSIFIED, dtype=np.uint8)
    if kind == "CS":
        found[values <= CLEAR_SCORE_PERCENT] = CLOUD
        found[values == 0] = NO_DATA
        return found
    found[values & 4 > 0] = SNOW
    found[values & 2 > 0] = CIRRUS
    found[values & 1 > 0] = CLOUD
    return found


def clear(scene_classes: np.ndarray, drop: Sequence[int], buffer_px: float) -> np.ndarray:
    """Bool [rows, columns]: pixels of no dropped class, nor within `buffer_px` pixels of one.

    No data (class 0) is dropped where it is, without a buffer: it is the edge of the swath, not a cloud.
    """
    bad = np.isin(scene_classes, [value for value in drop if value != NO_DATA])
    if buffer_px > 0 and bad.any():
        bad = distance_transform_edt(~bad) <= buffer_px
    if NO_DATA in drop:
        bad |= scene_classes == NO_DATA
    return ~bad
