"""The layers of a results folder: rasters of one kind, year and UTM zone."""

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jointseg.accuracy.product_pixels import Codes
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import nearest_year
from jointseg.runtime.errors import DataError

IMAGE, CLASSES, PRODUCT = "image", "classes", "product"
# Folder below the results, kind, title. {year} is the name of the folder that holds the files.
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
    """Rasters that are shown as one.

    Attributes:
        id: short, unique, safe in an address.
        title: for people.
        kind: IMAGE (reflectance DN, red, green and blue first, 0 unknown), CLASSES (0, 1, 255) or PRODUCT (codes).
        year: that it shows.
        epsg: UTM zone.
        files: with their bounds in the zone.
        codes: of a PRODUCT.
    """

    id: str
    title: str
    kind: str
    year: int
    epsg: int
    files: tuple[tuple[Path, raster_io.Bounds], ...]
    codes: Codes | None = None

    @cached_property
    def bounds(self) -> raster_io.Bounds:
        west, south, east, north = zip(*(bounds for _, bounds in self.files))
        return min(west), min(south), max(east), max(north)

    def near(self, bounds: raster_io.Bounds) -> list[Path]:
        """Files that reach into bounds."""
        west, south, east, north = bounds
        return [
            path for path, box in self.files if box[0] < east and box[2] > west and box[1] < north and box[3] > south
        ]


def find_layers(results: Path) -> list[Layer]:
    """Every layer of a results folder, by zone, in the order they are offered.

    Raises DataError when there is none.
    """
    found: list[Layer] = []
    for folder, kind, title in _FOLDERS:
        for year in sorted(path for path in (results / folder).glob("*") if re.fullmatch(r"\d{4}", path.name)):
            by_zone: dict[int, list[tuple[Path, raster_io.Bounds]]] = defaultdict(list)
            for path in sorted(year.glob("*.tif")):
                epsg, bounds = _place(path)
                by_zone[epsg].append((path, bounds))
            for epsg, files in by_zone.items():
                name = f"{folder.rpartition('/')[2]}-{year.name}-{epsg}"
                found.append(Layer(name, title.format(year=year.name), kind, int(year.name), epsg, tuple(files)))
    if not found:
        raise DataError(
            f"{results} holds no raster that can be shown; give the results folder of a run that has mapped"
        )
    return found + _products(results, found)


def _place(path: Path) -> tuple[int, raster_io.Bounds]:
    with raster_io.open_raster(path) as source:
        return int(source.crs.to_epsg()), tuple(source.bounds)


def _products(results: Path, others: list[Layer]) -> list[Layer]:
    """Reference products over the zones of the other layers, by what the manifests tell of their codes."""
    found = []
    zones = {epsg: [layer.bounds for layer in others if layer.epsg == epsg] for epsg in {each.epsg for each in others}}
    years = sorted({layer.year for layer in others})
    for path in sorted(results.glob("manifests/product_mosaic/*/*.json")):
        name, year = path.parent.name, int(path.stem)
        entry = json.loads(path.read_text())["params"]["entry"]
        mosaics = results / "accuracy/mosaics" / name / str(year)
        shown = {nearest_year(entry, each) for each in years}
        for each in sorted(shown & ({year} | set(map(int, entry.get("series") or {})))):
            codes = Codes.of(mosaics, name, entry, each)
            for epsg, boxes in zones.items():
                west, south, east, north = zip(*boxes)
                whole = ((mosaics, (min(west), min(south), max(east), max(north))),)
                found.append(
                    Layer(
                        f"product-{name}-{each}-{epsg}", f"{entry['title']}, {each}", PRODUCT, each, epsg, whole, codes
                    )
                )
    return found


def describe_layers(found: list[Layer]) -> list[dict[str, object]]:
    """What the page needs to know of the layers."""
    return [
        {
            "id": layer.id,
            "title": layer.title,
            "year": layer.year,
            "epsg": layer.epsg,
            "zone": f"UTM {layer.epsg % 100}{'N' if layer.epsg < 32700 else 'S'}",
            "bounds": list(layer.bounds),
            "explained": layer.id.startswith("isa-"),
        }
        for layer in found
    ]


def to_lonlat(epsg: int, x: float, y: float) -> tuple[float, float]:
    """Degrees of a place in a zone."""
    lon, lat = grid.transformer(f"EPSG:{epsg}", "EPSG:4326").transform(x, y)
    return float(lon), float(lat)
