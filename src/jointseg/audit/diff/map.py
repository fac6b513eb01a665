"""How two rasters differ: pixels, sizes of differences, classes, and where; read block by block."""

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
# 3 bytes a pixel: such a picture stays below 1 MB even where it cannot be compressed at all.
PICTURE_PX = 560
CLASSES_TOLD = 9
_RED = np.array([225, 20, 30], dtype=np.float32)


@dataclass
class Band:
    """One band: pixels that differ, and the largest difference (None where only one side is a number)."""

    name: str
    differing: int = 0
    largest: float | None = None


@dataclass
class RasterDiff:
    """How two rasters differ.

    Attributes:
        grid: why they cannot be compared pixel by pixel, "" where they can; then the rest is empty.
        pixels: of one band.
        differing: pixels that differ in some band.
        classes: of single-band bytes: (value in A, value in B, pixels), the most frequent first.
        bounds: (minx, miny, maxx, maxy) around all differences, in the rasters' CRS.
    """

    grid: str = ""
    pixels: int = 0
    differing: int = 0
    bands: list[Band] = field(default_factory=list)
    classes: list[tuple[int, int, int]] = field(default_factory=list)
    bounds: tuple[float, float, float, float] | None = None

    @property
    def share(self) -> float:
        """Share of the pixels that differ, 0 to 1."""
        return self.differing / self.pixels if self.pixels else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}

    def summary(self) -> str:
        """The difference in one line."""
        if self.grid:
            return self.grid
        if not self.differing:
            return "the same pixels in other bytes"
        parts = [f"{self.differing} of {self.pixels} pixels ({self.share:.2g} of them)"]
        if self.classes:
            parts += [f"{old}->{new} {count}" for old, new, count in self.classes[:CLASSES_TOLD]]
        else:
            parts += [
                f"{band.name} {band.differing}, by at most {band.largest:g}" for band in self.bands if band.largest
            ]
        return ", ".join(parts)


def compare(first: Path, second: Path, picture: Path | None = None) -> RasterDiff:
    """Compares two rasters; memory holds one block of each, whatever their size.

    Args:
        first, second: rasters; of other size, place, bands or type they are only said to be so.
        picture: a PNG to write, at most 560 pixels a side: the share of differing pixels in red over grey.
    """
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):  # the chips' images lie nowhere
        return _compare(first, second, picture)


def _compare(first: Path, second: Path, picture: Path | None) -> RasterDiff:
    with raster_io.open_raster(first) as a, raster_io.open_raster(second) as b:
        if other := _other_grid(a, b):
            return RasterDiff(other)
        found = RasterDiff(pixels=a.width * a.height, bands=[Band(_name(a, band)) for band in a.indexes])
        pairs = np.zeros(1 << 16, dtype=np.int64) if a.count == 1 and a.dtypes[0] == "uint8" else None
        step = -(-max(a.width, a.height) // PICTURE_PX)
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
        if picture is not None and found.differing:
            _draw(a, coarse, step, picture)
        return found


def _other_grid(a: rasterio.DatasetReader, b: rasterio.DatasetReader) -> str:
    """In which of their shapes two rasters differ, "" when they lie on one grid."""
    for what, one, other in (
        ("size", (a.width, a.height), (b.width, b.height)),
        ("CRS", str(a.crs), str(b.crs)),
        ("place", tuple(a.transform)[:6], tuple(b.transform)[:6]),
        ("number of bands", a.count, b.count),
        ("type", a.dtypes, b.dtypes),
    ):
        if one != other:
            return f"another {what}: {one} and {other}"
    return ""


def _name(source: rasterio.DatasetReader, band: int) -> str:
    return source.descriptions[band - 1] or f"band {band}"


def _windows(source: rasterio.DatasetReader, step: int) -> Iterator[Window]:
    side = -(-BLOCK_PX // step) * step  # whole cells of the picture
    for row in range(0, source.height, side):
        for col in range(0, source.width, side):
            yield Window(col, row, min(side, source.width - col), min(side, source.height - row))


def _block(one: np.ndarray, other: np.ndarray, found: RasterDiff, pairs: np.ndarray | None) -> np.ndarray:
    """Adds one block to what was found; bool [rows, columns] of pixels that differ."""
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


def _draw(source: rasterio.DatasetReader, coarse: np.ndarray, step: int, picture: Path) -> None:
    """The first band in grey, and in red where pixels differ, so that a single pixel can still be seen."""
    grey = source.read(1, out_shape=coarse.shape).astype(np.float32)
    known = np.isfinite(grey) if source.nodata is None else np.isfinite(grey) & (grey != source.nodata)
    low, high = np.percentile(grey[known], (2, 98)) if known.any() else (0, 1)
    shade = np.where(known, 60 + 170 * np.clip((grey - low) / max(high - low, 1e-9), 0, 1), 20)
    share = np.clip(coarse / step**2, 0, 1)[..., None]
    weight = np.where(share > 0, 0.5 + 0.5 * share, 0)
    image = shade[..., None] * (1 - weight) + _RED * weight
    with atomic_write(picture) as part:
        Image.fromarray(image.astype(np.uint8)).save(part, format="PNG", optimize=True)
