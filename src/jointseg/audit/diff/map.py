"""Comparison of two rasters block by block: differing pixels, largest differences, classes and extent."""

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from jointseg.raster import io as raster_io
from jointseg.runtime.files import atomic_write

BLOCK_PX = 2048
# At 3 bytes per pixel, the image is smaller than 1 MB even if it cannot be compressed.
IMAGE_PX = 560
MAX_CLASSES = 9
_RED = np.array([225, 20, 30], dtype=np.float32)


@dataclass
class Band:
    """One band: number of differing pixels, and the largest difference (None if one side is NaN everywhere)."""

    name: str
    differing: int = 0
    largest: float | None = None


@dataclass
class RasterDiff:
    """Differences between two rasters."""

    grid: str = ""  # reason why the pixels cannot be compared, "" if they can; otherwise the other attributes are empty
    pixels: int = 0  # number of pixels of one band
    differing: int = 0  # number of pixels that differ in at least one band
    bands: list[Band] = field(default_factory=list)
    # for single-band uint8 rasters: (value in A, value in B, pixels), the most frequent first
    classes: list[tuple[int, int, int]] = field(default_factory=list)
    # (minx, miny, maxx, maxy) of all differences in the CRS of the rasters
    bounds: tuple[float, float, float, float] | None = None

    @property
    def fraction(self) -> float:
        """Fraction of differing pixels, 0 to 1."""
        return self.differing / self.pixels if self.pixels else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "fraction": self.fraction}

    def summary(self) -> str:
        """Return the differences in one line."""
        if self.grid:
            return self.grid
        if not self.differing:
            return "same pixels, different bytes"
        parts = [f"{self.differing} of {self.pixels} pixels (fraction {self.fraction:.2g})"]
        if self.classes:
            parts += [f"{old}->{new} {count}" for old, new, count in self.classes[:MAX_CLASSES]]
        else:
            parts += [
                f"{band.name} {band.differing}, by at most {band.largest:g}" for band in self.bands if band.largest
            ]
        return ", ".join(parts)


def compare(first: Path, second: Path, image: Path | None = None) -> RasterDiff:
    """Compare two rasters; memory is limited to one block of each.

    If size, position, bands or data type differ, the result contains only this fact. `image` is a PNG file of at most 560
    pixels per side: the first band in grey, the fraction of differing pixels in red.
    """
    # Images of chips are not georeferenced.
    quiet = warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)
    with quiet, raster_io.open_raster(first) as a, raster_io.open_raster(second) as b:
        if grid := _grid_difference(a, b):
            return RasterDiff(grid)
        found = RasterDiff(
            pixels=a.width * a.height, bands=[Band(a.descriptions[band - 1] or f"band {band}") for band in a.indexes]
        )
        pairs = np.zeros(1 << 16, dtype=np.int64) if a.count == 1 and a.dtypes[0] == "uint8" else None
        step = -(-max(a.width, a.height) // IMAGE_PX)
        coarse = np.zeros((-(-a.height // step), -(-a.width // step)), dtype=np.int64)
        top_left, bottom_right = np.array([a.height, a.width]), np.zeros(2, dtype=np.int64)
        for window in _windows(a, step):
            changed = _block(a.read(window=window), b.read(window=window), found, pairs)
            if not changed.any():
                continue
            found.differing += int(changed.sum())
            rows, cols = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            top_left = np.minimum(top_left, [window.row_off + rows[0], window.col_off + cols[0]])
            bottom_right = np.maximum(bottom_right, [window.row_off + rows[-1] + 1, window.col_off + cols[-1] + 1])
            counts = np.add.reduceat(changed.astype(np.int64), np.arange(0, changed.shape[0], step), axis=0)
            counts = np.add.reduceat(counts, np.arange(0, changed.shape[1], step), axis=1)
            top, left = window.row_off // step, window.col_off // step
            coarse[top : top + counts.shape[0], left : left + counts.shape[1]] += counts
        if pairs is not None:
            order = [int(pair) for pair in np.argsort(-pairs, kind="stable")[: np.count_nonzero(pairs)]]
            found.classes = [(pair >> 8, pair & 255, int(pairs[pair])) for pair in order]
        if found.differing:
            (west, north), (east, south) = (a.transform @ (int(x), int(y)) for y, x in (top_left, bottom_right))
            found.bounds = west, south, east, north
        if image is not None and found.differing:
            _draw(a, coarse, step, image)
        return found


def _grid_difference(a: rasterio.DatasetReader, b: rasterio.DatasetReader) -> str:
    """The first difference between the grids of two rasters, "" if they are equal."""
    for what, one, other in (
        ("size", (a.width, a.height), (b.width, b.height)),
        ("CRS", str(a.crs), str(b.crs)),
        ("position", tuple(a.transform)[:6], tuple(b.transform)[:6]),
        ("number of bands", a.count, b.count),
        ("type", a.dtypes, b.dtypes),
    ):
        if one != other:
            return f"different {what}: {one} and {other}"
    return ""


def _windows(source: rasterio.DatasetReader, step: int) -> Iterator[Window]:
    side = -(-BLOCK_PX // step) * step  # whole cells of the image
    for row in range(0, source.height, side):
        for col in range(0, source.width, side):
            yield Window(col, row, min(side, source.width - col), min(side, source.height - row))


def _block(one: np.ndarray, other: np.ndarray, found: RasterDiff, pairs: np.ndarray | None) -> np.ndarray:
    """Add one block to `found`; return the mask of differing pixels, bool [rows, columns]."""
    differs = one != other
    if one.dtype.kind == "f":
        differs &= ~(np.isnan(one) & np.isnan(other))
    for band, changed, before, after in zip(found.bands, differs, one, other):
        if not changed.any():
            continue
        band.differing += int(changed.sum())
        largest = float(np.abs(before[changed].astype(np.float64) - after[changed]).max())
        if np.isfinite(largest):
            band.largest = max(largest, band.largest or 0.0)
    if pairs is not None:
        codes = one[0][differs[0]].astype(np.int64) << 8 | other[0][differs[0]]
        pairs += np.bincount(codes, minlength=pairs.size)
    return differs.any(axis=0)


def _draw(source: rasterio.DatasetReader, coarse: np.ndarray, step: int, image: Path) -> None:
    """Write the first band in grey with differing cells in red, at least half opaque so that single pixels show."""
    grey = source.read(1, out_shape=coarse.shape).astype(np.float32)
    valid = np.isfinite(grey) if source.nodata is None else np.isfinite(grey) & (grey != source.nodata)
    low, high = np.percentile(grey[valid], (2, 98)) if valid.any() else (0, 1)
    shade = np.where(valid, 60 + 170 * np.clip((grey - low) / max(high - low, 1e-9), 0, 1), 20)
    fraction = np.clip(coarse / step**2, 0, 1)[..., None]
    weight = np.where(fraction > 0, 0.5 + 0.5 * fraction, 0)
    pixels = shade[..., None] * (1 - weight) + _RED * weight
    with atomic_write(image) as part:
        Image.fromarray(pixels.astype(np.uint8)).save(part, format="PNG", optimize=True)
