"""Process aligned rasters block by block in threads, with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from affine import Affine
from rasterio.windows import Window

from jointseg.accuracy.cluster_estimators import NODATA
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError

BLOCK_PX = 2560  # px, a multiple of the COG block size (512) and of 10 m pixels
CHUNK_PX = 1 << 16  # px, few enough to stay in the CPU cache

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """One block of several aligned rasters."""

    # row, col: position of its north-west pixel
    row: int
    col: int
    values: list[np.ndarray]  # uint8 [rows, columns] of each raster
    transform: Affine
    # Area of a pixel at the block's centre, corrected for UTM scale; it varies by less than 1e-4 in a block
    pixel_km2: float


@dataclass(frozen=True)
class Grid:
    """EPSG code, transform and shape shared by aligned rasters."""

    epsg: int
    transform: Affine
    shape: tuple[int, int]

    def windows(self) -> list[Window]:
        """Return the windows of the blocks that cover the grid, north to south, west to east."""
        height, width = self.shape
        return [
            Window(col, row, min(BLOCK_PX, width - col), min(BLOCK_PX, height - row))
            for row in range(0, height, BLOCK_PX)
            for col in range(0, width, BLOCK_PX)
        ]


def common_grid(paths: Sequence[Path]) -> Grid:
    """Return the common grid of rasters in one UTM zone; raises DataError that names the first two that differ."""
    found: dict[Path, Grid] = {}
    for path in paths:
        with raster_io.open_raster(path) as source:
            found[path] = Grid(source.crs.to_epsg(), source.transform, source.shape)
        if found[path] != found[paths[0]]:
            raise DataError(
                f"{paths[0]} and {path} have different grids ({found[paths[0]]} and {found[path]}); rebuild them"
            )
    return found[paths[0]]


def map_blocks(paths: Sequence[Path], function: Callable[[Block], T], threads: int, label: str) -> Iterator[T]:
    """Yield the function's result for every block of aligned rasters of 0/1/255, in the order of `Grid.windows`.

    The function is called from several threads. At most two blocks per thread are in memory, whatever the size of the
    rasters. `label` is that of the progress bar. Raises DataError if the rasters have different grids, cannot be read,
    or contain a value other than 0, 1 and 255.
    """
    raster_grid = common_grid(paths)

    def work(window: Window) -> T:
        values = []
        for path in paths:  # opened for each block: a handle is not thread-safe
            with raster_io.open_raster(path) as source:
                values.append(source.read(1, window=window))
            check_classes(values[-1], f"{path}, block at row {window.row_off}, column {window.col_off}")
        transform = raster_grid.transform @ Affine.translation(window.col_off, window.row_off)
        x, y = transform @ (window.width / 2, window.height / 2)
        pixel = abs(transform.a * transform.e) / 1e6 / float(grid.area_scale(raster_grid.epsg, x, y))
        return function(Block(window.row_off, window.col_off, values, transform, pixel))

    waiting: deque[tuple[Window, Future[T]]] = deque()
    size_mpx = raster_grid.shape[0] * raster_grid.shape[1] / 1e6
    with ThreadPoolExecutor(max(1, threads)) as pool, progress.bar(label, size_mpx, "Mpx") as bar:
        ahead = iter(raster_grid.windows())
        while True:
            for window in islice(ahead, 2 * max(1, threads) - len(waiting)):
                waiting.append((window, pool.submit(work, window)))
            if not waiting:
                return
            window, found = waiting.popleft()
            yield found.result()
            bar.advance(window.width * window.height / 1e6)


def confusion(mapped: Path, reference: Path, threads: int) -> np.ndarray:
    """Return the confusion matrix of two rasters, int64 [3, 3], rows by `mapped`: 0 non-ISA, 1 ISA, 2 nodata (255)."""
    total = np.zeros((3, 3), dtype=np.int64)

    def count(block: Block) -> np.ndarray:
        return class_pair_counts(*(values.ravel() for values in block.values))

    for counts in map_blocks([mapped, reference], count, threads, f"{mapped.name} and {reference.name}"):
        total += counts
    return total


def class_pair_counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of two flat arrays of 0, 1 and 255, int64 [3, 3], rows by `first`.

    3 x first + second is different for all nine pairs in eight bits. Chunks stay in the CPU cache, and NumPy releases the
    interpreter lock.
    """
    out = np.zeros(9, dtype=np.int64)
    pair, equal = np.empty(CHUNK_PX, np.uint8), np.empty(CHUNK_PX, bool)
    codes = [(3 * a + b) % 256 for a in (0, 1, NODATA) for b in (0, 1, NODATA)]
    for start in range(0, len(first), CHUNK_PX):
        a, b = first[start : start + CHUNK_PX], second[start : start + CHUNK_PX]
        pairs, equals = pair[: len(a)], equal[: len(a)]
        np.multiply(a, 3, out=pairs)
        np.add(pairs, b, out=pairs)
        for cell, code in enumerate(codes):
            np.equal(pairs, code, out=equals)
            out[cell] += np.count_nonzero(equals)
    return out.reshape(3, 3)


def cell_counts(plane: np.ndarray, side: int) -> np.ndarray:
    """Count the true pixels of each cell of side x side pixels, uint32; cells at the south and east edges may be cut."""
    rows, cols = (np.arange(0, length, side) for length in plane.shape)
    lines = np.add.reduceat(plane.view(np.uint8), rows, axis=0, dtype=np.uint32)
    return np.add.reduceat(lines, cols, axis=1)


def check_classes(values: np.ndarray, where: str) -> None:
    """Raise DataError if `values` contains anything but 0, 1 and 255."""
    flat = values.ravel()
    for start in range(0, flat.size, CHUNK_PX):
        # 255 + 1 is 0 in eight bits, so the three classes are 0, 1 and 2 here.
        if flat[start : start + CHUNK_PX].size and int((flat[start : start + CHUNK_PX] + np.uint8(1)).max()) > 2:
            invalid = np.setdiff1d(values, [0, 1, NODATA])
            raise DataError(f"{where} contains the value {invalid[0]}; expected 0 (non-ISA), 1 (ISA) or 255 (nodata)")
