"""Block-aligned Cloud Optimized GeoTIFFs, written whole or piece by piece."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.windows import Window

from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write, strips_path

BLOCK_PX = 512


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
            self._part = stack.enter_context(atomic_write(self.path))
            self._strips = strips_path(self._part)
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
    with atomic_write(path) as part, MemoryFile() as memory:
        with memory.open(**profile, crs=crs, transform=transform, nodata=nodata) as to:
            to.write(array)
            if descriptions:
                to.descriptions = tuple(descriptions)
            to.update_tags(**(tags or {}))
        copy_to_cog(memory.name, part, overviews, block_px)
