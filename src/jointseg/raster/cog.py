"""Block-aligned Cloud Optimized GeoTIFFs (COG), written from one array or by windows."""

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
    """A context manager that writes a raster by windows and turns it into a COG on exit; after an error, into nothing.

    Args:
        path: the COG.
        shape: (rows, columns).
        count: number of bands.
        dtype: numpy name of the data type.
        crs: such as "EPSG:32650".
        transform: from pixel to map coordinates.
        nodata: value of nodata pixels.
        descriptions: band descriptions.
        tags: metadata items of the dataset.
        overviews: resampling of the overviews ("nearest", "average"); None for no overviews.
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
            # Strips: rows are written once, in order, and the COG driver reads them in the same order.
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
            self._target = rasterio.open(self._strips, "w", **self._profile)
            if self._descriptions:
                self._target.descriptions = self._descriptions
            self._target.update_tags(**self._tags)
            self._stack = stack.pop_all()
        return self

    def write(self, array: np.ndarray, row: int = 0, col: int = 0) -> None:
        """Write [bands, rows, columns] with the upper left pixel at (row, col)."""
        self._target.write(array, window=Window(col, row, array.shape[2], array.shape[1]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self._target.close()
            if error is not None:
                raise error
            copy_to_cog(self._strips, self._part, self.overviews)


def copy_to_cog(
    source: object,
    target: Path,
    overviews: str | None,
    block_px: int = BLOCK_PX,
    threads: int = 1,
    expected: Callable[[int, int], np.ndarray] | None = None,
) -> None:
    """Copy a raster to a COG and read it back.

    Args:
        source: path or dataset name of the raster.
        target: the COG.
        overviews: resampling of the overviews; None for no overviews.
        block_px: side of a block.
        threads: number of threads for compression; it does not change the bytes.
        expected: function of (first row, number of rows) that returns the [bands, rows, columns] that the COG must
            contain; None to check only that all blocks can be read.

    Raises:
        DataError: the COG contains other pixels.
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
