"""Rasters of one grid looked at block by block, in threads: what a city or a belt holds never lies in memory whole."""

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

from jointseg.accuracy.cluster_estimators import UNKNOWN
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError

BLOCK = 2560  # px: whole blocks of the COGs (512), and whole pixels of 10 m
CHUNK = 1 << 16  # px that stay in a core's cache while they are compared

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """The same ground in several rasters.

    Attributes:
        row, col: its north-western pixel.
        values: uint8 [rows, columns] of each raster.
        transform: of the block.
        pixel_km2: ground area of a pixel at its middle; over a block it varies by less than 1e-4 of itself.
    """

    row: int
    col: int
    values: list[np.ndarray]
    transform: Affine
    pixel_km2: float


@dataclass(frozen=True)
class Grid:
    """What rasters have in common."""

    epsg: int
    transform: Affine
    shape: tuple[int, int]

    def windows(self) -> list[Window]:
        """Blocks that cover the grid, from north to south and west to east."""
        height, width = self.shape
        return [
            Window(col, row, min(BLOCK, width - col), min(BLOCK, height - row))
            for row in range(0, height, BLOCK)
            for col in range(0, width, BLOCK)
        ]


def common_grid(paths: Sequence[Path]) -> Grid:
    """The grid of rasters in one UTM zone.

    Raises DataError naming the first two that differ.
    """
    found: dict[Path, Grid] = {}
    for path in paths:
        with raster_io.open_raster(path) as source:
            found[path] = Grid(source.crs.to_epsg(), source.transform, source.shape)
        if found[path] != found[paths[0]]:
            raise DataError(
                f"{paths[0]} and {path} are not on one grid ({found[paths[0]]} and {found[path]}); make them again"
            )
    return found[paths[0]]


def looked_at(paths: Sequence[Path], look: Callable[[Block], T], threads: int, what: str) -> Iterator[T]:
    """What `look` makes of every block, in the order of `Grid.windows`.

    Two blocks a thread are under way, so memory holds a few of them whatever the rasters' size.

    Raises DataError for rasters that are not on one grid, cannot be read, or hold anything but 0, 1 and 255.
    """
    place = common_grid(paths)

    def work(window: Window) -> T:
        values = []
        for path in paths:  # opened for each block: a handle serves one thread alone
            with raster_io.open_raster(path) as source:
                values.append(source.read(1, window=window))
            only_classes(values[-1], f"{path}, block at row {window.row_off}, column {window.col_off}")
        transform = place.transform @ Affine.translation(window.col_off, window.row_off)
        x, y = transform @ (window.width / 2, window.height / 2)
        pixel = abs(transform.a * transform.e) / 1e6 / float(grid.area_scale(place.epsg, x, y))
        return look(Block(window.row_off, window.col_off, values, transform, pixel))

    waiting: deque[tuple[Window, Future[T]]] = deque()
    size_mpx = place.shape[0] * place.shape[1] / 1e6
    with ThreadPoolExecutor(max(1, threads)) as pool, progress.bar(what, size_mpx, "Mpx") as bar:
        ahead = iter(place.windows())
        while True:
            for window in islice(ahead, 2 * max(1, threads) - len(waiting)):
                waiting.append((window, pool.submit(work, window)))
            if not waiting:
                return
            window, found = waiting.popleft()
            yield found.result()
            bar.advance(window.width * window.height / 1e6)


def confusion(mapped: Path, reference: Path, threads: int) -> np.ndarray:
    """Pixels by class of two rasters, int64 [3, 3], rows by `mapped`: 0 not ISA, 1 ISA, 2 unknown (255 in the files).

    Raises DataError when they are not on one grid or hold another value.
    """
    total = np.zeros((3, 3), dtype=np.int64)

    def look(block: Block) -> np.ndarray:
        return paired_counts(*(values.ravel() for values in block.values))

    for counts in looked_at([mapped, reference], look, threads, f"{mapped.name} beside {reference.name}"):
        total += counts
    return total


def paired_counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels by class of two flat arrays of 0, 1 and 255, int64 [3, 3].

    3 x first + second tells the nine pairs apart in eight bits; comparing and counting go through memory once, since they
    stay in the cache, and let other threads work.
    """
    out = np.zeros(9, dtype=np.int64)
    pair, equal = np.empty(CHUNK, np.uint8), np.empty(CHUNK, bool)
    codes = [(3 * one + other) % 256 for one in (0, 1, UNKNOWN) for other in (0, 1, UNKNOWN)]
    for start in range(0, len(first), CHUNK):
        one, other = first[start : start + CHUNK], second[start : start + CHUNK]
        pairs, equals = pair[: len(one)], equal[: len(one)]
        np.multiply(one, 3, out=pairs)
        np.add(pairs, other, out=pairs)
        for place, code in enumerate(codes):
            np.equal(pairs, code, out=equals)
            out[place] += np.count_nonzero(equals)
    return out.reshape(3, 3)


def cell_counts(plane: np.ndarray, side: int) -> np.ndarray:
    """True pixels of each cell of side x side, uint32; cells at the southern and eastern rim may be cut."""
    rows, cols = (np.arange(0, length, side) for length in plane.shape)
    lines = np.add.reduceat(plane.view(np.uint8), rows, axis=0, dtype=np.uint32)
    return np.add.reduceat(lines, cols, axis=1)


def only_classes(values: np.ndarray, where: str) -> None:
    """DataError for a value but 0, 1 and 255."""
    flat = values.ravel()
    for start in range(0, flat.size, CHUNK):
        # 255 + 1 is 0 in eight bits, so the three classes are 0, 1 and 2 here.
        if flat[start : start + CHUNK].size and int((flat[start : start + CHUNK] + np.uint8(1)).max()) > 2:
            strange = np.setdiff1d(values, [0, 1, UNKNOWN])
            raise DataError(f"{where} holds the value {strange[0]}; expected 0 not ISA, 1 ISA, 255 unknown")
