"""Step `report`: one self-contained HTML page with pictures, tables, growth curves, workflow and provenance."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.accuracy import figures
from jointseg.accuracy.growth_kinds import RAPID_PERCENT, SATURATING_RATIO
from jointseg.raster.product_codes import nearest_year
from jointseg.report import comparison, gallery, provenance, questions, workflow_graph
from jointseg.report import growth as report_growth
from jointseg.report import tables as report_tables
from jointseg.report.gallery import ChipSources, Picture
from jointseg.runtime import templates
from jointseg.runtime.files import atomic_write

PAGE = Path(__file__).with_name("report.html.j2")
_METHOD_LABELS = {"superres": "Super-resolution + segmentation", "bilinear": "Bilinear + segmentation"}

Tables = dict[str, list[Path]]  # files by name of the table


def report(
    *,
    html: Path,
    numbers: Path,
    title: str,
    methods: list[str],
    year: int,
    notes: str = "",
    product_table: dict[str, dict[str, Any]] | None = None,
    index: Path | None = None,
    samples: Path | None = None,
    study_area: Path | None = None,
    agreements: list[Path] | None = None,
    chips: list[Path] | None = None,
    predictions: list[Path] | None = None,
    images: list[Path] | None = None,
    products: list[Path] | None = None,
    accuracy: Path | None = None,
    paired: Path | None = None,
    domains: Path | None = None,
    growth: Path | None = None,
    changes: Path | None = None,
    zones: Path | None = None,
    growth_figure: Path | None = None,
    product_comparisons: list[Path] | None = None,
    comparison_pictures: list[Path] | None = None,
    panels: list[Path] | None = None,
    histories: list[Path] | None = None,
    manifests: list[Path] | None = None,
    isa: list[Path] | None = None,
    composites: list[Path] | None = None,
    previews: list[Path] | None = None,
    examples: list[Path] | None = None,
    quality_tables: list[Path] | None = None,
    quality_figures: list[Path] | None = None,
    captions: dict[str, str] | None = None,
) -> None:
    """Write the report with the sections for which there are inputs; deterministic bytes.

    Args:
        numbers: output JSON, the page's tables by name.
        methods: names of the methods, in the order of predictions and images.
        notes: a paragraph for the reader, such as the origin of the checkpoints.
        product_table: entries of the products, in the order of `products`.
        agreements: {reach}.csv of step `label_agreement`.
        chips: chip folders of the reaches.
        predictions: folder of {sample_id}.tif, 0/1/255, of each method.
        images: folder of {sample_id}.tif, 1 m images, of each method.
        products: folder of {sample_id}.tif, codes, of each product.
        accuracy, paired, domains: tables of step `assess`.
        growth, changes, zones, growth_figure: tables and figure of step `growth`.
        product_comparisons, comparison_pictures: {city}.csv and {city}/ of step `compare_products`.
        isa: {year}/{tile}.tif, 1 m, 0/1/255.
        quality_tables, quality_figures: {year}.csv and {year}.png of step `composite_quality`.
    """
    product_table = product_table or {}
    labels = {name: _METHOD_LABELS.get(name, name) for name in methods}
    labels |= {name: entry["title"] for name, entry in product_table.items()}
    product_years = [(entry["title"], nearest_year(entry, year)) for entry in product_table.values()]
    records = [json.loads(path.read_text()) for path in manifests or []]
    single = {"accuracy": accuracy, "paired": paired, "domains": domains}
    single |= {"growth": growth, "change": changes, "zones": zones}
    tables = {name: [path] if path is not None else [] for name, path in single.items()}
    tables |= {"compared": product_comparisons or [], "composites": quality_tables or []}
    curves = {_panel_caption(path): pd.read_csv(path) for path in histories or []}
    chip_rows = []
    if index is not None and chips:
        sources = ChipSources(
            index,
            chips[0].parent,
            dict(zip(methods, images or [])),
            dict(zip(methods, predictions or [])),
            dict(zip(product_table, products or [])),
            product_table,
        )
        chip_rows = gallery.chip_rows(sources, year)
    context = {
        "title": title,
        "year": year,
        "notes": notes,
        "cards": report_tables.cards(accuracy, paired, methods, labels),
        "findings": questions.key_findings(paired, growth, changes, labels),
        "overviews": gallery.overview_rows(composites or [], isa or [], year),
        "previews": [Picture(_words(path.stem), figures.file_uri(path)) for path in previews or []],
        "examples": [Picture((captions or {})[path.as_posix()], figures.file_uri(path)) for path in examples or []],
        "chip_rows": chip_rows,
        "agreement": figures.AGREEMENT,
        "accuracy": report_tables.accuracy_tables(accuracy, labels),
        "matrices": report_tables.confusion_rows(accuracy, labels),
        "domains": report_tables.domain_tables(domains, labels),
        "paired": report_tables.paired_rows(paired, labels),
        "other_years": [f"{title} ({shown})" for title, shown in product_years if shown != year],
        "quality": report_tables.quality_rows(quality_tables or []),
        "quality_figures": [Picture(path.stem, figures.file_uri(path)) for path in sorted(quality_figures or [])],
        **_growth_section(growth, changes, zones, growth_figure),
        "comparisons": comparison.rows(product_comparisons or [], labels),
        "comparison_rows": comparison.picture_rows(comparison_pictures or [], labels),
        "panels": [Picture(_panel_caption(path), figures.file_uri(path)) for path in panels or []],
        "learning": figures.learning_curves(curves) if curves else "",
        "dataset": report_tables.dataset_rows(index, samples, study_area, records),
        "sources": report_tables.source_rows(agreements or []),
        "workflow": workflow_graph.svg(records),
        "checkpoints": provenance.checkpoints(records),
        "provenance": provenance.run_provenance(records, manifests or [], html),
        "files": provenance.table_files(tables, records, manifests or [], html),
    }
    for path, text in (
        (numbers, json.dumps(_numbers(tables), indent=1) + "\n"),
        (html, templates.render(PAGE, context)),
    ):
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")


def _growth_section(
    growth: Path | None, changes: Path | None, zones: Path | None, growth_figure: Path | None
) -> dict[str, Any]:
    return {
        "growth": report_growth.by_year(growth),
        "changes": report_growth.by_year_pair(changes),
        "zones": report_growth.by_zone(zones),
        "rapid_percent": f"{RAPID_PERCENT:g}",
        "saturating_percent": f"{100 * SATURATING_RATIO:g}",
        "growth_figure": figures.file_uri(growth_figure) if growth_figure else "",
    }


def _numbers(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables by name, with NaN as null; tables of several cities or years are concatenated."""
    out: dict[str, list[dict[str, Any]]] = {}
    for name, paths in tables.items():
        for path in paths:
            if path.read_text().strip():
                frame = pd.read_csv(path)
                rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
                if name == "composites":
                    rows = [{"year": path.stem, **row} for row in rows]
                out.setdefault(name, []).extend(rows)
    return out


def _words(name: str) -> str:
    return name.replace("_", " ")


def _panel_caption(path: Path) -> str:
    return f"{path.parent.name}: {_words(path.stem)}"
