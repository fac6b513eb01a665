"""Images for the eye."""

import numpy as np

NODATA_GREY = 200


def percentile_stretch(bands: np.ndarray, limits: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance DN [3, rows, columns], 0 = nodata, as uint8 [rows, columns, 3], and the limits used, [3, 2].

    Without limits, each band's 1st and 99th percentile of what is known; unknown is drawn grey.
    """
    known = (bands > 0).all(axis=0)
    if limits is None:
        values = bands[:, known] if known.any() else np.array([[0, 1]] * 3)
        limits = np.percentile(values, [1, 99], axis=1).T
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    scaled = np.clip((bands - low) / np.maximum(high - low, 1), 0, 1) ** 0.8
    image = np.rint(255 * scaled).astype(np.uint8)
    image[:, ~known] = NODATA_GREY
    return image.transpose(1, 2, 0), limits
