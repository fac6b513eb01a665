"""What every scene saw clear of a tile, read scene by scene into an unnamed file, and given back row by row.

A composite needs all scenes of a pixel at once; files are read fastest one after the other, each from end to end. So
memory depends neither on the number of scenes nor on the tile, and no block of a file is decoded twice.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import numpy as np
import rasterio

from jointseg.area.grid import Tile
from jointseg.runtime.errors import DataError
from jointseg.sentinel2.observations import ObservationReader
from jointseg.sentinel2.scene_windows import window_bounds

# Rows of a scene that are read at a time: of a file a row of its blocks, of a server as much as it answers at once.
ROWS, REMOTE_ROWS = 512, 2048
STACK_BYTES = 32 << 20  # of what all scenes saw of the rows that are given back at a time
# A row of blocks of every band; more is only memory.
_GDAL_CACHE_MB = 64


def row_strips(height: int, rows: int) -> list[slice]:
    """So many rows at a time, from the north."""
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


class RowSpool:
    """Reflectance x 10000 where a scene was clear, 0 elsewhere: uint16 [scenes, bands, rows, columns] on disk."""

    def __init__(self, file: IO[bytes], scenes: int, bands: int, shape: tuple[int, int]) -> None:
        """A spool in an open temporary file, of so many scenes and bands, for rasters of `shape`."""
        self.scenes, self.bands, self.shape = scenes, bands, shape
        self.clear_px = [0] * scenes  # of each scene, once filled
        self._file = file

    def fill(
        self, observer: ObservationReader, tile: Tile, rows: int, done: Callable[[int], None] = lambda number: None
    ) -> None:
        """Reads every scene, `rows` rows at a time; `done` is called with each scene's number.

        Granules of one pass are read one after the other: where they overlap the ground was seen once, by the first.
        """

        def read(group: list[int]) -> None:
            before = np.zeros(self.shape, dtype=bool) if len(group) > 1 else None
            for number in group:
                for strip in row_strips(self.shape[0], rows):
                    self._keep(observer, tile, number, strip, before)
                observer.reader.close(observer.scenes[number])
                done(number)

        with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_MB), ThreadPoolExecutor(observer.reader.workers) as pool:
            list(pool.map(read, observer.passes()))

    def strips(self) -> list[slice]:
        """The rows that `read` should be asked for, from the north."""
        row_bytes = self.scenes * self.bands * self.shape[1] * 2
        return row_strips(self.shape[0], max(1, STACK_BYTES // row_bytes))

    def read(self, rows: slice, scenes: Sequence[int] | None = None) -> np.ndarray:
        """What the scenes, or some of them, saw in some rows: uint16 [scenes, bands, rows, columns], 0 where not clear."""
        scenes = range(self.scenes) if scenes is None else scenes
        stack = np.empty((len(scenes), self.bands, rows.stop - rows.start, self.shape[1]), dtype=np.uint16)
        for layer, number in zip(stack, scenes):
            for band, part in enumerate(layer):
                if os.preadv(self._file.fileno(), [part], self._place(number, band, rows.start)) != part.nbytes:
                    raise DataError("the temporary file of what the scenes saw is cut; run the job again")
        return stack

    def _keep(
        self, observer: ObservationReader, tile: Tile, number: int, rows: slice, before: np.ndarray | None
    ) -> None:
        seen = observer.scene(number, window_bounds(tile, rows, slice(0, self.shape[1])))
        clear = seen.clear
        if before is not None:
            clear = clear & ~before[rows]
            before[rows] |= seen.inside_swath
        self.clear_px[number] += int(clear.sum())
        for band, layer in enumerate(seen.reflectance * clear):
            data = layer.tobytes()
            place = self._place(number, band, rows.start)
            while data:  # a full disk may take a part, and then says so
                taken = os.pwrite(self._file.fileno(), data, place)
                data, place = data[taken:], place + taken

    def _place(self, number: int, band: int, row: int) -> int:
        rows, cols = self.shape
        return (((number * self.bands + band) * rows) + row) * cols * 2
