"""Accuracy by domain: region, city, density, slope, land-cover zone, object type and edges."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from scipy import ndimage

from jointseg.accuracy import cluster_estimators
from jointseg.accuracy.cluster_estimators import CELLS, NODATA, Estimate, Metric
from jointseg.accuracy.zones import OBJECTS

ALL = "all"  # the domain of the total area, and the row of all reaches
REGION, CITY = "region ", "city "  # prefixes of administrative domains
TOLERANCES_M = (1, 2, 5)  # distances up to which an edge pixel matches an edge of the reference
EDGE = ("mapped_edge", "reference_edge")


def edge_counts(mapped: np.ndarray, reference: np.ndarray) -> dict[str, int]:
    """Count the edge pixels of two rasters (0/1/255 [h, w], 1 m), and those within TOLERANCES_M of the other's edge.

    An edge pixel is an ISA pixel next to a valid non-ISA pixel; pixels without value in either raster have no edge
    (Csurka et al. 2013, BMVC, "What is a good evaluation measure for semantic segmentation?").
    """
    valid = (mapped != NODATA) & (reference != NODATA)
    edges = [valid & (plane == 1) & ndimage.binary_dilation(valid & (plane == 0)) for plane in (mapped, reference)]
    out = {name: int(edge.sum()) for name, edge in zip(EDGE, edges)}
    for name, edge, target in zip(EDGE, edges, edges[::-1]):
        distance = ndimage.distance_transform_edt(~target) if target.any() else np.full(target.shape, np.inf)
        out |= {f"{name}_{limit}m": int((distance[edge] <= limit).sum()) for limit in TOLERANCES_M}
    return out


def edge_columns(tolerance_m: int) -> list[str]:
    """Return the columns of `edge_counts` that `edge_f1` needs."""
    return [*(f"{name}_{tolerance_m}m" for name in EDGE), *EDGE]


def edge_f1(t: np.ndarray) -> complex:
    """Harmonic mean of the matched fractions of the map's and of the reference's edge pixels."""
    precision, recall = t[0] / t[2], t[1] / t[3]
    return 2 * precision * recall / (precision + recall)


def area_bias(t: np.ndarray) -> complex:
    """Relative bias of the mapped ISA area, (tp + fp) / (tp + fn) - 1; positive if the map overestimates."""
    return (t[0] + t[1]) / (t[0] + t[2]) - 1


METRICS: dict[str, Metric] = {
    **{name: cluster_estimators.METRICS[name] for name in ("precision", "recall", "f1", "iou")},
    "area_bias": area_bias,
}
WHOLE_AREA_METRICS = {**METRICS, "overall_accuracy": cluster_estimators.overall_accuracy}


def zone_counts(mapped: np.ndarray, reference: np.ndarray, zones: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return pixel counts of two rasters of 0/1/255 [h, w] in each zone, a mask [h, w]."""
    return [
        {"domain": name} | cluster_estimators.named_counts(np.where(inside, mapped, NODATA), reference)
        for name, inside in zones.items()
    ]


def chip_domains(chips: pd.DataFrame, study_area: Path) -> dict[str, list[str]]:
    """Return the administrative domains (region and city) that contain the centre of each chip, by sample_id.

    `chips` has sample_id and outlines, EPSG:4326; the study area is a GeoPackage with the layers `regions` and
    `cities`.
    """
    centres = gpd.GeoDataFrame(
        chips[["sample_id"]], geometry=gpd.GeoSeries(chips["geometry"], crs=4326).representative_point()
    )
    out: dict[str, list[str]] = {name: [] for name in chips["sample_id"]}
    for layer, prefix in (("regions", REGION), ("cities", CITY)):
        frame = gpd.read_file(study_area, layer=layer)[["name", "geometry"]].to_crs(4326)
        joined = centres.sjoin(frame, predicate="within").drop_duplicates("sample_id")
        for sample, name in zip(joined["sample_id"], joined["name"]):
            out[sample].append(f"{prefix}{name}")
    return out


def domain_table(counts: pd.DataFrame, tested: pd.DataFrame, reaches: Sequence[str]) -> pd.DataFrame:
    """Return metrics with intervals, one row per map, reference, domain and reach (`all` first).

    `counts` has rows by map, reference, chip and domain, as from `zone_counts`; for full chips the domain is the
    density class, region or city of the chip. `tested` is as from `assess.sample_design`.
    """
    chips = tested.set_index("sample_id")
    rows = []
    for (kind, name, reference, domain), part in counts.groupby(["kind", "name", "reference", "domain"], sort=False):
        cells = _cells_by_chip(part, chips)
        for reach, inside in _reach_masks(domain, chips, reaches):
            reach_cells = cells[inside]
            used = int((reach_cells.sum(axis=1) > 0).sum())
            if used == 0:
                continue
            row = {"kind": kind, "name": name, "reference": reference, "domain": domain, "reach": reach}
            row |= {"chips": used, "pixels": int(reach_cells.sum())}
            weights, groups = chips["weight"].to_numpy()[inside], chips["group"].to_numpy()[inside]
            for metric in _metrics_of(domain):
                estimate = cluster_estimators.linearised_estimate(reach_cells, weights, groups, METRICS[metric])
                row |= cluster_estimators.estimate_columns(metric, _clipped(metric, estimate))
            rows.append(row)
    return pd.DataFrame(rows)


def paired_differences(counts: pd.DataFrame, tested: pd.DataFrame, reaches: Sequence[str], first: str) -> pd.DataFrame:
    """Return the `first` method minus every other map on the same chips, by domain, reach and metric; see
    `domain_table`.
    """
    chips = tested.set_index("sample_id")
    rows = []
    for (reference, domain), part in counts.groupby(["reference", "domain"], sort=False):
        cells_of = {name: _cells_by_chip(group, chips) for name, group in part.groupby("name", sort=False)}
        if first not in cells_of:
            continue
        for name, cells in cells_of.items():
            both = np.hstack([cells_of[first], cells])
            for reach, inside in _reach_masks(domain, chips, reaches):
                used = int((both[inside].sum(axis=1) > 0).sum())
                if name == first or used == 0:
                    continue
                weights, groups = chips["weight"].to_numpy()[inside], chips["group"].to_numpy()[inside]
                for metric in _metrics_of(domain):
                    function = cluster_estimators.metric_difference(WHOLE_AREA_METRICS[metric])
                    e = cluster_estimators.linearised_estimate(both[inside], weights, groups, function)
                    row = {"name": first, "minus": name, "reference": reference, "domain": domain, "reach": reach}
                    row |= {"metric": metric, "difference": e.value, "lower": e.lower, "upper": e.upper, "chips": used}
                    rows.append(row)
    return pd.DataFrame(rows)


def _clipped(metric: str, estimate: Estimate) -> Estimate:
    """Return the estimate with its interval clipped to the metric's range: fractions to 0..1, the area bias from -1."""
    if metric != "area_bias":
        return cluster_estimators.clip_to_unit(estimate)
    return replace(estimate, lower=float(np.maximum(estimate.lower, -1)))


def _cells_by_chip(part: pd.DataFrame, chips: pd.DataFrame) -> np.ndarray:
    """Return CELLS by chip, [n, 4]; chips without a pixel of the domain are still part of the sample, with zero counts."""
    return part.set_index("sample_id")[list(CELLS)].reindex(chips.index, fill_value=0).to_numpy()


def _reach_masks(domain: str, chips: pd.DataFrame, reaches: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Return masks of all chips, then of each reach; a region or city is in one reach only, so it has no rows by reach."""
    reach = chips["reach"].to_numpy()
    masks = [] if domain.startswith((REGION, CITY)) else [(name, reach == name) for name in reaches]
    return [(ALL, np.ones(len(chips), bool)), *masks]


def _metrics_of(domain: str) -> list[str]:
    """Return the metrics that are defined in a domain; a zone of objects contains only ISA, so only recall is."""
    return ["recall"] if domain in OBJECTS else list(WHOLE_AREA_METRICS if domain == ALL else METRICS)
