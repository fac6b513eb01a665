"""Cloud masks: which mask a scene uses, its classes, and the pixels that are clear."""

from collections.abc import Container, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.scene import CLOUDLESS_BANDS

# Classes of the L2A scene classification: 0 no data, 1 saturated, 2 dark, 3 cloud shadow, 4 vegetation,
# 5 bare, 6 water, 7 unclassified, 8 and 9 cloud, 10 cirrus, 11 snow.
NO_DATA, SHADOW, UNCLASSIFIED, CLOUD, CIRRUS, SNOW = 0, 3, 7, 9, 10, 11
# Cloud Score+ (GOOGLE/CLOUD_SCORE_PLUS, band cs_cdf): 1 is clear; the threshold that its authors recommend.
CLOUD_SCORE_PLUS_THRESHOLD = 0.6


def choose_mask(level: str, assets: Container[str], l1c_mask: str, what: str) -> str | None:
    """Return the cloud mask of a scene: "SCL" for L2A, for L1C "S2C" (s2cloudless), "CLASSI" or None.

    `l1c_mask` is "s2cloudless", "classi" (the product's own mask), or "auto": the first of these whose assets exist.
    Raises DataError for L2A without SCL, or L1C without the assets of the requested mask.
    """
    if level == "L2A":
        if "SCL" not in assets:
            raise DataError(f"{what} is L2A without the asset SCL, its cloud mask; add the asset")
        return "SCL"
    missing = [band for band in CLOUDLESS_BANDS if band not in assets]
    if l1c_mask == "s2cloudless" and missing:
        raise DataError(
            f"{what} has no {missing[0]}, which s2cloudless requires; complete the archive or set "
            "sentinel2.l1c_mask: auto"
        )
    if l1c_mask == "classi" and "CLASSI" not in assets:
        raise DataError(f"{what} has no CLASSI, its cloud mask; add it or set sentinel2.l1c_mask: auto")
    if l1c_mask != "classi" and not missing:
        return "S2C"
    return "CLASSI" if "CLASSI" in assets else None


def scene_classes(
    mask: str, values: np.ndarray, what: str, cloud_score_plus_threshold: float = CLOUD_SCORE_PLUS_THRESHOLD
) -> np.ndarray:
    """Return the scene classes, uint8 [rows, columns], of a mask asset. Raises DataError for a class above 11.

    Args:
        mask: "SCL" (the classes themselves), "CLASSI" (bits 1 opaque cloud, 2 cirrus, 4 snow of the L1C
            product's three mask bands) or "CS" (Cloud Score+ in percent plus 1; 0 no data).
        values: the asset's values [rows, columns].
        cloud_score_plus_threshold: minimum Cloud Score+ of a clear pixel, 0..1.
    """
    if mask == "SCL":
        if values.max(initial=0) > SNOW:
            raise DataError(f"{what} has SCL class {values.max()}; expected 0 to {SNOW}: download the scene again")
        return values.astype(np.uint8)
    classes = np.full(values.shape, UNCLASSIFIED, dtype=np.uint8)
    if mask == "CS":
        # Rounding: in floating point 7 would be less than 0.07 x 100.
        classes[values < round(cloud_score_plus_threshold * 100, 6) + 1] = CLOUD
        classes[values == 0] = NO_DATA
        return classes
    classes[values & 4 > 0] = SNOW
    classes[values & 2 > 0] = CIRRUS
    classes[values & 1 > 0] = CLOUD
    return classes


def clear_mask(classes: np.ndarray, masked_classes: Sequence[int], dilation_px: float) -> np.ndarray:
    """Return the pixels, bool [rows, columns], that are neither of a masked class nor within `dilation_px` of one.

    No data (class 0) is masked without dilation: it is the edge of the swath, not a cloud.
    """
    is_masked = np.isin(np.arange(256), [value for value in masked_classes if value != NO_DATA])
    masked = is_masked[classes]
    if dilation_px > 0 and masked.any():
        masked = distance_transform_edt(~masked) <= dilation_px
    if NO_DATA in masked_classes:
        masked |= classes == NO_DATA
    return ~masked


def inside_swath(valid: np.ndarray, buffer_px: float) -> np.ndarray:
    """Return the valid pixels, bool [rows, columns], farther than `buffer_px` pixels from every invalid one.

    At the edges of a swath and of a granule the bands do not cover the same area. The border of the array is not an
    edge: with a halo of `buffer_px` pixels the result does not depend on how an area is split.
    """
    if buffer_px <= 0 or valid.all():
        return valid
    return distance_transform_edt(valid) > buffer_px
