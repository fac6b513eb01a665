"""Which pixels of a scene show clear ground, by the scene's own classification."""

from collections.abc import Container, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.scene import CLOUDLESS_BANDS

# Classes of the L2A scene classification: 0 no data, 1 saturated, 2 dark, 3 cloud shadow, 4 vegetation,
# 5 bare, 6 water, 7 unclassified, 8 and 9 cloud, 10 cirrus, 11 snow.
NO_DATA, SHADOW, UNCLASSIFIED, CLOUD, CIRRUS, SNOW = 0, 3, 7, 9, 10, 11
# Cloud Score+ (GOOGLE/CLOUD_SCORE_PLUS, band cs_cdf): 1 is clear; its authors' common threshold.
CLOUD_SCORE_PLUS_THRESHOLD = 0.6


def choose_mask(level: str, assets: Container[str], l1c_mask: str, what: str) -> str | None:
    """The mask that a scene's clouds are taken from: "SCL", "S2C" (s2cloudless), "CLASSI" or None.

    Args:
        level: "L1C" or "L2A"; L2A has its scene classification.
        assets: keys of the scene's assets.
        l1c_mask: "s2cloudless", "classi" (the product's own mask), or "auto": the first of these whose
            files are there, None where there are neither.
        what: name of the scene, for the error.

    Raises:
        DataError: L2A without SCL, or L1C without the mask that is asked for.
    """
    if level == "L2A":
        if "SCL" not in assets:
            raise DataError(f"{what} is L2A without the asset SCL, so its clouds are not known; add the asset")
        return "SCL"
    missing = [band for band in CLOUDLESS_BANDS if band not in assets]
    if l1c_mask == "s2cloudless" and missing:
        raise DataError(
            f"{what} has no {missing[0]}, without which s2cloudless finds no clouds; complete the archive or set "
            "sentinel2.l1c_mask: auto"
        )
    if l1c_mask == "classi" and "CLASSI" not in assets:
        raise DataError(f"{what} has no CLASSI, the mask of its clouds; add it or set sentinel2.l1c_mask: auto")
    if l1c_mask != "classi" and not missing:
        return "S2C"
    return "CLASSI" if "CLASSI" in assets else None


def scene_classes(
    kind: str, values: np.ndarray, what: str, cloud_score_plus_threshold: float = CLOUD_SCORE_PLUS_THRESHOLD
) -> np.ndarray:
    """Scene classes, uint8 [rows, columns], of a mask asset.

    Args:
        kind: "SCL" (the classes themselves), "CLASSI" (bits 1 opaque cloud, 2 cirrus, 4 snow of the L1C
            product's three mask bands) or "CS" (Cloud Score+ in percent plus 1; 0 no data).
        values: the asset's values [rows, columns].
        what: name of the scene, for the error.
        cloud_score_plus_threshold: Cloud Score+ from which a pixel is clear, 0..1.

    Raises:
        DataError: a class above 11.
    """
    if kind == "SCL":
        if values.max(initial=0) > SNOW:
            raise DataError(f"{what} has SCL class {values.max()}; classes go from 0 to {SNOW}: the file is damaged")
        return values.astype(np.uint8)
    found = np.full(values.shape, UNCLASSIFIED, dtype=np.uint8)
    if kind == "CS":
        # Rounded, or 7 % would be less than 0.07 x 100.
        found[values < round(cloud_score_plus_threshold * 100, 6) + 1] = CLOUD
        found[values == 0] = NO_DATA
        return found
    found[values & 4 > 0] = SNOW
    found[values & 2 > 0] = CIRRUS
    found[values & 1 > 0] = CLOUD
    return found


def clear_mask(scene_classes: np.ndarray, drop: Sequence[int], buffer_px: float) -> np.ndarray:
    """Bool [rows, columns]: pixels of no dropped class, nor within `buffer_px` pixels of one.

    No data (class 0) is dropped where it is, without a buffer: it is the edge of the swath, not a cloud.
    """
    dropped = np.isin(np.arange(256), [value for value in drop if value != NO_DATA])
    bad = dropped[scene_classes]
    if buffer_px > 0 and bad.any():
        bad = distance_transform_edt(~bad) <= buffer_px
    if NO_DATA in drop:
        bad |= scene_classes == NO_DATA
    return ~bad


def inside_swath(seen: np.ndarray, pixels: float) -> np.ndarray:
    """Bool [rows, columns]: pixels that were seen and lie farther than `pixels` pixels from every one that was not.

    At the edges of an orbit and of a granule the detectors see the bands apart. The border of the array
    is no edge: with `pixels` pixels more around it, the result does not depend on how an area is cut.
    """
    if pixels <= 0 or seen.all():
        return seen
    return distance_transform_edt(seen) > pixels
