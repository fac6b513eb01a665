"""What the networks read: windows of the 10 m composites, one row of them read ahead of the computing."""

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


class Composites:
    """10 m composites of one zone, and their merged dates where the bands ask for them, read as reflectance and validity."""

    def __init__(self, paths: list[Path], bands: tuple[str, ...], merged: Sequence[Path] = ()) -> None:
        own = count_composite_bands(bands)
        self.mosaic = Mosaic(paths)
        *self._bands, self._clear = _numbers(self.mosaic, (*bands[:own], CLEAR))
        if self.mosaic.res_m != LR_M or self.mosaic.dtype != "uint16":
            raise DataError(
                f"{paths[0]} has {self.mosaic.res_m} m pixels of {self.mosaic.dtype}; composites have {LR_M} m and "
                "uint16 (reflectance x 10000, 0 unknown); make it again"
            )
        self._merged, self._more = None, []
        if own < len(bands):
            if not merged:
                raise DataError(
                    f"the checkpoint reads merged dates ({bands[own]} ...) but none were made beside {paths[0]}; "
                    "set sentinel2.dates as it was for the dataset"
                )
            self._merged = Mosaic(list(merged))
            self._more = _numbers(self._merged, bands[own:])

    def read(self, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """(uint16 [bands, h, w] reflectance x 10000, bool [h, w] seen clear at least once)."""
        array = self.mosaic.read(bounds, [*self._bands, self._clear])
        if self._merged is None:
            return array[:-1], array[-1] > 0
        return fill_merged(np.concatenate([array[:-1], self._merged.read(bounds, self._more)])), array[-1] > 0


def _numbers(mosaic: Mosaic, bands: Sequence[str]) -> list[int]:
    """The numbers, from 1, of bands by name."""
    names = mosaic.descriptions
    if missing := [name for name in bands if name not in names]:
        raise DataError(f"{mosaic.paths[0]} has bands {names} but lacks {missing}; make the composites again with them")
    return [names.index(name) + 1 for name in bands]


class Strip(NamedTuple):
    """The ground of one row of windows."""

    bounds: Bounds
    dn: np.ndarray
    """uint16 [bands, h, w] at 10 m."""
    known: np.ndarray
    """bool [h, w]."""

    def of(self, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """(dn, known) of bounds inside the strip."""
        place = _place(self.bounds, bounds)
        return self.dn[(slice(None), *place)], self.known[place]


def strips(composites: Composites, rows: Iterable[list[Window]]) -> Iterator[tuple[list[Window], Strip]]:
    """Each row of windows with its ground; while one is worked on, the next is read in a thread of its own."""

    def read(row: list[Window]) -> tuple[list[Window], Strip]:
        bounds = (row[0].bounds[0], row[0].bounds[1], row[-1].bounds[2], row[0].bounds[3])
        with stage("read"):
            return row, Strip(bounds, *composites.read(bounds))

    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = None
        for row in rows:
            following = reader.submit(read, row)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


class Seen:
    """Which ground of the strips read last was seen clear, for pieces that are asked for from north to south."""

    def __init__(self) -> None:
        self._strips: deque[tuple[Bounds, np.ndarray]] = deque()

    def keep(self, strip: Strip) -> None:
        self._strips.append((strip.bounds, strip.known))

    def of(self, bounds: Bounds) -> np.ndarray:
        """bool [h, w] at 10 m."""
        while self._strips[0][0][1] >= bounds[3]:
            self._strips.popleft()
        for place, known in self._strips:
            if place[1] <= bounds[1] and bounds[3] <= place[3]:
                return known[_place(place, bounds)]
        raise AssertionError(f"no strip holds {bounds}")


def _place(outer: Bounds, inner: Bounds) -> tuple[slice, slice]:
    """Rows and columns, at 10 m, of bounds inside others."""
    return (
        slice((outer[3] - inner[3]) // LR_M, (outer[3] - inner[1]) // LR_M),
        slice((inner[0] - outer[0]) // LR_M, (inner[2] - outer[0]) // LR_M),
    )
