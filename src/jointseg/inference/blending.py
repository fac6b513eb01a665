"""Streaming blend of overlapping windows: a piece is emitted as soon as no later window overlaps it."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from jointseg.inference import lattice
from jointseg.inference.lattice import Window
from jointseg.inference.stage_times import stage

Bounds = tuple[int, int, int, int]
Piece = tuple[Bounds, Tensor]


def blend(
    results: Iterable[tuple[Window, Tensor | None]],
    bounds: Bounds,
    window_m: int,
    stride_m: int,
    channels: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Piece]:
    """Yield weighted sums of window results over `bounds`, in pieces from north to south and from west to east.

    Every pixel sums its windows in the order of `lattice.windows`, in float32, with weights that depend only on the
    position in the window. The sums are therefore bit-identical for any division of the area into bounds. Memory holds
    one window, and the overlap with the next row of windows: (window_m - stride_m) rows over the width of the bounds.

    A piece is (its bounds, float32 [channels, rows, columns]), at most window_m high and wide, and valid only until the
    next one is requested. The pieces cover `bounds` without overlap.

    Args:
        results: every window of `lattice.windows(bounds, ...)` in order: float32 [channels, window_m, window_m] (1 m
            pixels, north up) on `device`, or None if no pixel of the window is used.
        bounds: (minx, miny, maxx, maxy), integer metres of the UTM zone.
    """
    weight = torch.from_numpy(lattice.blend_weights(window_m, stride_m)).to(device)
    sums = _Sums(weight[:, None] * weight[None, :], stride_m, channels, bounds)
    row: int | None = None
    for window, values in results:
        if window.bounds[3] != row:
            if row is not None:
                yield from sums.end_of_row()
            sums.start_row(window)
            row = window.bounds[3]
        else:
            yield from sums.move_east()
        if values is not None:
            sums.add(values)
    if row is not None:
        yield from sums.end_of_row()
        yield from sums.last_rows()


class _Sums:
    """The sums of the current window, and those of its row of windows that overlap the next row."""

    def __init__(self, weight: Tensor, stride_m: int, channels: int, bounds: Bounds) -> None:
        self.weight, self.stride, self.bounds = weight, stride_m, bounds
        self.window = weight.shape[0]
        self.overlap = self.window - stride_m
        self.current = weight.new_zeros((channels, self.window, self.window))
        self.scratch = torch.empty_like(self.current)
        self.carried: Tensor | None = None  # [channels, overlap, width of the row of windows]
        self.first = self.west = self.north = 0

    def start_row(self, window: Window) -> None:
        self.first = self.west = window.bounds[0]
        self.north = window.bounds[3]
        self.current.zero_()
        if self.carried is not None:
            self.current[:, : self.overlap] = self.carried[:, :, : self.window]

    def add(self, values: Tensor) -> None:
        # Two operations, not a fused one, which can round differently depending on memory alignment.
        with stage("blend"):
            torch.mul(values, self.weight, out=self.scratch)
            self.current += self.scratch

    def move_east(self) -> Iterator[Piece]:
        """Move to the next window of the row; yield what no later window overlaps."""
        yield from self._emit(self.stride)
        with stage("blend"):
            self._shift()

    def _shift(self) -> None:
        self.current[:, :, : self.overlap] = self.current[:, :, self.stride :].clone()
        self.current[:, :, self.overlap :] = 0
        self.west += self.stride
        if self.carried is not None:
            east = self.west - self.first + self.overlap
            self.current[:, : self.overlap, self.overlap :] = self.carried[:, :, east : east + self.stride]

    def end_of_row(self) -> Iterator[Piece]:
        yield from self._emit(self.window)

    def last_rows(self) -> Iterator[Piece]:
        """Yield the rows of the last row of windows below its stride, as far as they are inside the bounds."""
        if self.carried is None:
            return
        for start in range(0, self.carried.shape[2], self.window):
            part = self.carried[:, :, start : start + self.window]
            yield from self._clip(part, self.first + start, self.north - self.stride)

    def _emit(self, columns: int) -> Iterator[Piece]:
        """Yield the upper rows of the first columns, and carry their lower rows over to the next row of windows."""
        yield from self._clip(self.current[:, : self.stride, :columns], self.west, self.north)
        if self.overlap:
            self._carry(self.current[:, self.stride :, :columns], self.west - self.first)

    def _carry(self, part: Tensor, start: int) -> None:
        end = start + part.shape[2]
        if self.carried is None:
            steps = -(-(self.bounds[2] - self.first) // self.stride) - 1
            self.carried = part.new_zeros((part.shape[0], self.overlap, steps * self.stride + self.window))
        self.carried[:, :, start:end] = part

    def _clip(self, values: Tensor, west: int, north: int) -> Iterator[Piece]:
        """Yield the part of values, upper left pixel at (west, north), inside the bounds."""
        minx, miny, maxx, maxy = self.bounds
        left, right = max(west, minx), min(west + values.shape[2], maxx)
        top, bottom = min(north, maxy), max(north - values.shape[1], miny)
        if left < right and bottom < top:
            yield (left, bottom, right, top), values[:, north - top : north - bottom, left - west : right - west]
