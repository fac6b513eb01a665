"""Tables of the report as rows of text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from jointseg.accuracy import figures
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.cluster_estimators import MATRIX
from jointseg.accuracy.sample_size import clusters_for_half_width
from jointseg.accuracy.zones import ZONES
from jointseg.report.growth import DASH, interval, number

NOT_SIGNIFICANT = "no significant difference"
SOURCE_AREAS = ("osm", "footprints", "both", "open", "road_on_building", "added", "removed", "unlabelled")
_METRICS = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "iou": "IoU",
    "overall_accuracy": "Overall accuracy",
    "edge_f1_2m": "Edge F1, 2 m tolerance",
}


def cards(
    accuracy: Path | None, paired: Path | None, methods: list[str], labels: dict[str, str]
) -> list[dict[str, str]]:
    """Return the summary of the run: F1 of each method, F1 of the weakest reach, F1 difference of the first method."""
    if accuracy is None or paired is None:
        return []
    table = pd.read_csv(accuracy)
    overall = _all_reaches(table).set_index("name")
    cards = []
    for name in methods:
        row = overall.loc[name]
        note = f"95 % CI {100 * row['f1_lower']:.1f} to {100 * row['f1_upper']:.1f}; {row['chips']} held-out chips"
        if name == methods[0] and np.isfinite(row["f1_upper"]):
            needed = clusters_for_half_width(row["chips"], row["f1_upper"] - row["f1"], 0.01)
            note += f"; about {needed:,} for a CI of ±1 percentage point"
        cards.append({"value": f"{100 * row['f1']:.1f}", "label": f"F1, {labels[name].lower()}", "note": note})
    if len(reaches := _by_reach(table, methods[0])) > 1:
        best, worst = reaches[0], reaches[-1]
        note = "; ".join(f"{row['reach']} {100 * row['f1']:.1f}" for row in reaches)
        label = f"F1 in {worst['reach']}, the weakest reach"
        cards.append(
            {"value": f"{100 * worst['f1']:.1f}", "label": label, "note": f"{note}; highest in {best['reach']}"}
        )
    differences = _all_reaches(pd.read_csv(paired)).query("domain == @ALL and metric == 'f1' and minus in @methods")
    for row in differences.to_dict("records"):
        note = f"F1 difference (pp); 95 % CI {100 * row['lower']:+.1f} to {100 * row['upper']:+.1f}, paired by chip"
        label = f"{row['name']} minus {row['minus']}"
        cards.append({"value": f"{100 * row['difference']:+.1f}", "label": label, "note": note})
    return cards


def accuracy_tables(accuracy: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return for each reference a bar chart and rows by reach and map, with the highest F1 of each reach marked."""
    if accuracy is None:
        return []
    table = pd.read_csv(accuracy)
    fraction_errors = [name for name in table if name.startswith("fraction_mae_") and name.endswith("m")]
    out = []
    for reference, part in table.groupby("reference", sort=False):
        rows = []
        for reach, group in part.groupby("reach", sort=False):
            highest = group["f1"].max()
            for row in group.to_dict("records"):
                rows.append(
                    {
                        "reach": reach,
                        "map": labels[row["name"]],
                        "year": row["map_year"],
                        "kind": row["kind"],
                        "highest": row["f1"] == highest,
                        "values": [interval(row, name, ".1f", by=100) for name in [*_METRICS, *fraction_errors]],
                        "isa": f"{100 * row['map_fraction']:.1f} / {100 * row['reference_fraction']:.1f}",
                        "nodata": f"{100 * row['nodata_fraction']:.2f}",
                        "chips": row["chips"],
                        "pixels": f"{row['pixels'] / 1e6:.2f}",
                    }
                )
        cells_m = [name.removeprefix("fraction_mae_").removesuffix("m") for name in fraction_errors]
        heads = [*_METRICS.values(), *[f"Fraction MAE at {cell_m} m" for cell_m in cells_m]]
        title = f"F1 of impervious surface against {reference}, 95 % CI"
        chart = figures.accuracy_bars(part, "f1", title, labels)
        out.append({"reference": reference, "chart": chart, "heads": heads, "rows": rows})
    return out


def confusion_rows(accuracy: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return the estimated confusion matrix of every map against the labels over all reaches, in percent, and kappa."""
    if accuracy is None:
        return []
    return [
        {
            "map": labels[row["name"]],
            "kind": row["kind"],
            "values": [interval(row, name, ".1f", by=100) for name in (*MATRIX, "kappa")],
            "chips": row["chips"],
        }
        for row in _all_reaches(pd.read_csv(accuracy)).to_dict("records")
    ]


def domain_tables(domains: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return for each reference the accuracy by domain and map over all reaches."""
    if domains is None:
        return []
    table = pd.read_csv(domains)
    table = table[table["reach"] == ALL]
    out = []
    for reference, part in table.groupby("reference", sort=False):
        domain_names = part["domain"].unique()
        names = [*sorted(set(domain_names) - ZONES.keys()), *(name for name in ZONES if name in domain_names)]
        rows = [
            {
                "domain": ZONES.get(name, name),
                "map": labels[row["name"]],
                "kind": row["kind"],
                "values": [
                    *(interval(row, metric, ".1f", by=100) for metric in ("precision", "recall", "f1")),
                    interval(row, "area_bias", "+.1f", by=100),
                ],
                "chips": row["chips"],
            }
            for name in names
            for row in part[part["domain"] == name].to_dict("records")
        ]
        out.append({"reference": reference, "rows": rows})
    return out


def paired_rows(paired: Path | None, labels: dict[str, str]) -> list[dict[str, str]]:
    """Return the F1 differences of the first method to every other map."""
    if paired is None:
        return []
    table = pd.read_csv(paired)
    rows = []
    for row in table[(table["metric"] == "f1") & (table["domain"] == ALL)].to_dict("records"):
        has_interval = np.isfinite(row["lower"])
        conclusion = "higher" if row["lower"] > 0 else "lower" if row["upper"] < 0 else NOT_SIGNIFICANT
        rows.append(
            {
                "pair": f"{labels[row['name']]} minus {labels[row['minus']]}",
                "reference": row["reference"],
                "reach": row["reach"],
                "difference": number(row["difference"], "+.1f", 100),
                "interval": f"{100 * row['lower']:+.1f} to {100 * row['upper']:+.1f}" if has_interval else DASH,
                "chips": row["chips"],
                "conclusion": conclusion if has_interval else "",
            }
        )
    return rows


def quality_rows(quality_tables: list[Path]) -> dict[str, Any]:
    """Return the quality metrics of each year's composites, and the unregistered scenes by year, from {year}.csv files."""
    rows, unregistered = [], []
    for path in sorted(quality_tables):
        table = pd.read_csv(path, dtype={"tile": str, "level": str, "unregistered_scenes": str})
        row = table[table["tile"] == ALL].iloc[0]
        bands = [name.removeprefix("drift_") for name in table if name.startswith("drift_")]
        rows.append(
            {
                "year": path.stem,
                "level": row["level"],
                "tiles": len(table) - 1,
                "scenes": number(row["scenes"], ".0f"),
                "valid": number(row["valid_fraction"], ".2f", 100),
                "observations": f"{number(row['clear_p10'], '.0f')} / {number(row['clear_median'], '.0f')}",
                "padded": number(row["padded_fraction"], ".2f", 100),
                "nodata": f"{number(row['nodata_areas'], '.0f')} / {number(row['largest_nodata_km2'], '.2f')}",
                "registered": f"{number(row['registered'], '.0f')} / {number(row['unregistered'], '.0f')}",
                "shift": f"{number(row['shift_median_m'], '.1f')} / {number(row['shift_max_m'], '.1f')}",
                "bands": [
                    {
                        "band": band,
                        "residual": number(row[f"residual_{band}"], ".2f", 100),
                        "drift": number(row[f"drift_{band}"], "+.2f", 100),
                        "spread": number(row[f"spread_{band}"], ".2f", 100),
                    }
                    for band in bands
                ],
            }
        )
        if isinstance(row["unregistered_scenes"], str):
            unregistered.append({"year": path.stem, "scenes": row["unregistered_scenes"].split()})
    return {"rows": rows, "unregistered": unregistered} if rows else {}


def dataset_rows(
    index: Path | None, samples: Path | None, study_area: Path | None, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the chips by reach and split with their ISA fraction, the sample by stratum, and a map of the sample.

    The manifest of step `samples` among the records has the sample size of each stratum.
    """
    if index is None or samples is None or study_area is None:
        return {}
    chips = gpd.read_parquet(index)
    rows = [
        {"reach": reach, "split": split, "chips": len(part), "isa": f"{100 * part['isa_fraction'].mean():.1f}"}
        for (reach, split), part in chips.groupby(["reach", "split"], sort=True)
    ]
    chart = figures.sample_map(gpd.read_file(study_area, layer="reaches").geometry, gpd.read_parquet(samples))
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
    return {"rows": rows, "map": chart, "chips": len(chips), "strata": strata, **lattice}


def source_rows(agreements: Sequence[Path]) -> list[dict[str, str]]:
    """Return the areas of buildings by source and of corrections, hectares, one row per reach."""
    rows = []
    for path in agreements:
        total = pd.read_csv(path).iloc[0]
        areas = {name: f"{total[f'{name}_m2'] / 1e4:,.2f}" for name in SOURCE_AREAS}
        rows.append({"reach": path.stem, "iou": number(total["iou"], ".1f", 100), **areas})
    return rows


def _all_reaches(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all reaches against the labels."""
    return table[(table["reach"] == ALL) & (table["reference"] == "labels")]


def _by_reach(table: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    """Return a method's rows by reach against the labels, highest F1 first."""
    rows = table[(table["reach"] != ALL) & (table["reference"] == "labels") & (table["name"] == method)]
    return rows.sort_values("f1", ascending=False).to_dict("records")
