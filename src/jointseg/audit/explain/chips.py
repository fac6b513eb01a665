"""The chips, Jilin-1 scenes and labels that networks were trained on, near one pixel."""

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
# Inputs of the labels job that say where to label, not what is there.
_LINKS = ("samples", "pairs")


@dataclass(frozen=True)
class Chip:
    """A chip of the dataset: its south-western corner in metres, and its distance from the pixel's centre, 0 inside."""

    sample_id: str
    split: str
    reach: str
    epsg: int
    minx: int
    miny: int
    distance_m: float


@dataclass(frozen=True)
class Dataset:
    """The chips that the networks were trained on.

    Attributes:
        splits: number of chips.
        covering: chips that the pixel lies in.
        nearest: by split, the nearest chips.
    """

    path: str
    sha256: str
    run: str
    chip_m: int
    splits: dict[str, int]
    covering: list[Chip]
    nearest: dict[str, list[Chip]]


@dataclass(frozen=True)
class Pair:
    """A sample that a Jilin-1 scene was found for; `distance_m` as for chips."""

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
    """Jilin-1 scenes and labels of one reach of the pixel.

    Attributes:
        scenes: Jilin-1 scenes paired in the reach.
        skipped: scenes that could not be paired, and why.
        statuses: number of samples by what came of them.
        pairs: the nearest ones.
        sources: what the labels were made from.
        polygons: number of label polygons by source and action.
    """

    reach: str
    run: str
    scenes: list[str]
    skipped: dict[str, str]
    statuses: dict[str, int]
    pairs: list[Pair]
    sources: list[Source]
    polygons: dict[str, int]


class Index:
    """The index of chips that a training job took.

    Attributes:
        taker: the training job.
        path: where the index lies now.
        sha256: what it had when it was taken.
    """

    def __init__(self, lineage: Lineage, taker: Manifest, path: Path, sha256: str) -> None:
        self._lineage, self.taker, self.path, self.sha256 = lineage, taker, path, sha256

    @cached_property
    def _chips(self) -> gpd.GeoDataFrame:
        return gpd.read_parquet(self.path)

    @cached_property
    def side_m(self) -> int:
        """Side of the chips, read off the outline of the first."""
        first = self._chips.iloc[0]
        to_utm = grid.transformer("EPSG:4326", f"EPSG:{first.epsg}")
        east, _ = to_utm.transform(*shapely.get_coordinates(first.geometry).T)
        return round((max(east) - first.minx) / 10) * 10

    @cached_property
    def _by_reach(self) -> dict[tuple[str, str], Manifest]:
        """The jobs behind the index by rule and reach."""
        found = {}
        for job in self._lineage.ancestors(self.taker):
            if reach := job.record["wildcards"].get("reach"):
                found[job.rule, reach] = job
        return found

    @cached_property
    def _unusable(self) -> dict[str, str]:
        """The delivered scenes that no chip can be paired with, and why."""
        jobs = self._lineage.ancestors(self.taker)
        return next((job.record["facts"]["refused"] for job in jobs if job.rule == "deliveries"), {})

    @property
    def reaches(self) -> list[str]:
        """Names of the reaches that have chips."""
        return sorted(reach for rule, reach in self._by_reach if rule == "pairing")

    def around(self, lon: float, lat: float) -> Dataset:
        """The dataset around one place."""
        chips = self._chips
        near = chips.assign(distance_m=distances(chips, self.side_m, lon, lat)).sort_values(["distance_m", "sample_id"])
        by_split = {split: near[near["split"] == split] for split in SPLITS}
        return Dataset(
            path=display_path(self._lineage, self.path),
            sha256=self.sha256,
            run=run_name(self._lineage, self.taker),
            chip_m=self.side_m,
            splits={split: len(rows) for split, rows in by_split.items()},
            covering=_listed(near[near["distance_m"] == 0]),
            nearest={split: _listed(rows.head(NEAREST)) for split, rows in by_split.items()},
        )

    def reach(self, name: str, lon: float, lat: float) -> Reach | None:
        """Jilin-1 scenes and labels of a reach, with the pairs nearest to a place; None when no chip lies there."""
        pairing, labels = self._by_reach.get(("pairing", name)), self._by_reach.get(("labels", name))
        if pairing is None:
            return None
        home, facts = self._lineage.lineage_of(pairing), pairing.record["facts"]
        sources = [] if labels is None else [each for each in home.parents(labels) if each.artefact.name not in _LINKS]
        return Reach(
            reach=name,
            run=run_name(self._lineage, pairing),
            scenes=facts["scenes"],
            skipped=self._unusable,
            statuses=facts["statuses"],
            pairs=self._pairs(name, lon, lat),
            sources=[
                Source(
                    each.artefact.name, display_path(self._lineage, each.path), each.artefact.sha256, each.artefact.size
                )
                for each in sources
            ],
            polygons={} if labels is None else labels.record["facts"]["polygons"],
        )

    def _pairs(self, name: str, lon: float, lat: float) -> list[Pair]:
        if name not in self._paired:
            self._paired[name] = _accepted(self._lineage.lineage_of(self.taker), self._by_reach["pairing", name])
        table = self._paired[name]
        near = table.assign(distance_m=distances(table, self.side_m, lon, lat))
        return [
            Pair(
                sample_id=row.sample_id,
                scene=row.scene_id,
                date=row.date,
                shift_m=(row.shift_x_m, row.shift_y_m),
                registration_correlation=round(row.registration_correlation, 4),
                distance_m=round(row.distance_m, 1),
            )
            for row in near.sort_values(["distance_m", "sample_id"]).head(NEAREST).itertuples()
        ]

    @cached_property
    def _paired(self) -> dict[str, pd.DataFrame]:
        return {}


def distances(squares: pd.DataFrame, side_m: int, lon: float, lat: float) -> np.ndarray:
    """Metres, float64 [rows], from a place to squares (epsg, minx, miny) of their UTM zones; 0 inside.

    In the zone of each square; over more than FAR_M, where that does not hold, along the geodesic to its corner.
    """
    out = np.empty(len(squares))
    for epsg in squares["epsg"].unique():
        here = (squares["epsg"] == epsg).to_numpy()
        x, y = grid.transformer("EPSG:4326", f"EPSG:{epsg}").transform(lon, lat)
        west, south = (squares.loc[here, name].to_numpy(dtype=float) for name in ("minx", "miny"))
        beside = np.maximum(np.maximum(west - x, x - west - side_m), 0)
        above = np.maximum(np.maximum(south - y, y - south - side_m), 0)
        apart = np.hypot(beside, above)
        if (far := ~(apart < FAR_M)).any():
            back = grid.transformer(f"EPSG:{epsg}", "EPSG:4326")
            lons, lats = back.transform(west[far], south[far])
            apart[far] = GLOBE.inv(np.full(lons.shape, lon), np.full(lats.shape, lat), lons, lats)[2]
        out[here] = apart
    return out


def _listed(rows: pd.DataFrame) -> list[Chip]:
    return [
        Chip(row.sample_id, row.split, row.reach, int(row.epsg), int(row.minx), int(row.miny), round(row.distance_m, 1))
        for row in rows.itertuples()
    ]


def _accepted(home: Lineage, pairing: Manifest) -> pd.DataFrame:
    """Samples with an accepted pair: their place, scene, date, shift and correlation; empty when a table is gone."""
    paths = {each.name: home.path(pairing, each.path) for each in (*pairing.inputs, *pairing.outputs)}
    if not (paths["samples"].is_file() and paths["pairs"].is_file()):
        return pd.DataFrame({"sample_id": [], "epsg": [], "minx": [], "miny": []})
    paired = pd.read_parquet(paths["pairs"])
    places = pd.read_parquet(paths["samples"], columns=["sample_id", "epsg", "minx", "miny"])
    return paired[paired["status"] == "ok"].merge(places, on="sample_id")
