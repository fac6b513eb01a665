"""Impervious objects of an OpenStreetMap extract, read from GDAL's OSM layers, as polygons in a UTM zone."""

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
from jointseg.dataset.osm_rules import MAX_WIDTH_M, TagRules
from jointseg.raster.io import Bounds
from jointseg.runtime.errors import DataError

# Tags that GDAL's OSM driver stores in fields; all other tags are in other_tags.
COLUMNS = (
    *("osm_id", "osm_way_id", "other_tags", "highway", "railway", "waterway", "barrier", "aeroway", "amenity"),
    *("boundary", "building", "craft", "historic", "landuse", "leisure", "man_made", "military", "natural", "office"),
    *("place", "shop", "sport", "tourism"),
)
IDS = ("osm_id", "osm_way_id", "other_tags")
HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Feature:
    """An object of OpenStreetMap."""

    kind: str  # one of osm_rules.KINDS, or SOFT
    polygon: shapely.Geometry  # in the requested zone
    id: str  # such as "way/42", as in openstreetmap.org/way/42
    is_land_use: bool = False  # whether it is a land-use outline, of which only the hardened part is impervious


def features(path: Path, epsg: int, squares: Sequence[Bounds], rules: TagRules, margin_m: float) -> Iterator[Feature]:
    """Yield the roads, areas and soft features that intersect squares (min x, min y, max x, max y) of a zone with a
    margin, m.

    Lines are buffered by half of their width; runways and taxiways have flat ends. The file is .osm.pbf, .osm, or has
    the layers and fields of GDAL's OSM driver.
    """
    boxes = shapely.box(*np.array(squares, dtype=np.float64).T)
    # A wide road outside a square may reach into it.
    tree = shapely.STRtree(shapely.buffer(boxes, max(margin_m, MAX_WIDTH_M / 2), cap_style="square"))
    for layer in ("lines", "multipolygons"):
        for fields, geometry in read_near(path, layer, epsg, tree, COLUMNS):
            tags = hstore(fields.get("other_tags"))
            tags |= {name: str(value) for name, value in fields.items() if value is not None and name not in IDS}
            way = fields.get("osm_id") if layer == "lines" else fields.get("osm_way_id")
            feature_id = f"way/{way}" if way else f"relation/{fields.get('osm_id')}"
            if (feature := _feature(tags, geometry, feature_id, rules)) is not None:
                yield feature


def _feature(tags: dict[str, str], geometry: shapely.Geometry, feature_id: str, rules: TagRules) -> Feature | None:
    if geometry.geom_type != "LineString":
        area = rules.area(tags)
        return Feature(area[0], geometry, feature_id, area[1]) if area else None
    closed = geometry.is_closed and len(geometry.coords) > 3 and tags.get("area") != "no"
    tagged_as_area = closed and tags.get("area") == "yes"
    if not tagged_as_area and (way := rules.way(tags)) is not None:
        cap = "flat" if way[0] == "airport" else "round"
        return Feature(way[0], shapely.buffer(geometry, way[1] / 2, cap_style=cap), feature_id)
    # GDAL returns closed ways as lines if their tags are not in its list of area tags, such as man_made=bridge.
    # A closed highway is a circular road unless it has area=yes.
    if not tagged_as_area:
        tags = {key: value for key, value in tags.items() if key != "highway"}
    area = rules.area(tags) if closed else None
    return Feature(area[0], shapely.Polygon(geometry.coords), feature_id, area[1]) if area else None


def read_near(
    path: Path, layer: str | None, epsg: int, tree: shapely.STRtree, columns: Sequence[str]
) -> Iterator[tuple[dict[str, Any], shapely.Geometry]]:
    """Yield (fields, geometry in the zone) of the features whose box intersects a geometry of the tree, as a stream.

    Raises DataError if the file or the layer cannot be read.
    """
    try:
        info = pyogrio.read_info(path, layer=layer)
    except (DataSourceError, DataLayerError) as error:
        raise DataError(
            f"{path} has no readable layer {layer or ''} ({error}); expected the layers of GDAL's OSM driver"
        ) from None
    crs = info["crs"] or "EPSG:4326"
    zone = f"EPSG:{epsg}"
    west, south, east, north = shapely.total_bounds(tree.geometries)
    box = grid.transformer(zone, crs).transform_bounds(west, south, east, north)
    available = [name for name in columns if name in set(info["fields"])]
    with pyogrio.open_arrow(path, layer=layer, bbox=box, columns=available, batch_size=16_384, use_pyarrow=True) as (
        meta,
        batches,
    ):
        for batch in batches:
            geometry = shapely.from_wkb(
                batch.column(meta["geometry_name"] or "wkb_geometry").to_numpy(zero_copy_only=False)
            )
            projected = grid.reproject(geometry, crs, zone)
            near = np.unique(tree.query(projected, predicate="intersects")[0])
            fields = {name: batch.column(name) for name in available}
            for row in near:
                yield {name: column[int(row)].as_py() for name, column in fields.items()}, projected[row]


def hstore(text: str | None) -> dict[str, str]:
    """Parse tags in hstore syntax, such as '"lanes"=>"2","tunnel"=>"yes"'."""
    return {key.replace('\\"', '"'): value.replace('\\"', '"') for key, value in HSTORE.findall(text or "")}
