"""Rendering of reflectance as 8-bit images."""

import numpy as np

NODATA_GREY = 200


def percentile_stretch(bands: np.ndarray, limits: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return reflectance stretched to uint8 [rows, columns, 3] with a gamma of 0.8 and nodata in grey, and the limits.

    Args:
        bands: DN [3, rows, columns], 0 = nodata.
        limits: [3, 2], lower and upper DN of each band; None for the 1st and 99th percentile of the valid pixels.
    """
    valid = (bands > 0).all(axis=0)
    if limits is None:
        values = bands[:, valid] if valid.any() else np.array([[0, 1]] * 3)
        limits = np.percentile(values, [1, 99], axis=1).T
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    scaled = np.clip((bands - low) / np.maximum(high - low, 1), 0, 1) ** 0.8
    image = np.rint(255 * scaled).astype(np.uint8)
    image[:, ~valid] = NODATA_GREY
    return image.transpose(1, 2, 0), limits
