"""Clear pixels and median reflectances, computed from the input rasters independently of the package."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import rasterio

BUFFER_PX = 4  # 40 m


@functools.cache
def read_raster(path: Path) -> tuple[np.ndarray, rasterio.Affine]:
    with rasterio.open(path) as source:
        return source.read(), source.transform


def values_at(path: Path, x: float, y: float) -> list[int]:
    """Return the values of an input raster at a point; 0 outside it."""
    array, transform = read_raster(path)
    col, row = (math.floor(value) for value in ~transform @ (x, y))
    inside = 0 <= row < array.shape[1] and 0 <= col < array.shape[2]
    return array[:, row, col].tolist() if inside else [0] * len(array)


def is_masked(folder: Path, x: float, y: float, masked: list[int]) -> tuple[bool, bool]:
    """Return whether the class at a point is masked, and whether it also is not nodata."""
    if (folder / "SCL.tif").exists():
        value = values_at(folder / "SCL.tif", x, y)[0]
    else:
        opaque, cirrus, snow = values_at(folder / "MSK_CLASSI.tif", x, y)
        value = 9 if opaque else 10 if cirrus else 11 if snow else 7
    return value in masked, value in masked and value != 0


def is_clear(folder: Path, x: float, y: float, masked: list[int]) -> bool:
    """Whether a scene is clear at the centre of a 10 m pixel."""
    values = [values_at(folder / f"{band}.tif", x, y)[0] for band in ("B04", "B03", "B02")]
    if not all(0 < value < 65535 for value in values) or is_masked(folder, x, y, masked)[0]:
        return False
    offsets = range(-BUFFER_PX, BUFFER_PX + 1)
    around = [(dx, dy) for dx in offsets for dy in offsets if math.hypot(dx, dy) <= BUFFER_PX]
    return not any(is_masked(folder, x + 10 * dx, y + 10 * dy, masked)[1] for dx, dy in around)


def products(results: Path, year: int, level: str, max_cloud: float) -> dict[str, tuple[Path, dict]]:
    """Return folder and metadata of the products of a year that have few enough clouds, by id."""
    found = {}
    for path in sorted((results / f"sources/sentinel2/sentinel-2-{level.lower()}").glob("*/*.json")):
        metadata = json.loads(path.read_text())
        properties = metadata["properties"]
        if properties["datetime"].startswith(str(year)) and properties["eo:cloud_cover"] <= max_cloud:
            found[metadata["id"]] = path.parent, metadata
    return found


def medians(clear: dict[str, tuple[Path, dict]], shifts: dict[str, dict], x: float, y: float) -> dict[str, float]:
    """Return the median reflectance x 10000 of the clear observations after registration, by band."""
    found = {}
    for band, key in (("B04", "red"), ("B03", "green"), ("B02", "blue")):
        values = []
        for name, (folder, metadata) in clear.items():
            offset = metadata["assets"][key]["raster:bands"][0]["offset"] * 10_000
            point = x - shifts[name]["x_m"], y - shifts[name]["y_m"]
            values.append(np.maximum(lanczos(folder / f"{band}.tif", *point) + offset, 1))
        found[band] = float(np.median(values))
    return found


def lanczos(path: Path, x: float, y: float) -> float:
    """Interpolate a 10 m raster at a point with a Lanczos kernel of three lobes; nan where a pixel is nodata."""
    array, t = read_raster(path)
    col, row = (x - t.c) / t.a - 0.5, (y - t.f) / t.e - 0.5
    top, left = math.floor(row) - 2, math.floor(col) - 2
    pixels = array[0, max(top, 0) : top + 6, max(left, 0) : left + 6].astype(float)
    if pixels.shape != (6, 6) or not pixels.all():
        return math.nan  # GDAL uses fewer pixels at edges
    weights = [np.sinc(d) * np.sinc(d / 3) for d in (row - top - np.arange(6), col - left - np.arange(6))]
    down, across = (weight / weight.sum() for weight in weights)
    return float(down @ pixels @ across)
