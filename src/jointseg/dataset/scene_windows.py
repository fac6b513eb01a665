"""Windowed reading of high-resolution scenes with every block decoded once, and resampling to a chip's pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.io import DatasetReader
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window

from jointseg.area import grid
from jointseg.dataset import registration, resample
from jointseg.dataset.scenes import Scene
from jointseg.raster import io as raster_io
from jointseg.raster.io import Bounds

# Rows of a scene that are decoded at a time, unless its blocks are higher.
STRIP_PX = 512
# Size of GDAL's block cache: small, because no block is read twice.
CACHE_BYTES = 128 << 20
# Margin of a window for the resampling kernels, pixels.
KERNEL_PX = 4
# Maximum error of a warp to another CRS, pixels: a twentieth of the accuracy that registration is to reach.
TOLERANCE_PX = 0.05


@dataclass(frozen=True)
class WindowRequest:
    """A requested part of a scene: bounds in a UTM zone, and the scene's registration shift (x, y), m."""

    epsg: int
    bounds: Bounds
    shift_m: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class SceneWindow:
    """The scene's own pixels in a window."""

    values: np.ndarray  # [3, rows, columns] red, green, blue, as stored
    valid: np.ndarray | None  # bool [rows, columns], or None if all pixels are valid
    transform: Affine  # pixel to the scene's coordinates; includes the shift if scene and chip have the same CRS
    crs: str


class SceneReader:
    """Reader of one scene, from north to south; `decoded_px` of its `size_px` pixels have been decoded so far."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        self._path, self._scene = folder / scene.path, scene
        self.decoded_px = self.size_px = 0

    def windows(self, requests: Sequence[WindowRequest]) -> Iterator[tuple[int, SceneWindow]]:
        """Yield (index in `requests`, its pixels) as the windows are completed; every block is decoded once.

        Strips of whole blocks are read from the top, each in as few column spans of whole blocks as the windows need.
        Memory holds one span and the incomplete windows.
        """
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), raster_io.open_raster(self._path) as source:
            self.size_px = source.width * source.height
            crs = source.crs.to_string()
            windows = [_window(source, crs, request) for request in requests]
            height = source.block_shapes[0][0]
            height *= max(1, STRIP_PX // height)
            incomplete: dict[int, np.ndarray] = {}
            non_empty = [i for i, window in enumerate(windows) if window.width and window.height]
            for top in range(0, source.height, height):
                bottom = min(top + height, source.height)
                in_strip = [i for i in non_empty if windows[i].row_off < bottom and _bottom(windows[i]) > top]
                for left, right in _spans([windows[i] for i in in_strip], source.block_shapes[0][1], source.width):
                    span = Window(left, top, right - left, bottom - top)
                    values = source.read(list(self._scene.bands), window=span)
                    self.decoded_px += (right - left) * (bottom - top)
                    for i in in_strip:
                        if left <= windows[i].col_off < right:
                            shape = (len(values), windows[i].height, windows[i].width)
                            _copy(values, span, windows[i], incomplete.setdefault(i, np.empty(shape, values.dtype)))
                for i in in_strip:
                    if _bottom(windows[i]) <= bottom:
                        yield i, self._scene_window(source, crs, windows[i], incomplete.pop(i), requests[i])
            for i in sorted(set(range(len(windows))) - set(non_empty)):
                no_pixels = np.zeros((3, 0, 0), dtype=source.dtypes[0])
                yield i, SceneWindow(no_pixels, None, source.transform, crs)

    def _scene_window(
        self, source: DatasetReader, crs: str, window: Window, values: np.ndarray, request: WindowRequest
    ) -> SceneWindow:
        valid = None
        if not math.isnan(self._scene.nodata):
            # A valid pixel may have the nodata value in one band, such as 0 in black water or shadow.
            valid = np.any(values != self._scene.nodata, axis=0)
        transform = source.transform @ Affine.translation(window.col_off, window.row_off)
        if crs == f"EPSG:{request.epsg}":
            transform = Affine.translation(*request.shift_m) @ transform
        return SceneWindow(values, None if valid is None or valid.all() else valid, transform, crs)


def _window(source: DatasetReader, crs: str, request: WindowRequest) -> Window:
    """Return the window of a scene that covers the requested bounds, moved back by the shift."""
    west, south, east, north = request.bounds
    x, y = request.shift_m
    moved = shapely.box(west - x, south - y, east - x, north - y)
    if crs != f"EPSG:{request.epsg}":
        moved = grid.reproject(moved.segmentize((east - west) / 4), f"EPSG:{request.epsg}", crs)
    west, south, east, north = moved.bounds
    left, top = ~source.transform @ (west, north)
    right, bottom = ~source.transform @ (east, south)
    left, top = max(math.floor(left) - KERNEL_PX, 0), max(math.floor(top) - KERNEL_PX, 0)
    right = min(math.ceil(right) + KERNEL_PX, source.width)
    bottom = min(math.ceil(bottom) + KERNEL_PX, source.height)
    return Window(left, top, max(right - left, 0), max(bottom - top, 0))


def _bottom(window: Window) -> int:
    return window.row_off + window.height


def _spans(windows: Sequence[Window], block: int, width: int) -> list[tuple[int, int]]:
    """Return the column spans that windows need, in whole blocks; adjacent spans are merged."""
    spans = sorted(
        (w.col_off // block * block, min(-(-(w.col_off + w.width) // block) * block, width)) for w in windows
    )
    merged: list[tuple[int, int]] = []
    for left, right in spans:
        if merged and left <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(right, merged[-1][1]))
        else:
            merged.append((left, right))
    return merged


def _copy(values: np.ndarray, span: Window, window: Window, to: np.ndarray) -> None:
    top, bottom = max(span.row_off, window.row_off), min(_bottom(span), _bottom(window))
    rows = slice(top - span.row_off, bottom - span.row_off)
    left = window.col_off - span.col_off
    to[:, top - window.row_off : bottom - window.row_off] = values[:, rows, left : left + window.width]


def resample_to_1m(window: SceneWindow, request: WindowRequest) -> tuple[np.ndarray, np.ndarray]:
    """Return (float32 [3, rows, columns] digital numbers, bool [rows, columns] valid) at 1 m, moved by the shift.

    In the chip's CRS: a cubic kernel as wide as the larger of the two pixels, evaluated at the shifted coordinates, so
    that pixels are resampled once. In another CRS: GDAL's warp, with a kernel of the same width.
    """
    west, south, east, north = request.bounds
    shape = (round(north - south), round(east - west))
    if not window.values.size:
        return np.zeros((3, *shape), dtype=np.float32), np.zeros(shape, dtype=bool)
    if window.crs == f"EPSG:{request.epsg}":
        rows, cols = _axes(window, (west + 0.5, north - 0.5), 1.0, shape)
        row_weights, col_weights = resample.antialiased_weights(*rows), resample.antialiased_weights(*cols)
        out, valid = resample.resample_valid(row_weights, col_weights, window.values, window.valid)
        valid &= _within(*rows)[:, None] & _within(*cols)
        return np.where(valid, out, np.float32(0)), valid
    values = window.values.astype(np.float32)
    if window.valid is not None:
        values[:, ~window.valid] = np.nan
    out = np.full((3, *shape), np.nan, dtype=np.float32)
    reproject(
        values,
        out,
        src_transform=window.transform,
        src_crs=window.crs,
        src_nodata=np.nan,
        dst_transform=Affine(1, 0, west - request.shift_m[0], 0, -1, north - request.shift_m[1]),
        dst_crs=f"EPSG:{request.epsg}",
        dst_nodata=np.nan,
        resampling=Resampling.cubic,
        tolerance=TOLERANCE_PX,
    )
    valid = np.isfinite(out).all(axis=0)
    return np.where(valid, out, 0), valid


def resample_to_10m(window: SceneWindow, request: WindowRequest) -> np.ndarray:
    """Return float32 [3, rows, columns]: the scene as the composite's sensor images it, at the 10 m pixels of the
    bounds.

    The sensor's point spread function is evaluated directly on the scene's pixels, only at the centres of the 10 m
    pixels.
    """
    margin = registration.PSF_MARGIN_M
    west, south, east, north = request.bounds
    shape = (round(north - south) // registration.RATIO, round(east - west) // registration.RATIO)
    valid: np.ndarray | None = window.valid
    if not window.values.size:
        return np.zeros((3, *shape), dtype=np.float32)
    if window.crs != f"EPSG:{request.epsg}":
        bounds = (west - margin, south - margin, east + margin, north + margin)
        values, valid = resample_to_1m(window, WindowRequest(request.epsg, bounds, request.shift_m))
        transform = Affine(1, 0, west - margin, 0, -1, north + margin)
        window = SceneWindow(values, valid, transform, f"EPSG:{request.epsg}")
    half = registration.RATIO / 2
    rows, cols = _axes(window, (west + half, north - half), float(registration.RATIO), shape)
    pixel = window.transform.a
    sigma, reach = registration.PSF_SIGMA_M / pixel, margin / pixel
    row_weights, col_weights = (resample.gaussian_weights(sigma, reach, *axis) for axis in (rows, cols))
    image, _ = resample.resample_valid(row_weights, col_weights, window.values, valid)
    return image


Axis = tuple[float, float, int, int]


def _axes(window: SceneWindow, first: tuple[float, float], step_m: float, shape: tuple[int, int]) -> tuple[Axis, Axis]:
    """Return the arguments of `resample.axis_weights` of rows and of columns; `first` is the first pixel's centre (x,
    y), m.
    """
    col, row = ~window.transform @ first
    down, right = step_m / -window.transform.e, step_m / window.transform.a
    height, width = window.values.shape[1:]
    return (row - 0.5, down, shape[0], height), (col - 0.5, right, shape[1], width)


def _within(first: float, step: float, count: int, size: int) -> np.ndarray:
    """Return bool [count]: output pixels whose centre is inside the source."""
    centres = first + step * np.arange(count)
    return (centres >= -0.5) & (centres <= size - 0.5)
