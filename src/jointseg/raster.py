"""The one room that opens rasters for writing: atomic files, block-aligned COGs, windows, validity."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from jointseg import store
from jointseg.errors import DataError

Bounds = tuple[float, float, float, float]
BLOCK_PX = 512
_PART, _STRIPS = ".part-", ".strips.tif"
_CACHE_MB = 32
_FULL_BYTES = 4 << 20  # a block that found no room may leave this much


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file or a folder to; renamed to `path` on success, removed otherwise.

    Raises DataError when the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{_PART}{os.getpid()}-{path.name}")
    remove(part)
    try:
        yield part
        _replace(part, path)
    except Exception as error:
        # GDAL says that a write failed, not why; what was half-written still lies there.
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(path.parent).free < _FULL_BYTES:
            raise DataError(
                f"no space left on the disk of {path.parent} to write {path.name}; free some and run again"
            ) from error
        raise
    finally:
        remove(part)
        remove(strips_of(part))


def strips_of(part: Path) -> Path:
    """Where a Writer keeps its row bands until they become a COG."""
    return part.with_name(part.name + _STRIPS)


def remove_parts(path: Path) -> None:
    """Removes what killed jobs left half-written beside `path`; call only when no other job writes it."""
    path = Path(path)
    own = re.compile(rf"{re.escape(_PART)}\d+-(old-)?{re.escape(path.name)}({re.escape(_STRIPS)})?")
    for part in [beside for beside in path.parent.iterdir() if own.fullmatch(beside.name)]:
        remove(part)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    if path.is_dir():  # a folder cannot be renamed over a folder that holds files
        old = path.with_name(f"{_PART}{os.getpid()}-old-{path.name}")
        path.rename(old)
        part.rename(path)
        remove(old)
    else:
        part.replace(path)


class Writer:
    """Writes one raster piece by piece; on leaving the block it becomes a COG at `path`, or nothing.

    Args:
        path: the COG to make.
        shape: (rows, columns).
        count: number of bands.
        dtype: numpy name of the type.
        crs: such as "EPSG:32650".
        transform: pixel to map.
        nodata: the value of unknown pixels.
        descriptions: a name for each band.
        tags: text kept in the file.
        overviews: resampling of the overviews ("nearest", "average") or None for none.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int, int],
        count: int,
        dtype: str,
        crs: str,
        transform: Affine,
        nodata: float | None = None,
        descriptions: Sequence[str] = (),
        tags: dict[str, str] | None = None,
        overviews: str | None = "nearest",
    ) -> None:
        self.path, self.overviews = Path(path), overviews
        self._profile = {
            "driver": "GTiff",
            "height": shape[0],
            "width": shape[1],
            "count": count,
            "dtype": dtype,
            "crs": crs,
            "transform": transform,
            "nodata": nodata,
            # Plain strips: row bands are written once each, and the COG driver reads them in order.
            "tiled": False,
            "interleave": "band",
            "bigtiff": "IF_SAFER",
        }
        self._descriptions, self._tags = tuple(descriptions), tags or {}
        self._stack = ExitStack()

    def __enter__(self) -> "Writer":
        with ExitStack() as stack:
            self._part = stack.enter_context(atomic(self.path))
            self._strips = strips_of(self._part)
            self._to = rasterio.open(self._strips, "w", **self._profile)
            if self._descriptions:
                self._to.descriptions = self._descriptions
            self._to.update_tags(**self._tags)
            self._stack = stack.pop_all()
        return self

    def write(self, array: np.ndarray, row: int = 0, col: int = 0) -> None:
        """Writes [bands, rows, columns] with its upper left pixel at (row, col)."""
        self._to.write(array, window=Window(col, row, array.shape[2], array.shape[1]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self._to.close()
            if error is not None:
                raise error
            copy_to_cog(self._strips, self._part, self.overviews)


def copy_to_cog(
    source: object,
    target: Path,
    overviews: str | None,
    block_px: int = BLOCK_PX,
    threads: int = 1,
    content: Callable[[int, int], np.ndarray] | None = None,
) -> None:
    """Makes a COG; `content` gives, for a first row and a number of rows, [bands, rows, columns] that must be read from it."""
    options = {"OVERVIEW_RESAMPLING": overviews.upper()} if overviews else {"OVERVIEWS": "NONE"}
    rasterio.shutil.copy(
        source,
        target,
        driver="COG",
        COMPRESS="DEFLATE",
        PREDICTOR="YES",
        BLOCKSIZE=str(block_px),
        NUM_THREADS=str(threads),
        BIGTIFF="IF_SAFER",
        **options,
    )
    # GDAL may report a write that failed only when the blocks are read again.
    with rasterio.open(target) as made:
        for _, window in made.block_windows(1):
            read = made.read(window=window)
            if content is not None:
                wanted = content(window.row_off, window.height)[:, :, window.col_off : window.col_off + window.width]
                if not np.array_equal(read, wanted):
                    raise DataError(f"{target} was written but other pixels are read from it; look after the disk")


def write(
    path: Path,
    array: np.ndarray,
    *,
    crs: str,
    transform: Affine,
    nodata: float | None = None,
    descriptions: Sequence[str] = (),
    tags: dict[str, str] | None = None,
    overviews: str | None = None,
    block_px: int = BLOCK_PX,
) -> None:
    """Writes [bands, rows, columns] as one COG, atomically; blocks are squares of `block_px`, a multiple of 16."""
    count, height, width = array.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": array.dtype.name}
    with atomic(path) as part, MemoryFile() as memory:
        with memory.open(**profile, crs=crs, transform=transform, nodata=nodata) as to:
            to.write(array)
            if descriptions:
                to.descriptions = tuple(descriptions)
            to.update_tags(**(tags or {}))
        copy_to_cog(memory.name, part, overviews, block_px)


@contextmanager
def small_cache() -> Iterator[None]:
    """GDAL keeps few blocks that it has read; by default they may fill a twentieth of the machine's memory.

    It has an effect only before a process reads its first block.
    """
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        yield


@contextmanager
def opened(path: Path | str) -> Iterator[rasterio.DatasetReader]:
    """An open raster; DataError naming the file when it, or a block of it, cannot be read."""
    try:
        with rasterio.open(store.place(path)) as source:
            yield source
    except RasterioError as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{path} cannot be read as a raster ({cause}); restore or delete the file and run again"
        ) from error


def window_of(transform: Affine, bounds: Bounds) -> tuple[int, int, int, int]:
    """(row, column, rows, columns) of bounds that lie on whole pixels of a north-up lattice.

    Raises DataError when they do not.
    """
    min_x, min_y, max_x, max_y = bounds
    edges = [
        (transform.f - max_y) / -transform.e,
        (min_x - transform.c) / transform.a,
        (max_y - min_y) / -transform.e,
        (max_x - min_x) / transform.a,
    ]
    whole = [round(edge) for edge in edges]
    if any(abs(edge - near) > 1e-6 for edge, near in zip(edges, whole)):
        raise DataError(
            f"bounds {bounds} do not lie on the {transform.a:g} m lattice with origin ({transform.c:g}, {transform.f:g})"
        )
    return whole[0], whole[1], whole[2], whole[3]


def read(
    path: Path, bounds: Bounds | None = None, bands: Sequence[int] | None = None
) -> tuple[np.ndarray, Affine, str]:
    """([bands, rows, columns], transform, CRS) of a raster or of bounds on its lattice.

    What lies outside the raster is its nodata (0 where it declares none). Bands count from 1.
    """
    with opened(path) as source:
        crs = source.crs.to_string()
        bands = list(bands) if bands else list(source.indexes)
        if bounds is None:
            return source.read(bands), source.transform, crs
        row, col, rows, cols = window_of(source.transform, bounds)
        fill = 0 if source.nodata is None else source.nodata
        window = Window(col, row, cols, rows)
        array = source.read(bands, window=window, boundless=True, fill_value=fill)
        return array, source.transform @ Affine.translation(col, row), crs
