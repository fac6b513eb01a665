"""A temporary file that transposes the observations of a tile: written scene by scene, read in strips of all scenes.

A composite needs all scenes of a pixel at once, but files are read fastest one after the other. With the spool, memory
depends neither on the number of scenes nor on the size of the tile, and no block of a file is decoded twice.
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

# Rows that are read from a scene at once: a row of blocks of a file, or as much as a server returns in one response.
ROWS, REMOTE_ROWS = 512, 2048
STACK_BYTES = 32 << 20  # size of a strip of all scenes
_GDAL_CACHE_MB = 64  # enough for one row of blocks of every band


def row_strips(height: int, rows: int) -> list[slice]:
    """Return strips of `rows` rows, from north to south."""
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


class RowSpool:
    """Reflectance x 10000 of clear pixels, 0 elsewhere: uint16 [scenes, bands, rows, columns] on disk.

    `scenes` and `bands` are numbers, `shape` is (rows, columns) of the tile.
    """

    def __init__(self, file: IO[bytes], scenes: int, bands: int, shape: tuple[int, int]) -> None:
        self.scenes, self.bands, self.shape = scenes, bands, shape
        self.clear_px = [0] * scenes  # by scene, after `fill`
        self._file = file

    def fill(
        self, observations: ObservationReader, tile: Tile, rows: int, on_scene: Callable[[], None] = lambda: None
    ) -> None:
        """Read every scene in strips of `rows` rows; `on_scene` is called after each scene.

        The granules of one pass are read in sequence: where they overlap, only the first counts as an observation.
        """

        def read_pass(indices: list[int]) -> None:
            covered = np.zeros(self.shape, dtype=bool) if len(indices) > 1 else None
            for index in indices:
                for strip in row_strips(self.shape[0], rows):
                    self._write(observations, tile, index, strip, covered)
                observations.reader.close(observations.scenes[index])
                on_scene()

        with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_MB), ThreadPoolExecutor(observations.reader.workers) as pool:
            list(pool.map(read_pass, observations.passes()))

    def strips(self) -> list[slice]:
        """Return strips for `read` that bound its memory, from north to south."""
        row_bytes = self.scenes * self.bands * self.shape[1] * 2
        return row_strips(self.shape[0], max(1, STACK_BYTES // row_bytes))

    def read(self, rows: slice, scenes: Sequence[int] | None = None) -> np.ndarray:
        """Return some rows of all or some scenes: uint16 [scenes, bands, rows, columns], 0 where not clear."""
        scenes = range(self.scenes) if scenes is None else scenes
        stack = np.empty((len(scenes), self.bands, rows.stop - rows.start, self.shape[1]), dtype=np.uint16)
        for layer, index in zip(stack, scenes):
            for band, values in enumerate(layer):
                if os.preadv(self._file.fileno(), [values], self._offset(index, band, rows.start)) != values.nbytes:
                    raise DataError("the temporary file of observations is truncated; rerun the job")
        return stack

    def _write(
        self, observations: ObservationReader, tile: Tile, index: int, rows: slice, covered: np.ndarray | None
    ) -> None:
        observation = observations.observe(index, window_bounds(tile, rows, slice(0, self.shape[1])))
        clear = observation.clear
        if covered is not None:
            clear = clear & ~covered[rows]
            covered[rows] |= observation.inside_swath
        self.clear_px[index] += int(clear.sum())
        for band, layer in enumerate(observation.reflectance * clear):
            data = layer.tobytes()
            offset = self._offset(index, band, rows.start)
            while data:  # on a full disk pwrite writes a part, then raises
                written = os.pwrite(self._file.fileno(), data, offset)
                data, offset = data[written:], offset + written

    def _offset(self, index: int, band: int, row: int) -> int:
        rows, cols = self.shape
        return (((index * self.bands + band) * rows) + row) * cols * 2
