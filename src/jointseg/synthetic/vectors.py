"""Delivers outlines, OpenStreetMap-like layers, footprints and Labelme corrections, each with its own gaps."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from jointseg.raster.geopackage import fixed_gpkg_timestamp
from jointseg.synthetic.acquisitions import HighScene
from jointseg.synthetic.jilin1 import path_of, shape_of, transform_of
from jointseg.synthetic.objects import PITCH, Thing
from jointseg.synthetic.terrain import EPSG, ORIGIN_M
from jointseg.synthetic.valley import World, reach_box, to_utm

REGIONS = {"upstream": "Shangyou", "midstream": "Zhongyou", "downstream": "Xiayou"}
LINE_FIELDS = ("osm_id", "name", "highway", "waterway", "aerialway", "barrier", "man_made", "railway")
AREA_FIELDS = (
    "osm_id",
    "osm_way_id",
    "name",
    "type",
    "aeroway",
    "amenity",
    "building",
    "landuse",
    "leisure",
    "natural",
    "place",
)
# Share of the roads of a class that no mapper has drawn, in the country; in a city a quarter of it.
UNMAPPED = {"tertiary": 0.04, "unclassified": 0.14, "residential": 0.2, "service": 0.45, "track": 0.45, "path": 0.5}


def study_area(path: Path, world: World) -> None:
    """A region around each reach and the outline of each city: layers regions and cities, EPSG:4326."""
    # A little inside the reach, so that the bent edges do not touch the neighbouring tiles.
    regions = [
        shapely.segmentize(reach_box(world.frame, k).buffer(-2, join_style="mitre"), 250) for k in range(len(REGIONS))
    ]
    _write(path, "regions", regions, {"name": list(REGIONS.values())})
    outlines = [to_utm(city.outline) for city in world.cities]
    _write(path, "cities", outlines, {"name": [city.name for city in world.cities]})


def _write(path: Path, layer: str, shapes: list[shapely.Geometry], fields: dict[str, list]) -> None:
    frame = gpd.GeoDataFrame(fields, geometry=shapes, crs=EPSG).to_crs(4326)
    with fixed_gpkg_timestamp("2022-12-31T00:00:00.000Z"):
        frame.to_file(path, layer=layer, driver="GPKG", engine="pyogrio", mode="a" if path.exists() else "w")


def mapped(world: World, year: int) -> np.ndarray:
    """Which objects that stand in a year OpenStreetMap holds: bool, one for each."""
    rng = world.frame.rng(90)
    out = np.zeros(len(world.things), dtype=bool)
    for k, thing in enumerate(world.things):
        chance, luck = 0.9, rng.random()
        if thing.line is not None:
            missing = UNMAPPED.get(thing.tags["highway"], 0.0)
            chance = 1 - (missing / 4 if thing.city else missing)
        elif thing.kind == "building":
            chance = 0.55 if thing.city else 0.08
        elif not thing.tags or thing.kind in {"roof", "greenhouse"}:
            chance = 0.0
        elif thing.kind == "site":
            chance = 0.4
        out[k] = luck < chance and thing.birth <= year
    return out


def osm(path: Path, world: World, year: int, held: np.ndarray) -> None:
    """Layers lines and multipolygons with the fields of GDAL's OSM driver, as of a year."""
    rng = world.frame.rng(91)
    lines: list[tuple[shapely.Geometry, dict[str, str]]] = []
    areas: list[tuple[shapely.Geometry, dict[str, str]]] = []
    for thing, there in zip(world.things, held):
        shift = rng.normal(0, 0.8, 2)
        tagged, soon = dict(thing.tags), year < thing.birth <= year + 2
        if thing.line is not None:
            width = float(tagged.pop("width"))
            if rng.random() < 0.25:
                tagged["width"] = f"{width:.1f}"
            if soon and rng.random() < 0.7:
                tagged = {"highway": "construction", "construction": tagged["highway"]}
            elif not there:
                continue
            if thing.line.geom_type == "LineString":
                lines.append((shapely.transform(thing.line.simplify(0.8), lambda xy, d=shift: xy + d), tagged))
        elif there:
            areas.append((shapely.transform(thing.shape.simplify(0.4), lambda xy, d=shift: xy + d), tagged))
    river = shapely.LineString(
        shapely.get_coordinates(world.terrain.river)[::4][: len(shapely.get_coordinates(world.terrain.river)) // 8]
    )
    lines.append((river, {"waterway": "river", "name": "Jiang"}))
    lines.append((_tunnel(world), {"highway": "secondary", "tunnel": "yes", "layer": "-1", "lanes": "2"}))
    areas += [(water, {"natural": "water"}) for water in (world.terrain.river, *world.terrain.lakes)]
    _write_tagged(path, "lines", lines, LINE_FIELDS)
    _write_tagged(path, "multipolygons", [(_multi(shape), tags) for shape, tags in areas], AREA_FIELDS)


def _tunnel(world: World) -> shapely.Geometry:
    side = world.frame.reach_m
    return shapely.LineString([(0.05 * side, 0.9 * side), (0.3 * side, 0.97 * side)])


def _multi(shape: shapely.Geometry) -> shapely.Geometry:
    parts = [part for part in getattr(shape, "geoms", [shape]) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon(parts)


def _write_tagged(
    path: Path, layer: str, rows: list[tuple[shapely.Geometry, dict[str, str]]], fields: tuple[str, ...]
) -> None:
    table: dict[str, list] = {name: [] for name in (*fields, "other_tags")}
    for number, (_, tags) in enumerate(rows):
        known = {"osm_id": str(100_000_000 + number), **tags}
        for name in fields:
            table[name].append(known.pop(name, None))
        table["other_tags"].append(",".join(f'"{key}"=>"{value}"' for key, value in known.items()) or None)
    _write(path, layer, [to_utm(shape) for shape, _ in rows], table)


def footprints(path: Path, world: World, year: int) -> np.ndarray:
    """Building outlines of another maker: shifted, squared off, with gaps, some greenhouses taken for buildings.

    Returns which objects are in it, bool, one for each.
    """
    rng = world.frame.rng(92)
    held = np.zeros(len(world.things), dtype=bool)
    shapes = []
    for k, thing in enumerate(world.things):
        luck, shift = rng.random(), rng.normal(0, 0.7, 2)
        chance = (
            (0.93 if thing.city else 0.66) if thing.kind == "building" else 0.4 if thing.kind == "greenhouse" else 0.0
        )
        if luck > chance or thing.birth > year:
            continue
        held[k] = True
        outline = shapely.oriented_envelope(thing.shape) if luck < 0.5 else thing.shape
        shapes.append(
            to_utm(shapely.transform(outline.buffer(rng.normal(0, 0.35)), lambda xy, d=shift: xy + d).simplify(0.3))
        )
    shapes = [shape if shape.geom_type == "Polygon" else shape.convex_hull for shape in shapes]
    _write(path, "footprints", shapes, {"id": list(range(1, len(shapes) + 1)), "source": ["rooftops"] * len(shapes)})
    return held


def corrections(folder: Path, jilin1: str, world: World, scenes: list[HighScene], year: int, known: np.ndarray) -> None:
    """Labelme files, drawn on the scenes in their own misregistered frame.

    Adds what neither OpenStreetMap nor the footprints hold, as far as the annotator saw it, and removes greenhouses
    that the footprints took for buildings and flower beds in mapped squares.

    Args:
        folder: to make.
        jilin1: the folder of the scenes, relative to `folder`.
        known: which objects the other two sources hold.
    """
    rng = world.frame.rng(93)
    folder.mkdir(parents=True)
    usable = [scene for scene in scenes if scene.level != "L1" and scene.cloud_percent < 10]
    reach_of = [scene.window.grown(-110).box for scene in usable]
    drawn: dict[str, list[dict]] = {scene.id: [] for scene in usable}
    for thing, there in zip(world.things, known):
        luck, which = rng.random(), rng.random()
        label = _judged(thing, bool(there), luck, year)
        if label is None:
            continue
        middle = thing.shape.centroid
        holding = [scene for scene, box in zip(usable, reach_of) if box.contains(middle)]
        if not holding:
            continue
        scene = holding[int(which * len(holding))]
        drawn[scene.id] += [_shape(part, scene, label, rng) for part in _without_holes(thing.shape)]
    for scene in usable:
        height, width = shape_of(scene)
        content: dict[str, object] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": drawn[scene.id],
            "imagePath": path_of(Path(jilin1), scene).as_posix(),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        (folder / f"{scene.id}.json").write_text(json.dumps(content, indent=1))


def _without_holes(shape: shapely.Geometry) -> list[shapely.Geometry]:
    """Polygons that cover a shape; a ring is cut into two halves, for Labelme's polygons have no holes."""
    parts = [part for part in getattr(shape, "geoms", [shape]) if part.geom_type == "Polygon"]
    if not any(len(part.interiors) for part in parts):
        return parts
    west, south, east, north = shape.bounds
    middle = shape.centroid.x
    halves = (
        shape.intersection(shapely.box(*box)) for box in ((west, south, middle, north), (middle, south, east, north))
    )
    return [part for half in halves for part in getattr(half, "geoms", [half]) if part.geom_type == "Polygon"]


def _judged(thing: Thing, there: bool, luck: float, year: int) -> str | None:
    """What the annotator makes of an object."""
    if thing.birth > year or thing.kind == "roof":
        return None
    if not thing.isa:
        wrong = (thing.kind == "greenhouse" and there) or (thing.level == PITCH and thing.city)
        return "not_isa" if wrong and luck < 0.6 else None
    if there and not (thing.kind == "yard" and thing.tags.get("landuse") == "residential"):
        return None
    seen = {"building": 0.72, "road": 0.6}.get(thing.kind, 0.88)
    if thing.shape.area < 45:
        seen *= 0.5
    return "isa" if luck < seen else None


def _shape(part: shapely.Geometry, scene: HighScene, label: str, rng: np.random.Generator) -> dict:
    """A polygon in pixels of the scene: x right, y down, (0, 0) the upper left corner."""
    outline = np.asarray(part.simplify(0.7).exterior.coords)[:-1]
    outline = outline + rng.normal(0, 0.45, outline.shape)
    east = outline[:, 0] + ORIGIN_M[0] - scene.shift_m[0]
    north = outline[:, 1] + ORIGIN_M[1] - scene.shift_m[1]
    to_pixel = ~transform_of(scene)
    height, width = shape_of(scene)
    cols = np.clip(to_pixel.a * east + to_pixel.c, 0, width)
    rows = np.clip(to_pixel.e * north + to_pixel.f, 0, height)
    points = np.round(np.column_stack([cols, rows]), 2).tolist()
    return {"label": label, "points": points, "group_id": None, "description": "", "shape_type": "polygon", "flags": {}}
