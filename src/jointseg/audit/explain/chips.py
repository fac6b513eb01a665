"""Training chips, Jilin-1 scenes and labels near one pixel."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import Geod

from jointseg.area import grid
from jointseg.audit.explain.jobs import display_path, run_name
from jointseg.audit.lineage import Lineage
from jointseg.dataset.contract import SPLITS
from jointseg.provenance.manifest import Manifest

NEAREST = 3
FAR_M = 100_000.0
GLOBE = Geod(ellps="WGS84")
# Inputs of the labels job that are not sources of labels.
_NOT_SOURCES = ("samples", "pairs")


@dataclass(frozen=True)
class Chip:
    """A chip of the dataset: south-western corner in metres, and distance to the pixel's centre, 0 inside."""

    sample_id: str
    split: str
    reach: str
    epsg: int
    minx: int
    miny: int
    distance_m: float


@dataclass(frozen=True)
class Dataset:
    """The chips that the networks were trained on."""

    path: str
    sha256: str
    run: str
    chip_m: int
    splits: dict[str, int]
    covering: list[Chip]  # chips that contain the pixel
    nearest: dict[str, list[Chip]]  # nearest chips by split


@dataclass(frozen=True)
class Pair:
    """A sample that is paired with a Jilin-1 scene; `distance_m` as for chips."""

    sample_id: str
    scene: str
    date: str
    shift_m: tuple[float, float]
    registration_correlation: float
    distance_m: float


@dataclass(frozen=True)
class Source:
    """An input of the labels job."""

    name: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Reach:
    """Jilin-1 scenes and labels of one reach of the pixel."""

    reach: str
    run: str
    scenes: list[str]
    skipped: dict[str, str]  # scenes that could not be paired, with the reason
    statuses: dict[str, int]  # number of samples by pairing status
    pairs: list[Pair]
    sources: list[Source]
    polygons: dict[str, int]  # number of label polygons by source and action


class Index:
    """The chip index of a training job.

    Attributes:
        training_job: manifest of the training job.
        path: current path of the index.
        sha256: checksum that the training job recorded.
    """

    def __init__(self, lineage: Lineage, training_job: Manifest, path: Path, sha256: str) -> None:
        self._lineage, self.training_job, self.path, self.sha256 = lineage, training_job, path, sha256
        self._paired: dict[str, pd.DataFrame] = {}  # accepted pairs by reach

    @cached_property
    def _chips(self) -> gpd.GeoDataFrame:
        return gpd.read_parquet(self.path)

    @cached_property
    def side_m(self) -> int:
        """Side length of the chips, from the outline of the first one."""
        first = self._chips.iloc[0]
        to_utm = grid.transformer("EPSG:4326", f"EPSG:{first.epsg}")
        east, _ = to_utm.transform(*shapely.get_coordinates(first.geometry).T)
        return round((max(east) - first.minx) / 10) * 10

    @cached_property
    def _by_reach(self) -> dict[tuple[str, str], Manifest]:
        """Jobs that the index depends on, by rule and reach."""
        jobs = self._lineage.ancestors(self.training_job)
        return {(job.rule, reach): job for job in jobs if (reach := job.record["wildcards"].get("reach"))}

    @cached_property
    def _unusable(self) -> dict[str, str]:
        """Delivered scenes that cannot be paired, with the reason."""
        jobs = self._lineage.ancestors(self.training_job)
        return next((job.record["facts"]["rejected"] for job in jobs if job.rule == "deliveries"), {})

    @property
    def reaches(self) -> list[str]:
        """Names of the reaches with chips."""
        return sorted(reach for rule, reach in self._by_reach if rule == "pairing")

    def around(self, lon: float, lat: float) -> Dataset:
        """Return the dataset with the chips nearest to a location."""
        chips = self._chips
        chips = chips.assign(distance_m=distances(chips, self.side_m, lon, lat))
        ordered = chips.sort_values(["distance_m", "sample_id"])
        by_split = {split: ordered[ordered["split"] == split] for split in SPLITS}
        return Dataset(
            path=display_path(self._lineage, self.path),
            sha256=self.sha256,
            run=run_name(self._lineage, self.training_job),
            chip_m=self.side_m,
            splits={split: len(rows) for split, rows in by_split.items()},
            covering=_chip_list(ordered[ordered["distance_m"] == 0]),
            nearest={split: _chip_list(rows.head(NEAREST)) for split, rows in by_split.items()},
        )

    def reach(self, name: str, lon: float, lat: float) -> Reach | None:
        """Return Jilin-1 scenes and labels of a reach with the pairs nearest to a location; None without chips."""
        pairing, labels = self._by_reach.get(("pairing", name)), self._by_reach.get(("labels", name))
        if pairing is None:
            return None
        lineage, facts = self._lineage.lineage_of(pairing), pairing.record["facts"]
        inputs = [] if labels is None else lineage.parents(labels)
        return Reach(
            reach=name,
            run=run_name(self._lineage, pairing),
            scenes=facts["scenes"],
            skipped=self._unusable,
            statuses=facts["statuses"],
            pairs=self._pairs(name, lon, lat),
            sources=[
                Source(file.name, display_path(self._lineage, path), file.sha256, file.size)
                for file, path in ((parent.artefact, parent.path) for parent in inputs)
                if file.name not in _NOT_SOURCES
            ],
            polygons={} if labels is None else labels.record["facts"]["polygons"],
        )

    def _pairs(self, name: str, lon: float, lat: float) -> list[Pair]:
        if name not in self._paired:
            self._paired[name] = _accepted(self._lineage.lineage_of(self.training_job), self._by_reach["pairing", name])
        table = self._paired[name]
        ordered = table.assign(distance_m=distances(table, self.side_m, lon, lat))
        return [
            Pair(
                sample_id=row.sample_id,
                scene=row.scene_id,
                date=row.date,
                shift_m=(row.shift_x_m, row.shift_y_m),
                registration_correlation=round(row.registration_correlation, 4),
                distance_m=round(row.distance_m, 1),
            )
            for row in ordered.sort_values(["distance_m", "sample_id"]).head(NEAREST).itertuples()
        ]


def distances(squares: pd.DataFrame, side_m: int, lon: float, lat: float) -> np.ndarray:
    """Return the distances in metres, float64 [rows], from a location to squares (epsg, minx, miny); 0 inside.

    Distances up to FAR_M are computed in the UTM zone of the square, larger ones along the geodesic to its corner.
    """
    out = np.empty(len(squares))
    for epsg in squares["epsg"].unique():
        in_zone = (squares["epsg"] == epsg).to_numpy()
        x, y = grid.transformer("EPSG:4326", f"EPSG:{epsg}").transform(lon, lat)
        west, south = (squares.loc[in_zone, name].to_numpy(dtype=float) for name in ("minx", "miny"))
        dx = np.maximum(np.maximum(west - x, x - west - side_m), 0)
        dy = np.maximum(np.maximum(south - y, y - south - side_m), 0)
        distance = np.hypot(dx, dy)
        if (far := ~(distance < FAR_M)).any():
            to_degrees = grid.transformer(f"EPSG:{epsg}", "EPSG:4326")
            lons, lats = to_degrees.transform(west[far], south[far])
            distance[far] = GLOBE.inv(np.full(lons.shape, lon), np.full(lats.shape, lat), lons, lats)[2]
        out[in_zone] = distance
    return out


def _chip_list(rows: pd.DataFrame) -> list[Chip]:
    return [
        Chip(row.sample_id, row.split, row.reach, int(row.epsg), int(row.minx), int(row.miny), round(row.distance_m, 1))
        for row in rows.itertuples()
    ]


def _accepted(lineage: Lineage, pairing: Manifest) -> pd.DataFrame:
    """Samples with an accepted pair: location, scene, date, shift and quality; empty if a table is missing."""
    paths = {file.name: lineage.path(pairing, file.path) for file in (*pairing.inputs, *pairing.outputs)}
    if not (paths["samples"].is_file() and paths["pairs"].is_file()):
        return pd.DataFrame({"sample_id": [], "epsg": [], "minx": [], "miny": []})
    paired = pd.read_parquet(paths["pairs"])
    locations = pd.read_parquet(paths["samples"], columns=["sample_id", "epsg", "minx", "miny"])
    return paired[paired["status"] == "ok"].merge(locations, on="sample_id")
