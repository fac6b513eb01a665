"""What Earth Engine would make of the graphs that its real client submits, over the scenes of an archive.

The archive is a folder of STAC items beside their rasters, tiny or a synthetic scene's. It answers as the harmonized
collections do: offsets are removed, what has no data is masked. A function, collection or asset that it does not have is
an error that names it, as Earth Engine words it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely

from jointseg.sentinel2.items import scene_from_item
from jointseg.sentinel2.scene import Scene

LEVELS = {"COPERNICUS/S2_HARMONIZED": "L1C", "COPERNICUS/S2_SR_HARMONIZED": "L2A"}
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
# Cloud Score+ of a pixel that the product's own mask calls opaque, cirrus, neither.
SCORES = (0.05, 0.3, 0.97)


class GraphError(Exception):
    """What Earth Engine answers with status 400."""


@dataclass(frozen=True)
class Grid:
    """Pixels of size (dx, dy) from the corner (x, y)."""

    crs: str
    x: float
    y: float
    dx: float
    dy: float
    rows: int
    cols: int


@dataclass(frozen=True)
class Band:
    """`pixels` gives the values, float64, and where there are any."""

    name: str
    kind: str
    pixels: Callable[[Grid], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Image:
    bands: list[Band]
    properties: dict[str, Any]
    crs: str | None = None
    footprint: Any = None

    def each(self, change: Callable[[Band], Band]) -> "Image":
        return replace(self, bands=[change(band) for band in self.bands])


class Archive:
    """The scenes of a folder as images of Earth Engine's collections."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.items: dict[tuple[str, str], tuple[dict, Scene]] = {}
        for path in sorted(root.rglob("*.json")):
            content = json.loads(path.read_text())
            if content.get("type") == "Feature":
                scene = scene_from_item(content, path.parent.relative_to(root).as_posix())
                self.items[scene.level, scene.id] = (content, scene)

    def collection(self, name: str) -> list[Image]:
        if name == CLOUD_SCORE:
            return [
                self.image(f"{name}/{index}") for level, index in self.items if level == "L1C" and self._scored(index)
            ]
        if name not in LEVELS:
            raise GraphError(_missing("ImageCollection", name))
        return [self.image(f"{name}/{index}") for level, index in self.items if level == LEVELS[name]]

    def image(self, name: str) -> Image:
        collection, _, index = name.rpartition("/")
        found = self.items.get(("L1C" if collection == CLOUD_SCORE else LEVELS.get(collection, ""), index))
        if found is None or (collection == CLOUD_SCORE and not self._scored(index)):
            raise GraphError(_missing("Image", name))
        content, scene = found
        if collection == CLOUD_SCORE:
            bands = [Band("cs_cdf", "float64", lambda grid: self._score(scene, grid))]
        else:
            bands = [self._band(scene, key) for key in scene.assets if key.startswith("B") or key == "SCL"]
        return Image(bands, _properties(content, scene), f"EPSG:{scene.epsg}", scene.footprint)

    def _band(self, scene: Scene, key: str) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            dn = self._sampled(scene, self.root / scene.assets[key].href, grid)[0]
            return np.maximum(dn + (0 if key == "SCL" else scene.offset_dn), 0.0), dn > 0

        name = f"{key[0]}{int(key[1:])}" if key[1:].isdigit() else key
        return Band(name, "uint8" if key == "SCL" else "uint16", pixels)

    def _scored(self, index: str) -> bool:
        _, scene = self.items["L1C", index]
        return "CLASSI" in scene.assets or self._score_file(scene).exists()

    def _score_file(self, scene: Scene) -> Path:
        return (self.root / scene.assets["B04"].href).with_name("CS.tif")

    def _score(self, scene: Scene, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """From a file of percent plus 1 (0: no data), or from the product's own mask."""
        if self._score_file(scene).exists():
            percent = self._sampled(scene, self._score_file(scene), grid)[0]
            return (percent - 1) / 100, percent > 0
        opaque, cirrus = self._sampled(scene, self.root / scene.assets["CLASSI"].href, grid)[:2] > 0
        return np.select([opaque, cirrus], SCORES[:2], SCORES[2]), np.ones(opaque.shape, bool)

    def _sampled(self, scene: Scene, path: Path, grid: Grid) -> np.ndarray:
        """float64 [bands, rows, columns]: the pixel that each centre of the grid falls into; 0 outside."""
        if grid.crs != f"EPSG:{scene.epsg}":
            raise GraphError(f"the grid is in {grid.crs}, the scene in EPSG:{scene.epsg}: nothing is warped here")
        with rasterio.open(path) as source:
            array, t = source.read().astype(float), source.transform
        col = np.floor((grid.x + grid.dx * (np.arange(grid.cols) + 0.5) - t.c) / t.a).astype(int)
        row = np.floor((grid.y + grid.dy * (np.arange(grid.rows) + 0.5) - t.f) / t.e).astype(int)
        out = np.zeros((len(array), grid.rows, grid.cols))
        cols, rows = (col >= 0) & (col < array.shape[2]), (row >= 0) & (row < array.shape[1])
        out[:, np.ix_(rows, cols)[0], np.ix_(rows, cols)[1]] = array[:, row[rows][:, None], col[cols][None, :]]
        return out


def _missing(kind: str, name: str) -> str:
    return f"{kind}.load: {kind} asset '{name}' not found (does not exist or caller does not have access)."


def _properties(content: dict, scene: Scene) -> dict[str, Any]:
    facts = {
        "system:index": scene.id,
        "system:time_start": int(datetime.fromisoformat(content["properties"]["datetime"]).timestamp() * 1000),
        "SPACECRAFT_NAME": (scene.platform or "").title(),
        "MGRS_TILE": scene.mgrs or scene.id[-5:],
        "SENSING_ORBIT_NUMBER": scene.relative_orbit or 132,
        "PROCESSING_BASELINE": scene.baseline,
        "CLOUDY_PIXEL_PERCENTAGE": scene.cloud_percent,
    }
    if scene.sun:
        facts |= {"MEAN_SOLAR_AZIMUTH_ANGLE": scene.sun[0], "MEAN_SOLAR_ZENITH_ANGLE": scene.sun[1]}
    return facts


class Evaluation:
    """Evaluates one submitted graph: {"result": name, "values": {name: node}}."""

    def __init__(self, archive: Archive, graph: dict) -> None:
        self.archive, self.values, self.result = archive, graph["values"], graph["result"]

    def value(self) -> Any:
        return self._node(self.values[self.result], {})

    def _node(self, node: dict, scope: dict[str, Any]) -> Any:
        ((kind, content),) = node.items()
        if kind == "constantValue":
            return content
        if kind == "valueReference":
            return self._node(self.values[content], scope)
        if kind == "argumentReference":
            return scope[content]
        if kind == "arrayValue":
            return [self._node(each, scope) for each in content["values"]]
        if kind == "dictionaryValue":
            return {key: self._node(each, scope) for key, each in content["values"].items()}
        if kind == "functionDefinitionValue":
            names, body = content["argumentNames"], self.values[content["body"]]
            return lambda *given: self._node(body, scope | dict(zip(names, given, strict=True)))
        if kind == "functionInvocationValue":
            arguments = {key: self._node(each, scope) for key, each in content.get("arguments", {}).items()}
            return self._call(content["functionName"], arguments)
        raise GraphError(f"a node of kind {kind} is not served here")

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        if name == "Image.load":
            return self.archive.image(arguments["id"])
        if name == "ImageCollection.load":
            return self.archive.collection(arguments["id"])
        if name not in FUNCTIONS:
            raise GraphError(f"function {name} is not served here")
        try:
            return FUNCTIONS[name](**arguments)
        except TypeError as error:
            raise GraphError(f"{name} is not served with {', '.join(sorted(arguments))}: {error}") from error


def _select(input: Image, bandSelectors: list[str]) -> Image:
    there = {band.name: band for band in input.bands}
    for name in bandSelectors:
        if name not in there:
            raise GraphError(f"Image.select: Band pattern '{name}' did not match any bands. Available: {list(there)}")
    return replace(input, bands=[there[name] for name in bandSelectors])


def _rename(input: Image, names: list[str]) -> Image:
    if len(names) != len(input.bands):
        raise GraphError(f"Image.rename: got {len(names)} names for {len(input.bands)} bands.")
    return replace(input, bands=[replace(band, name=name) for band, name in zip(input.bands, names)])


def _both(operation: Callable) -> Callable[[Image, Image], Image]:
    """A function of two images: of the first's bands and the second's only band, where both have data."""

    def function(image1: Image, image2: Image) -> Image:
        (other,) = image2.bands

        def change(band: Band) -> Band:
            def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
                (a, there), (b, also) = band.pixels(grid), other.pixels(grid)
                return operation(a, b), there & also

            return Band(band.name, "float64", pixels)

        return image1.each(change)

    return function


def _alone(operation: Callable[[np.ndarray], np.ndarray], kind: str) -> Callable[[Image], Image]:
    def change(band: Band) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            array, there = band.pixels(grid)
            return operation(array), there

        return Band(band.name, kind, pixels)

    return lambda value: value.each(change)


def _constant(value: float) -> Image:
    def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        return np.full((grid.rows, grid.cols), float(value)), np.ones((grid.rows, grid.cols), bool)

    return Image([Band("constant", "float64", pixels)], {})


def _unmask(input: Image, value: Image, sameFootprint: bool = True) -> Image:
    if sameFootprint:
        raise GraphError("Image.unmask within the footprint alone is not served here")
    (other,) = value.bands

    def change(band: Band) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            (a, there), (b, also) = band.pixels(grid), other.pixels(grid)
            return np.where(there, a, b), there | also

        return replace(band, pixels=pixels)

    return input.each(change)


def _intersects(leftField: str, rightValue: dict) -> Callable[[Image], bool]:
    if leftField != ".all":
        raise GraphError(f"Filter.intersects of {leftField} is not served here")
    return lambda image: bool(shapely.intersects(image.footprint, rightValue["geometry"]))


def _in_dates(leftValue: tuple[float, float], rightField: str) -> Callable[[Image], bool]:
    first, last = leftValue
    return lambda image: first <= image.properties[rightField] < last


def _date_range(start: str, end: str) -> tuple[float, float]:
    return tuple(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000 for day in (start, end))


def _rectangle(coordinates: list[float], crs: str, geodesic: bool) -> Any:
    if crs != "EPSG:4326" or geodesic:
        raise GraphError(f"a rectangle in {crs}, geodesic {geodesic}, is not served here")
    return shapely.box(*coordinates)


def _array(collection: list, property: str) -> list:
    told = [each.properties if isinstance(each, Image) else each["metadata"] for each in collection]
    return [facts[property] for facts in told if property in facts]


def _encoded(object: Any) -> str:
    return json.dumps(object)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.select": _select,
    "Image.rename": _rename,
    "Image.add": _both(np.add),
    "Image.subtract": _both(np.subtract),
    "Image.multiply": _both(np.multiply),
    "Image.max": _both(np.maximum),
    "Image.round": _alone(lambda array: np.floor(array + 0.5), "float64"),
    "Image.toUint16": _alone(lambda array: np.floor(np.clip(array, 0, 65535)), "uint16"),
    "Image.constant": _constant,
    "Image.unmask": _unmask,
    "Image.projection": lambda image: image.crs,
    "Projection": lambda crs: crs,
    "Projection.crs": lambda projection: projection,
    "Element.get": lambda object, property: object.properties[property],
    "Element.toDictionary": lambda element, properties: {
        key: element.properties[key] for key in properties if key in element.properties
    },
    "Dictionary.set": lambda dictionary, key, value: dictionary | {key: value},
    "String.encodeJSON": _encoded,
    "Feature": lambda geometry=None, metadata=None: {"geometry": geometry, "metadata": metadata or {}},
    "Collection.filter": lambda collection, filter: [each for each in collection if filter(each)],
    "Collection.map": lambda collection, baseAlgorithm: [baseAlgorithm(each) for each in collection],
    "AggregateFeatureCollection.array": _array,
    "Filter.intersects": _intersects,
    "Filter.dateRangeContains": _in_dates,
    "DateRange": _date_range,
    "GeometryConstructors.Rectangle": _rectangle,
}
