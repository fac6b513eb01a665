"""Impervious objects of an OpenStreetMap extract in GDAL's OSM layers, as polygons in a UTM zone."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from jointseg import grid
from jointseg.errors import DataError

Bounds = tuple[float, float, float, float]

# What a tag's polygons are called in the labels.
KINDS = {
    "building": "building",
    "aeroway": "airport",
    "leisure": "sports",
    "sport": "sports",
    "landuse": "industrial",
    "man_made": "industrial",
    "industrial": "industrial",
    "place": "plaza",
    "amenity": "plaza",
    "highway": "plaza",
    "area:highway": "road",
}
COLUMNS = (
    "highway",
    "aeroway",
    "building",
    "landuse",
    "leisure",
    "amenity",
    "man_made",
    "place",
    "sport",
    "other_tags",
)
UNPAVED = {"unpaved", "dirt", "earth", "ground", "grass", "gravel", "fine_gravel", "sand", "mud", "compacted", "wood"}
HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')
NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:m|metres|meters)?\s*$")
# Runways and taxiways drawn as lines, where no width is tagged (ICAO Annex 14, codes 4 and C).
AEROWAY_WIDTHS_M = {"runway": 45.0, "taxiway": 18.0}


@dataclass(frozen=True)
class Feature:
    """An impervious object: a polygon in the zone asked for."""

    kind: str
    polygon: shapely.Geometry


def features(
    path: Path,
    epsg: int,
    squares: Sequence[Bounds],
    road_widths_m: Mapping[str, float],
    lane_width_m: float,
    isa_tags: Mapping[str, Sequence[str]],
) -> Iterator[Feature]:
    """Roads and areas that meet squares of a UTM zone.

    Roads are buffered by half their width: the tag `width`, else `lanes` x `lane_width_m`, else the width of their
    class. Classes not in `road_widths_m` are not impervious, nor are roads that are under construction, unpaved or
    in a tunnel; bridges are. A _link that is not listed has one lane.

    Args:
        path: .osm.pbf, .osm, or a file with layers named and filled as GDAL's OSM driver does.
        squares: (min x, min y, max x, max y) in metres of the zone.
        isa_tags: values per key whose areas are impervious; "*" is any value but "no".
    """
    squares_utm = shapely.box(*np.array(squares, dtype=np.float64).T)
    # Wide roads reach into a square from outside.
    tree = shapely.STRtree(shapely.buffer(squares_utm, 30, cap_style="square"))
    for layer in ("lines", "multipolygons"):
        for tags, geometry in _rows(path, layer, epsg, tree):
            if layer == "lines":
                feature = _line(tags, geometry, road_widths_m, lane_width_m, isa_tags)
            else:
                kind = _area_kind(tags, road_widths_m, isa_tags)
                feature = Feature(kind, geometry) if kind else None
            if feature is not None:
                yield feature


def rows_near(
    path: Path, layer: str | None, epsg: int, tree: shapely.STRtree, columns: Sequence[str]
) -> Iterator[tuple[dict[str, Any], shapely.Geometry]]:
    """(fields, geometry in the zone) of the features whose box meets a geometry of the tree, read as a stream.

    Raises DataError when the file or the layer cannot be read.
    """
    try:
        info = pyogrio.read_info(path, layer=layer)
    except (DataSourceError, DataLayerError) as error:
        raise DataError(f"{path} has no readable layer {layer or ''} ({error}); see docs/dataset.md") from None
    crs = info["crs"] or "EPSG:4326"
    zone = f"EPSG:{epsg}"
    west, south, east, north = shapely.total_bounds(tree.geometries)
    box = grid.transformer(zone, crs).transform_bounds(west, south, east, north)
    to_zone = grid.transformer(crs, zone)
    wanted = [name for name in columns if name in set(info["fields"])]
    with pyogrio.open_arrow(path, layer=layer, bbox=box, columns=wanted, batch_size=16_384, use_pyarrow=True) as (
        meta,
        batches,
    ):
        for batch in batches:
            geometry = shapely.from_wkb(
                batch.column(meta["geometry_name"] or "wkb_geometry").to_numpy(zero_copy_only=False)
            )
            there = shapely.transform(
                geometry, lambda points: np.column_stack(to_zone.transform(points[:, 0], points[:, 1]))
            )
            near = np.unique(tree.query(there, predicate="intersects")[0])
            fields = {name: batch.column(name) for name in wanted}
            for at in near:
                yield {name: column[int(at)].as_py() for name, column in fields.items()}, there[at]


def _rows(
    path: Path, layer: str, epsg: int, tree: shapely.STRtree
) -> Iterator[tuple[dict[str, str], shapely.Geometry]]:
    for fields, geometry in rows_near(path, layer, epsg, tree, COLUMNS):
        tags = {name: str(value) for name, value in fields.items() if value is not None and name != "other_tags"}
        yield hstore(fields.get("other_tags")) | tags, geometry


def hstore(text: str | None) -> dict[str, str]:
    """The tags in a text such as '"lanes"=>"2","tunnel"=>"yes"'."""
    return {key.replace('\\"', '"'): value.replace('\\"', '"') for key, value in HSTORE.findall(text or "")}


def road_width_m(tags: Mapping[str, str], road_widths_m: Mapping[str, float], lane_width_m: float) -> float | None:
    """Paved width of a way; None where it is not an impervious road on the ground or a bridge."""
    kind = tags.get("highway", "")
    base = kind.removesuffix("_link")
    if kind not in road_widths_m and base not in road_widths_m:
        return None
    if tags.get("tunnel", "no") != "no" or "construction" in tags or tags.get("surface") in UNPAVED:
        return None
    if match := NUMBER.match(tags.get("width", "")):
        return float(match[1])
    if match := NUMBER.match(tags.get("lanes", "")):
        return float(match[1]) * lane_width_m
    return road_widths_m.get(kind, lane_width_m)


def _line(
    tags: dict[str, str],
    line: shapely.Geometry,
    road_widths_m: Mapping[str, float],
    lane_width_m: float,
    isa_tags: Mapping[str, Sequence[str]],
) -> Feature | None:
    width = road_width_m(tags, road_widths_m, lane_width_m)
    aeroway = tags.get("aeroway", "")
    if width is not None:
        closed = tags.get("area") == "yes" and line.is_closed and len(line.coords) > 3
        polygon = shapely.polygons(line) if closed else shapely.buffer(line, width / 2)
        return Feature("road", polygon)
    if aeroway in AEROWAY_WIDTHS_M and _matches(isa_tags.get("aeroway", ()), aeroway):
        match = NUMBER.match(tags.get("width", ""))
        width = float(match[1]) if match else AEROWAY_WIDTHS_M[aeroway]
        return Feature("airport", shapely.buffer(line, width / 2, cap_style="flat"))
    return None


def _area_kind(
    tags: Mapping[str, str], road_widths_m: Mapping[str, float], isa_tags: Mapping[str, Sequence[str]]
) -> str | None:
    """The kind of the first key, in the order of KINDS, that makes an area impervious."""
    if "construction" in (tags.get("building"), tags.get("landuse")) or tags.get("location") == "underground":
        return None
    keys = [key for key in KINDS if key in isa_tags] + sorted(set(isa_tags) - set(KINDS))
    for key in keys:
        if key in tags and _matches(isa_tags[key], tags[key]):
            return KINDS.get(key, "plaza")
    return "road" if tags.get("highway") in road_widths_m and tags.get("surface") not in UNPAVED else None


def _matches(values: Sequence[str], value: str) -> bool:
    return value in values or ("*" in values and value != "no")
