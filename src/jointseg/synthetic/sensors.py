"""How the satellites see the valley: blur, sampling, misregistration, atmosphere, clouds, noise."""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from jointseg.synthetic.materials import GREEN, PHASES, UNDER, green_fraction
from jointseg.synthetic.render import Panel, Picture, at_date
from jointseg.synthetic.terrain import MARGIN_M, SUN_AZIMUTH_DEG

# Point spread of Sentinel-2's 10 m bands: a Gaussian whose MTF at Nyquist (20 m period) is 0.24, inside the
# 0.15-0.30 of the mission requirement: MTF = exp(-2 pi^2 sigma^2 f^2).
MTF_NYQUIST = 0.24
SIGMA_M = float(np.sqrt(-np.log(MTF_NYQUIST) / 2) / np.pi * 20)
FINE_M = 2  # the blur is computed on block means of this size
# Path radiance (as reflectance) and transmittance of an ordinary day, red, green, blue, near infrared.
PATH = np.array([0.036, 0.052, 0.082, 0.016])
TRANSMITTANCE = np.array([0.82, 0.77, 0.69, 0.89])
CLEAR_LOOKS = 2
# Scene classes that no reader takes for clear ground.
UNCLEAR_SCL = (0, 1, 3, 8, 9, 10)


class Optics:
    """One year of a panel, blurred once: a date is then a weighted sum of a few small images."""

    def __init__(self, view: Picture) -> None:
        layers = [*view.static, *(np.where(view.phase == k, view.green, 0) for k in range(len(PHASES)))]
        self._basis = [gaussian_filter(_block_mean(layer), SIGMA_M / FINE_M) for layer in layers]

    def look(self, day_of_year: float, shift_m: tuple[float, float]) -> np.ndarray:
        """Surface reflectance on a date, float32 [4, rows, columns] on the panel's 10 m lattice.

        Args:
            day_of_year: for the leaves.
            shift_m: (x, y) to add to the picture's coordinates to land on the ground it shows.
        """
        small = [_sampled(layer, shift_m) for layer in self._basis]
        fraction = green_fraction(day_of_year)
        bands = []
        for band in range(4):
            image = small[band].copy()
            for k in range(len(PHASES)):
                image += small[4 + k] * (fraction[k] * (GREEN[k, band] - UNDER[k, band]))
            bands.append(np.maximum(image, 0.005))
        return np.stack(bands).astype(np.float32)


def _block_mean(image: np.ndarray) -> np.ndarray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) * np.float32(0.25)


def _linear(image: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Bilinear values at fractional pixel centres, one vector for each axis."""
    rows, cols = np.clip(rows, 0, image.shape[0] - 1.001), np.clip(cols, 0, image.shape[1] - 1.001)
    row, col = rows.astype(int), cols.astype(int)
    down, right = (rows - row).astype(np.float32)[:, None], (cols - col).astype(np.float32)
    mixed = image[row] * (1 - down) + image[row + 1] * down
    return mixed[:, col] * (1 - right) + mixed[:, col + 1] * right


def _sampled(image: np.ndarray, shift_m: tuple[float, float]) -> np.ndarray:
    height, width = ((size * FINE_M - 2 * MARGIN_M) // 10 for size in image.shape)
    rows = (MARGIN_M + 5 + 10 * np.arange(height) - shift_m[1]) / FINE_M - 0.5
    cols = (MARGIN_M + 5 + 10 * np.arange(width) + shift_m[0]) / FINE_M - 0.5
    return _linear(image, rows, cols)


def clouds(rng: np.random.Generator, shape: tuple[int, int], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Opacity of clouds and depth of their shadows, float32 [rows, columns] 0..1 at 10 m."""
    field = np.zeros(shape)
    for weight, sigma in ((1.0, 26), (0.5, 9), (0.2, 3)):
        field += weight * _unit(
            gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3)
        )
    if share <= 0:
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    edge = np.quantile(field, 1 - share)
    opacity = np.clip((field - edge) / (0.45 * field.std()), 0, 1).astype(np.float32)
    away = np.radians(SUN_AZIMUTH_DEG + 180)
    height_px = rng.uniform(25, 60)
    drop = (-round(np.cos(away) * height_px), round(np.sin(away) * height_px))
    shade = np.zeros(shape, np.float32)
    source = opacity[max(-drop[0], 0) : shape[0] - max(drop[0], 0), max(-drop[1], 0) : shape[1] - max(drop[1], 0)]
    shade[max(drop[0], 0) : shape[0] + min(drop[0], 0), max(drop[1], 0) : shape[1] + min(drop[1], 0)] = source
    return opacity, np.clip(shade, 0, 1) * (1 - opacity)


def _unit(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def under_clouds(surface: np.ndarray, opacity: np.ndarray, shade: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reflectance seen from above clouds and in their shadows."""
    billow = 0.62 + 0.06 * _unit(gaussian_filter(rng.standard_normal(opacity.shape), 2))
    cloud = billow[None] * np.array([1.0, 1.0, 1.03, 0.98])[:, None, None]
    lit = surface * (1 - shade * np.array([0.58, 0.55, 0.48, 0.62])[:, None, None])
    return (lit * (1 - opacity) + cloud * opacity).astype(np.float32)


def top_of_atmosphere(surface: np.ndarray, haze: float) -> np.ndarray:
    """L1C from surface reflectance; `haze` scales the path radiance (1 = ordinary)."""
    clear = TRANSMITTANCE ** np.sqrt(haze)
    return (PATH * haze)[:, None, None] + clear[:, None, None] * surface


def digital_numbers(reflectance: np.ndarray, offset_dn: int, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint16 [4, rows, columns] as stored: reflectance x 10000 + offset with noise, 0 where nothing was seen."""
    spread = 0.0016 + 0.006 * reflectance
    gain = 1 + rng.normal(0, 0.012, 4)[:, None, None]
    noisy = reflectance * gain + spread * rng.standard_normal(reflectance.shape, dtype=np.float32)
    stored = np.clip(np.rint(noisy * 10_000 + offset_dn), 1, 28_000).astype(np.uint16)
    return np.where(seen[None], stored, 0).astype(np.uint16)


def scene_classes(
    surface: np.ndarray, opacity: np.ndarray, shade: np.ndarray, seen: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Sen2Cor's scene classification at 20 m, uint8; cloud edges are a little off, as they are in practice."""
    half = [_halved(layer) for layer in (*surface, opacity, shade)]
    red, _, _, nir, cloud, dark = half
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
    scl[_halved(seen.astype(np.float32)) < 1] = 0
    return scl


def cloud_mask_60m(opacity: np.ndarray, offset: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """L1C's MSK_CLASSI at 60 m: uint8 [3, rows, columns], opaque clouds, cirrus, snow.

    Args:
        opacity: at 10 m.
        offset: (rows, columns) at 10 m from the mask's corner to the picture's.
        shape: of the mask.
    """
    wide = np.zeros((shape[0] * 6, shape[1] * 6), dtype=np.float32)
    wide[offset[0] : offset[0] + opacity.shape[0], offset[1] : offset[1] + opacity.shape[1]] = opacity
    mean = wide.reshape(shape[0], 6, shape[1], 6).max(axis=(1, 3))
    mask = np.zeros((3, *shape), dtype=np.uint8)
    mask[0], mask[1] = mean > 0.45, (mean > 0.05) & (mean <= 0.45)
    return mask


def _halved(image: np.ndarray) -> np.ndarray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def clear_looks(covers: list[tuple[np.ndarray, np.ndarray, np.ndarray]], buffer_px: int = 6) -> np.ndarray:
    """How many dates see each pixel at least `buffer_px` pixels off any cloud or shadow.

    Args:
        covers: (opacity, shade, seen) of each date at 10 m.
    """
    looks = np.zeros(covers[0][0].shape, dtype=int)
    for opacity, shade, seen in covers:
        looks += seen & ~maximum_filter((opacity > 0.04) | (shade > 0.08), 2 * buffer_px + 1)
    return looks


def jilin1(
    view: Picture,
    panel: Panel,
    window: Panel,
    day_of_year: float,
    shift_m: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """A 0.75 m RGB scene, uint16 [3, rows, columns], with a radiometry of its own; 0 outside its slanted footprint.

    Args:
        view: the picture at 1 m.
        panel: what the picture covers.
        window: what the scene covers, inside the panel.
        day_of_year: for the leaves.
        shift_m: (x, y) to add to the scene's coordinates to land on the ground it shows.
        rng: of the scene.
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
        image = _linear(at_date(view, fraction, band, GREEN - UNDER), rows, cols)
        image = np.power(image + np.float32(haze * (1.0, 1.25, 1.8)[band]), np.float32(gamma))
        image *= np.float32(gains[band])
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(9)
        out[band] = np.where(inside, np.clip(np.rint(image), 1, 4095), 0)
    return out
