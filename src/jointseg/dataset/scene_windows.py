"""Reads high-resolution scenes: many windows with every block decoded once, and their pixels on a chip's lattice."""

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

# Rows of a scene that are decoded at a time, where its blocks are not higher.
BAND_PX = 512
# Of GDAL's own blocks: no block is asked for twice, so that they need not stay.
CACHE_BYTES = 128 << 20
# Pixels around a window for the kernels.
KERNEL_PX = 4
# How far a warp to another CRS may be off the exact one: a twentieth of what registration is to find.
TOLERANCE_PX = 0.05


@dataclass(frozen=True)
class WindowRequest:
    """What is wanted of a scene: bounds in a UTM zone, and the registration shift (x, y), m, that moves the scene."""

    epsg: int
    bounds: Bounds
    shift_m: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class SceneWindow:
    """A scene's own pixels under a window.

    Attributes:
        values: [3, rows, columns] red, green, blue, as stored.
        known: bool [rows, columns], or None where all is known.
        transform: pixel to the scene's coordinates, moved by the shift when in the same CRS as the chip.
        crs: the scene's.
    """

    values: np.ndarray
    known: np.ndarray | None
    transform: Affine
    crs: str


class SceneReader:
    """One scene, read from north to south.

    Attributes:
        pixels: how many pixels were decoded so far.
        size: pixels of the raster.
    """

    def __init__(self, folder: Path, scene: Scene) -> None:
        self._path, self._scene = folder / scene.path, scene
        self.pixels = self.size = 0

    def windows(self, wanted: Sequence[WindowRequest]) -> Iterator[tuple[int, SceneWindow]]:
        """(number in `wanted`, its pixels) as the windows fill up; every block that they touch is decoded once.

        Row bands of whole blocks are read from the top, each in as few stretches of whole blocks as the windows
        leave. In memory are one such stretch and the windows that are begun.
        """
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), raster_io.open_raster(self._path) as source:
            self.size = source.width * source.height
            crs = source.crs.to_string()
            places = [_window(source, crs, one) for one in wanted]
            height = _band_px(source)
            begun: dict[int, np.ndarray] = {}
            order = [number for number, place in enumerate(places) if place.width and place.height]
            for top in range(0, source.height, height):
                bottom = min(top + height, source.height)
                here = [n for n in order if places[n].row_off < bottom and _end(places[n]) > top]
                for left, right in _stretches([places[n] for n in here], source.block_shapes[0][1], source.width):
                    span = Window(left, top, right - left, bottom - top)
                    values = source.read(list(self._scene.bands), window=span)
                    self.pixels += (right - left) * (bottom - top)
                    for number in here:
                        if left <= places[number].col_off < right:
                            _copy(
                                values, span, places[number], begun.setdefault(number, _empty(places[number], values))
                            )
                for number in here:
                    if _end(places[number]) <= bottom:
                        yield number, self._raw(source, crs, places[number], begun.pop(number), wanted[number])
            for number in sorted(set(range(len(places))) - set(order)):
                nothing = np.zeros((3, 0, 0), dtype=source.dtypes[0])
                yield number, SceneWindow(nothing, None, source.transform, crs)

    def _raw(
        self, source: DatasetReader, crs: str, place: Window, values: np.ndarray, one: WindowRequest
    ) -> SceneWindow:
        known = None
        if not math.isnan(self._scene.nodata):
            # Data are zero in one band where water or shadow is black; unknown where all bands are.
            known = np.any(values != self._scene.nodata, axis=0)
        transform = source.transform @ Affine.translation(place.col_off, place.row_off)
        if crs == f"EPSG:{one.epsg}":
            transform = Affine.translation(*one.shift_m) @ transform
        return SceneWindow(values, None if known is None or known.all() else known, transform, crs)


def _window(source: DatasetReader, crs: str, one: WindowRequest) -> Window:
    """The part of a scene that holds the wanted bounds, moved back by the shift."""
    west, south, east, north = one.bounds
    moved = shapely.box(west - one.shift_m[0], south - one.shift_m[1], east - one.shift_m[0], north - one.shift_m[1])
    if crs != f"EPSG:{one.epsg}":
        moved = grid.reproject(moved.segmentize((east - west) / 4), f"EPSG:{one.epsg}", crs)
    west, south, east, north = moved.bounds
    left, top = ~source.transform @ (west, north)
    right, bottom = ~source.transform @ (east, south)
    left, top = max(math.floor(left) - KERNEL_PX, 0), max(math.floor(top) - KERNEL_PX, 0)
    right = min(math.ceil(right) + KERNEL_PX, source.width)
    bottom = min(math.ceil(bottom) + KERNEL_PX, source.height)
    return Window(left, top, max(right - left, 0), max(bottom - top, 0))


def _band_px(source: DatasetReader) -> int:
    height = source.block_shapes[0][0]
    return height * max(1, BAND_PX // height)


def _end(place: Window) -> int:
    return place.row_off + place.height


def _stretches(places: Sequence[Window], block: int, width: int) -> list[tuple[int, int]]:
    """Columns that windows need, in whole blocks, those that touch joined."""
    spans = sorted((p.col_off // block * block, min(-(-(p.col_off + p.width) // block) * block, width)) for p in places)
    joined: list[tuple[int, int]] = []
    for left, right in spans:
        if joined and left <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(right, joined[-1][1]))
        else:
            joined.append((left, right))
    return joined


def _empty(place: Window, like: np.ndarray) -> np.ndarray:
    return np.empty((len(like), place.height, place.width), dtype=like.dtype)


def _copy(values: np.ndarray, span: Window, place: Window, to: np.ndarray) -> None:
    top, bottom = max(span.row_off, place.row_off), min(span.row_off + span.height, place.row_off + place.height)
    rows = slice(top - span.row_off, bottom - span.row_off)
    left = place.col_off - span.col_off
    to[:, top - place.row_off : bottom - place.row_off] = values[:, rows, left : left + place.width]


def resample_to_1m(raw: SceneWindow, one: WindowRequest) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [3, rows, columns] digital numbers, bool [rows, columns] known) at 1 m, moved by the shift.

    In the same CRS a cubic kernel as wide as the larger of the two pixels, evaluated at the shifted places: one
    resampling in all. In another CRS GDAL's warp, with a kernel of the same width.
    """
    west, south, east, north = one.bounds
    shape = (round(north - south), round(east - west))
    if not raw.values.size:
        return np.zeros((3, *shape), dtype=np.float32), np.zeros(shape, dtype=bool)
    if raw.crs == f"EPSG:{one.epsg}":
        rows, cols = _axes(raw, (west + 0.5, north - 0.5), 1.0, shape)
        out, known = resample.resample_valid(
            resample.antialiased_weights(*rows), resample.antialiased_weights(*cols), raw.values, raw.known
        )
        known &= _within(*rows)[:, None] & _within(*cols)
        return np.where(known, out, np.float32(0)), known
    values = raw.values.astype(np.float32)
    if raw.known is not None:
        values[:, ~raw.known] = np.nan
    out = np.full((3, *shape), np.nan, dtype=np.float32)
    reproject(
        values,
        out,
        src_transform=raw.transform,
        src_crs=raw.crs,
        src_nodata=np.nan,
        dst_transform=Affine(1, 0, west - one.shift_m[0], 0, -1, north - one.shift_m[1]),
        dst_crs=f"EPSG:{one.epsg}",
        dst_nodata=np.nan,
        resampling=Resampling.cubic,
        tolerance=TOLERANCE_PX,
    )
    known = np.isfinite(out).all(axis=0)
    return np.where(known, out, 0), known


def resample_to_10m(raw: SceneWindow, one: WindowRequest) -> np.ndarray:
    """float32 [3, rows, columns] of the scene as the composite's sensor sees it, at the 10 m pixels of the bounds.

    The sensor's point spread evaluated at the centres of the 10 m pixels alone, straight from the scene's pixels.
    """
    margin = registration.PSF_MARGIN_M
    west, south, east, north = one.bounds
    shape = (round(north - south) // registration.RATIO, round(east - west) // registration.RATIO)
    known: np.ndarray | None = raw.known
    if not raw.values.size:
        return np.zeros((3, *shape), dtype=np.float32)
    if raw.crs != f"EPSG:{one.epsg}":
        wide = WindowRequest(one.epsg, (west - margin, south - margin, east + margin, north + margin), one.shift_m)
        values, known = resample_to_1m(raw, wide)
        raw = SceneWindow(values, known, Affine(1, 0, west - margin, 0, -1, north + margin), f"EPSG:{one.epsg}")
    half = registration.RATIO / 2
    rows, cols = _axes(raw, (west + half, north - half), float(registration.RATIO), shape)
    pixel = raw.transform.a
    sigma, reach = registration.PSF_SIGMA_M / pixel, margin / pixel
    image, _ = resample.resample_valid(
        resample.gaussian_weights(sigma, reach, *rows),
        resample.gaussian_weights(sigma, reach, *cols),
        raw.values,
        known,
    )
    return image


Axis = tuple[float, float, int, int]


def _axes(raw: SceneWindow, first: tuple[float, float], step_m: float, shape: tuple[int, int]) -> tuple[Axis, Axis]:
    """First centre, step, count and size, as `resample.axis` takes them, of rows and of columns.

    Args:
        first: centre of the upper left output pixel (x, y), m.
    """
    col, row = ~raw.transform @ first
    down, right = step_m / -raw.transform.e, step_m / raw.transform.a
    height, width = raw.values.shape[1:]
    return (row - 0.5, down, shape[0], height), (col - 0.5, right, shape[1], width)


def _within(first: float, step: float, count: int, size: int) -> np.ndarray:
    """bool [count], which output pixels have their centre inside the source."""
    centres = first + step * np.arange(count)
    return (centres >= -0.5) & (centres <= size - 0.5)
