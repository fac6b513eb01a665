"""Collects the impervious polygons of every chip: OpenStreetMap, building footprints, corrections."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine

from jointseg.area import grid
from jointseg.dataset import labelme
from jointseg.dataset.hardened_surface import clip_to_hardened
from jointseg.dataset.osm import Feature, features, read_near
from jointseg.dataset.osm_rules import TagRules
from jointseg.dataset.polygons import valid
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import bar

log = logging.getLogger(__name__)

# Chips are looked up by squares of this side, so that a file with a spatial index is read near chips only.
GROUP_M = 20_000
# Formats without one, which are read once from end to end.
STREAMED = (".pbf", ".osm")
ORDER = {"add": 0, "remove": 1, "unknown": 2}


@dataclass(frozen=True)
class LabelPolygon:
    """A label polygon inside one chip, in the chip's zone."""

    sample_id: str
    kind: str
    source: str
    source_id: str
    action: str
    polygon: shapely.Geometry


def labels(
    *,
    samples: Path,
    pairs: Path,
    jilin1: Path,
    labels: Path,
    reach: str,
    chip_m: int,
    road_widths_m: dict[str, float],
    lane_width_m: float,
    isa_tags: dict[str, dict[str, list[str]]],
    not_isa_tags: dict[str, list[str]],
    unpaved_surfaces: list[str],
    soft_tags: dict[str, list[str]],
    industrial_yard_m: float,
    osm: Path | None = None,
    footprints: Path | None = None,
    corrections: Path | None = None,
) -> dict[str, Any]:
    """Writes the label polygons of the paired chips of a reach, cut to the chips (GeoParquet, EPSG:4326).

    Columns: sample_id; kind (road, building, airport, plaza, sports, industrial, correction); source (osm,
    footprints, labelme); source_id (way/42 or relation/42 of OpenStreetMap, the field `id` of a footprint,
    FILE#NUMBER of a correction, else empty); action (add, remove, unknown), to be burnt in that order.
    OpenStreetMap and footprints are taken to lie where the composite says; corrections drawn on a scene move with its
    registration shift, those drawn on the picture of a chip lie where they are.

    Args:
        road_widths_m, lane_width_m, isa_tags, not_isa_tags, unpaved_surfaces, soft_tags: see osm_rules.Rules.
        industrial_yard_m: so far from buildings and roads industrial ground is taken to be hardened.
        corrections: folder of Labelme files.

    Raises DataError when neither osm nor footprints are given, or one of the files cannot be read.
    """
    if osm is None and footprints is None:
        raise DataError("labels need dataset.osm or dataset.footprints; set one of them")
    table = gpd.read_parquet(samples)
    table = table[table["reach"] == reach]
    paired = pd.read_parquet(pairs)
    ok = paired[paired["status"] == "ok"].sort_values("sample_id")
    table = table[table["sample_id"].isin(ok["sample_id"])].sort_values("sample_id")
    rules = TagRules(road_widths_m, lane_width_m, isa_tags, not_isa_tags, unpaved_surfaces, soft_tags)
    pieces: list[LabelPolygon] = []
    with bar(f"labels {reach}", len(table), "chip") as shown:
        for epsg, chips in _groups(table, chip_m, streamed=osm is not None and osm.suffix in STREAMED):
            found = [] if osm is None else list(features(osm, epsg, list(chips.values()), rules, industrial_yard_m))
            roofs = [] if footprints is None else _footprints(footprints, epsg, list(chips.values()), industrial_yard_m)
            ground = clip_to_hardened(found, [roof.polygon for roof in roofs], industrial_yard_m)
            squares = shapely.box(*np.array(list(chips.values())).T)
            for source, some in (("osm", ground), ("footprints", roofs)):
                pieces += _cut(list(chips), squares, source, some)
            shown.advance(len(chips))
    if corrections is not None:
        pieces += list(_corrections(corrections, jilin1, table, ok, chip_m))
    frame = _frame(pieces, dict(zip(table["sample_id"], table["epsg"])))
    with atomic_write(labels) as part:
        frame.to_parquet(part)
    return {"polygons": dict(sorted(Counter(f"{piece.source} {piece.action}" for piece in pieces).items()))}


def _groups(
    table: gpd.GeoDataFrame, chip_m: int, *, streamed: bool
) -> Iterator[tuple[int, dict[str, tuple[float, float, float, float]]]]:
    """(EPSG code, {sample: bounds}) of chips that are looked up together."""
    groups: dict[tuple[int, int, int], dict[str, tuple[float, float, float, float]]] = defaultdict(dict)
    for row in table.itertuples():
        square = (0, 0) if streamed else (int(row.minx // GROUP_M), int(row.miny // GROUP_M))
        bounds = (row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        groups[(int(row.epsg), *square)][row.sample_id] = bounds
    for key in sorted(groups):
        yield key[0], groups[key]


def _footprints(
    path: Path, epsg: int, squares: Sequence[tuple[float, float, float, float]], margin_m: float
) -> list[Feature]:
    boxes = shapely.buffer(shapely.box(*np.array(squares).T), margin_m, cap_style="square")
    near = list(read_near(path, None, epsg, shapely.STRtree(boxes), ("id",)))
    idents = ["" if fields.get("id") is None else str(fields["id"]) for fields, _ in near]
    return [
        Feature("building", polygon, ident) for polygon, ident in zip(valid([polygon for _, polygon in near]), idents)
    ]


def _cut(
    sample_ids: Sequence[str], squares: np.ndarray, source: str, found: Sequence[Feature], action: str = "add"
) -> list[LabelPolygon]:
    """The parts of valid polygons inside each chip."""
    polygons = np.array([feature.polygon for feature in found], dtype=object)
    chip_of, number = shapely.STRtree(polygons).query(squares, predicate="intersects")
    inside = shapely.intersection(polygons[number], squares[chip_of])
    return [
        LabelPolygon(sample_ids[chip], found[at].kind, source, found[at].id, action, polygon)
        for chip, at, polygon in zip(chip_of, number, inside)
        if polygon.area > 0
    ]


def _corrections(
    folder: Path, jilin1: Path, table: gpd.GeoDataFrame, ok: pd.DataFrame, chip_m: int
) -> Iterator[LabelPolygon]:
    """Corrections on the ground, from drawings on pictures of scenes and of chips."""
    scene_of = {Path(row.path).stem: row.path for row in ok.itertuples()}
    chip_of = {row.sample_id: row for row in table.itertuples()}
    for path in sorted(folder.glob("**/*.json")):
        drawing = labelme.read(path)
        if drawing.stem in chip_of:
            yield from _on_chip(path, drawing, chip_of[drawing.stem], chip_m)
        elif drawing.stem in scene_of:
            yield from _on_scene(path, drawing, jilin1, scene_of[drawing.stem], table, ok, chip_m)
        else:
            log.info("%s corrects no chip and no scene that is paired in this reach", path.name)


def _on_chip(path: Path, drawing: labelme.Annotation, row: Any, chip_m: int) -> list[LabelPolygon]:
    """A drawing in pixels of a chip's 1 m grid."""
    if drawing.size != (chip_m, chip_m):
        raise DataError(f"{path} was drawn on {drawing.size} px but {row.sample_id} has {chip_m} x {chip_m}")
    to_zone = Affine(1, 0, row.minx, 0, -1, row.miny + chip_m)
    crs = f"EPSG:{row.epsg}"
    return _drawn(
        path, drawing, row, chip_m, lambda polygon: pixels_to_zone(polygon, to_zone, crs, int(row.epsg), (0, 0))
    )


def _on_scene(
    path: Path,
    drawing: labelme.Annotation,
    jilin1: Path,
    scene: str,
    table: gpd.GeoDataFrame,
    ok: pd.DataFrame,
    chip_m: int,
) -> Iterator[LabelPolygon]:
    """A drawing in pixels of a scene, moved by the shift of the chip that it falls on.

    A chip that was paired with another scene takes the median shift of the scene that was drawn on.
    """
    with raster_io.open_raster(jilin1 / scene) as source:
        transform, crs, size = source.transform, source.crs.to_string(), (source.width, source.height)
    if drawing.size != size:
        raise DataError(
            f"{path} was drawn on {drawing.size} px but {scene} has {size}; draw on the scene's full picture"
        )
    here = ok[ok["path"] == scene].set_index("sample_id")[["shift_x_m", "shift_y_m"]]
    for row in table.itertuples():
        shift_m = tuple(here.loc[row.sample_id] if row.sample_id in here.index else here.median())

        def place(polygon: shapely.Geometry, epsg: int = int(row.epsg), shift_m: Any = shift_m) -> shapely.Geometry:
            return pixels_to_zone(polygon, transform, crs, epsg, shift_m)

        yield from _drawn(path, drawing, row, chip_m, place)


def _drawn(
    path: Path,
    drawing: labelme.Annotation,
    row: Any,
    chip_m: int,
    place: Callable[[shapely.Geometry], shapely.Geometry],
) -> list[LabelPolygon]:
    square = np.array([shapely.box(row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)])
    pieces: list[LabelPolygon] = []
    for number, shape in enumerate(drawing.shapes):
        there = Feature("correction", place(shape.polygon), f"{path.name}#{number}")
        pieces += _cut([row.sample_id], square, "labelme", [there], shape.action)
    return pieces


def pixels_to_zone(
    polygon: shapely.Geometry, transform: Affine, crs: str, epsg: int, shift_m: tuple[float, float]
) -> shapely.Geometry:
    """A polygon in pixels of a scene's raster as metres of a UTM zone, moved by the scene's registration shift."""
    to_zone = grid.transformer(crs, f"EPSG:{epsg}")

    def place(points: np.ndarray) -> np.ndarray:
        px, py = points.T
        x = transform.a * px + transform.b * py + transform.c
        y = transform.d * px + transform.e * py + transform.f
        return np.column_stack(to_zone.transform(x, y)) + np.array(shift_m)

    return shapely.transform(polygon, place)


def _frame(pieces: Sequence[LabelPolygon], epsg: dict[str, int]) -> gpd.GeoDataFrame:
    """One row a piece, in an order that depends on its content alone."""
    ordered = sorted(
        pieces,
        key=lambda piece: (piece.sample_id, ORDER[piece.action], piece.source, piece.kind, piece.polygon.wkb),
    )

    def to_lonlat(piece: LabelPolygon) -> shapely.Geometry:
        return grid.reproject(piece.polygon, f"EPSG:{int(epsg[piece.sample_id])}", "EPSG:4326")

    return gpd.GeoDataFrame(
        {
            name: pd.Series([getattr(piece, name) for piece in ordered], dtype="str")
            for name in ("sample_id", "kind", "source", "source_id", "action")
        },
        geometry=gpd.GeoSeries([to_lonlat(piece) for piece in ordered], crs=4326),
        crs=4326,
    )
