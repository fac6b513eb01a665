"""Evaluate the expression graphs of the Earth Engine client over the scenes of an archive.

An unsupported function, collection or asset is an error with the wording of Earth Engine.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import shapely
from support.earthengine_archive import Archive, Band, GraphError, Grid, Image


class Evaluation:
    """Evaluates one expression graph: {"result": name, "values": {name: node}}."""

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
            return lambda *arguments: self._node(body, scope | dict(zip(names, arguments, strict=True)))
        if kind == "functionInvocationValue":
            arguments = {key: self._node(each, scope) for key, each in content.get("arguments", {}).items()}
            return self._call(content["functionName"], arguments)
        raise GraphError(f"a node of kind {kind} is not supported")

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        if name == "Image.load":
            return self.archive.image(arguments["id"])
        if name == "ImageCollection.load":
            return self.archive.collection(arguments["id"])
        if name not in FUNCTIONS:
            raise GraphError(f"function {name} is not supported")
        try:
            return FUNCTIONS[name](**arguments)
        except TypeError as error:
            raise GraphError(f"{name} is not supported with {', '.join(sorted(arguments))}: {error}") from error


def _select(input: Image, bandSelectors: list[str]) -> Image:
    bands = {band.name: band for band in input.bands}
    for name in bandSelectors:
        if name not in bands:
            raise GraphError(f"Image.select: Band pattern '{name}' did not match any bands. Available: {list(bands)}")
    return replace(input, bands=[bands[name] for name in bandSelectors])


def _rename(input: Image, names: list[str]) -> Image:
    if len(names) != len(input.bands):
        raise GraphError(f"Image.rename: got {len(names)} names for {len(input.bands)} bands.")
    return replace(input, bands=[replace(band, name=name) for band, name in zip(input.bands, names)])


def _binary(operation: Callable) -> Callable[[Image, Image], Image]:
    """Return a function of the bands of one image and the only band of another, valid where both are."""

    def function(image1: Image, image2: Image) -> Image:
        (other,) = image2.bands

        def change(band: Band) -> Band:
            def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
                (a, valid), (b, other_valid) = band.pixels(grid), other.pixels(grid)
                return operation(a, b), valid & other_valid

            return Band(band.name, "float64", pixels)

        return image1.map_bands(change)

    return function


def _unary(operation: Callable[[np.ndarray], np.ndarray], kind: str) -> Callable[[Image], Image]:
    def change(band: Band) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            array, valid = band.pixels(grid)
            return operation(array), valid

        return Band(band.name, kind, pixels)

    return lambda value: value.map_bands(change)


def _constant(value: float) -> Image:
    def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        return np.full((grid.rows, grid.cols), float(value)), np.ones((grid.rows, grid.cols), bool)

    return Image([Band("constant", "float64", pixels)], {})


def _unmask(input: Image, value: Image, sameFootprint: bool = True) -> Image:
    if sameFootprint:
        raise GraphError("Image.unmask only within the footprint is not supported")
    (other,) = value.bands

    def change(band: Band) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            (a, valid), (b, other_valid) = band.pixels(grid), other.pixels(grid)
            return np.where(valid, a, b), valid | other_valid

        return replace(band, pixels=pixels)

    return input.map_bands(change)


def _intersects(leftField: str, rightValue: dict) -> Callable[[Image], bool]:
    if leftField != ".all":
        raise GraphError(f"Filter.intersects of {leftField} is not supported")
    return lambda image: bool(shapely.intersects(image.footprint, rightValue["geometry"]))


def _in_dates(leftValue: tuple[float, float], rightField: str) -> Callable[[Image], bool]:
    first, last = leftValue
    return lambda image: first <= image.properties[rightField] < last


def _date_range(start: str, end: str) -> tuple[float, float]:
    return tuple(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000 for day in (start, end))


def _rectangle(coordinates: list[float], crs: str, geodesic: bool) -> Any:
    if crs != "EPSG:4326" or geodesic:
        raise GraphError(f"a rectangle in {crs}, geodesic {geodesic}, is not supported")
    return shapely.box(*coordinates)


def _array(collection: list, property: str) -> list:
    records = [item.properties if isinstance(item, Image) else item["metadata"] for item in collection]
    return [record[property] for record in records if property in record]


def _encode_json(object: Any) -> str:
    return json.dumps(object)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.select": _select,
    "Image.rename": _rename,
    "Image.add": _binary(np.add),
    "Image.subtract": _binary(np.subtract),
    "Image.multiply": _binary(np.multiply),
    "Image.max": _binary(np.maximum),
    "Image.round": _unary(lambda array: np.floor(array + 0.5), "float64"),
    "Image.toUint16": _unary(lambda array: np.floor(np.clip(array, 0, 65535)), "uint16"),
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
    "String.encodeJSON": _encode_json,
    "Feature": lambda geometry=None, metadata=None: {"geometry": geometry, "metadata": metadata or {}},
    "Collection.filter": lambda collection, filter: [each for each in collection if filter(each)],
    "Collection.map": lambda collection, baseAlgorithm: [baseAlgorithm(each) for each in collection],
    "AggregateFeatureCollection.array": _array,
    "Filter.intersects": _intersects,
    "Filter.dateRangeContains": _in_dates,
    "DateRange": _date_range,
    "GeometryConstructors.Rectangle": _rectangle,
}
