"""Clouds and their shadows of an L1C scene from its own ten bands, by the s2cloudless model.

The model (Sentinel Hub's cloud detector; Skakun et al. 2022, Remote Sensing of Environment 274, 112990, compare it
with others) is the file that ships in the package s2cloudless, evaluated by LightGBM. It works here on cells of
60 m, the resolution of three of its bands; cells lie on the multiples of 60 m of the tile's CRS, so that tiles agree.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.ndimage import binary_dilation, convolve, distance_transform_edt

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.clouds import CLOUD, NO_DATA, SHADOW, UNCLASSIFIED
from jointseg.sentinel2.offset_check import check_reflectance
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, Scene
from jointseg.sentinel2.scene_windows import RES_M, Bounds, Shift

MODEL = "models/pixel_s2_cloud_detector_lightGBM_v0.1.txt"
MODEL_SHA256 = "0f92b6822cc0ad42982f55bab9b1688329e119451ad9a9e0a56384b9f37bc61d"
CELL_M = 60
CELL_PX = CELL_M // RES_M
# Defaults of s2cloudless 1.7.3: cloud above this probability, averaged over a disk and grown by one (radius in cells).
CLOUD_PROBABILITY = 0.4
AVERAGE_CELLS = GROW_CELLS = 1
# Shadows are looked for below clouds up to this height, and up to this far from them.
HEIGHT_M, SHADOW_M = 4000, 3000
# Sentinel-2 sees a cloud up to 10.3 degrees off the vertical: so much of its height it may seem off its place.
VIEW_SLOPE = math.tan(math.radians(10.3))
# Dark in the near infrared (the Earth Engine tutorial on s2cloudless) and, as in Fmask 3 (Zhu et al. 2015, RSE 159,
# 269-277), in the shortwave infrared, where no light of the sky falls into a shadow but roofs and roads stay bright.
DARK_NIR, DARK_SWIR = 0.15, 0.12
# A class depends on nothing farther away: shadow and view, averaging, growing of clouds and shadows, rounding.
HALO_M = CELL_M * (math.ceil((SHADOW_M + HEIGHT_M * VIEW_SLOPE) / CELL_M) + AVERAGE_CELLS + 2 * GROW_CELLS + 1)
if TYPE_CHECKING:
    from lightgbm import Booster

_STRIP_M = 50 * CELL_M  # rows that are read at a time


class SceneReader(Protocol):
    """Delivers windows of scenes on the tile's 10 m lattice (see `pixels.Files`)."""

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift) -> np.ndarray: ...


@dataclass(frozen=True)
class ClassifiedCells:
    """Classes of a scene, uint8 [rows, columns] of cells whose upper left corner is at (west, north)."""

    cells: np.ndarray
    west: float
    north: float

    def at(self, bounds: Bounds) -> np.ndarray:
        """Classes of bounds on the 10 m lattice, uint8 [rows, columns].

        Raises:
            DataError: the bounds reach out of what was classified.
        """
        rows = np.arange(round((self.north - bounds[3]) / RES_M), round((self.north - bounds[1]) / RES_M)) // CELL_PX
        cols = np.arange(round((bounds[0] - self.west) / RES_M), round((bounds[2] - self.west) / RES_M)) // CELL_PX
        for found, size in ((rows, self.cells.shape[0]), (cols, self.cells.shape[1])):
            if found[0] < 0 or found[-1] >= size:
                raise DataError(f"clouds at {bounds} were asked for but classified elsewhere; classify a wider area")
        return self.cells[rows[:, None], cols[None, :]]


def classify_scene(
    reader: SceneReader, scene: Scene, bounds: Bounds, shift_m: Shift, threshold: float = CLOUD_PROBABILITY
) -> ClassifiedCells:
    """Cloud classes of a scene in bounds; what lies outside them, up to HALO_M, is read and counts.

    Args:
        reader: delivers the ten bands.
        scene: L1C, with the ten bands among its assets.
        bounds: multiples of 10 m.
        shift_m: brings the scene to its place.
        threshold: cloud above this probability, 0..1.

    Raises:
        DataError: the pixels contradict the scene's offset.
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
    # A wrong offset makes cloud of everything, which no later check of clear pixels would see.
    check_reflectance(reflectance[:, np.isfinite(reflectance).all(axis=0)], CLOUDLESS_BANDS, scene)
    found = cell_classes(reflectance, scene.sun, threshold)
    halo = HALO_M // CELL_M
    return ClassifiedCells(found[halo:-halo, halo:-halo], west, north)


def cell_reflectance(dn: np.ndarray, offset_dn: int, scale: float) -> np.ndarray:
    """Reflectance of cells, float32 [10, rows, columns], the mean of their known pixels; nan where there is none.

    Args:
        dn: uint16 [10, rows x 6, columns x 6], a pixel unknown where any band is 0.
        offset_dn: to add to the DN.
        scale: reflectance of one DN.
    """
    bands, rows, cols = dn.shape
    known = (dn > 0).all(axis=0)
    blocks = (bands, rows // CELL_PX, CELL_PX, cols // CELL_PX, CELL_PX)
    # Whole numbers are summed, so that the order of the sum does not matter.
    total = (dn * known).reshape(blocks).sum(axis=(2, 4), dtype=np.int64)
    count = known.reshape(blocks[1:]).sum(axis=(1, 3))
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return ((mean + offset_dn) * scale).astype(np.float32)


def cloud_probability(reflectance: np.ndarray) -> np.ndarray:
    """Probability of cloud, float32 [rows, columns]; nan where a band is.

    Args:
        reflectance: float32 [10, rows, columns], top of atmosphere, bands in the order of CLOUDLESS_BANDS.

    Raises:
        DataError: the model cannot be found, or it is another one.
    """
    known = np.isfinite(reflectance).all(axis=0)
    found = np.full(known.shape, np.nan, dtype=np.float32)
    if known.any():
        # One thread: the jobs of a run share the machine, and the scenes of one are read side by side.
        found[known] = _model().predict(reflectance[:, known].T, num_threads=1)
    return found


def cloud_cells(chance: np.ndarray, threshold: float = CLOUD_PROBABILITY) -> np.ndarray:
    """Bool [rows, columns]: cells where the mean probability of a small disk exceeds the threshold, and those beside.

    Args:
        chance: float32 [rows, columns] of cells, probability of cloud; nan where unknown, which carries no weight.
        threshold: 0..1.
    """
    known = np.isfinite(chance)
    disk = _disk(AVERAGE_CELLS).astype(np.float64)
    weight = convolve(known.astype(np.float64), disk, mode="constant")
    total = convolve(np.where(known, chance, 0).astype(np.float64), disk, mode="constant")
    return binary_dilation(known & (total > threshold * weight), _disk(GROW_CELLS))


def cell_classes(
    reflectance: np.ndarray, sun: tuple[float, float] | None, threshold: float = CLOUD_PROBABILITY
) -> np.ndarray:
    """Scene classes, uint8 [rows, columns]: CLOUD, SHADOW, UNCLASSIFIED or NO_DATA.

    Shadow is what is dark, is not water, and lies where a cloud of some height may throw its shadow: away from the sun.

    Args:
        reflectance: float32 [10, rows, columns] of cells, top of atmosphere; nan where unknown.
        sun: (azimuth, zenith), degrees; where it is not known, a shadow may fall in every direction.
        threshold: cloud above this probability, 0..1.
    """
    known = np.isfinite(reflectance).all(axis=0)
    cloud = cloud_cells(cloud_probability(reflectance), threshold)
    found = np.full(known.shape, UNCLASSIFIED, dtype=np.uint8)
    if cloud.any():
        shadow = _reach(cloud, sun) & _dark_land(reflectance) & ~cloud
        found[binary_dilation(shadow, _disk(GROW_CELLS))] = SHADOW
        found[cloud] = CLOUD
    found[~known] = NO_DATA
    return found


def _dark_land(reflectance: np.ndarray) -> np.ndarray:
    """Bool [rows, columns]: dark, and not water by the test of Zhu and Woodcock (2012, RSE 118, 83-94, eq. 5)."""
    red, nir, swir = (reflectance[CLOUDLESS_BANDS.index(band)] for band in ("B04", "B08", "B11"))
    # NDVI < n without its division, which is by zero where nothing is reflected.
    difference, total = nir - red, nir + red
    water = (difference < 0.01 * total) & (nir < 0.11) | (difference < 0.1 * total) & (nir < 0.05)
    return (nir < DARK_NIR) & (swir < DARK_SWIR) & ~water


def _reach(cloud: np.ndarray, sun: tuple[float, float] | None) -> np.ndarray:
    """Bool [rows, columns]: where clouds of any height up to HEIGHT_M may throw their shadow."""
    distance = distance_transform_edt(~cloud) * CELL_M
    if sun is None:
        return distance <= SHADOW_M
    azimuth, zenith = (math.radians(angle) for angle in sun)
    slope = math.tan(min(zenith, math.radians(89)))
    highest = min(HEIGHT_M, SHADOW_M / slope) if slope > 0 else HEIGHT_M
    steps = math.ceil(highest * max(slope, VIEW_SLOPE) / CELL_M)
    reached = np.zeros_like(cloud)
    for step in range(steps + 1):
        height = highest * step / steps
        rows, cols = (round(height * slope * part / CELL_M) for part in (math.cos(azimuth), -math.sin(azimuth)))
        reached |= _moved(distance <= height * VIEW_SLOPE, rows, cols)
    return reached


def _moved(mask: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """A mask moved down by `rows` and to the right by `cols`; False moves in."""
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
        from lightgbm import Booster  # 70 MB that only scenes without a mask of their own need
    except (ImportError, OSError) as error:  # OSError: its shared library lacks another
        raise DataError(
            f"clouds of L1C scenes need LightGBM, which cannot be loaded ({error}); install lightgbm and the OpenMP "
            "library (Debian: apt-get install libgomp1), or set sentinel2.l1c_mask: classi"
        ) from error
    # Found, not imported: the package itself brings in a web client and OpenCV, of which nothing is needed here.
    spec = find_spec("s2cloudless")
    if spec is None or spec.origin is None:
        raise DataError(
            "clouds of L1C scenes need the package s2cloudless; install it or set sentinel2.l1c_mask: classi"
        )
    text = (Path(spec.origin).parent / MODEL).read_bytes()
    if hashlib.sha256(text).hexdigest() != MODEL_SHA256:
        raise DataError(f"{MODEL} of the package s2cloudless is not that of version 1.7.3; install s2cloudless==1.7.3")
    return Booster(model_str=text.decode())
