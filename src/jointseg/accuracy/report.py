"""Step `report`: one self-contained HTML page with pictures, tables, growth curves, the flow and the provenance."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jointseg import raster
from jointseg.accuracy import figures, flow, gallery
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.gallery import Picture, Strip
from jointseg.accuracy.growth import RAPID_PERCENT, SATURATING_RATIO

_SHOWN = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "iou": "IoU",
    "overall_accuracy": "Overall accuracy",
}
_MAIN_PACKAGES = (
    "python",
    "torch",
    "transformers",
    "rasterio",
    "gdal (rasterio)",
    "gdal (tools)",
    "snakemake",
    "numpy",
)
_WEIGHTS = ".safetensors"


def report(
    *,
    html: Path,
    title: str,
    methods: list[str],
    year: int,
    notes: str = "",
    product_table: dict[str, dict[str, Any]] | None = None,
    index: Path | None = None,
    chips: list[Path] | None = None,
    predictions: list[Path] | None = None,
    images: list[Path] | None = None,
    products: list[Path] | None = None,
    table: Path | None = None,
    paired: Path | None = None,
    growth: Path | None = None,
    growth_figure: Path | None = None,
    panels: list[Path] | None = None,
    manifests: list[Path] | None = None,
    isa: list[Path] | None = None,
    composites: list[Path] | None = None,
    previews: list[Path] | None = None,
    examples: list[Path] | None = None,
    captions: dict[str, str] | None = None,
) -> None:
    """Writes the report; what is not given is left out. The same input gives the same bytes.

    Args:
        html: page to make.
        title: heading of the page.
        methods: names of the methods, in the order of predictions and images.
        year: the map year.
        notes: a paragraph for the reader, such as what made the weights.
        product_table: entries of the products, in the order of `products`.
        index: the dataset's index.
        chips: chip folders of the reaches.
        predictions: a folder of {sample_id}.tif, 0/1/255, for each method.
        images: a folder of {sample_id}.tif, 1 m imagery, for each method.
        products: a folder of {sample_id}.tif, codes, for each product.
        table: accuracy by map, reference and reach, as step assess writes it.
        paired: paired differences, as step assess writes them.
        growth: areas by city and year, as step growth writes them.
        growth_figure: growth curves, PNG.
        panels: training panels, PNG.
        manifests: manifests of the run's jobs.
        isa: {year}/{tile}.tif, 1 m, 0/1/255.
        composites: composites of the map year.
        previews: side-by-side pictures of this run, PNG.
        examples: side-by-side pictures of other runs, PNG.
        captions: what each of the examples shows, by its path.
    """
    entries, captions = product_table or {}, captions or {}
    records = [json.loads(path.read_text()) for path in manifests or []]
    labels = {name: _method_label(name) for name in methods} | {name: entries[name]["title"] for name in entries}
    strips: list[Strip] = []
    if index is not None and chips:
        strips = gallery.chip_strips(
            index,
            chips[0].parent,
            dict(zip(methods, images or [])),
            dict(zip(methods, predictions or [])),
            dict(zip(entries, products or [])),
            entries,
        )
    context = {
        "title": title,
        "year": year,
        "notes": notes,
        "methods": [labels[name] for name in methods],
        "cards": _cards(table, paired, methods, labels),
        "views": gallery.views(composites or [], isa or [], year),
        "previews": [Picture(_words(path.stem), figures.file_uri(path)) for path in previews or []],
        "examples": [Picture(captions[path.as_posix()], figures.file_uri(path)) for path in examples or []],
        "strips": strips,
        "agreement": figures.AGREEMENT,
        "accuracy": _accuracy(table, labels),
        "other_years": [f"{entry['title']} ({entry['year']})" for entry in entries.values() if entry["year"] != year],
        "paired": _paired(paired, labels),
        "growth": _growth(growth),
        "rapid_percent": f"{RAPID_PERCENT:g}",
        "saturating_percent": f"{100 * SATURATING_RATIO:g}",
        "growth_figure": figures.file_uri(growth_figure) if growth_figure else "",
        "panels": [Picture(_panel_caption(path), figures.file_uri(path)) for path in panels or []],
        "dataset": _dataset(index),
        "flow": flow.svg(records),
        "weights": _weights(records),
        "provenance": _provenance(records),
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with raster.atomic(html) as part:
        part.write_text(environment.get_template("report.html.j2").render(context), encoding="utf-8")


def _method_label(name: str) -> str:
    known = {"superres": "Super-resolution + segmentation", "bilinear": "Bilinear + segmentation"}
    return known.get(name, name)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _panel_caption(path: Path) -> str:
    return f"{path.parent.name}: {_words(path.stem)}"


def percent(value: float, lower: float, upper: float) -> tuple[str, str]:
    """A share and its interval in percent, such as ("71.2", "66.0 to 76.1"); a dash where there is none."""
    if not np.isfinite(value):
        return "–", ""
    return f"{100 * value:.1f}", f"{100 * lower:.1f} to {100 * upper:.1f}" if np.isfinite(lower) else "no interval"


def _cards(table: Path | None, paired: Path | None, methods: list[str], labels: dict[str, str]) -> list[dict[str, str]]:
    """The few numbers that sum up the run: F1 of each method and the difference of the first to the others."""
    if table is None or paired is None:
        return []
    whole = _whole(pd.read_csv(table)).set_index("name")
    cards = []
    for name in methods:
        row = whole.loc[name]
        around = f"95 %: {100 * row['f1_lower']:.1f} to {100 * row['f1_upper']:.1f}; {row['chips']} held-out chips"
        cards.append({"value": f"{100 * row['f1']:.1f}", "what": f"F1, {labels[name].lower()}", "note": around})
    gaps = _whole(pd.read_csv(paired))
    gaps = gaps[(gaps["metric"] == "f1") & gaps["minus"].isin(methods)]
    for gap in gaps.to_dict("records"):
        around = f"points of F1; 95 %: {100 * gap['lower']:+.1f} to {100 * gap['upper']:+.1f}, paired by chip"
        what = f"{gap['name']} minus {gap['minus']}"
        cards.append({"value": f"{100 * gap['difference']:+.1f}", "what": what, "note": around})
    return cards


def _whole(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the whole area, against the labels."""
    return scores[(scores["reach"] == ALL) & (scores["reference"] == "labels")]


def _accuracy(table: Path | None, labels: dict[str, str]) -> list[dict[str, Any]]:
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


def _support_head(column: str) -> str:
    return f"Fraction error at {column.removeprefix('fraction_mae_').removesuffix('m')} m"


def _paired(paired: Path | None, labels: dict[str, str]) -> list[dict[str, str]]:
    if paired is None:
        return []
    rows = []
    every = pd.read_csv(paired)
    for row in every[every["metric"] == "f1"].to_dict("records"):
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


def _growth(growth: Path | None) -> list[dict[str, Any]]:
    if growth is None:
        return []
    rows = []
    for row in pd.read_csv(growth).fillna({"growth": "", "growth_truth": ""}).to_dict("records"):
        adjusted, truth = row.get("adjusted_km2", np.nan), row.get("truth_km2", np.nan)
        low, high = row.get("adjusted_lower_km2", np.nan), row.get("adjusted_upper_km2", np.nan)
        rows.append(
            {
                "city": row["city"],
                "reach": row["reach"],
                "year": row["year"],
                "mapped": f"{row['isa_km2']:.3f}",
                "adjusted": f"{adjusted:.3f} ({low:.3f} to {high:.3f})" if np.isfinite(adjusted) else "–",
                "chips": f"{row['chips']:.0f}" if "chips" in row else "–",
                "unknown": f"{row['unknown_km2']:.3f}",
                "rate": f"{row['percent_a_year']:+.2f}" if np.isfinite(row["percent_a_year"]) else "–",
                "growth": row["growth"],
                "truth": f"{truth:.3f}" if np.isfinite(truth) else "",
                "growth_truth": row.get("growth_truth", ""),
            }
        )
    return rows


def _dataset(index: Path | None) -> dict[str, Any]:
    """Chips by reach and split, their ISA share, and a map of where they lie."""
    if index is None:
        return {}
    import geopandas as gpd

    frame = gpd.read_parquet(index)
    rows = [
        {"reach": reach, "split": split, "chips": len(part), "share": f"{100 * part['isa_share'].mean():.1f}"}
        for (reach, split), part in frame.groupby(["reach", "split"], sort=True)
    ]
    bounds = frame.geometry.bounds
    centres = ((bounds["minx"] + bounds["maxx"]) / 2, (bounds["miny"] + bounds["maxy"]) / 2)
    chart = figures.chip_map(centres[0].to_numpy(), centres[1].to_numpy(), frame["split"].to_numpy())
    return {"rows": rows, "map": chart, "chips": len(frame)}


def _weights(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every checkpoint that the run made or was given, with its hash and what its job said of the training."""
    out: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda each: (each["rule"], str(each["wildcards"]))):
        job = " ".join([record["rule"], *map(str, record["wildcards"].values())])
        for made in record["outputs"]:
            if made["path"].endswith(_WEIGHTS):
                out[made["sha256"]] = {"file": made["path"], "job": job, "said": _flat(record.get("facts") or {})}
    for record in records:
        for taken in record["inputs"]:
            if taken["path"].endswith(_WEIGHTS):
                out.setdefault(taken["sha256"], {"file": taken["path"], "job": "given to this run", "said": ""})
    return [{"sha256": sha, **told} for sha, told in sorted(out.items(), key=lambda item: item[1]["file"])]


def _flat(facts: dict[str, Any], prefix: str = "") -> str:
    """Facts of a job as one line; lists and long texts are left to the manifest."""
    parts = []
    for key, value in sorted(facts.items()):
        if isinstance(value, dict):
            parts.append(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, float):
            parts.append(f"{prefix}{key} {value:.4g}")
        elif isinstance(value, int | str) and len(str(value)) <= 40:
            parts.append(f"{prefix}{key} {value}")
    return ", ".join(part for part in parts if part)


def _provenance(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What made the run: jobs, files and code by rule; commits, versions and processors."""
    rules: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda each: each["rule"]):
        rule = rules.setdefault(
            record["rule"], {"rule": record["rule"], "jobs": 0, "files": 0, "bytes": 0, "code": set()}
        )
        rule["jobs"] += 1
        rule["files"] += sum(len(made.get("files") or [0]) for made in record["outputs"])
        rule["bytes"] += sum(made["size"] for made in record["outputs"])
        rule["code"].add(str(record.get("code") or "")[:10])
    for rule in rules.values():
        rule["size"] = f"{rule['bytes'] / 1e6:.2f}"
        rule["code"] = ", ".join(sorted(rule["code"]))
    commits = {
        f"{str(each.get('commit') or 'none')[:12]}{' + changes' if each.get('dirty') else ''}" for each in records
    }
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in (record.get("versions") or {}).items():
            if name in _MAIN_PACKAGES:
                versions.setdefault(name, set()).add(str(version))
    devices = {
        str((each.get("device") or {}).get("cuda") or (each.get("device") or {}).get("processor")) for each in records
    }
    return {
        "rules": list(rules.values()),
        "commits": sorted(commits),
        "versions": [(name, ", ".join(sorted(versions[name]))) for name in _MAIN_PACKAGES if name in versions],
        "devices": sorted(devices),
        "jobs": len(records),
    }
