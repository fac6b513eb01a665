"""What Sentinel-2 would have seen of a place: dates with shifts of their own, their composite, and the dates merged."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from jointseg.sentinel2.lanczos import LOBES, TAPS, shift_subpixel
from jointseg.sentinel2.merge_frames import RADIUS_PX, Date, merge_dates
from jointseg.synthetic.sensors import SIGMA_M

PIXEL_M = 10
MARGIN_PX = 6  # ground around the place, mirrored, so that its edges are seen too
MAX_SHIFT_M = 5.0  # shifts of the dates along an axis
REGISTRATION_ERROR_M = 0.05  # standard deviation of what registration does not find, benchmarks/registration.md
GAIN_SD = 0.012  # standard deviation of a date's gain by band
# Noise of a pixel, reflectance: 0.0016 + 0.006 of the signal, as the synthetic scene's.
NOISE_SD, RELATIVE_NOISE_SD = 0.0016, 0.006
# Sentinel-2's bands are narrower than, and lie beside, those of a camera; how much a band sees of each camera band.
RESPONSE = np.array([[0.94, 0.06, 0.00], [0.05, 0.90, 0.05], [0.00, 0.08, 0.92]], np.float32)


@dataclass(frozen=True)
class SimulatedImages:
    """uint16 reflectance x 10000 at 10 m, 0 nowhere.

    Attributes:
        composite: [3, h, w], median of the registered dates.
        merged: [12, h, w], bands of `bands.MERGED`.
    """

    composite: np.ndarray
    merged: np.ndarray


def simulate(image: np.ndarray, dates: int, rng: np.random.Generator) -> SimulatedImages:
    """Simulates the dates.

    Every date is blurred by Sentinel-2's point spread (MTF 0.24 at 20 m), sampled at 10 m with a random shift of up to half
    a pixel, changed by a gain a band and noise, and stored as integers. Its shift is then known but for some
    centimetres, and the dates are registered, combined and merged by the code that does so with real scenes.

    Args:
        image: float32 [3, h, w], reflectance at 1 m; rows and columns that do not fill a pixel of 10 m are left out.
        dates: how many.
        rng: of shifts, gains and noise.
    """
    whole = np.s_[:, : image.shape[1] // PIXEL_M * PIXEL_M, : image.shape[2] // PIXEL_M * PIXEL_M]
    mixed = np.einsum("ij,jhw->ihw", RESPONSE, image[whole])
    margin = MARGIN_PX * PIXEL_M
    wide = np.pad(mixed, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    soft = np.stack([gaussian_filter(band, SIGMA_M) for band in wide])
    shifts = rng.uniform(-MAX_SHIFT_M, MAX_SHIFT_M, (dates, 2))
    stack = np.stack([_observe(soft, shift, rng) for shift in shifts])
    known = shifts + rng.normal(0, REGISTRATION_ERROR_M, shifts.shape)
    registered = np.stack([_register(date, shift) for date, shift in zip(stack, known)])
    composite = np.floor(np.median(registered, axis=0) + 0.5).astype(np.uint16)
    inner = MARGIN_PX - RADIUS_PX
    facts = [Date((number,), (float(east), float(south)), 1.0, 1.0) for number, (east, south) in enumerate(known)]
    return SimulatedImages(composite, merge_dates(stack[..., inner:-inner, inner:-inner], facts))


def _observe(soft: np.ndarray, shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint16 [3, h + 12, w + 12]; `shift` (east, south) m from a pixel's place to the ground that it shows."""
    rows, cols = (
        PIXEL_M * np.arange(side // PIXEL_M) + (PIXEL_M - 1) / 2 + move
        for side, move in zip(soft.shape[1:], shift[::-1])
    )
    at = np.meshgrid(rows, cols, indexing="ij")
    seen = np.stack([map_coordinates(band, at, order=1, mode="nearest") for band in soft])
    seen = seen * (1 + rng.normal(0, GAIN_SD, (3, 1, 1)))
    seen = seen + (NOISE_SD + RELATIVE_NOISE_SD * seen) * rng.standard_normal(seen.shape)
    return np.clip(np.rint(seen * 10_000), 1, 28_000).astype(np.uint16)


def _register(date: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """uint16 [3, h, w]: the date moved to its place, margins cut."""
    down, across = -shift[1] / PIXEL_M, -shift[0] / PIXEL_M
    top, left = int(np.floor(down)), int(np.floor(across))
    before, after = MARGIN_PX - LOBES + 1, TAPS - 1
    rows, cols = (
        slice(before + start, before + start + side - 2 * MARGIN_PX + after)
        for start, side in zip((top, left), date.shape[1:])
    )
    return shift_subpixel(date[:, rows, cols], down - top, across - left)
