"""How well a chip's 1 m image lies on its 10 m image: a second opinion, independent of the registration."""

import numpy as np
from scipy.ndimage import gaussian_filter

from jointseg.dataset.contract import LATTICE_M
from jointseg.dataset.registration import PSF_SIGMA_M

STEP_M, MAX_SHIFT_M = 2, 12
_MARGIN_PX = 2  # of the 10 m image, that every shift stays inside


def align(lr: np.ndarray, hr: np.ndarray) -> tuple[float, float, int, int]:
    """(correlation as it lies, largest correlation, and the metres east and north to move the 1 m image for it).

    The mean of the bands at 1 m is blurred as the 10 m sensor blurs and sampled at the centres of its pixels, for
    shifts in steps of 2 m up to 12 m either way.

    Args:
        lr: uint16 [bands, h, w], 0 unknown; h and w at least 16.
        hr: uint16 [bands, 10 h, 10 w], the same bands.

    Returns NaN for the correlations where fewer than 30 pixels are known or an image is flat.
    """
    ratio, size = LATTICE_M // STEP_M, lr.shape[1:]
    grey = hr.astype(np.float32).mean(axis=0)
    seen = (hr != 0).all(axis=0)
    whole = seen.reshape(size[0], LATTICE_M, size[1], LATTICE_M).all(axis=(1, 3))
    if not seen.all():
        grey[~seen] = grey[seen].mean() if seen.any() else 0
    halved = grey.reshape(grey.shape[0] // STEP_M, STEP_M, grey.shape[1] // STEP_M, STEP_M).mean(axis=(1, 3))
    soft = gaussian_filter(halved, PSF_SIGMA_M / STEP_M, truncate=3)
    inner = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    known = ((lr != 0).all(axis=0) & whole)[inner]
    if known.sum() < 30:
        return float("nan"), float("nan"), 0, 0
    steps = range(-MAX_SHIFT_M // STEP_M, MAX_SHIFT_M // STEP_M + 1)
    rows, cols = (ratio * np.arange(_MARGIN_PX, side - _MARGIN_PX) + ratio // 2 for side in size)
    # Moving the image east shows at a place what lay west of it.
    places = [(north, east) for north in steps for east in steps]
    looks = np.stack([soft[np.ix_(rows + north, cols - east)][known] for north, east in places])
    target = lr.astype(np.float32).mean(axis=0)[inner][known]
    looks -= looks.mean(axis=1, keepdims=True)
    target -= target.mean()
    spread = np.linalg.norm(looks, axis=1) * np.linalg.norm(target)
    if not spread.all():
        return float("nan"), float("nan"), 0, 0
    found = looks @ target / spread
    best = int(found.argmax())
    north, east = places[best]
    return float(found[places.index((0, 0))]), float(found[best]), east * STEP_M, north * STEP_M
