"""COGs out of plain files of rows, as a pass leaves them that can be killed at any row."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from affine import Affine
from rasterio.dtypes import _gdal_typename as gdal_name

from jointseg.raster.cog import copy_to_cog
from jointseg.runtime.files import atomic_write

_PIECE_PX = 1 << 20  # counted at a time


def write(
    path: Path,
    rows: Path,
    *,
    shape: tuple[int, int],
    bands: Sequence[str],
    dtype: str,
    crs: str,
    transform: Affine,
    nodata: float,
    overviews: str,
    scale: float = 1,
    threads: int = 1,
) -> None:
    """Writes a COG, atomically, with statistics, out of a plain file that holds its rows.

    Args:
        path: the COG to make.
        rows: row after row, in each the rows of the bands, in the machine's own byte order. GDAL reads them through a
            description that is put beside.
        shape: (rows, columns).
        bands: a name for each.
        dtype: numpy name of an unsigned whole type of one or two bytes.
        overviews: resampling of the overviews ("nearest", "average").
        scale: what a stored number is multiplied with.
        threads: that compress blocks; they change no byte.
    """
    size = np.dtype(dtype).itemsize
    order = "LSB" if sys.byteorder == "little" else "MSB"
    content = _Rows(rows, np.dtype(dtype), shape, len(bands))
    parts = [
        f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}"><SRS>{escape(crs)}</SRS>',
        f"<GeoTransform>{', '.join(map(repr, transform.to_gdal()))}</GeoTransform>",
    ]
    found = _statistics(content, nodata)
    for number, name in enumerate(bands):
        told = [f'<MDI key="STATISTICS_{key}">{value}</MDI>' for key, value in found[number]]
        parts += [
            f'<VRTRasterBand dataType="{gdal_name(dtype)}" band="{number + 1}" subClass="VRTRawRasterBand">',
            f"<Metadata>{''.join(told)}</Metadata>",
            f"<Description>{escape(name)}</Description><NoDataValue>{nodata}</NoDataValue><Scale>{scale!r}</Scale>",
            f'<SourceFilename relativeToVRT="1">{escape(rows.name)}</SourceFilename>',
            f"<ImageOffset>{number * shape[1] * size}</ImageOffset><PixelOffset>{size}</PixelOffset>",
            f"<LineOffset>{len(bands) * shape[1] * size}</LineOffset><ByteOrder>{order}</ByteOrder></VRTRasterBand>",
        ]
    described = rows.with_suffix(".vrt")
    described.write_text("".join([*parts, "</VRTDataset>"]), encoding="utf-8")
    with atomic_write(path) as part:
        copy_to_cog(described, part, overviews, threads=threads, content=content)


class _Rows:
    """Pieces of a file of rows. Each is mapped anew, so that no more than a piece of it counts as this process's memory."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, int], bands: int) -> None:
        self.path, self.dtype, self.shape, self.bands = path, dtype, shape, bands

    def __call__(self, first: int, count: int) -> np.ndarray:
        """[bands, rows, columns] of `count` rows."""
        size = self.bands * self.shape[1] * self.dtype.itemsize
        shape = (count, self.bands, self.shape[1])
        return np.memmap(self.path, self.dtype, "r", first * size, shape).transpose(1, 0, 2)


def _statistics(content: _Rows, nodata: float) -> list[list[tuple[str, str]]]:
    """What GDAL keeps about the known pixels of each band. Its own counting while a COG is made (the
    option STATISTICS, GDAL 3.10) opens the description of the rows anew without its folder, and then writes zeros.
    """
    height, width = content.shape
    step = max(1, _PIECE_PX // width)
    counts = np.zeros((content.bands, 1 + np.iinfo(content.dtype).max), dtype=np.int64)
    for first in range(0, height, step):
        for band, pixels in enumerate(content(first, min(step, height - first))):
            counts[band] += np.bincount(pixels.ravel(), minlength=counts.shape[1])
    return [_told(each, height * width, int(nodata)) for each in counts]


def _told(counts: np.ndarray, pixels: int, nodata: int) -> list[tuple[str, str]]:
    counts[nodata] = 0
    known = int(counts.sum())
    share = ("VALID_PERCENT", f"{100 * known / pixels:.4g}")
    if not known:
        return [share]
    values = np.arange(len(counts), dtype=np.float64)
    mean = float(values @ counts) / known
    spread = math.sqrt(float((values - mean) ** 2 @ counts) / known)
    low, high = np.flatnonzero(counts)[[0, -1]]
    return [
        ("MINIMUM", f"{low}"),
        ("MAXIMUM", f"{high}"),
        ("MEAN", f"{mean:.14g}"),
        ("STDDEV", f"{spread:.14g}"),
        share,
    ]
