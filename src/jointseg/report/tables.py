"""Tables of the report: rows of text, as its template shows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from jointseg.accuracy import figures
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.cluster_estimators import MATRIX
from jointseg.accuracy.sample_size import clusters_for
from jointseg.accuracy.zones import ZONES

SOURCE_AREAS = ("osm", "footprints", "both", "open", "road_on_building", "added", "removed", "unknown")
WHOLE = "all"  # the row of all tiles in a table of step quality
_SHOWN = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "iou": "IoU",
    "overall_accuracy": "Overall accuracy",
    "edge_f1_2m": "Edges within 2 m, F1",
}


def cards(table: Path | None, paired: Path | None, methods: list[str], labels: dict[str, str]) -> list[dict[str, str]]:
    """The few numbers that sum up the run: F1 of each method and the difference of the first to the others."""
    if table is None or paired is None:
        return []
    whole = _whole(pd.read_csv(table)).set_index("name")
    cards = []
    for name in methods:
        row = whole.loc[name]
        around = f"95 %: {100 * row['f1_lower']:.1f} to {100 * row['f1_upper']:.1f}; {row['chips']} held-out chips"
        if name == methods[0] and np.isfinite(row["f1_upper"]):
            more = clusters_for(row["chips"], row["f1_upper"] - row["f1"], 0.01)
            around += f"; to be sure to a point, about {more:,}"
        cards.append({"value": f"{100 * row['f1']:.1f}", "what": f"F1, {labels[name].lower()}", "note": around})
    if len(reaches := _by_reach(pd.read_csv(table), methods[0])) > 1:
        best, worst = reaches[0], reaches[-1]
        around = "; ".join(f"{row['reach']} {100 * row['f1']:.1f}" for row in reaches)
        what = f"F1 in {worst['reach']}, the weakest reach"
        cards.append({"value": f"{100 * worst['f1']:.1f}", "what": what, "note": f"{around}; best in {best['reach']}"})
    gaps = _whole(pd.read_csv(paired))
    gaps = gaps[gaps["domain"] == ALL]
    gaps = gaps[(gaps["metric"] == "f1") & gaps["minus"].isin(methods)]
    for gap in gaps.to_dict("records"):
        around = f"points of F1; 95 %: {100 * gap['lower']:+.1f} to {100 * gap['upper']:+.1f}, paired by chip"
        what = f"{gap['name']} minus {gap['minus']}"
        cards.append({"value": f"{100 * gap['difference']:+.1f}", "what": what, "note": around})
    return cards


def accuracy_tables(table: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
    """For each reference: a bar chart and rows by reach and map, the best F1 of each reach marked."""
    if table is None:
        return []
    every = pd.read_csv(table)
    supports = [column for column in every if column.startswith("fraction_mae_") and column.endswith("m")]
    out = []
    for reference, part in every.groupby("reference", sort=False):
        rows = []
        for reach, group in part.groupby("reach", sort=False):
            best = group["f1"].max()
            for row in group.to_dict("records"):
                rows.append(
                    {
                        "reach": reach,
                        "map": labels[row["name"]],
                        "year": row["map_year"],
                        "kind": row["kind"],
                        "best": row["f1"] == best,
                        "values": [percent(row[m], row[f"{m}_lower"], row[f"{m}_upper"]) for m in [*_SHOWN, *supports]],
                        "share": f"{100 * row['map_share']:.1f} / {100 * row['reference_share']:.1f}",
                        "unknown": f"{100 * row['unknown_share']:.2f}",
                        "chips": row["chips"],
                        "pixels": f"{row['pixels'] / 1e6:.2f}",
                    }
                )
        heads = [*_SHOWN.values(), *[_support_head(name) for name in supports]]
        chart = figures.accuracy_bars(
            part, "f1", f"F1 of impervious surface against {reference}, 95 % intervals", labels
        )
        out.append({"reference": reference, "chart": chart, "heads": heads, "rows": rows})
    return out


def confusion_tables(table: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
    """For each reference, the estimated confusion matrix of every map over all reaches, in percent of the ground, and kappa."""
    if table is None:
        return []
    every = _whole(pd.read_csv(table))
    out = []
    for reference, part in every.groupby("reference", sort=False):
        rows = []
        for row in part.to_dict("records"):
            values = [percent(row[name], row[f"{name}_lower"], row[f"{name}_upper"]) for name in MATRIX]
            kappa = percent(row["kappa"], row["kappa_lower"], row["kappa_upper"])
            rows.append(
                {"map": labels[row["name"]], "kind": row["kind"], "values": [*values, kappa], "chips": row["chips"]}
            )
        out.append({"reference": reference, "rows": rows})
    return out


def domain_tables(parts: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
    """For each reference, rows by domain and map over all reaches: where a map is good, and where it maps too much."""
    if parts is None:
        return []
    every = pd.read_csv(parts)
    every = every[every["reach"] == ALL]
    out = []
    for reference, part in every.groupby("reference", sort=False):
        order = sorted(
            part["domain"].unique(),
            key=lambda name: (name in ZONES, list(ZONES).index(name) if name in ZONES else name),
        )
        rows = []
        for domain in order:
            for row in part[part["domain"] == domain].to_dict("records"):
                told = [percent(row[m], row[f"{m}_lower"], row[f"{m}_upper"]) for m in ("precision", "recall", "f1")]
                over = percent(row["over"], row["over_lower"], row["over_upper"], "+.1f")
                title = ZONES.get(domain, domain)
                rows.append(
                    {
                        "domain": title,
                        "map": labels[row["name"]],
                        "kind": row["kind"],
                        "values": [*told, over],
                        "chips": row["chips"],
                    }
                )
        out.append({"reference": reference, "rows": rows})
    return out


def paired_rows(paired: Path | None, labels: dict[str, str]) -> list[dict[str, str]]:
    if paired is None:
        return []
    rows = []
    every = pd.read_csv(paired)
    for row in every[(every["metric"] == "f1") & (every["domain"] == ALL)].to_dict("records"):
        known = np.isfinite(row["lower"])
        verdict = (
            "" if not known else "above" if row["lower"] > 0 else "below" if row["upper"] < 0 else "not told apart"
        )
        rows.append(
            {
                "pair": f"{labels[row['name']]} minus {labels[row['minus']]}",
                "reference": row["reference"],
                "reach": row["reach"],
                "difference": f"{100 * row['difference']:+.1f}" if np.isfinite(row["difference"]) else "–",
                "interval": f"{100 * row['lower']:+.1f} to {100 * row['upper']:+.1f}" if known else "–",
                "chips": row["chips"],
                "verdict": verdict,
            }
        )
    return rows


def quality_rows(qualities: list[Path]) -> dict[str, Any]:
    """A row by year of what its composites are worth, and the scenes that could not be registered, by year.

    Args:
        qualities: {year}.csv, as step quality writes them.
    """
    rows, unregistered = [], []
    for path in sorted(qualities):
        every = pd.read_csv(path, dtype={"tile": str, "level": str, "unregistered_scenes": str})
        whole = every[every["tile"] == WHOLE].iloc[0]
        bands = [name.removeprefix("drift_") for name in every if name.startswith("drift_")]
        rows.append(
            {
                "year": path.stem,
                "level": whole["level"],
                "tiles": len(every) - 1,
                "scenes": _cell(whole["scenes"], ".0f"),
                "known": _cell(100 * whole["valid_fraction"], ".2f"),
                "looks": f"{_cell(whole['clear_p10'], '.0f')} / {_cell(whole['clear_median'], '.0f')}",
                "widened": _cell(100 * whole["padded_fraction"], ".2f"),
                "holes": f"{_cell(whole['nodata_areas'], '.0f')} / {_cell(whole['largest_nodata_km2'], '.2f')}",
                "registered": f"{_cell(whole['registered'], '.0f')} / {_cell(whole['unregistered'], '.0f')}",
                "shift": f"{_cell(whole['shift_median_m'], '.1f')} / {_cell(whole['shift_max_m'], '.1f')}",
                "bands": [
                    {
                        "band": band,
                        "residual": _cell(100 * whole[f"residual_{band}"], ".2f"),
                        "drift": _cell(100 * whole[f"drift_{band}"], "+.2f"),
                        "spread": _cell(100 * whole[f"spread_{band}"], ".2f"),
                    }
                    for band in bands
                ],
            }
        )
        if isinstance(whole["unregistered_scenes"], str):
            unregistered.append({"year": path.stem, "scenes": whole["unregistered_scenes"].split()})
    return {"rows": rows, "unregistered": unregistered} if rows else {}


def _cell(value: float, form: str) -> str:
    """A number as text; a dash where there is none."""
    return f"{value:{form}}" if np.isfinite(value) else "–"


def dataset_rows(
    index: Path | None, samples: Path | None, study_area: Path | None, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Chips by reach and split with their ISA share, the sample by stratum, and a map of where it lies.

    Args:
        index: the dataset's index.
        samples: the sample with its replacement samples.
        study_area: outlines of the reaches.
        records: manifests; that of step samples tells what was wanted and found in each stratum.
    """
    if index is None or samples is None or study_area is None:
        return {}
    frame = gpd.read_parquet(index)
    rows = [
        {"reach": reach, "split": split, "chips": len(part), "share": f"{100 * part['isa_fraction'].mean():.1f}"}
        for (reach, split), part in frame.groupby(["reach", "split"], sort=True)
    ]
    sample = gpd.read_parquet(samples)
    chart = figures.sample_map(gpd.read_file(study_area, layer="reaches").geometry, sample)
    facts = next((record.get("facts") or {} for record in records if record["rule"] == "samples"), {})
    strata = [
        {
            "stratum": row["stratum"],
            "area": f"{row['area_km2']:,.{0 if row['area_km2'] >= 1000 else 1}f}",
            **{name: row[name] for name in ("candidates", "wanted", "allocated", "replacements")},
            "probability": f"{row['inclusion_probability']:.3g}",
        }
        for row in facts.get("strata", [])
    ]
    lattice = {name: facts[name] for name in ("gap_m", "window_m", "pitch_m") if name in facts}
    return {"rows": rows, "map": chart, "chips": len(frame), "strata": strata, **lattice}


def source_rows(agreements: Sequence[Path]) -> list[dict[str, str]]:
    """Areas of buildings by source and what corrections changed, in hectares, a reach each."""
    rows = []
    for path in agreements:
        whole = pd.read_csv(path).iloc[0]
        areas = {name: f"{whole[f'{name}_m2'] / 1e4:,.2f}" for name in SOURCE_AREAS}
        rows.append({"reach": path.stem, "iou": _cell(100 * whole["iou"], ".1f"), **areas})
    return rows


def percent(value: float, lower: float, upper: float, form: str = ".1f") -> tuple[str, str]:
    """A share and its interval in percent, such as ("71.2", "66.0 to 76.1"); a dash where there is none."""
    if not np.isfinite(value):
        return "–", ""
    around = f"{100 * lower:{form}} to {100 * upper:{form}}" if np.isfinite(lower) else "no interval"
    return f"{100 * value:{form}}", around


def _whole(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the whole area, against the labels."""
    return scores[(scores["reach"] == ALL) & (scores["reference"] == "labels")]


def _by_reach(scores: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    """A method's rows by reach against the labels, the best F1 first."""
    rows = scores[(scores["reach"] != ALL) & (scores["reference"] == "labels") & (scores["name"] == method)]
    return rows.sort_values("f1", ascending=False).to_dict("records")


def _support_head(column: str) -> str:
    return f"Fraction error at {column.removeprefix('fraction_mae_').removesuffix('m')} m"
