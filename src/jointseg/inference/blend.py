"""Streaming blend of overlapping windows: finished rows leave as soon as no later window can touch them."""

from collections.abc import Iterable, Iterator

import numpy as np

from jointseg.inference import lattice
from jointseg.inference.lattice import Window

Bounds = tuple[int, int, int, int]


def blend(
    results: Iterable[tuple[Window, np.ndarray | None]],
    bounds: Bounds,
    window_m: int,
    stride_m: int,
    channels: int = 1,
) -> Iterator[tuple[int, np.ndarray]]:
    """Weighted sums of window results over `bounds`, in row bands from north to south.

    Every pixel adds up its windows in the order of `lattice.windows`, in float32, with weights that depend on the place
    inside the window alone: the sums are the same bits however the ground is cut into bounds. Memory holds one band of
    window_m rows over the width of the bounds.

    Args:
        results: every window of `lattice.windows(bounds, ...)` in its order: float32 [channels, window_m, window_m]
            (1 m pixels, north up), or None where no pixel of the window will be used.
        bounds: (minx, miny, maxx, maxy), whole metres of the UTM zone.

    Yields:
        (row, values): first 1 m row below the northern edge of the bounds; float32 [channels, rows, columns].
    """
    minx, miny, maxx, maxy = bounds
    share = lattice.weights(window_m, stride_m)
    weight = share[:, None] * share[None, :]
    band = np.zeros((channels, window_m, maxx - minx), dtype=np.float32)
    north: int | None = None
    for window, values in results:
        west, _, east, top = window.bounds
        if north is not None and top != north:
            yield from _finished(band, north, top, miny, maxy)
            done = north - top
            band[:, : window_m - done] = band[:, done:].copy()
            band[:, window_m - done :] = 0
        north = top
        if values is not None:
            first, last = max(west, minx), min(east, maxx)
            inside = slice(first - west, last - west)
            band[:, :, first - minx : last - minx] += values[:, :, inside] * weight[:, inside]
    if north is not None:
        yield from _finished(band, north, north - window_m, miny, maxy)


def _finished(band: np.ndarray, north: int, south: int, miny: int, maxy: int) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of the band (its top row at northing `north`) between `south` and its top that lie in the bounds."""
    top, bottom = min(north, maxy), max(south, miny)
    if top > bottom:
        yield maxy - top, band[:, north - top : north - bottom].copy()
