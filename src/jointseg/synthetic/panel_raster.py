"""Rasters on a panel, a rectangle of the valley at 1 m: polygons, repeating textures, interpolated fields."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from jointseg.synthetic.terrain import MACRO_M, MARGIN_M

PERIOD_M = 2048  # of the repeating textures


@dataclass(frozen=True)
class Panel:
    """A rectangle of whole metres in local coordinates."""

    x0: int
    y0: int
    x1: int
    y1: int

    def grown(self, margin_m: int) -> "Panel":
        return Panel(self.x0 - margin_m, self.y0 - margin_m, self.x1 + margin_m, self.y1 + margin_m)

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def transform(self) -> Affine:
        return Affine(1, 0, self.x0, 0, -1, self.y1)

    @property
    def box(self) -> shapely.Geometry:
        return shapely.box(self.x0, self.y0, self.x1, self.y1)


def make_textures(seed: int) -> dict[str, np.ndarray]:
    """Return repeating noise textures of unit standard deviation, float32 [2048, 2048], by name."""
    rng = np.random.default_rng((seed, 50))
    out = {}
    for name, sigma in (("grain", 0.7), ("crowns", 2.2), ("clumps", 7.0)):
        field = rng.standard_normal((PERIOD_M, PERIOD_M), dtype=np.float32)
        field = gaussian_filter(field, sigma, mode="wrap")
        out[name] = field / field.std()
    return out


def tile_texture(texture: np.ndarray, panel: Panel, shift: int = 0) -> np.ndarray:
    """Return the repeating texture over a panel; a location has the same value in every panel."""
    rows = (panel.y1 - 1 - np.arange(panel.shape[0]) + 3 * shift) % PERIOD_M
    cols = (panel.x0 + np.arange(panel.shape[1]) + 5 * shift) % PERIOD_M
    return texture[np.ix_(rows, cols)]


def bilinear(image: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Interpolate an image [rows, columns] at the crossings of fractional rows and columns, one vector per axis.

    0 is the centre of the first pixel; values outside the image are clipped to its edge.
    """
    rows, cols = np.clip(rows, 0, image.shape[0] - 1.001), np.clip(cols, 0, image.shape[1] - 1.001)
    row, col = rows.astype(int), cols.astype(int)
    down, right = (rows - row).astype(np.float32)[:, None], (cols - col).astype(np.float32)
    mixed = image[row] * (1 - down) + image[row + 1] * down
    return mixed[:, col] * (1 - right) + mixed[:, col + 1] * right


def upsample(field: np.ndarray, panel: Panel) -> np.ndarray:
    """Interpolate a terrain field to the 1 m pixel centres of a panel: float32 [rows, columns]."""
    y = (panel.y1 - 0.5 - np.arange(panel.shape[0]) + MARGIN_M) / MACRO_M
    x = (panel.x0 + 0.5 + np.arange(panel.shape[1]) + MARGIN_M) / MACRO_M
    return bilinear(field, y, x)


def rasterize_shapes(
    shapes: Sequence[shapely.Geometry] | np.ndarray, values: Sequence[int] | np.ndarray, panel: Panel
) -> np.ndarray:
    """Rasterize polygons by pixel centre, later ones over earlier ones: int32 [rows, columns], 0 outside."""
    shapes, values = np.asarray(shapes, dtype=object), np.asarray(values)
    visible = np.flatnonzero(shapely.intersects(shapes, panel.box) & (shapely.area(shapes) > 0))
    if not visible.size:
        return np.zeros(panel.shape, dtype=np.int32)
    pairs = [(shapes[k], int(values[k])) for k in visible]
    return rasterize(pairs, panel.shape, transform=panel.transform, dtype="int32", merge_alg=MergeAlg.replace)
