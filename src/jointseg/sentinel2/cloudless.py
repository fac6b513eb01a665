"""Clouds and cloud shadows of an L1C scene from ten of its bands, by the s2cloudless model.

The model (Sentinel Hub's cloud detector; compared with others by Skakun et al. 2022, Remote Sensing of Environment 274,
112990) is the file of the package s2cloudless, evaluated by LightGBM. It is applied to cells of 60 m, the resolution of
three of its bands; cell edges are multiples of 60 m in the tile's CRS, so neighbouring tiles use the same cells.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_dilation, convolve, distance_transform_edt

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.clouds import CLOUD, NO_DATA, SHADOW, UNCLASSIFIED
from jointseg.sentinel2.offset_check import check_reflectance
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, Scene
from jointseg.sentinel2.scene_windows import RES_M, Bounds, SceneReader, Shift

if TYPE_CHECKING:
    from lightgbm import Booster

MODEL = "models/pixel_s2_cloud_detector_lightGBM_v0.1.txt"
MODEL_SHA256 = "0f92b6822cc0ad42982f55bab9b1688329e119451ad9a9e0a56384b9f37bc61d"
CELL_M = 60
CELL_PX = CELL_M // RES_M
# Defaults of s2cloudless 1.7.3: threshold of the probability averaged over a disk, and dilation by a disk (radii in
# cells).
CLOUD_PROBABILITY = 0.4
AVERAGE_CELLS = DILATION_CELLS = 1
# Maximum cloud height and maximum distance of a shadow from its cloud.
MAX_HEIGHT_M, MAX_SHADOW_M = 4000, 3000
# Sentinel-2 views up to 10.3 degrees off nadir: the parallax of a cloud is up to this fraction of its height.
VIEW_SLOPE = math.tan(math.radians(10.3))
# Maximum reflectance of a shadow in the near infrared (the Earth Engine tutorial on s2cloudless) and, as in Fmask 3 (Zhu
# et al. 2015, RSE 159, 269-277), in the shortwave infrared, where skylight is weak but roofs and roads stay bright.
DARK_NIR, DARK_SWIR = 0.15, 0.12
# Distance up to which a cell affects the class of another: shadow and parallax, averaging, dilation of clouds and of
# shadows, rounding.
HALO_M = CELL_M * (
    math.ceil((MAX_SHADOW_M + MAX_HEIGHT_M * VIEW_SLOPE) / CELL_M) + AVERAGE_CELLS + 2 * DILATION_CELLS + 1
)

_STRIP_M = 50 * CELL_M  # height of the strips that are read


@dataclass(frozen=True)
class ClassifiedCells:
    """Scene classes, uint8 [rows, columns], of cells; the north-west corner is (west, north)."""

    cells: np.ndarray
    west: float
    north: float

    def at(self, bounds: Bounds) -> np.ndarray:
        """Return the classes of bounds on the 10 m lattice, uint8 [rows, columns].

        Raises DataError if the bounds exceed the classified area.
        """
        rows = np.arange(round((self.north - bounds[3]) / RES_M), round((self.north - bounds[1]) / RES_M)) // CELL_PX
        cols = np.arange(round((bounds[0] - self.west) / RES_M), round((bounds[2] - self.west) / RES_M)) // CELL_PX
        for indices, size in ((rows, self.cells.shape[0]), (cols, self.cells.shape[1])):
            if indices[0] < 0 or indices[-1] >= size:
                raise DataError(f"bounds {bounds} exceed the area with classified clouds; classify a larger area")
        return self.cells[rows[:, None], cols[None, :]]


def classify_scene(
    reader: SceneReader, scene: Scene, bounds: Bounds, shift_m: Shift, threshold: float = CLOUD_PROBABILITY
) -> ClassifiedCells:
    """Classify an L1C scene in bounds, multiples of 10 m, with a halo of HALO_M.

    Probabilities (0..1) above `threshold` are cloud. Raises DataError if the pixels contradict the scene's offset.
    """
    west, south = (math.floor(edge / CELL_M) * CELL_M for edge in bounds[:2])
    east, north = (math.ceil(edge / CELL_M) * CELL_M for edge in bounds[2:])
    top, bottom = north + HALO_M, south - HALO_M
    strips = []
    for upper in range(top, bottom, -_STRIP_M):
        strip = west - HALO_M, max(upper - _STRIP_M, bottom), east + HALO_M, upper
        dn = reader.read(scene, CLOUDLESS_BANDS, strip, shift_m)
        strips.append(cell_reflectance(dn, scene.offset_dn, scene.scale))
    reflectance = np.concatenate(strips, axis=1)
    # A wrong offset turns every cell into cloud; then no clear pixel is left for a later check.
    check_reflectance(reflectance[:, np.isfinite(reflectance).all(axis=0)], CLOUDLESS_BANDS, scene)
    classes = cell_classes(reflectance, scene.sun, threshold)
    halo = HALO_M // CELL_M
    return ClassifiedCells(classes[halo:-halo, halo:-halo], west, north)


def cell_reflectance(dn: np.ndarray, offset_dn: int, scale: float) -> np.ndarray:
    """Return the reflectance of cells, float32 [10, rows, columns], the mean of their valid pixels; NaN without one.

    DN are uint16 [10, rows x 6, columns x 6]; a pixel is nodata if any band is 0. `scale` is the reflectance of one DN.
    """
    bands, rows, cols = dn.shape
    valid = (dn > 0).all(axis=0)
    blocks = (bands, rows // CELL_PX, CELL_PX, cols // CELL_PX, CELL_PX)
    # Integer sums do not depend on the order of the summands.
    total = (dn * valid).reshape(blocks).sum(axis=(2, 4), dtype=np.int64)
    count = valid.reshape(blocks[1:]).sum(axis=(1, 3))
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return ((mean + offset_dn) * scale).astype(np.float32)


def cloud_probability(reflectance: np.ndarray) -> np.ndarray:
    """Return the cloud probability, float32 [rows, columns]; NaN where a band is NaN.

    The top-of-atmosphere reflectance, float32 [10, rows, columns], has the bands CLOUDLESS_BANDS. Raises DataError if
    the model file is missing, or has another checksum.
    """
    valid = np.isfinite(reflectance).all(axis=0)
    probability = np.full(valid.shape, np.nan, dtype=np.float32)
    if valid.any():
        # One thread: jobs share the machine, and one job reads its scenes in parallel.
        probability[valid] = _model().predict(reflectance[:, valid].T, num_threads=1)
    return probability


def cloud_cells(probability: np.ndarray, threshold: float = CLOUD_PROBABILITY) -> np.ndarray:
    """Return the cloud cells, bool [rows, columns]: the disk mean of the probability exceeds the threshold; dilated.

    Cells with probability NaN are nodata and have no weight.
    """
    valid = np.isfinite(probability)
    disk = _disk(AVERAGE_CELLS).astype(np.float64)
    weight = convolve(valid.astype(np.float64), disk, mode="constant")
    total = convolve(np.where(valid, probability, 0).astype(np.float64), disk, mode="constant")
    return binary_dilation(valid & (total > threshold * weight), _disk(DILATION_CELLS))


def cell_classes(
    reflectance: np.ndarray, sun: tuple[float, float] | None, threshold: float = CLOUD_PROBABILITY
) -> np.ndarray:
    """Return the scene classes, uint8 [rows, columns]: CLOUD, SHADOW, UNCLASSIFIED or NO_DATA.

    Shadow is dark, not water, and in a direction and distance where a cloud of some height may cast its shadow. The
    reflectance, float32 [10, rows, columns], is NaN at nodata. Without `sun`, (azimuth, zenith) in degrees, shadows of
    every direction are possible.
    """
    valid = np.isfinite(reflectance).all(axis=0)
    cloud = cloud_cells(cloud_probability(reflectance), threshold)
    classes = np.full(valid.shape, UNCLASSIFIED, dtype=np.uint8)
    if cloud.any():
        shadow = _possible_shadow(cloud, sun) & _dark_land(reflectance) & ~cloud
        classes[binary_dilation(shadow, _disk(DILATION_CELLS))] = SHADOW
        classes[cloud] = CLOUD
    classes[~valid] = NO_DATA
    return classes


def _dark_land(reflectance: np.ndarray) -> np.ndarray:
    """Return the dark cells, bool [rows, columns], without water (Zhu and Woodcock 2012, RSE 118, 83-94, eq. 5)."""
    red, nir, swir = (reflectance[CLOUDLESS_BANDS.index(band)] for band in ("B04", "B08", "B11"))
    # NDVI < n without the division, as red + nir may be zero.
    difference, total = nir - red, nir + red
    water = (difference < 0.01 * total) & (nir < 0.11) | (difference < 0.1 * total) & (nir < 0.05)
    return (nir < DARK_NIR) & (swir < DARK_SWIR) & ~water


def _possible_shadow(cloud: np.ndarray, sun: tuple[float, float] | None) -> np.ndarray:
    """Return the cells, bool [rows, columns], on which clouds of a height up to MAX_HEIGHT_M may cast a shadow."""
    distance = distance_transform_edt(~cloud) * CELL_M
    if sun is None:
        return distance <= MAX_SHADOW_M
    azimuth, zenith = (math.radians(angle) for angle in sun)
    slope = math.tan(min(zenith, math.radians(89)))
    max_height = min(MAX_HEIGHT_M, MAX_SHADOW_M / slope) if slope > 0 else MAX_HEIGHT_M
    steps = math.ceil(max_height * max(slope, VIEW_SLOPE) / CELL_M)
    possible = np.zeros_like(cloud)
    for step in range(steps + 1):
        height = max_height * step / steps
        rows, cols = (round(height * slope * part / CELL_M) for part in (math.cos(azimuth), -math.sin(azimuth)))
        possible |= _translate(distance <= height * VIEW_SLOPE, rows, cols)
    return possible


def _translate(mask: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Return a mask moved down by `rows` and to the right by `cols`, filled with False."""
    moved = np.zeros_like(mask)
    height, width = mask.shape
    if abs(rows) < height and abs(cols) < width:
        to_rows, to_cols = slice(max(rows, 0), height + min(rows, 0)), slice(max(cols, 0), width + min(cols, 0))
        from_rows, from_cols = slice(max(-rows, 0), height - max(rows, 0)), slice(max(-cols, 0), width - max(cols, 0))
        moved[to_rows, to_cols] = mask[from_rows, from_cols]
    return moved


def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius


@cache
def _model() -> "Booster":
    try:
        from lightgbm import Booster  # 70 MB, only for scenes without a mask of their own
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise DataError(
            f"the cloud mask of L1C scenes requires LightGBM, which cannot be loaded ({error}); install lightgbm and the "
            "OpenMP library (Debian: apt-get install libgomp1), or set sentinel2.l1c_mask: classi"
        ) from error
    # Located, not imported: the package imports a web client and OpenCV.
    spec = find_spec("s2cloudless")
    if spec is None or spec.origin is None:
        raise DataError(
            "the cloud mask of L1C scenes requires the package s2cloudless; install it or set sentinel2.l1c_mask: classi"
        )
    text = (Path(spec.origin).parent / MODEL).read_bytes()
    if hashlib.sha256(text).hexdigest() != MODEL_SHA256:
        raise DataError(f"{MODEL} of the package s2cloudless is not that of version 1.7.3; install s2cloudless==1.7.3")
    return Booster(model_str=text.decode())
