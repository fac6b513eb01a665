"""Streaming blend of overlapping windows: a piece leaves as soon as no later window can touch it."""

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
    """Weighted sums of window results over `bounds`, in pieces from north to south and from west to east.

    Every pixel adds up its windows in the order of `lattice.windows`, in float32, with weights that depend on the place
    inside the window alone: the sums are the same bits however the ground is cut into bounds. Memory holds one window,
    and what overlaps the next row of windows: (window_m - stride_m) rows over the width of the bounds.

    Args:
        results: every window of `lattice.windows(bounds, ...)` in its order: float32 [channels, window_m, window_m]
            (1 m pixels, north up), or None where no pixel of the window will be used.
        bounds: (minx, miny, maxx, maxy), whole metres of the UTM zone.
        device: where the results are and the sums are made.

    Yields:
        (bounds of the piece, float32 [channels, rows, columns]); pieces fill `bounds` without overlap, at most
        window_m high and wide. A piece is only good until the next one is asked for.
    """
    share = torch.from_numpy(lattice.weights(window_m, stride_m)).to(device)
    sums = _Sums(share[:, None] * share[None, :], stride_m, channels, bounds)
    row: int | None = None
    for window, values in results:
        if window.bounds[3] != row:
            if row is not None:
                yield from sums.end_of_row()
            sums.begin_row(window)
            row = window.bounds[3]
        else:
            yield from sums.step_east()
        if values is not None:
            sums.add(values)
    if row is not None:
        yield from sums.end_of_row()
        yield from sums.rest()


class _Sums:
    """The sums of the window under way, and below its row those of the row that overlaps the next one."""

    def __init__(self, weight: Tensor, stride_m: int, channels: int, bounds: Bounds) -> None:
        self.weight, self.stride, self.bounds = weight, stride_m, bounds
        self.window = weight.shape[0]
        self.overlap = self.window - stride_m
        self.here = weight.new_zeros((channels, self.window, self.window))
        self.scratch = torch.empty_like(self.here)
        self.below: Tensor | None = None  # [channels, overlap, width of the row of windows]
        self.first = self.west = self.north = 0

    def begin_row(self, window: Window) -> None:
        self.first = self.west = window.bounds[0]
        self.north = window.bounds[3]
        self.here.zero_()
        if self.below is not None:
            self.here[:, : self.overlap] = self.below[:, :, : self.window]

    def add(self, values: Tensor) -> None:
        # Two operations, not a fused one: whether that rounds once or twice may depend on where in memory a pixel lies.
        with stage("blend"):
            torch.mul(values, self.weight, out=self.scratch)
            self.here += self.scratch

    def step_east(self) -> Iterator[Piece]:
        """To the next window of the row; gives what no later window of the lattice touches."""
        yield from self._leave(self.stride)
        with stage("blend"):
            self._step()

    def _step(self) -> None:
        self.here[:, :, : self.overlap] = self.here[:, :, self.stride :].clone()
        self.here[:, :, self.overlap :] = 0
        self.west += self.stride
        if self.below is not None:
            east = self.west - self.first + self.overlap
            self.here[:, : self.overlap, self.overlap :] = self.below[:, :, east : east + self.stride]

    def end_of_row(self) -> Iterator[Piece]:
        yield from self._leave(self.window)

    def rest(self) -> Iterator[Piece]:
        """What the last row of windows left below its own strides, where the bounds reach so far."""
        if self.below is None:
            return
        for start in range(0, self.below.shape[2], self.window):
            part = self.below[:, :, start : start + self.window]
            yield from self._inside(part, self.first + start, self.north - self.stride)

    def _leave(self, columns: int) -> Iterator[Piece]:
        """Gives the upper rows of the first columns, and keeps their lower ones for the next row of windows."""
        yield from self._inside(self.here[:, : self.stride, :columns], self.west, self.north)
        if self.overlap:
            self._keep(self.here[:, self.stride :, :columns], self.west - self.first)

    def _keep(self, part: Tensor, start: int) -> None:
        end = start + part.shape[2]
        if self.below is None:
            steps = -(-(self.bounds[2] - self.first) // self.stride) - 1
            self.below = part.new_zeros((part.shape[0], self.overlap, steps * self.stride + self.window))
        self.below[:, :, start:end] = part

    def _inside(self, values: Tensor, west: int, north: int) -> Iterator[Piece]:
        """The part of values, upper left pixel at (west, north), that lies in the bounds."""
        minx, miny, maxx, maxy = self.bounds
        left, right = max(west, minx), min(west + values.shape[2], maxx)
        top, bottom = min(north, maxy), max(north - values.shape[1], miny)
        if left < right and bottom < top:
            yield (left, bottom, right, top), values[:, north - top : north - bottom, left - west : right - west]
