"""Windowed reading of 10 m composites, one row of windows ahead of the computation."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jointseg.inference.blending import Bounds
from jointseg.inference.lattice import LR_M, Window
from jointseg.inference.stage_times import stage
from jointseg.raster.bands import count_composite_bands, fill_merged
from jointseg.raster.mosaic import Mosaic
from jointseg.runtime.errors import DataError

CLEAR = "clear"


class CompositeReader:
    """Reads the 10 m composites of one zone and, if the bands of a checkpoint require them, their merged dates.

    Raises DataError for a wrong resolution or data type, or missing bands or merged dates.
    """

    def __init__(self, paths: list[Path], bands: tuple[str, ...], merged: Sequence[Path] = ()) -> None:
        own = count_composite_bands(bands)
        self.mosaic = Mosaic(paths)
        *self._bands, self._clear = _band_numbers(self.mosaic, (*bands[:own], CLEAR))
        if self.mosaic.res_m != LR_M or self.mosaic.dtype != "uint16":
            raise DataError(
                f"{paths[0]} has {self.mosaic.res_m} m pixels of {self.mosaic.dtype}; expected {LR_M} m and uint16 "
                "(reflectance x 10000, 0 = nodata); rebuild it"
            )
        self._merged, self._merged_bands = None, []
        if own < len(bands):
            if not merged:
                raise DataError(
                    f"the checkpoint needs merged dates ({bands[own]} ...) but there are none for {paths[0]}; "
                    "set sentinel2.merged_dates as for the dataset"
                )
            self._merged = Mosaic(list(merged))
            self._merged_bands = _band_numbers(self._merged, bands[own:])

    def read(self, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """Return reflectance x 10000, uint16 [bands, h, w], and validity (at least one clear observation), bool [h, w]."""
        array = self.mosaic.read(bounds, [*self._bands, self._clear])
        if self._merged is None:
            return array[:-1], array[-1] > 0
        return fill_merged(np.concatenate([array[:-1], self._merged.read(bounds, self._merged_bands)])), array[-1] > 0


def _band_numbers(mosaic: Mosaic, bands: Sequence[str]) -> list[int]:
    """Return the 1-based numbers of bands by name."""
    names = mosaic.descriptions
    if missing := [name for name in bands if name not in names]:
        raise DataError(f"{mosaic.paths[0]} has bands {names}, not {missing}; rebuild the composites with them")
    return [names.index(name) + 1 for name in bands]


class RowStrip(NamedTuple):
    """The pixels of one row of windows."""

    bounds: Bounds
    dn: np.ndarray
    """uint16 [bands, h, w] at 10 m."""
    valid: np.ndarray
    """bool [h, w]."""

    def crop(self, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """Return (dn, valid) of bounds inside the strip."""
        slices = _slices(self.bounds, bounds)
        return self.dn[(slice(None), *slices)], self.valid[slices]


def read_strips(composites: CompositeReader, rows: Iterable[list[Window]]) -> Iterator[tuple[list[Window], RowStrip]]:
    """Yield each row of windows with its pixels; a separate thread reads the next row meanwhile."""

    def read(row: list[Window]) -> tuple[list[Window], RowStrip]:
        bounds = (row[0].bounds[0], row[0].bounds[1], row[-1].bounds[2], row[0].bounds[3])
        with stage("read"):
            return row, RowStrip(bounds, *composites.read(bounds))

    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = None
        for row in rows:
            following = reader.submit(read, row)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


class ValidityBuffer:
    """Validity of the strips read last, for blended pieces that are requested from north to south."""

    def __init__(self) -> None:
        self._strips: deque[tuple[Bounds, np.ndarray]] = deque()

    def add(self, strip: RowStrip) -> None:
        self._strips.append((strip.bounds, strip.valid))

    def crop(self, bounds: Bounds) -> np.ndarray:
        """Return bool [h, w] at 10 m; discard the strips north of the bounds."""
        while self._strips[0][0][1] >= bounds[3]:
            self._strips.popleft()
        for outer, valid in self._strips:
            if outer[1] <= bounds[1] and bounds[3] <= outer[3]:
                return valid[_slices(outer, bounds)]
        raise AssertionError(f"no strip contains {bounds}")


def _slices(outer: Bounds, inner: Bounds) -> tuple[slice, slice]:
    """Return the rows and columns, at 10 m, of bounds inside others."""
    return (
        slice((outer[3] - inner[3]) // LR_M, (outer[3] - inner[1]) // LR_M),
        slice((inner[0] - outer[0]) // LR_M, (inner[2] - outer[0]) // LR_M),
    )
