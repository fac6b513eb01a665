"""Step `labels`: the impervious polygons of every chip, from OpenStreetMap, building footprints and corrections."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from jointseg.area import grid
from jointseg.dataset.corrections import read_corrections
from jointseg.dataset.hardened_surface import clip_to_hardened
from jointseg.dataset.osm import Feature, features, read_near
from jointseg.dataset.osm_rules import TagRules
from jointseg.dataset.polygons import make_valid
from jointseg.raster.io import Bounds
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import bar

# Chips are grouped by squares of this side: a file with a spatial index is read only near its chips.
GROUP_M = 20_000
# Formats without a spatial index, which are read once from end to end.
STREAMED = (".pbf", ".osm")
ORDER = {"add": 0, "remove": 1, "unlabelled": 2}


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
    """Write the label polygons of the paired chips of a reach, clipped to the chips (GeoParquet, EPSG:4326).

    Columns: sample_id; kind (road, building, airport, plaza, sports, industrial, correction); source (osm, footprints,
    labelme); source_id (way/42 or relation/42 of OpenStreetMap, the field `id` of a footprint, FILE#NUMBER of a
    correction, else empty); action (add, remove, unlabelled), rasterised in that order. OpenStreetMap and footprints
    are assumed to align with the composite. Corrections, in a folder of Labelme files, are moved by the registration
    shift of the scene they are drawn on; those drawn on the image of a chip are not moved. Raises DataError if neither
    osm nor footprints are given, or if one of the files cannot be read.

    Args:
        road_widths_m, lane_width_m, isa_tags, not_isa_tags, unpaved_surfaces, soft_tags: see osm_rules.TagRules.
        industrial_yard_m: distance from buildings and roads up to which industrial land use is hardened.
    """
    if osm is None and footprints is None:
        raise DataError("labels need dataset.osm or dataset.footprints; set at least one of them")
    table = gpd.read_parquet(samples)
    table = table[table["reach"] == reach]
    paired = pd.read_parquet(pairs)
    ok = paired[paired["status"] == "ok"].sort_values("sample_id")
    table = table[table["sample_id"].isin(ok["sample_id"])].sort_values("sample_id")
    rules = TagRules(road_widths_m, lane_width_m, isa_tags, not_isa_tags, unpaved_surfaces, soft_tags)
    polygons: list[LabelPolygon] = []
    with bar(f"labels {reach}", len(table), "chip") as progress:
        for epsg, chips in _groups(table, chip_m, streamed=osm is not None and osm.suffix in STREAMED):
            bounds = list(chips.values())
            mapped = [] if osm is None else list(features(osm, epsg, bounds, rules, industrial_yard_m))
            buildings = [] if footprints is None else _footprints(footprints, epsg, bounds, industrial_yard_m)
            hardened = clip_to_hardened(mapped, [building.polygon for building in buildings], industrial_yard_m)
            squares = shapely.box(*np.array(bounds).T)
            for source, source_features in (("osm", hardened), ("footprints", buildings)):
                polygons += _clip(list(chips), squares, source, source_features)
            progress.advance(len(chips))
    if corrections is not None:
        for correction in read_corrections(corrections, jilin1, table, ok, chip_m):
            chip = correction.chip
            square = np.array([shapely.box(chip.minx, chip.miny, chip.minx + chip_m, chip.miny + chip_m)])
            feature = Feature("correction", correction.polygon, correction.id)
            polygons += _clip([chip.sample_id], square, "labelme", [feature], correction.action)
    frame = _table(polygons, dict(zip(table["sample_id"], table["epsg"])))
    with atomic_write(labels) as part:
        frame.to_parquet(part)
    return {"polygons": dict(sorted(Counter(f"{one.source} {one.action}" for one in polygons).items()))}


def _groups(table: gpd.GeoDataFrame, chip_m: int, *, streamed: bool) -> Iterator[tuple[int, dict[str, Bounds]]]:
    """Yield (EPSG code, {sample: bounds}) of chips whose sources are read together."""
    groups: dict[tuple[int, int, int], dict[str, Bounds]] = defaultdict(dict)
    for row in table.itertuples():
        square = (0, 0) if streamed else (int(row.minx // GROUP_M), int(row.miny // GROUP_M))
        bounds = (row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        groups[(int(row.epsg), *square)][row.sample_id] = bounds
    for key in sorted(groups):
        yield key[0], groups[key]


def _footprints(path: Path, epsg: int, squares: Sequence[Bounds], margin_m: float) -> list[Feature]:
    boxes = shapely.buffer(shapely.box(*np.array(squares).T), margin_m, cap_style="square")
    near = list(read_near(path, None, epsg, shapely.STRtree(boxes), ("id",)))
    ids = ["" if fields.get("id") is None else str(fields["id"]) for fields, _ in near]
    polygons = make_valid([polygon for _, polygon in near])
    return [Feature("building", polygon, feature_id) for polygon, feature_id in zip(polygons, ids)]


def _clip(
    sample_ids: Sequence[str], squares: np.ndarray, source: str, features: Sequence[Feature], action: str = "add"
) -> list[LabelPolygon]:
    """Return the parts of valid polygons inside each chip."""
    polygons = np.array([feature.polygon for feature in features], dtype=object)
    chip_of, number = shapely.STRtree(polygons).query(squares, predicate="intersects")
    inside = shapely.intersection(polygons[number], squares[chip_of])
    return [
        LabelPolygon(sample_ids[chip], features[i].kind, source, features[i].id, action, polygon)
        for chip, i, polygon in zip(chip_of, number, inside)
        if polygon.area > 0
    ]


def _table(polygons: Sequence[LabelPolygon], epsg: dict[str, int]) -> gpd.GeoDataFrame:
    """Return one row per polygon, in an order that depends only on the content."""
    ordered = sorted(
        polygons, key=lambda one: (one.sample_id, ORDER[one.action], one.source, one.kind, one.polygon.wkb)
    )
    geometry = [grid.reproject(one.polygon, f"EPSG:{int(epsg[one.sample_id])}", "EPSG:4326") for one in ordered]
    return gpd.GeoDataFrame(
        {
            name: pd.Series([getattr(one, name) for one in ordered], dtype="str")
            for name in ("sample_id", "kind", "source", "source_id", "action")
        },
        geometry=gpd.GeoSeries(geometry, crs=4326),
        crs=4326,
    )
