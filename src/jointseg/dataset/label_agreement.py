"""Step `label_agreement`: agreement of the label sources, chip by chip, and the polygons to review."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from jointseg.dataset.labelme_projects import Disagreement, write_projects
from jointseg.dataset.polygons import make_valid, polygon_parts
from jointseg.raster.geopackage import fixed_gpkg_timestamp
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

# Positional tolerance of outlines from two sources; strips narrower than twice this are no disagreement.
TOLERANCE_M = 1.0
MIN_AREA_M2 = 10.0
# Minimum intersection over union of two outlines of the same building.
MATCH_IOU = 0.4
AREAS = (
    *("osm_m2", "footprints_m2", "both_m2", "osm_only_m2", "footprints_only_m2", "open_m2", "road_on_building_m2"),
    *("added_m2", "removed_m2", "unlabelled_m2"),
)
DIGITS = {**dict.fromkeys(AREAS, 2), "iou": 4, "shift_x_m": 2, "shift_y_m": 2}
ONE_SOURCE, CROSSED, CONFLICT = "building of one source", "road across building", "conflicting corrections"


def label_agreement(
    *,
    labels: Path,
    chips: Path,
    index: Path,
    table: Path,
    polygons: Path,
    projects: Path,
    reach: str,
    chip_m: int,
    review_chips: int,
) -> dict[str, Any]:
    """Write the agreement of OpenStreetMap, footprints and corrections, and the polygons to review.

    table: CSV with a row `all`, then one row per chip: building areas by source, of both sources and of only one; iou;
    median shift_x_m and shift_y_m from the footprints to OpenStreetMap over `matched` buildings; road_on_building_m2;
    added_m2, removed_m2 and unlabelled_m2, the effect of corrections on the sources' ISA; and open_m2, buildings of one
    source without a correction.
    polygons: GeoPackage in EPSG:4326, sorted by area, of kind ONE_SOURCE, CROSSED (the road may be too wide or displaced;
    the pixels are ISA in any case) and CONFLICT (areas that corrections both add and remove; they are removed).
    projects: an image and a Labelme file of each of the `review_chips` chips with the largest open_m2.

    Disagreements narrower than 2 m or smaller than 10 m2 are within the accuracy of the outlines and are ignored.
    """
    samples = gpd.read_parquet(index).sort_values("sample_id")
    rows = dict(list(gpd.read_parquet(labels).groupby("sample_id")))
    measured: list[dict[str, Any]] = []
    shifts: list[np.ndarray] = []
    disagreements: list[Disagreement] = []
    for sample in track(list(samples.itertuples()), f"label agreement {reach}", unit="chip"):
        chip = ChipLabels(sample.sample_id, rows.get(sample.sample_id), int(sample.epsg))
        of_chip = chip.disagreements()
        areas = chip.areas() | {"open_m2": sum(one.polygon.area for one in of_chip if one.kind == ONE_SOURCE)}
        shifts.append(chip.shifts_m())
        measured.append({"sample_id": sample.sample_id, **_row(areas, shifts[-1])})
        disagreements += of_chip
    totals = {name: sum(row[name] for row in measured) for name in AREAS}
    all_shifts = np.concatenate(shifts) if shifts else np.empty((0, 2))
    frame = pd.DataFrame([{"sample_id": "all", **_row(totals, all_shifts)}, *measured]).round(DIGITS)
    with atomic_write(table) as part:
        frame.to_csv(part, index=False, lineterminator="\n")
    _write_polygons(polygons, disagreements, dict(zip(samples["sample_id"], samples["epsg"])))
    disputed = frame[1:][frame["open_m2"][1:] > 0].sort_values(["open_m2", "sample_id"], ascending=[False, True])
    to_review = set(disputed["sample_id"][:review_chips])
    write_projects(
        projects,
        chips,
        samples[samples["sample_id"].isin(to_review)],
        [one for one in disagreements if one.kind == ONE_SOURCE],
        chip_m,
    )
    return {
        "iou": round(float(frame["iou"][0]), 4),
        "open_m2": round(float(frame["open_m2"][0])),
        "projects": len(to_review),
    }


class ChipLabels:
    """The label polygons of one chip by source, in its zone."""

    def __init__(self, sample_id: str, rows: gpd.GeoDataFrame | None, epsg: int) -> None:
        self.sample_id = sample_id
        if rows is None:
            rows = gpd.GeoDataFrame({"kind": [], "source": [], "action": []}, geometry=[], crs=4326)
        polygons = make_valid(rows.geometry.to_crs(epsg).to_numpy())
        kind, source, action = (rows[name].to_numpy() for name in ("kind", "source", "action"))
        self._buildings = {name: polygons[(kind == "building") & (source == name)] for name in ("osm", "footprints")}
        self.osm, self.footprints = (shapely.union_all(buildings) for buildings in self._buildings.values())
        self.roads = shapely.union_all(polygons[kind == "road"])
        self.sources = shapely.union_all(polygons[source != "labelme"])
        self.added, self.removed, self.unlabelled = (
            shapely.union_all(polygons[(source == "labelme") & (action == name)])
            for name in ("add", "remove", "unlabelled")
        )

    def areas(self) -> dict[str, float]:
        """Return square metres, by the names in AREAS."""
        both = shapely.intersection(self.osm, self.footprints).area
        return {
            "osm_m2": self.osm.area,
            "footprints_m2": self.footprints.area,
            "both_m2": both,
            "osm_only_m2": self.osm.area - both,
            "footprints_only_m2": self.footprints.area - both,
            "road_on_building_m2": self.roads.intersection(self.osm.union(self.footprints)).area,
            "added_m2": self.added.difference(self.sources).area,
            "removed_m2": self.removed.intersection(self.sources).area,
            "unlabelled_m2": self.unlabelled.area,
        }

    def shifts_m(self) -> np.ndarray:
        """Return (x, y) from each footprint to the OpenStreetMap outline of the same building, [matched, 2]."""
        osm, footprints = self._buildings.values()
        i, j = shapely.STRtree(footprints).query(osm, predicate="intersects")
        both = shapely.area(shapely.intersection(osm[i], footprints[j]))
        same = both >= MATCH_IOU * (shapely.area(osm[i]) + shapely.area(footprints[j]) - both)
        centroids = (shapely.get_coordinates(shapely.centroid(part)) for part in (osm[i[same]], footprints[j[same]]))
        return np.subtract(*centroids)

    def disagreements(self) -> list[Disagreement]:
        """Return the disagreements without a correction."""
        corrected = shapely.union_all([self.added, self.removed, self.unlabelled])
        areas = {
            (ONE_SOURCE, "osm"): shapely.difference(self.osm, self.footprints).difference(corrected),
            (ONE_SOURCE, "footprints"): shapely.difference(self.footprints, self.osm).difference(corrected),
            (CROSSED, "osm"): self.roads.intersection(self.osm.union(self.footprints)).difference(corrected),
            (CONFLICT, "labelme"): self.added.intersection(self.removed).difference(self.unlabelled),
        }
        return [
            Disagreement(self.sample_id, kind, source, part)
            for (kind, source), area in areas.items()
            for part in polygon_parts(drop_slivers(area))
            if part.area >= MIN_AREA_M2
        ]


def drop_slivers(area: shapely.Geometry) -> shapely.Geometry:
    """Return polygons without the strips narrower than twice TOLERANCE_M."""
    shrunk = shapely.buffer(area, -TOLERANCE_M, join_style="mitre")
    return shapely.intersection(shapely.buffer(shrunk, TOLERANCE_M, join_style="mitre"), area)


def _row(areas: dict[str, float], shift_m: np.ndarray) -> dict[str, float]:
    union = areas["osm_m2"] + areas["footprints_m2"] - areas["both_m2"]
    x, y = np.median(shift_m, axis=0) if len(shift_m) else (np.nan, np.nan)
    iou = areas["both_m2"] / union if union > 0 else np.nan
    return {
        **{name: areas[name] for name in AREAS},
        "iou": iou,
        "matched": len(shift_m),
        "shift_x_m": x,
        "shift_y_m": y,
    }


def _write_polygons(path: Path, disagreements: list[Disagreement], epsg: dict[str, int]) -> None:
    frame = gpd.GeoDataFrame(
        {
            **{
                name: pd.Series([getattr(one, name) for one in disagreements], dtype="str")
                for name in ("sample_id", "kind", "source")
            },
            "area_m2": np.array([round(one.polygon.area, 2) for one in disagreements], dtype=np.float64),
        },
        geometry=gpd.GeoSeries([one.polygon for one in disagreements], dtype="geometry"),
    )
    zones = frame["sample_id"].map(epsg)
    parts = [frame[zones == zone].set_crs(int(zone)).to_crs(4326) for zone in sorted(set(zones))]
    joined = pd.concat(parts) if parts else frame.set_crs(4326)
    ordered = joined.sort_values(["area_m2", "sample_id", "kind", "source"], ascending=[False, True, True, True])
    with atomic_write(path) as part, fixed_gpkg_timestamp():
        ordered.to_file(part, layer="disagreement", driver="GPKG", engine="pyogrio", geometry_type="Polygon")
