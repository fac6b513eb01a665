"""Sensor models: blur, sampling, misregistration, atmosphere, clouds and noise."""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from jointseg.synthetic.materials import LEAF_REFLECTANCE, SOIL_REFLECTANCE, VEGETATION_TYPES, green_fraction
from jointseg.synthetic.panel_raster import Panel, bilinear
from jointseg.synthetic.render import YearlyView, reflectance_on_date
from jointseg.synthetic.terrain import MARGIN_M, SUN_AZIMUTH_DEG

# Point spread function of Sentinel-2's 10 m bands: a Gaussian whose MTF at Nyquist (20 m period) is 0.24, inside the
# mission requirement of 0.15-0.30: MTF = exp(-2 pi^2 sigma^2 f^2).
MTF_NYQUIST = 0.24
SIGMA_M = float(np.sqrt(-np.log(MTF_NYQUIST) / 2) / np.pi * 20)
FINE_M = 2  # the blur is computed on block means of this size
# Path reflectance and transmittance on an average day: red, green, blue, near infrared.
PATH_REFLECTANCE = np.array([0.036, 0.052, 0.082, 0.016])
TRANSMITTANCE = np.array([0.82, 0.77, 0.69, 0.89])
MIN_CLEAR_OBSERVATIONS = 2


class Sentinel2Optics:
    """One year of a panel, blurred once: each date is a weighted sum of a few small images."""

    def __init__(self, view: YearlyView) -> None:
        layers = [*view.static, *(np.where(view.vegetation == k, view.leaves, 0) for k in range(len(VEGETATION_TYPES)))]
        self._basis = [gaussian_filter(_halve(layer), SIGMA_M / FINE_M) for layer in layers]

    def observe(self, day_of_year: float, shift_m: tuple[float, float]) -> np.ndarray:
        """Return the surface reflectance on a date, shifted by `shift_m` (x, y): float32 [4, rows, columns] at 10 m."""
        small = [_resample_10m(layer, shift_m) for layer in self._basis]
        fraction = green_fraction(day_of_year)
        bands = []
        for band in range(4):
            image = small[band].copy()
            for k in range(len(VEGETATION_TYPES)):
                image += small[4 + k] * (fraction[k] * (LEAF_REFLECTANCE[k, band] - SOIL_REFLECTANCE[k, band]))
            bands.append(np.maximum(image, 0.005))
        return np.stack(bands).astype(np.float32)


def _halve(image: np.ndarray) -> np.ndarray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) * np.float32(0.25)


def _resample_10m(image: np.ndarray, shift_m: tuple[float, float]) -> np.ndarray:
    """Sample a blurred image at the shifted centres of the 10 m pixels, without the margin."""
    height, width = ((size * FINE_M - 2 * MARGIN_M) // 10 for size in image.shape)
    rows = (MARGIN_M + 5 + 10 * np.arange(height) - shift_m[1]) / FINE_M - 0.5
    cols = (MARGIN_M + 5 + 10 * np.arange(width) + shift_m[0]) / FINE_M - 0.5
    return bilinear(image, rows, cols)


def cloud_layers(rng: np.random.Generator, shape: tuple[int, int], fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Simulate clouds: opacity and depth of their shadows, float32 [rows, columns] 0..1 at 10 m."""
    field = np.zeros(shape)
    for weight, sigma in ((1.0, 26), (0.5, 9), (0.2, 3)):
        field += weight * _standardise(
            gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3)
        )
    if fraction <= 0:
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    edge = np.quantile(field, 1 - fraction)
    opacity = np.clip((field - edge) / (0.45 * field.std()), 0, 1).astype(np.float32)
    away = np.radians(SUN_AZIMUTH_DEG + 180)
    height_px = rng.uniform(25, 60)
    drop = (-round(np.cos(away) * height_px), round(np.sin(away) * height_px))
    shadow = np.zeros(shape, np.float32)
    source = opacity[max(-drop[0], 0) : shape[0] - max(drop[0], 0), max(-drop[1], 0) : shape[1] - max(drop[1], 0)]
    shadow[max(drop[0], 0) : shape[0] + min(drop[0], 0), max(drop[1], 0) : shape[1] + min(drop[1], 0)] = source
    return opacity, np.clip(shadow, 0, 1) * (1 - opacity)


def _standardise(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def add_clouds(surface: np.ndarray, opacity: np.ndarray, shadow: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add clouds and their shadows to the surface reflectance, [4, rows, columns]."""
    billow = 0.62 + 0.06 * _standardise(gaussian_filter(rng.standard_normal(opacity.shape), 2))
    cloud = billow[None] * np.array([1.0, 1.0, 1.03, 0.98])[:, None, None]
    lit = surface * (1 - shadow * np.array([0.58, 0.55, 0.48, 0.62])[:, None, None])
    return (lit * (1 - opacity) + cloud * opacity).astype(np.float32)


def top_of_atmosphere(surface: np.ndarray, haze: float) -> np.ndarray:
    """Convert surface to top-of-atmosphere reflectance; `haze` scales the path reflectance (1: average)."""
    clear = TRANSMITTANCE ** np.sqrt(haze)
    return (PATH_REFLECTANCE * haze)[:, None, None] + clear[:, None, None] * surface


def digital_numbers(reflectance: np.ndarray, offset_dn: int, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise and quantise: uint16 [4, rows, columns], reflectance x 10000 + offset, 0 where not valid."""
    spread = 0.0016 + 0.006 * reflectance
    gain = 1 + rng.normal(0, 0.012, 4)[:, None, None]
    noisy = reflectance * gain + spread * rng.standard_normal(reflectance.shape, dtype=np.float32)
    stored = np.clip(np.rint(noisy * 10_000 + offset_dn), 1, 28_000).astype(np.uint16)
    return np.where(valid[None], stored, 0).astype(np.uint16)


def scene_classes(
    surface: np.ndarray, opacity: np.ndarray, shadow: np.ndarray, valid: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Simulate Sen2Cor's scene classification at 20 m, uint8, with small errors at cloud edges."""
    red, _, _, nir, cloud, dark = (_halve(layer) for layer in (*surface, opacity, shadow))
    cloud = cloud + 0.06 * gaussian_filter(rng.standard_normal(cloud.shape), 1.5) * (cloud > 0)
    ndvi = (nir - red) / (nir + red)
    scl = np.full(cloud.shape, 5, dtype=np.uint8)
    scl[ndvi > 0.38] = 4
    scl[(nir < 0.09) & (ndvi < 0.1)] = 6
    scl[(nir < 0.11) & (ndvi >= 0.1)] = 2
    scl[(red > 0.30) & (ndvi < 0.15)] = 7
    scl[dark > 0.12] = 3
    scl[cloud > 0.06] = 10
    scl[cloud > 0.22] = 8
    scl[cloud > 0.60] = 9
    scl[_halve(valid.astype(np.float32)) < 1] = 0
    return scl


def cloud_mask_60m(opacity: np.ndarray, offset: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Simulate MSK_CLASSI of L1C at 60 m: uint8 [3, *shape], opaque clouds, cirrus, snow.

    `opacity` is at 10 m; `offset` is (rows, columns) at 10 m from the corner of the mask to that of `opacity`.
    """
    wide = np.zeros((shape[0] * 6, shape[1] * 6), dtype=np.float32)
    wide[offset[0] : offset[0] + opacity.shape[0], offset[1] : offset[1] + opacity.shape[1]] = opacity
    highest = wide.reshape(shape[0], 6, shape[1], 6).max(axis=(1, 3))
    mask = np.zeros((3, *shape), dtype=np.uint8)
    mask[0], mask[1] = highest > 0.45, (highest > 0.05) & (highest <= 0.45)
    return mask


def count_clear_observations(covers: list[tuple[np.ndarray, np.ndarray, np.ndarray]], buffer_px: int = 6) -> np.ndarray:
    """Count the dates, each (opacity, shadow, valid) at 10 m, on which a pixel is `buffer_px` pixels from clouds and
    shadows.
    """
    clear = np.zeros(covers[0][0].shape, dtype=int)
    for opacity, shadow, valid in covers:
        clear += valid & ~maximum_filter((opacity > 0.04) | (shadow > 0.08), 2 * buffer_px + 1)
    return clear


def jilin1_image(
    view: YearlyView,
    panel: Panel,
    window: Panel,
    day_of_year: float,
    shift_m: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Simulate a 0.75 m RGB scene: uint16 [3, rows, columns] with random radiometry, 0 outside its slanted footprint.

    `panel` is the extent of the view, `window` that of the scene, inside the panel; `shift_m` is (x, y) from the
    coordinates of the scene to the true location.
    """
    height, width = (int(size / 0.75) for size in window.shape)
    rows = (panel.y1 - window.y1) + (np.arange(height) + 0.5) * 0.75 - shift_m[1] - 0.5
    cols = (window.x0 - panel.x0) + (np.arange(width) + 0.5) * 0.75 + shift_m[0] - 0.5
    fraction = green_fraction(day_of_year)
    gamma, haze = rng.uniform(0.88, 1.12), rng.uniform(0.01, 0.05)
    gains = rng.uniform(2900, 4600) * np.array([1.0, 1.0, 1.0]) * rng.uniform(0.9, 1.1, 3)
    out = np.empty((3, height, width), dtype=np.uint16)
    left = np.arange(height) / height * 0.022 * height
    inside = (np.arange(width)[None] >= left[:, None]) & (
        np.arange(width)[None] < width - (0.022 * height - left)[:, None]
    )
    for band in range(3):
        image = bilinear(reflectance_on_date(view, fraction, band, LEAF_REFLECTANCE - SOIL_REFLECTANCE), rows, cols)
        image = np.power(image + np.float32(haze * (1.0, 1.25, 1.8)[band]), np.float32(gamma))
        image *= np.float32(gains[band])
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(9)
        out[band] = np.where(inside, np.clip(np.rint(image), 1, 4095), 0)
    return out
