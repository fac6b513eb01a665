"""Alignment of a chip's 1 m image with its 10 m image: a check that is independent of the registration."""

import numpy as np
from scipy.ndimage import gaussian_filter

from jointseg.dataset.contract import LATTICE_M
from jointseg.dataset.registration import PSF_SIGMA_M

STEP_M, MAX_SHIFT_M = 2, 12
_MARGIN_PX = 2  # of the 10 m image; every shift stays within it
_MIN_PIXELS = 30
_UNDEFINED = (float("nan"), float("nan"), 0, 0)


def align(lr: np.ndarray, hr: np.ndarray) -> tuple[float, float, int, int]:
    """Return (correlation without shift, largest correlation, shift east and north of the 1 m image for it in m).

    The mean over bands of the 1 m image `hr`, uint16 [bands, 10 h, 10 w], is blurred by the point spread function of
    the 10 m sensor and sampled at the centres of the pixels of `lr`, uint16 [bands, h, w], for shifts in steps of 2 m
    up to 12 m in each direction. h and w are at least 16, and 0 is nodata. The correlations are NaN if fewer than 30
    pixels are valid or an image is flat.
    """
    ratio, size = LATTICE_M // STEP_M, lr.shape[1:]
    grey = hr.astype(np.float32).mean(axis=0)
    hr_valid = (hr != 0).all(axis=0)
    block_valid = hr_valid.reshape(size[0], LATTICE_M, size[1], LATTICE_M).all(axis=(1, 3))
    if not hr_valid.all():
        grey[~hr_valid] = grey[hr_valid].mean() if hr_valid.any() else 0
    halved = grey.reshape(grey.shape[0] // STEP_M, STEP_M, grey.shape[1] // STEP_M, STEP_M).mean(axis=(1, 3))
    blurred = gaussian_filter(halved, PSF_SIGMA_M / STEP_M, truncate=3)
    inner = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    valid = ((lr != 0).all(axis=0) & block_valid)[inner]
    if valid.sum() < _MIN_PIXELS:
        return _UNDEFINED
    steps = range(-MAX_SHIFT_M // STEP_M, MAX_SHIFT_M // STEP_M + 1)
    rows, cols = (ratio * np.arange(_MARGIN_PX, side - _MARGIN_PX) + ratio // 2 for side in size)
    # After a shift to the east, a pixel shows what was west of it.
    shifts = [(north, east) for north in steps for east in steps]
    shifted = np.stack([blurred[np.ix_(rows + north, cols - east)][valid] for north, east in shifts])
    target = lr.astype(np.float32).mean(axis=0)[inner][valid]
    shifted -= shifted.mean(axis=1, keepdims=True)
    target -= target.mean()
    norm = np.linalg.norm(shifted, axis=1) * np.linalg.norm(target)
    if not norm.all():
        return _UNDEFINED
    correlation = shifted @ target / norm
    best = int(correlation.argmax())
    north, east = shifts[best]
    return float(correlation[shifts.index((0, 0))]), float(correlation[best]), east * STEP_M, north * STEP_M
