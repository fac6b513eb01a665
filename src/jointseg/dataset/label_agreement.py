"""Where the sources of the labels agree and where they contradict each other, chip by chip."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from jointseg.dataset.labelme_projects import Disagreement, write_projects
from jointseg.dataset.polygons import parts_of, valid
from jointseg.raster.geopackage import fixed_gpkg_timestamp
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import bar

# Outlines of two makers differ by so much even where they agree; what is narrower than twice that is no disagreement.
TOLERANCE_M = 1.0
SMALLEST_M2 = 10.0
# Two outlines are of one building from this intersection over union on.
MATCH_IOU = 0.4
SUMS = (
    *("osm_m2", "footprints_m2", "both_m2", "osm_only_m2", "footprints_only_m2", "open_m2", "road_on_building_m2"),
    *("added_m2", "removed_m2", "unknown_m2"),
)
ROUNDED = {**dict.fromkeys(SUMS, 2), "iou": 4, "shift_x_m": 2, "shift_y_m": 2}
ONE_SOURCE, CROSSED, AT_ODDS = "building of one source", "road across building", "corrections at odds"


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
    """Writes how OpenStreetMap, footprints and corrections agree, and what a person should look at.

    table: CSV, first a row `all`, then one a chip: areas of buildings by source, of both and of one alone, iou, median
    shift_x_m and shift_y_m from the footprints to OpenStreetMap over `matched` buildings, road_on_building_m2, what
    corrections added to, removed from and left unknown of the sources' ISA, and open_m2, buildings of one source that
    no correction has settled.
    polygons: GeoPackage in EPSG:4326, the largest first, of kind ONE_SOURCE, CROSSED (the road may be too wide or out of
    place; the ground is ISA either way) and AT_ODDS (ground that corrections both add and remove; it is removed).
    projects: a picture and a Labelme file of each of the `review_chips` chips with the largest open_m2.

    Disagreements narrower than 2 m or smaller than 10 m2 are left out: outlines of two makers are no better.
    """
    places = gpd.read_parquet(index).sort_values("sample_id")
    rows = dict(list(gpd.read_parquet(labels).groupby("sample_id")))
    measured: list[dict[str, Any]] = []
    shifts: list[np.ndarray] = []
    found: list[Disagreement] = []
    with bar(f"agreement {reach}", len(places), "chip") as shown:
        for place in places.itertuples():
            chip = ChipLabels(place.sample_id, rows.get(place.sample_id), int(place.epsg))
            some = chip.disagreements()
            shift = chip.shifts_m()
            facts = chip.areas() | {"open_m2": sum(one.polygon.area for one in some if one.kind == ONE_SOURCE)}
            measured.append({"sample_id": place.sample_id, **_row(facts, shift)})
            shifts.append(shift)
            found += some
            shown.advance()
    whole = {name: sum(row[name] for row in measured) for name in SUMS}
    together = np.concatenate(shifts) if shifts else np.empty((0, 2))
    frame = pd.DataFrame([{"sample_id": "all", **_row(whole, together)}, *measured]).round(ROUNDED)
    with atomic_write(table) as part:
        frame.to_csv(part, index=False, lineterminator="\n")
    _write_polygons(polygons, found, dict(zip(places["sample_id"], places["epsg"])))
    worst = frame[1:][frame["open_m2"][1:] > 0].sort_values(["open_m2", "sample_id"], ascending=[False, True])
    chosen = set(worst["sample_id"][:review_chips])
    write_projects(
        projects,
        chips,
        places[places["sample_id"].isin(chosen)],
        [one for one in found if one.kind == ONE_SOURCE],
        chip_m,
    )
    return {
        "iou": round(float(frame["iou"][0]), 4),
        "open_m2": round(float(frame["open_m2"][0])),
        "projects": len(chosen),
    }


class ChipLabels:
    """The label polygons of one chip by source, in its zone."""

    def __init__(self, sample_id: str, rows: gpd.GeoDataFrame | None, epsg: int) -> None:
        self.sample_id = sample_id
        if rows is None:
            rows = gpd.GeoDataFrame({"kind": [], "source": [], "action": []}, geometry=[], crs=4326)
        self._polygons = valid(rows.geometry.to_crs(epsg).to_numpy())
        self._kind, self._source, self._action = (rows[name].to_numpy() for name in ("kind", "source", "action"))
        is_building = self._kind == "building"
        self._buildings = {name: self._polygons[is_building & (self._source == name)] for name in ("osm", "footprints")}
        self.osm, self.footprints = (shapely.union_all(some) for some in self._buildings.values())
        self.roads = shapely.union_all(self._polygons[self._kind == "road"])
        self.sources = shapely.union_all(self._polygons[self._source != "labelme"])
        self.added, self.removed, self.unknown = (
            shapely.union_all(self._polygons[(self._source == "labelme") & (self._action == action)])
            for action in ("add", "remove", "unknown")
        )

    def areas(self) -> dict[str, float]:
        """Square metres, by the names in SUMS."""
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
            "unknown_m2": self.unknown.area,
        }

    def shifts_m(self) -> np.ndarray:
        """(x, y) from each footprint to the OpenStreetMap outline of the same building, [matched, 2]."""
        osm, footprints = self._buildings.values()
        at, other = shapely.STRtree(footprints).query(osm, predicate="intersects")
        both = shapely.area(shapely.intersection(osm[at], footprints[other]))
        same = both >= MATCH_IOU * (shapely.area(osm[at]) + shapely.area(footprints[other]) - both)
        middles = (shapely.get_coordinates(shapely.centroid(some)) for some in (osm[at[same]], footprints[other[same]]))
        return np.subtract(*middles)

    def disagreements(self) -> list[Disagreement]:
        """What no correction has settled yet."""
        settled = shapely.union_all([self.added, self.removed, self.unknown])
        pairs = {
            (ONE_SOURCE, "osm"): shapely.difference(self.osm, self.footprints).difference(settled),
            (ONE_SOURCE, "footprints"): shapely.difference(self.footprints, self.osm).difference(settled),
            (CROSSED, "osm"): self.roads.intersection(self.osm.union(self.footprints)).difference(settled),
            (AT_ODDS, "labelme"): self.added.intersection(self.removed).difference(self.unknown),
        }
        return [
            Disagreement(self.sample_id, kind, source, part)
            for (kind, source), ground in pairs.items()
            for part in parts_of(drop_slivers(ground))
            if part.area >= SMALLEST_M2
        ]


def drop_slivers(ground: shapely.Geometry) -> shapely.Geometry:
    """What is left of polygons without the strips narrower than twice TOLERANCE_M."""
    shrunk = shapely.buffer(ground, -TOLERANCE_M, join_style="mitre")
    return shapely.intersection(shapely.buffer(shrunk, TOLERANCE_M, join_style="mitre"), ground)


def _row(areas: dict[str, float], shift_m: np.ndarray) -> dict[str, float]:
    either = areas["osm_m2"] + areas["footprints_m2"] - areas["both_m2"]
    x, y = np.median(shift_m, axis=0) if len(shift_m) else (np.nan, np.nan)
    iou = areas["both_m2"] / either if either > 0 else np.nan
    return {**{name: areas[name] for name in SUMS}, "iou": iou, "matched": len(shift_m), "shift_x_m": x, "shift_y_m": y}


def _write_polygons(path: Path, found: list[Disagreement], epsg: dict[str, int]) -> None:
    frame = gpd.GeoDataFrame(
        {
            "sample_id": pd.Series([one.sample_id for one in found], dtype="str"),
            "kind": pd.Series([one.kind for one in found], dtype="str"),
            "source": pd.Series([one.source for one in found], dtype="str"),
            "area_m2": np.array([round(one.polygon.area, 2) for one in found], dtype=np.float64),
        },
        geometry=gpd.GeoSeries([one.polygon for one in found], dtype="geometry"),
    )
    zones = frame["sample_id"].map(epsg)
    parts = [frame[zones == zone].set_crs(int(zone)).to_crs(4326) for zone in sorted(set(zones))]
    joined = pd.concat(parts) if parts else frame.set_crs(4326)
    ordered = joined.sort_values(["area_m2", "sample_id", "kind", "source"], ascending=[False, True, True, True])
    with atomic_write(path) as part, fixed_gpkg_timestamp():
        ordered.to_file(part, layer="disagreement", driver="GPKG", engine="pyogrio", geometry_type="Polygon")
