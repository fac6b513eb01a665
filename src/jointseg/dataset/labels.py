"""Collects the impervious polygons of every chip: OpenStreetMap, building footprints, corrections."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine

from jointseg import grid, raster
from jointseg.dataset import labelme
from jointseg.dataset.osm import features, rows_near
from jointseg.errors import DataError
from jointseg.progress import bar

log = logging.getLogger(__name__)

# Chips are looked up by squares of this side, so that a file with a spatial index is read near chips only.
GROUP_M = 20_000
# Formats without one, which are read once from end to end.
STREAMED = (".pbf", ".osm")
ORDER = {"add": 0, "remove": 1, "unknown": 2}


@dataclass(frozen=True)
class Piece:
    """A label polygon inside one chip, in the chip's zone."""

    sample_id: str
    kind: str
    source: str
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
    isa_tags: dict[str, list[str]],
    osm: Path | None = None,
    footprints: Path | None = None,
    corrections: Path | None = None,
) -> dict[str, Any]:
    """Writes the label polygons of the paired chips of a reach, cut to the chips (GeoParquet, EPSG:4326).

    Columns: sample_id; kind (road, building, airport, plaza, sports, industrial, correction); source (osm,
    footprints, labelme); action (add, remove, unknown), to be burnt in that order. OpenStreetMap and footprints are
    taken to lie where the composite says; corrections were drawn on a scene and move with its registration shift.

    Args:
        road_widths_m: paved width of each highway class that is impervious.
        lane_width_m: width of a lane, for roads with `lanes`.
        isa_tags: OpenStreetMap areas that are impervious, values per key, "*" for any.
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
    pieces: list[Piece] = []
    with bar(f"labels {reach}", len(table), "chip") as shown:
        for epsg, chips in _groups(table, chip_m, streamed=osm is not None and osm.suffix in STREAMED):
            squares = shapely.box(*np.array(list(chips.values())).T)
            found: list[tuple[str, str, shapely.Geometry]] = []
            if osm is not None:
                some = features(osm, epsg, list(chips.values()), road_widths_m, lane_width_m, isa_tags)
                found += [(feature.kind, "osm", feature.polygon) for feature in some]
            if footprints is not None:
                near = rows_near(footprints, None, epsg, shapely.STRtree(squares), ())
                found += [("building", "footprints", polygon) for _, polygon in near]
            pieces += _cut(list(chips), squares, [(kind, source, "add", polygon) for kind, source, polygon in found])
            shown.advance(len(chips))
    if corrections is not None:
        pieces += list(_corrections(corrections, jilin1, table, ok, chip_m))
    frame = _frame(pieces, dict(zip(table["sample_id"], table["epsg"])))
    with raster.atomic(labels) as part:
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


def _cut(
    sample_ids: Sequence[str], squares: np.ndarray, found: Sequence[tuple[str, str, str, shapely.Geometry]]
) -> list[Piece]:
    """The parts of polygons inside each chip."""
    if not found:
        return []
    polygons = shapely.make_valid(np.array([polygon for *_, polygon in found], dtype=object))
    chip_of, number = shapely.STRtree(polygons).query(squares, predicate="intersects")
    inside = shapely.intersection(polygons[number], squares[chip_of])
    return [
        Piece(sample_ids[chip], found[at][0], found[at][1], found[at][2], polygon)
        for chip, at, polygon in zip(chip_of, number, inside)
        if polygon.area > 0
    ]


def _corrections(folder: Path, jilin1: Path, table: gpd.GeoDataFrame, ok: pd.DataFrame, chip_m: int) -> Iterator[Piece]:
    """Corrections on the ground: through their scene's transform, moved by the shift of the chip they fall on.

    A chip that was paired with another scene takes the median shift of the scene that was drawn on.
    """
    by_stem = {Path(row.path).stem: row.path for row in ok.itertuples()}
    shift_of = {row.sample_id: (row.path, row.shift_x_m, row.shift_y_m) for row in ok.itertuples()}
    median = ok.groupby("path")[["shift_x_m", "shift_y_m"]].median()
    for path in sorted(folder.glob("**/*.json")):
        drawn = labelme.read(path)
        if not drawn or drawn[0].stem not in by_stem:
            log.info("%s corrects no scene that is paired in this reach", path.name)
            continue
        scene = by_stem[drawn[0].stem]
        with raster.opened(jilin1 / scene) as source:
            transform, crs, size = source.transform, source.crs.to_string(), (source.width, source.height)
        if drawn[0].size != size:
            raise DataError(
                f"{path} was drawn on {drawn[0].size} px but {scene} has {size}; draw on the scene's full picture"
            )
        for row in table.itertuples():
            own = shift_of[row.sample_id]
            shift_m = own[1:] if own[0] == scene else tuple(median.loc[scene])
            square = shapely.box(row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
            moved = [(one.action, on_ground(one.polygon, transform, crs, int(row.epsg), shift_m)) for one in drawn]
            found = [("correction", "labelme", action, polygon) for action, polygon in moved]
            yield from _cut([row.sample_id], np.array([square]), found)


def on_ground(
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


def _frame(pieces: Sequence[Piece], epsg: dict[str, int]) -> gpd.GeoDataFrame:
    """One row a piece, in an order that depends on its content alone."""
    ordered = sorted(
        pieces,
        key=lambda piece: (piece.sample_id, ORDER[piece.action], piece.source, piece.kind, piece.polygon.wkb),
    )

    def to_lonlat(piece: Piece) -> shapely.Geometry:
        to = grid.transformer(f"EPSG:{int(epsg[piece.sample_id])}", "EPSG:4326")
        return shapely.transform(
            piece.polygon, lambda points: np.column_stack(to.transform(points[:, 0], points[:, 1]))
        )

    return gpd.GeoDataFrame(
        {
            name: pd.Series([getattr(piece, name) for piece in ordered], dtype="str")
            for name in ("sample_id", "kind", "source", "action")
        },
        geometry=gpd.GeoSeries([to_lonlat(piece) for piece in ordered], crs=4326),
        crs=4326,
    )
