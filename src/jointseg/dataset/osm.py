"""Impervious objects of an OpenStreetMap extract in GDAL's OSM layers, as polygons in a UTM zone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from jointseg.area import grid
from jointseg.dataset.osm_rules import WIDEST_M, TagRules
from jointseg.runtime.errors import DataError

Bounds = tuple[float, float, float, float]

# The tags that GDAL's OSM driver has as fields of their own; the rest is in other_tags.
COLUMNS = (
    *("osm_id", "osm_way_id", "other_tags", "highway", "railway", "waterway", "barrier", "aeroway", "amenity"),
    *("boundary", "building", "craft", "historic", "landuse", "leisure", "man_made", "military", "natural", "office"),
    *("place", "shop", "sport", "tourism"),
)
IDS = ("osm_id", "osm_way_id", "other_tags")
HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Feature:
    """An object of OpenStreetMap.

    Attributes:
        kind: one of osm_rules.KINDS, or SOFT.
        polygon: in the zone asked for.
        id: such as "way/42", as in openstreetmap.org/way/42.
        ground: an outline of ground use, of which only the hardened part is impervious.
    """

    kind: str
    polygon: shapely.Geometry
    id: str
    ground: bool = False


def features(path: Path, epsg: int, squares: Sequence[Bounds], rules: TagRules, margin_m: float) -> Iterator[Feature]:
    """Roads, areas and soft ground that meet squares of a UTM zone, or lie less than a margin away.

    Lines are buffered by half of their width, with flat ends where a runway or taxiway ends.

    Args:
        path: .osm.pbf, .osm, or a file with layers named and filled as GDAL's OSM driver does.
        squares: (min x, min y, max x, max y) in metres of the zone.
    """
    boxes = shapely.box(*np.array(squares, dtype=np.float64).T)
    # Wide roads reach into a square from outside.
    tree = shapely.STRtree(shapely.buffer(boxes, max(margin_m, WIDEST_M / 2), cap_style="square"))
    for layer in ("lines", "multipolygons"):
        for fields, geometry in read_near(path, layer, epsg, tree, COLUMNS):
            tags = hstore(fields.get("other_tags"))
            tags |= {name: str(value) for name, value in fields.items() if value is not None and name not in IDS}
            way = fields.get("osm_id") if layer == "lines" else fields.get("osm_way_id")
            ident = f"way/{way}" if way else f"relation/{fields.get('osm_id')}"
            if (feature := _feature(tags, geometry, ident, rules)) is not None:
                yield feature


def _feature(tags: dict[str, str], geometry: shapely.Geometry, ident: str, rules: TagRules) -> Feature | None:
    if geometry.geom_type != "LineString":
        found = rules.area(tags)
        return Feature(found[0], geometry, ident, found[1]) if found else None
    closed = geometry.is_closed and len(geometry.coords) > 3 and tags.get("area") != "no"
    drawn_as_area = closed and tags.get("area") == "yes"
    if not drawn_as_area and (way := rules.way(tags)) is not None:
        cap = "flat" if way[0] == "airport" else "round"
        return Feature(way[0], shapely.buffer(geometry, way[1] / 2, cap_style=cap), ident)
    # GDAL hands over closed ways as lines where their tags are not on its list of areas, such as man_made=bridge.
    # A closed highway is a loop of road unless it says area=yes.
    if not drawn_as_area:
        tags = {key: value for key, value in tags.items() if key != "highway"}
    found = rules.area(tags) if closed else None
    return Feature(found[0], shapely.Polygon(geometry.coords), ident, found[1]) if found else None


def read_near(
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
    wanted = [name for name in columns if name in set(info["fields"])]
    with pyogrio.open_arrow(path, layer=layer, bbox=box, columns=wanted, batch_size=16_384, use_pyarrow=True) as (
        meta,
        batches,
    ):
        for batch in batches:
            geometry = shapely.from_wkb(
                batch.column(meta["geometry_name"] or "wkb_geometry").to_numpy(zero_copy_only=False)
            )
            there = grid.reproject(geometry, crs, zone)
            near = np.unique(tree.query(there, predicate="intersects")[0])
            fields = {name: batch.column(name) for name in wanted}
            for at in near:
                yield {name: column[int(at)].as_py() for name, column in fields.items()}, there[at]


def hstore(text: str | None) -> dict[str, str]:
    """The tags in a text such as '"lanes"=>"2","tunnel"=>"yes"'."""
    return {key.replace('\\"', '"'): value.replace('\\"', '"') for key, value in HSTORE.findall(text or "")}
