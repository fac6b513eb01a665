"""Where a map is right: on sparse and dense ground, by density class, of roads and small buildings, and at its edges."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from jointseg.accuracy import estimators
from jointseg.accuracy.estimators import CELLS, UNKNOWN, Metric
from jointseg.accuracy.zones import OBJECTS

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
    "precision": estimators.precision,
    "recall": estimators.recall,
    "f1": estimators.f1,
    "iou": estimators.iou,
    "over": over_share,
}


def zone_cells(mapped: np.ndarray, reference: np.ndarray, zones: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Pixel counts in each zone: a mask [h, w] by name."""
    return [
        {
            "domain": name,
            **dict(zip((*CELLS, "unknown"), estimators.cells(np.where(inside, mapped, UNKNOWN), reference))),
        }
        for name, inside in zones.items()
    ]


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
        # Chips without a pixel of the domain are part of the sample all the same: they count nothing.
        cells = part.set_index("sample_id")[list(CELLS)].reindex(places.index, fill_value=0)
        for reach in ("all", *reaches):
            inside = np.ones(len(places), bool) if reach == "all" else (places["reach"] == reach).to_numpy()
            own = cells[inside]
            hit = int((own.sum(axis=1) > 0).sum())
            if hit == 0:
                continue
            row = {"kind": kind, "name": name, "reference": reference, "domain": domain, "reach": reach}
            row |= {"chips": hit, "pixels": int(own.to_numpy().sum())}
            for metric, function in METRICS.items():
                if domain in OBJECTS and metric != "recall":
                    continue  # all that such a zone holds is ISA
                estimate = estimators.linearised(
                    own.to_numpy(), places["weight"].to_numpy()[inside], places["group"].to_numpy()[inside], function
                )
                row |= estimators.columns(metric, estimate if metric == "over" else estimators.within_unit(estimate))
            rows.append(row)
    return pd.DataFrame(rows)
