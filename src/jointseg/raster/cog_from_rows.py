"""COGs from raw files of rows, which a resumable pass appends to and which are complete up to any row."""

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

_CHUNK_PX = 1 << 20  # of the statistics


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
    """Write a COG with statistics from a raw file of rows, atomically.

    Args:
        rows: raw file, interleaved by line (BIL), in native byte order. GDAL reads it through a VRT that is written
            beside it.
        shape: (rows, columns).
        dtype: numpy name of an unsigned integer type of one or two bytes.
        overviews: resampling of the overviews ("nearest", "average").
        scale: factor from stored to physical values.
        threads: number of threads for compression; it does not change the bytes.
    """
    raw = _RawRows(rows, np.dtype(dtype), shape, len(bands))
    vrt = rows.with_suffix(".vrt")
    vrt.write_text(_vrt(raw, bands, crs, transform, nodata, scale), encoding="utf-8")
    with atomic_write(path) as part:
        copy_to_cog(vrt, part, overviews, threads=threads, expected=raw.read)


class _RawRows:
    """A raw file of rows. Each read maps the file anew, so that only one chunk counts as memory of this process."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, int], bands: int) -> None:
        self.path, self.dtype, self.shape, self.bands = path, dtype, shape, bands

    def read(self, first: int, count: int) -> np.ndarray:
        """Return [bands, rows, columns] of `count` rows."""
        size = self.bands * self.shape[1] * self.dtype.itemsize
        shape = (count, self.bands, self.shape[1])
        return np.memmap(self.path, self.dtype, "r", first * size, shape).transpose(1, 0, 2)


def _vrt(raw: _RawRows, bands: Sequence[str], crs: str, transform: Affine, nodata: float, scale: float) -> str:
    """Return a VRT dataset that describes the raw file to GDAL."""
    (height, width), size = raw.shape, raw.dtype.itemsize
    order = "LSB" if sys.byteorder == "little" else "MSB"
    parts = [
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{escape(crs)}</SRS>',
        f"<GeoTransform>{', '.join(map(repr, transform.to_gdal()))}</GeoTransform>",
    ]
    for number, (name, statistics) in enumerate(zip(bands, _statistics(raw, nodata))):
        items = [f'<MDI key="STATISTICS_{key}">{value}</MDI>' for key, value in statistics]
        parts += [
            f'<VRTRasterBand dataType="{gdal_name(raw.dtype.name)}" band="{number + 1}" subClass="VRTRawRasterBand">',
            f"<Metadata>{''.join(items)}</Metadata>",
            f"<Description>{escape(name)}</Description><NoDataValue>{nodata}</NoDataValue><Scale>{scale!r}</Scale>",
            f'<SourceFilename relativeToVRT="1">{escape(raw.path.name)}</SourceFilename>',
            f"<ImageOffset>{number * width * size}</ImageOffset><PixelOffset>{size}</PixelOffset>",
            f"<LineOffset>{len(bands) * width * size}</LineOffset><ByteOrder>{order}</ByteOrder></VRTRasterBand>",
        ]
    return "".join([*parts, "</VRTDataset>"])


def _statistics(raw: _RawRows, nodata: float) -> list[list[tuple[str, str]]]:
    """Return GDAL's statistics items of the valid pixels of each band.

    The option STATISTICS of the COG driver (GDAL 3.10) writes zeros here: it reopens the VRT without its folder.
    """
    height, width = raw.shape
    step = max(1, _CHUNK_PX // width)
    counts = np.zeros((raw.bands, 1 + np.iinfo(raw.dtype).max), dtype=np.int64)
    for first in range(0, height, step):
        for band, pixels in enumerate(raw.read(first, min(step, height - first))):
            counts[band] += np.bincount(pixels.ravel(), minlength=counts.shape[1])
    return [_statistics_items(histogram, height * width, int(nodata)) for histogram in counts]


def _statistics_items(histogram: np.ndarray, pixels: int, nodata: int) -> list[tuple[str, str]]:
    histogram[nodata] = 0
    valid = int(histogram.sum())
    percent = ("VALID_PERCENT", f"{100 * valid / pixels:.4g}")
    if not valid:
        return [percent]
    values = np.arange(len(histogram), dtype=np.float64)
    mean = float(values @ histogram) / valid
    deviation = math.sqrt(float((values - mean) ** 2 @ histogram) / valid)
    low, high = np.flatnonzero(histogram)[[0, -1]]
    return [
        ("MINIMUM", f"{low}"),
        ("MAXIMUM", f"{high}"),
        ("MEAN", f"{mean:.14g}"),
        ("STDDEV", f"{deviation:.14g}"),
        percent,
    ]
