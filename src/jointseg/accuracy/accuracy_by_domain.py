"""Where a map is right: by place, density, slope and kind of ground, of roads and small things, and at its edges."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from scipy import ndimage

from jointseg.accuracy import cluster_estimators
from jointseg.accuracy.cluster_estimators import CELLS, UNKNOWN, Estimate, Metric
from jointseg.accuracy.zones import OBJECTS

ALL = "all"  # all ground, and all reaches
REGION, CITY = "region ", "city "  # domains that are places, by the beginning of their names
TOLERANCES_M = (1, 2, 5)  # how far an edge may lie from the reference's and count as found
EDGE = ("mapped_edge", "reference_edge")


def edge_cells(mapped: np.ndarray, reference: np.ndarray) -> dict[str, int]:
    """Pixels of the maps' edges, and how many lie within TOLERANCES_M of the other's: 0/1/255 [h, w], 1 m pixels.

    An edge is ISA beside known ground that is not; what either map does not know has none (Csurka et al. 2013, BMVC, "What is a
    good evaluation measure for semantic segmentation?").
    """
    known = (mapped != UNKNOWN) & (reference != UNKNOWN)
    edges = [_edge(plane, known) for plane in (mapped, reference)]
    out = {name: int(edge.sum()) for name, edge in zip(EDGE, edges)}
    for name, own, other in zip(EDGE, edges, edges[::-1]):
        away = ndimage.distance_transform_edt(~other) if other.any() else np.full(other.shape, np.inf)
        out |= {f"{name}_{reach}m": int((away[own] <= reach).sum()) for reach in TOLERANCES_M}
    return out


def _edge(plane: np.ndarray, known: np.ndarray) -> np.ndarray:
    beside = ndimage.binary_dilation(known & (plane == 0))
    return known & (plane == 1) & beside


def edge_columns(reach: int) -> list[str]:
    """The columns of `edge_cells` from which `edge_f1` is made."""
    return [*(f"{name}_{reach}m" for name in EDGE), *EDGE]


def edge_f1(t: np.ndarray) -> complex:
    """Harmonic mean of the share of the map's edge that is near the reference's, and the other way round."""
    precision, recall = t[0] / t[2], t[1] / t[3]
    return 2 * precision * recall / (precision + recall)


def over_share(t: np.ndarray) -> complex:
    """Area mapped too much, as a share of the reference's area of ISA: (tp + fp) / (tp + fn) - 1; negative for too little."""
    return (t[0] + t[1]) / (t[0] + t[2]) - 1


METRICS: dict[str, Metric] = {
    "precision": cluster_estimators.precision,
    "recall": cluster_estimators.recall,
    "f1": cluster_estimators.f1,
    "iou": cluster_estimators.iou,
    "over": over_share,
}
OF_ALL_GROUND = {**METRICS, "overall_accuracy": cluster_estimators.overall_accuracy}


def zone_cells(mapped: np.ndarray, reference: np.ndarray, zones: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Pixel counts in each zone: a mask [h, w] by name."""
    return [
        {
            "domain": name,
            **dict(zip((*CELLS, "unknown"), cluster_estimators.cells(np.where(inside, mapped, UNKNOWN), reference))),
        }
        for name, inside in zones.items()
    ]


def places(chips: pd.DataFrame, study_area: Path) -> dict[str, list[str]]:
    """The region and the city that hold the middle of each chip, as names of domains, by sample_id.

    Args:
        chips: with sample_id and their outlines, EPSG:4326.
        study_area: GeoPackage with the layers `regions` and `cities`.
    """
    middles = gpd.GeoDataFrame(
        chips[["sample_id"]], geometry=gpd.GeoSeries(chips["geometry"], crs=4326).representative_point()
    )
    out: dict[str, list[str]] = {name: [] for name in chips["sample_id"]}
    for layer, what in (("regions", REGION), ("cities", CITY)):
        frame = gpd.read_file(study_area, layer=layer)[["name", "geometry"]].to_crs(4326)
        joined = middles.sjoin(frame, predicate="within").drop_duplicates("sample_id")
        for sample, name in zip(joined["sample_id"], joined["name"]):
            out[sample].append(f"{what}{name}")
    return out


def table(counts: pd.DataFrame, tested: pd.DataFrame, reaches: Sequence[str]) -> pd.DataFrame:
    """Scores by map, reference, domain and reach (`all` first), each metric with its interval.

    Args:
        counts: rows by map, reference, chip and domain, as `zone_cells` gives them, and those of whole chips, whose domain is
            the density class of the chip.
        tested: the test chips with their stratum and weight, as `assess.design` gives them.
        reaches: in the order wanted.
    """
    places = tested.set_index("sample_id")
    rows = []
    for (kind, name, reference, domain), part in counts.groupby(["kind", "name", "reference", "domain"], sort=False):
        cells = _of_every_chip(part, places)
        for reach, inside in _parts(domain, places, reaches):
            own = cells[inside]
            hit = int((own.sum(axis=1) > 0).sum())
            if hit == 0:
                continue
            row = {"kind": kind, "name": name, "reference": reference, "domain": domain, "reach": reach}
            row |= {"chips": hit, "pixels": int(own.sum())}
            weights, groups = places["weight"].to_numpy()[inside], places["group"].to_numpy()[inside]
            for metric in _told(domain):
                estimate = cluster_estimators.linearised(own, weights, groups, METRICS[metric])
                row |= cluster_estimators.columns(metric, _possible(metric, estimate))
            rows.append(row)
    return pd.DataFrame(rows)


def paired(counts: pd.DataFrame, tested: pd.DataFrame, reaches: Sequence[str], first: str) -> pd.DataFrame:
    """The first method minus every other map in each domain, on the same chips, a row by metric; arguments as for `table`."""
    places = tested.set_index("sample_id")
    rows = []
    for (reference, domain), part in counts.groupby(["reference", "domain"], sort=False):
        of = {name: _of_every_chip(group, places) for name, group in part.groupby("name", sort=False)}
        if first not in of:
            continue
        for other, cells in of.items():
            both = np.hstack([of[first], cells])
            for reach, inside in _parts(domain, places, reaches):
                hit = int((both[inside].sum(axis=1) > 0).sum())
                if other == first or hit == 0:
                    continue
                weights, groups = places["weight"].to_numpy()[inside], places["group"].to_numpy()[inside]
                for metric in _told(domain):
                    function = cluster_estimators.difference(OF_ALL_GROUND[metric])
                    e = cluster_estimators.linearised(both[inside], weights, groups, function)
                    row = {"name": first, "minus": other, "reference": reference, "domain": domain, "reach": reach}
                    row |= {"metric": metric, "difference": e.value, "lower": e.lower, "upper": e.upper, "chips": hit}
                    rows.append(row)
    return pd.DataFrame(rows)


def _possible(metric: str, estimate: Estimate) -> Estimate:
    """The estimate with its interval cut to what the metric can be: shares from 0 to 1, `over` from -1."""
    if metric != "over":
        return cluster_estimators.within_unit(estimate)
    return replace(estimate, lower=float(np.maximum(estimate.lower, -1)))


def _of_every_chip(part: pd.DataFrame, places: pd.DataFrame) -> np.ndarray:
    """CELLS by chip, [n, 4]; chips without a pixel of the domain are part of the sample all the same: they count nothing."""
    return part.set_index("sample_id")[list(CELLS)].reindex(places.index, fill_value=0).to_numpy()


def _parts(domain: str, places: pd.DataFrame, reaches: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """All chips, then those of each reach; a place lies in one reach, which would say the same twice."""
    reach = places["reach"].to_numpy()
    parts = [] if domain.startswith((REGION, CITY)) else [(name, reach == name) for name in reaches]
    return [(ALL, np.ones(len(places), bool)), *parts]


def _told(domain: str) -> list[str]:
    """The metrics that a domain has: all that a zone of objects holds is ISA."""
    return ["recall"] if domain in OBJECTS else list(OF_ALL_GROUND if domain == ALL else METRICS)
