"""Write outlines, OpenStreetMap layers, building footprints and Labelme corrections, each with typical gaps."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from jointseg.raster.geopackage import fixed_gpkg_timestamp
from jointseg.synthetic.acquisitions import Jilin1Scene
from jointseg.synthetic.jilin1 import image_path, scene_shape, scene_transform
from jointseg.synthetic.objects import PITCH, Feature
from jointseg.synthetic.terrain import EPSG, ORIGIN_M
from jointseg.synthetic.valley import Valley, reach_box, to_utm

REGIONS = {"upstream": "Shangyou", "midstream": "Zhongyou", "downstream": "Xiayou"}
LINE_FIELDS = ("osm_id", "name", "highway", "waterway", "aerialway", "barrier", "man_made", "railway")
AREA_FIELDS = (
    *("osm_id", "osm_way_id", "name", "type", "aeroway", "amenity", "building", "landuse", "leisure", "natural"),
    "place",
)
# Fraction of the rural roads of a class that OpenStreetMap lacks; a quarter of it in cities.
UNMAPPED_FRACTION = {
    "tertiary": 0.04,
    "unclassified": 0.14,
    "residential": 0.2,
    "service": 0.45,
    "track": 0.45,
    "path": 0.5,
}


def write_study_area(path: Path, valley: Valley) -> None:
    """Write the outlines of reaches and cities: layers regions and cities, EPSG:4326."""
    # Inset, so that the curved edges do not touch the neighbouring tiles.
    regions = [
        shapely.segmentize(reach_box(valley.frame, k).buffer(-2, join_style="mitre"), 250) for k in range(len(REGIONS))
    ]
    _write(path, "regions", regions, {"name": list(REGIONS.values())})
    outlines = [to_utm(city.outline) for city in valley.cities]
    _write(path, "cities", outlines, {"name": [city.name for city in valley.cities]})


def _write(path: Path, layer: str, shapes: list[shapely.Geometry], fields: dict[str, list]) -> None:
    frame = gpd.GeoDataFrame(fields, geometry=shapes, crs=EPSG).to_crs(4326)
    with fixed_gpkg_timestamp("2022-12-31T00:00:00.000Z"):
        frame.to_file(path, layer=layer, driver="GPKG", engine="pyogrio", mode="a" if path.exists() else "w")


def osm_coverage(valley: Valley, year: int) -> np.ndarray:
    """Draw which of the features that exist in a year OpenStreetMap contains: bool [features]."""
    rng = valley.frame.rng(90)
    out = np.zeros(len(valley.features), dtype=bool)
    for k, feature in enumerate(valley.features):
        chance, draw = 0.9, rng.random()
        if feature.line is not None:
            missing = UNMAPPED_FRACTION.get(feature.tags["highway"], 0.0)
            chance = 1 - (missing / 4 if feature.city else missing)
        elif feature.kind == "building":
            chance = 0.55 if feature.city else 0.08
        elif not feature.tags or feature.kind in {"roof", "greenhouse"}:
            chance = 0.0
        elif feature.kind == "site":
            chance = 0.4
        out[k] = draw < chance and feature.year_built <= year
    return out


def write_osm(path: Path, valley: Valley, year: int, in_osm: np.ndarray) -> None:
    """Write the layers lines and multipolygons with the fields of GDAL's OSM driver, as of a year."""
    rng = valley.frame.rng(91)
    lines: list[tuple[shapely.Geometry, dict[str, str]]] = []
    areas: list[tuple[shapely.Geometry, dict[str, str]]] = []
    for feature, present in zip(valley.features, in_osm):
        shift = rng.normal(0, 0.8, 2)
        tags, planned = dict(feature.tags), year < feature.year_built <= year + 2
        if feature.line is not None:
            width = float(tags.pop("width"))
            if rng.random() < 0.25:
                tags["width"] = f"{width:.1f}"
            if planned and rng.random() < 0.7:
                tags = {"highway": "construction", "construction": tags["highway"]}
            elif not present:
                continue
            if feature.line.geom_type == "LineString":
                lines.append((shapely.transform(feature.line.simplify(0.8), lambda xy, d=shift: xy + d), tags))
        elif present:
            areas.append((shapely.transform(feature.shape.simplify(0.4), lambda xy, d=shift: xy + d), tags))
    river = shapely.LineString(
        shapely.get_coordinates(valley.terrain.river)[::4][: len(shapely.get_coordinates(valley.terrain.river)) // 8]
    )
    lines.append((river, {"waterway": "river", "name": "Jiang"}))
    side = valley.frame.reach_m
    tunnel = shapely.LineString([(0.05 * side, 0.9 * side), (0.3 * side, 0.97 * side)])
    lines.append((tunnel, {"highway": "secondary", "tunnel": "yes", "layer": "-1", "lanes": "2"}))
    areas += [(water, {"natural": "water"}) for water in (valley.terrain.river, *valley.terrain.lakes)]
    _write_tagged(path, "lines", lines, LINE_FIELDS)
    _write_tagged(
        path, "multipolygons", [(shapely.MultiPolygon(_polygons(shape)), tags) for shape, tags in areas], AREA_FIELDS
    )


def _polygons(shape: shapely.Geometry) -> list[shapely.Polygon]:
    return [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]


def _write_tagged(
    path: Path, layer: str, rows: list[tuple[shapely.Geometry, dict[str, str]]], fields: tuple[str, ...]
) -> None:
    table: dict[str, list] = {name: [] for name in (*fields, "other_tags")}
    for number, (_, tags) in enumerate(rows):
        rest = {"osm_id": str(100_000_000 + number), **tags}
        for name in fields:
            table[name].append(rest.pop(name, None))
        table["other_tags"].append(",".join(f'"{key}"=>"{value}"' for key, value in rest.items()) or None)
    _write(path, layer, [to_utm(shape) for shape, _ in rows], table)


def write_footprints(path: Path, valley: Valley, year: int) -> np.ndarray:
    """Write building footprints: shifted, some squared, with gaps, and with some greenhouses; return which features,
    bool [n].
    """
    rng = valley.frame.rng(92)
    included = np.zeros(len(valley.features), dtype=bool)
    shapes = []
    for k, feature in enumerate(valley.features):
        draw, shift = rng.random(), rng.normal(0, 0.7, 2)
        chance = {"building": 0.93 if feature.city else 0.66, "greenhouse": 0.4}.get(feature.kind, 0.0)
        if draw > chance or feature.year_built > year:
            continue
        included[k] = True
        outline = shapely.oriented_envelope(feature.shape) if draw < 0.5 else feature.shape
        shapes.append(
            to_utm(shapely.transform(outline.buffer(rng.normal(0, 0.35)), lambda xy, d=shift: xy + d).simplify(0.3))
        )
    shapes = [shape if shape.geom_type == "Polygon" else shape.convex_hull for shape in shapes]
    _write(path, "footprints", shapes, {"id": list(range(1, len(shapes) + 1)), "source": ["rooftops"] * len(shapes)})
    return included


def write_corrections(
    folder: Path, jilin1: str, valley: Valley, scenes: list[Jilin1Scene], year: int, mapped: np.ndarray
) -> None:
    """Write Labelme files in the misregistered coordinates of the scenes, whose folder `jilin1` is relative to
    `folder`.

    They add ISA that both OpenStreetMap and the footprints lack (not `mapped`, bool [features]), and remove greenhouses
    among the footprints and lawns in mapped squares; small features are often missed.
    """
    rng = valley.frame.rng(93)
    folder.mkdir(parents=True)
    usable = [scene for scene in scenes if scene.level != "L1" and scene.cloud_percent < 10]
    extents = [scene.window.grown(-110).box for scene in usable]
    drawn: dict[str, list[dict]] = {scene.id: [] for scene in usable}
    for feature, is_mapped in zip(valley.features, mapped):
        draw, which = rng.random(), rng.random()
        label = _correction_label(feature, bool(is_mapped), draw, year)
        if label is None:
            continue
        middle = feature.shape.centroid
        covering = [scene for scene, box in zip(usable, extents) if box.contains(middle)]
        if not covering:
            continue
        scene = covering[int(which * len(covering))]
        drawn[scene.id] += [_shape(part, scene, label, rng) for part in _without_holes(feature.shape)]
    for scene in usable:
        height, width = scene_shape(scene)
        content: dict[str, object] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": drawn[scene.id],
            "imagePath": image_path(Path(jilin1), scene).as_posix(),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        (folder / f"{scene.id}.json").write_text(json.dumps(content, indent=1))


def _without_holes(shape: shapely.Geometry) -> list[shapely.Geometry]:
    """Return polygons that cover a shape; a ring is cut into two halves, as Labelme polygons have no holes."""
    if not any(len(part.interiors) for part in _polygons(shape)):
        return _polygons(shape)
    west, south, east, north = shape.bounds
    middle = shape.centroid.x
    halves = shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)
    return [part for half in halves for part in _polygons(shape.intersection(half))]


def _correction_label(feature: Feature, is_mapped: bool, draw: float, year: int) -> str | None:
    """Return the annotator's label of a feature: "isa", "not_isa" or None."""
    if feature.year_built > year or feature.kind == "roof":
        return None
    if not feature.impervious:
        wrong = (feature.kind == "greenhouse" and is_mapped) or (feature.level == PITCH and feature.city)
        return "not_isa" if wrong and draw < 0.6 else None
    if is_mapped and not (feature.kind == "yard" and feature.tags.get("landuse") == "residential"):
        return None
    detection = {"building": 0.72, "road": 0.6}.get(feature.kind, 0.88)
    if feature.shape.area < 45:
        detection *= 0.5
    return "isa" if draw < detection else None


def _shape(part: shapely.Geometry, scene: Jilin1Scene, label: str, rng: np.random.Generator) -> dict:
    """Convert a polygon to a Labelme shape in pixels of the scene: x right, y down, origin at the upper left corner."""
    outline = np.asarray(part.simplify(0.7).exterior.coords)[:-1]
    outline = outline + rng.normal(0, 0.45, outline.shape)
    east = outline[:, 0] + ORIGIN_M[0] - scene.shift_m[0]
    north = outline[:, 1] + ORIGIN_M[1] - scene.shift_m[1]
    to_pixel = ~scene_transform(scene)
    height, width = scene_shape(scene)
    cols = np.clip(to_pixel.a * east + to_pixel.c, 0, width)
    rows = np.clip(to_pixel.e * north + to_pixel.f, 0, height)
    points = np.round(np.column_stack([cols, rows]), 2).tolist()
    return {"label": label, "points": points, "group_id": None, "description": "", "shape_type": "polygon", "flags": {}}
