"""A map at 1 m seen in the pixels of a coarser product: what part of each is ISA."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.windows import Window

from jointseg.accuracy.block_counts import Block, Grid
from jointseg.area.grid import transformer
from jointseg.raster import io as raster_io

NODE_PX = 64  # pixels between the places that are projected; between them lines are straight to 0.1 mm


@dataclass(frozen=True)
class Counts:
    """Of a block's pixels, by product pixel: how many are known and how many are ISA, uint32 [rows, columns], and where."""

    row: int
    col: int
    known: np.ndarray
    isa: np.ndarray


@dataclass
class OwnPixels:
    """The pixels of a product's raster that meet a grid in UTM, and what of the map lies in each.

    Attributes:
        path: raster of the product, in any CRS.
        window: its pixels that may meet the grid.
        known, isa: map pixels in each, uint32 [rows, columns].
    """

    path: Path
    place: Grid
    window: Window = field(init=False)
    known: np.ndarray = field(init=False)
    isa: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        with raster_io.open_raster(self.path) as source:
            self._crs, self._lattice = source.crs.to_string(), source.transform
            height, width = source.shape
        rows, cols = self._nodes(self.place.transform, self.place.shape, self._lattice)
        row, col = max(int(np.floor(rows.min())), 0), max(int(np.floor(cols.min())), 0)
        last_row, last_col = min(int(np.floor(rows.max())) + 1, height), min(int(np.floor(cols.max())) + 1, width)
        shape = max(last_row - row, 0), max(last_col - col, 0)
        self.window = Window(col, row, shape[1], shape[0])
        self.known, self.isa = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self._inner = self._lattice @ Affine.translation(col, row)

    def counted(self, block: Block) -> Counts | None:
        """What a block of the map adds; None where the product has no pixel there. Safe to call from several threads."""
        values = block.values[0]
        row, col, rows, cols = self._pixels(block.transform, values.shape)
        shape = int(rows.max()) + 1, int(cols.max()) + 1
        # One count for all: three bins a product pixel, of what is not ISA, what is, and what is unknown.
        bins = (rows * np.int32(shape[1]) + cols) * np.int32(3) + np.minimum(values, 2)
        counts = np.bincount(bins.ravel(), minlength=3 * shape[0] * shape[1]).reshape(*shape, 3)
        # What lies beyond the product's raster belongs to none of its pixels.
        top, left = max(-row, 0), max(-col, 0)
        bottom, right = min(shape[0], self.known.shape[0] - row), min(shape[1], self.known.shape[1] - col)
        if bottom <= top or right <= left:
            return None
        inside = counts[top:bottom, left:right].astype(np.uint32)
        return Counts(row + top, col + left, inside[..., 0] + inside[..., 1], inside[..., 1])

    def add(self, counts: Counts | None) -> None:
        """Takes in what `counted` found."""
        if counts is None:
            return
        rows, cols = counts.known.shape
        here = np.s_[counts.row : counts.row + rows, counts.col : counts.col + cols]
        self.known[here] += counts.known
        self.isa[here] += counts.isa

    def codes(self) -> np.ndarray:
        """The product's own values there, [rows, columns]."""
        with raster_io.open_raster(self.path) as source:
            return source.read(1, window=self.window)

    def _nodes(self, transform: Affine, shape: tuple[int, int], lattice: Affine) -> tuple[np.ndarray, np.ndarray]:
        """Row and column on the product's lattice of every NODE_PX-th pixel corner of a grid, and of its last ones."""
        y, x = (np.arange(-(-side // NODE_PX) + 1, dtype=float) * NODE_PX for side in shape)
        grid_x, grid_y = transform @ np.stack([each.ravel() for each in np.meshgrid(x, y)])
        to_x, to_y = transformer(f"EPSG:{self.place.epsg}", self._crs).transform(grid_x, grid_y)
        col, row = ~lattice @ np.stack([to_x, to_y])
        return np.reshape(row, (len(y), len(x))), np.reshape(col, (len(y), len(x)))

    def _pixels(self, transform: Affine, shape: tuple[int, int]) -> tuple[int, int, np.ndarray, np.ndarray]:
        """First row and column in the window, and from there row and column, int32 [rows, columns], of the product's pixel that
        holds each pixel's centre."""
        firsts, out = [], []
        for nodes in self._nodes(transform, shape, self._inner):
            first = int(np.floor(nodes.min()))
            # Relative to the block single precision is good to 1e-4 of a product's pixel, and twice as fast.
            found = (nodes - first).astype(np.float32)
            for axis, side in enumerate(shape):
                at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / NODE_PX
                before = at.astype(int)
                part = np.expand_dims(at - before.astype(np.float32), 1 - axis)
                low, high = np.take(found, before, axis), np.take(found, before + 1, axis)
                high -= low
                high *= part
                high += low
                found = high
            firsts.append(first)
            out.append(found.astype(np.int32))
        return firsts[0], firsts[1], out[0], out[1]
