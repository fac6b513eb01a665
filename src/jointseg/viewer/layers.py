"""Layers of a results folder: rasters of one kind, year and UTM zone."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rasterio.enums import Resampling

from jointseg.accuracy.product_pixels import ProductReader
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import nearest_year
from jointseg.raster.rendering import percentile_stretch
from jointseg.raster.resample import read_mosaic
from jointseg.runtime.errors import DataError

IMAGE, CLASSES, PRODUCT = "image", "classes", "product"
_STRETCH_PX = 512  # longer side of the overview that determines the stretch of a layer
# Folder in the results, with a folder of files per year; kind; title.
_FOLDERS = (
    ("sentinel2/composites", IMAGE, "Sentinel-2 composite, 10 m, {year}"),
    ("rgb", IMAGE, "Super-resolved, 1 m, {year}"),
    ("previews", IMAGE, "Super-resolved preview, 1 m, {year}"),
    ("isa", CLASSES, "Impervious surface, {year}"),
    ("temporal_consistency", CLASSES, "Impervious surface, consistent years, {year}"),
    ("sources/truth", CLASSES, "Truth, {year}"),
)


@dataclass(frozen=True)
class Layer:
    """Rasters that are shown as one layer."""

    id: str  # unique, and safe in a URL
    title: str
    kind: str  # IMAGE (reflectance DN; red, green, blue first; 0 nodata), CLASSES (0, 1, 255) or PRODUCT (class codes)
    year: int
    epsg: int
    files: tuple[tuple[Path, raster_io.Bounds], ...]  # paths with their bounds in the zone
    codes: ProductReader | None = None  # class codes of a PRODUCT

    @cached_property
    def bounds(self) -> raster_io.Bounds:
        return _union(bounds for _, bounds in self.files)

    @cached_property
    def stretch_limits(self) -> np.ndarray:
        """Percentile stretch of an IMAGE, the same for all of its tiles."""
        west, south, east, north = self.bounds
        res_m = max(east - west, north - south) / _STRETCH_PX
        shape = max(1, round((north - south) / res_m)), max(1, round((east - west) / res_m))
        paths = [path for path, _ in self.files]
        return percentile_stretch(read_mosaic(paths, self.bounds, shape, (1, 2, 3), 0, Resampling.nearest, "uint16"))[1]

    def intersecting(self, bounds: raster_io.Bounds) -> list[Path]:
        """Return the files that intersect bounds."""
        west, south, east, north = bounds
        return [
            path for path, box in self.files if box[0] < east and box[2] > west and box[1] < north and box[3] > south
        ]


def find_layers(results: Path) -> list[Layer]:
    """Return every layer of a results folder, in the order in which the viewer lists them.

    Raises DataError if there is none.
    """
    layers: list[Layer] = []
    for folder, kind, title in _FOLDERS:
        for year in sorted(path for path in (results / folder).glob("*") if re.fullmatch(r"\d{4}", path.name)):
            by_zone: dict[int, list[tuple[Path, raster_io.Bounds]]] = defaultdict(list)
            for path in sorted(year.glob("*.tif")):
                with raster_io.open_raster(path) as source:
                    by_zone[int(source.crs.to_epsg())].append((path, tuple(source.bounds)))
            for epsg, files in by_zone.items():
                name = f"{folder.rpartition('/')[2]}-{year.name}-{epsg}"
                layers.append(Layer(name, title.format(year=year.name), kind, int(year.name), epsg, tuple(files)))
    if not layers:
        raise DataError(f"{results} contains no composite or map; pass the results folder of a run that has some")
    return layers + _product_layers(results, layers)


def _product_layers(results: Path, layers: list[Layer]) -> list[Layer]:
    """Return reference products over the zones of the other layers, with the class codes from the manifests."""
    products = []
    zones = {epsg: _union(layer.bounds for layer in layers if layer.epsg == epsg) for epsg in {x.epsg for x in layers}}
    map_years = sorted({layer.year for layer in layers})
    for path in sorted(results.glob("manifests/product_mosaic/*/*.json")):
        name, file_year = path.parent.name, int(path.stem)
        entry = json.loads(path.read_text())["params"]["entry"]
        mosaics = results / "accuracy/mosaics" / name / str(file_year)
        years = {file_year} | set(map(int, entry.get("series") or {}))
        for year in sorted(years & {nearest_year(entry, map_year) for map_year in map_years}):
            codes = ProductReader.from_folder(mosaics, name, entry, year)
            for epsg, bounds in zones.items():
                key, title = f"product-{name}-{year}-{epsg}", f"{entry['title']}, {year}"
                products.append(Layer(key, title, PRODUCT, year, epsg, ((mosaics, bounds),), codes))
    return products


def _union(boxes: Iterable[raster_io.Bounds]) -> raster_io.Bounds:
    west, south, east, north = zip(*boxes)
    return min(west), min(south), max(east), max(north)


def describe_layers(layers: list[Layer]) -> list[dict[str, object]]:
    """Return the layers as JSON for the page."""
    return [
        {
            "id": layer.id,
            "title": layer.title,
            "year": layer.year,
            "epsg": layer.epsg,
            "zone": f"UTM {layer.epsg % 100}{'N' if layer.epsg < 32700 else 'S'}",
            "bounds": list(layer.bounds),
            "explainable": layer.id.startswith("isa-"),
        }
        for layer in layers
    ]
