"""A 1 m map aggregated to the pixels of a coarser product: valid and ISA pixel counts."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.windows import Window

from jointseg.accuracy.block_counts import Block, Grid
from jointseg.area.grid import transformer
from jointseg.raster import io as raster_io

NODE_PX = 64  # pixels between projected nodes; linear interpolation between them is accurate to 0.1 mm


@dataclass(frozen=True)
class BlockCounts:
    """Valid and ISA pixels of a map block by product pixel, uint32 [rows, columns], from (row, col) of the window on."""

    row: int
    col: int
    valid: np.ndarray
    isa: np.ndarray


@dataclass
class ProductPixels:
    """The pixels of a product's raster that intersect a UTM grid, with map pixel counts."""

    path: Path  # raster of the product, in any CRS
    grid: Grid  # of the map
    window: Window = field(init=False)  # pixels of the product that can intersect the grid
    # valid, isa: map pixels in each of them, uint32 [rows, columns]
    valid: np.ndarray = field(init=False)
    isa: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        with raster_io.open_raster(self.path) as source:
            self._crs, self._transform = source.crs.to_string(), source.transform
            height, width = source.shape
        rows, cols = self._nodes(self.grid.transform, self.grid.shape, self._transform)
        row, col = max(int(np.floor(rows.min())), 0), max(int(np.floor(cols.min())), 0)
        last_row, last_col = min(int(np.floor(rows.max())) + 1, height), min(int(np.floor(cols.max())) + 1, width)
        shape = max(last_row - row, 0), max(last_col - col, 0)
        self.window = Window(col, row, shape[1], shape[0])
        self.valid, self.isa = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self._window_transform = self._transform @ Affine.translation(col, row)

    def count_block(self, block: Block) -> BlockCounts | None:
        """Return the counts of a map block; None if no product pixel intersects it. Thread-safe."""
        values = block.values[0]
        row, col, rows, cols = self._pixels(block.transform, values.shape)
        shape = int(rows.max()) + 1, int(cols.max()) + 1
        # One bincount with three bins per product pixel: non-ISA, ISA, nodata.
        bins = (rows * np.int32(shape[1]) + cols) * np.int32(3) + np.minimum(values, 2)
        counts = np.bincount(bins.ravel(), minlength=3 * shape[0] * shape[1]).reshape(*shape, 3)
        # Drop pixels beyond the product's raster.
        top, left = max(-row, 0), max(-col, 0)
        bottom, right = min(shape[0], self.valid.shape[0] - row), min(shape[1], self.valid.shape[1] - col)
        if bottom <= top or right <= left:
            return None
        inside = counts[top:bottom, left:right].astype(np.uint32)
        return BlockCounts(row + top, col + left, inside[..., 0] + inside[..., 1], inside[..., 1])

    def add(self, counts: BlockCounts | None) -> None:
        if counts is None:
            return
        rows, cols = counts.valid.shape
        target = np.s_[counts.row : counts.row + rows, counts.col : counts.col + cols]
        self.valid[target] += counts.valid
        self.isa[target] += counts.isa

    def codes(self) -> np.ndarray:
        """Return the product's codes in the window, [rows, columns]."""
        with raster_io.open_raster(self.path) as source:
            return source.read(1, window=self.window)

    def _nodes(self, transform: Affine, shape: tuple[int, int], target: Affine) -> tuple[np.ndarray, np.ndarray]:
        """Return row and column, on the product's `target` grid, of every NODE_PX-th pixel corner of a map grid."""
        y, x = (np.arange(-(-side // NODE_PX) + 1, dtype=float) * NODE_PX for side in shape)
        grid_x, grid_y = transform @ np.stack([each.ravel() for each in np.meshgrid(x, y)])
        to_x, to_y = transformer(f"EPSG:{self.grid.epsg}", self._crs).transform(grid_x, grid_y)
        col, row = ~target @ np.stack([to_x, to_y])
        return np.reshape(row, (len(y), len(x))), np.reshape(col, (len(y), len(x)))

    def _pixels(self, transform: Affine, shape: tuple[int, int]) -> tuple[int, int, np.ndarray, np.ndarray]:
        """Return the product pixel of each map pixel's centre: first row and column in the window, and int32 offsets
        from them.
        """
        firsts, out = [], []
        for nodes in self._nodes(transform, shape, self._window_transform):
            first = int(np.floor(nodes.min()))
            # Relative to the block, single precision is accurate to 1e-4 of a product pixel, and twice as fast.
            index = (nodes - first).astype(np.float32)
            for axis, side in enumerate(shape):
                at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / NODE_PX
                before = at.astype(int)
                part = np.expand_dims(at - before.astype(np.float32), 1 - axis)
                low, high = np.take(index, before, axis), np.take(index, before + 1, axis)
                high -= low
                high *= part
                high += low
                index = high
            firsts.append(first)
            out.append(index.astype(np.int32))
        return firsts[0], firsts[1], out[0], out[1]
