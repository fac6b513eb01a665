"""Simulated Sentinel-2 dates of a 1 m image, with random shifts; their composite and merged dates."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from jointseg.sentinel2.lanczos import LOBES, TAPS, shift_subpixel
from jointseg.sentinel2.merge_frames import RADIUS_PX, Date, merge_dates
from jointseg.synthetic.sensors import SIGMA_M

PIXEL_M = 10
MARGIN_PX = 6  # mirrored around the image, so that its edges are sampled too
MAX_SHIFT_M = 5.0  # of a date along each axis
REGISTRATION_ERROR_M = 0.05  # standard deviation, see benchmarks/registration.md
GAIN_SD = 0.012  # of a date and band
# Noise of a pixel as reflectance: constant part, and part relative to the signal; as in the synthetic scene.
NOISE_SD, RELATIVE_NOISE_SD = 0.0016, 0.006
# Red, green and blue of Sentinel-2 as mixtures of the wider bands of a camera.
RESPONSE = np.array([[0.94, 0.06, 0.00], [0.05, 0.90, 0.05], [0.00, 0.08, 0.92]], np.float32)


@dataclass(frozen=True)
class SimulatedImages:
    """uint16 reflectance x 10000 at 10 m, without nodata."""

    composite: np.ndarray  # [3, h, w], median of the registered dates
    merged: np.ndarray  # [12, h, w], bands of `bands.MERGED_BANDS`


def simulate(image: np.ndarray, dates: int, rng: np.random.Generator) -> SimulatedImages:
    """Simulate Sentinel-2 dates, their composite and their merged dates from 1 m reflectance, float32 [3, h, w].

    Each date is blurred by the point spread function of Sentinel-2 (MTF 0.24 at 20 m), sampled at 10 m with a random
    shift of up to half a pixel, multiplied by a random gain per band, and quantised with noise. The shifts are known to
    within centimetres; registration, composite and merging use the same code as real scenes. Incomplete 10 m pixels at
    the edge are dropped.
    """
    complete = np.s_[:, : image.shape[1] // PIXEL_M * PIXEL_M, : image.shape[2] // PIXEL_M * PIXEL_M]
    mixed = np.einsum("ij,jhw->ihw", RESPONSE, image[complete])
    margin = MARGIN_PX * PIXEL_M
    padded = np.pad(mixed, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    blurred = np.stack([gaussian_filter(band, SIGMA_M) for band in padded])
    shifts = rng.uniform(-MAX_SHIFT_M, MAX_SHIFT_M, (dates, 2))
    stack = np.stack([_observe(blurred, shift, rng) for shift in shifts])
    estimated = shifts + rng.normal(0, REGISTRATION_ERROR_M, shifts.shape)
    registered = np.stack([_register(date, shift) for date, shift in zip(stack, estimated)])
    composite = np.floor(np.median(registered, axis=0) + 0.5).astype(np.uint16)
    inner = MARGIN_PX - RADIUS_PX
    merged_dates = [Date((k,), (float(east), float(south)), 1.0, 1.0) for k, (east, south) in enumerate(estimated)]
    return SimulatedImages(composite, merge_dates(stack[..., inner:-inner, inner:-inner], merged_dates))


def _observe(blurred: np.ndarray, shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample one date, uint16 [3, h + 12, w + 12]; `shift` is (east, south), m, from pixel coordinates to the true
    location.
    """
    rows, cols = (
        PIXEL_M * np.arange(side // PIXEL_M) + (PIXEL_M - 1) / 2 + offset
        for side, offset in zip(blurred.shape[1:], shift[::-1])
    )
    points = np.meshgrid(rows, cols, indexing="ij")
    image = np.stack([map_coordinates(band, points, order=1, mode="nearest") for band in blurred])
    image = image * (1 + rng.normal(0, GAIN_SD, (3, 1, 1)))
    image = image + (NOISE_SD + RELATIVE_NOISE_SD * image) * rng.standard_normal(image.shape)
    return np.clip(np.rint(image * 10_000), 1, 28_000).astype(np.uint16)


def _register(date: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Shift a date to its true location and cut off the margin: uint16 [3, h, w]."""
    down, across = -shift[1] / PIXEL_M, -shift[0] / PIXEL_M
    top, left = int(np.floor(down)), int(np.floor(across))
    before, after = MARGIN_PX - LOBES + 1, TAPS - 1
    rows, cols = (
        slice(before + start, before + start + side - 2 * MARGIN_PX + after)
        for start, side in zip((top, left), date.shape[1:])
    )
    return shift_subpixel(date[:, rows, cols], down - top, across - left)
