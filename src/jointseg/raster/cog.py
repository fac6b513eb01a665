"""Block-aligned Cloud Optimized GeoTIFFs (COG), written from one array or by windows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.io import DatasetWriter, MemoryFile
from rasterio.windows import Window

from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write, strips_path

BLOCK_PX = 512


@contextmanager
def open_writer(
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
) -> Iterator["Writer"]:
    """Yield a writer of windows; turn the raster into a COG on exit, or remove it after an error.

    Args:
        shape: (rows, columns).
        dtype: numpy name of the data type.
        crs: such as "EPSG:32650".
        overviews: resampling of the overviews ("nearest", "average"); None for no overviews.
    """
    grid = {"height": shape[0], "width": shape[1], "crs": crs, "transform": transform}
    # Strips: rows are written once, in order, and the COG driver reads them in the same order.
    layout = {"driver": "GTiff", "tiled": False, "interleave": "band", "bigtiff": "IF_SAFER"}
    with atomic_write(path) as part:
        strips = strips_path(part)
        with rasterio.open(strips, "w", **grid, **layout, count=count, dtype=dtype, nodata=nodata) as target:
            if descriptions:
                target.descriptions = tuple(descriptions)
            target.update_tags(**(tags or {}))
            yield Writer(target)
        copy_to_cog(strips, part, overviews)


class Writer:
    """Writes windows of a raster."""

    def __init__(self, target: DatasetWriter) -> None:
        self._target = target

    def write(self, array: np.ndarray, row: int = 0, col: int = 0) -> None:
        """Write [bands, rows, columns] with the upper left pixel at (row, col)."""
        self._target.write(array, window=Window(col, row, array.shape[2], array.shape[1]))


def copy_to_cog(
    source: object,
    target: Path,
    overviews: str | None,
    block_px: int = BLOCK_PX,
    threads: int = 1,
    expected: Callable[[int, int], np.ndarray] | None = None,
) -> None:
    """Copy a raster to a COG and read it back. Raises DataError if the COG contains other pixels.

    Args:
        source: path or dataset name of the raster.
        overviews: resampling of the overviews; None for no overviews.
        threads: number of threads for compression; it does not change the bytes.
        expected: function of (first row, number of rows) that returns the [bands, rows, columns] that the COG must
            contain; None to check only that all blocks can be read.
    """
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
    # GDAL can miss a failed write until the blocks are read back.
    with rasterio.open(target) as copy:
        for _, window in copy.block_windows(1):
            pixels = copy.read(window=window)
            if expected is not None:
                rows = expected(window.row_off, window.height)
                if not np.array_equal(pixels, rows[:, :, window.col_off : window.col_off + window.width]):
                    raise DataError(f"{target} was written but reads back with other pixels; check the disk")


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
    """Write [bands, rows, columns] as a COG, atomically. `block_px`, the side of a block, is a multiple of 16."""
    count, height, width = array.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": array.dtype.name}
    with atomic_write(path) as part, MemoryFile() as memory:
        with memory.open(**profile, crs=crs, transform=transform, nodata=nodata) as target:
            target.write(array)
            if descriptions:
                target.descriptions = tuple(descriptions)
            target.update_tags(**(tags or {}))
        copy_to_cog(memory.name, part, overviews, block_px)
