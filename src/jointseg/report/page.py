"""Step `report`: one self-contained HTML page with pictures, tables, growth curves, the flow and the provenance."""

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
from jointseg.report.gallery import Picture, Strip
from jointseg.runtime import templates
from jointseg.runtime.files import atomic_write

PAGE = Path(__file__).with_name("report.html.j2")


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
    table: Path | None = None,
    paired: Path | None = None,
    parts: Path | None = None,
    growth: Path | None = None,
    changed: Path | None = None,
    zones: Path | None = None,
    growth_figure: Path | None = None,
    compared: list[Path] | None = None,
    maps: list[Path] | None = None,
    panels: list[Path] | None = None,
    histories: list[Path] | None = None,
    manifests: list[Path] | None = None,
    isa: list[Path] | None = None,
    composites: list[Path] | None = None,
    previews: list[Path] | None = None,
    examples: list[Path] | None = None,
    qualities: list[Path] | None = None,
    quality_figures: list[Path] | None = None,
    captions: dict[str, str] | None = None,
) -> None:
    """Writes the report; what is not given is left out. The same input gives the same bytes.

    Args:
        html: page to make.
        numbers: JSON to make, the tables that the page shows, by name.
        title: heading of the page.
        methods: names of the methods, in the order of predictions and images.
        year: the map year.
        notes: a paragraph for the reader, such as what made the weights.
        product_table: entries of the products, in the order of `products`.
        index: the dataset's index.
        samples: the sample with its replacement samples.
        study_area: outlines of the reaches, under the map of the sample.
        agreements: {reach}.csv, how the sources of the labels agree, as step agreement writes them.
        chips: chip folders of the reaches.
        predictions: a folder of {sample_id}.tif, 0/1/255, for each method.
        images: a folder of {sample_id}.tif, 1 m imagery, for each method.
        products: a folder of {sample_id}.tif, codes, for each product.
        table: accuracy by map, reference and reach, as step assess writes it.
        paired: paired differences, as step assess writes them.
        parts: accuracy by kind of ground and object, as step assess writes it.
        growth, changed, zones: areas by city and year, by pair of years, and by ring, as step growth writes them.
        growth_figure: growth curves, PNG.
        compared, maps: {city}.csv and {city}/ with pictures, the cities' maps beside products, as step compare makes them.
        panels: training panels, PNG.
        histories: figures of the trainings by step, CSV.
        manifests: manifests of the run's jobs.
        isa: {year}/{tile}.tif, 1 m, 0/1/255.
        composites: composites of the map year.
        previews: side-by-side pictures of this run, PNG.
        examples: side-by-side pictures of other runs, PNG.
        qualities: {year}.csv, what the composites of a year are worth, as step quality writes them.
        quality_figures: {year}.png, the same drawn.
        captions: what each of the examples shows, by its path.
    """
    entries, captions = product_table or {}, captions or {}
    records = [json.loads(path.read_text()) for path in manifests or []]
    single = {
        "accuracy": table,
        "paired": paired,
        "domains": parts,
        "growth": growth,
        "change": changed,
        "zones": zones,
    }
    tables = {name: [path] if path is not None else [] for name, path in single.items()}
    tables |= {"compared": compared or [], "composites": qualities or []}
    labels = {name: _method_label(name) for name in methods} | {name: entries[name]["title"] for name in entries}
    dated = [(entry, nearest_year(entry, year)) for entry in entries.values()]
    strips: list[Strip] = []
    if index is not None and chips:
        strips = gallery.chip_strips(
            index,
            chips[0].parent,
            dict(zip(methods, images or [])),
            dict(zip(methods, predictions or [])),
            dict(zip(entries, products or [])),
            entries,
            year,
        )
    context = {
        "title": title,
        "year": year,
        "notes": notes,
        "methods": [labels[name] for name in methods],
        "cards": report_tables.cards(table, paired, methods, labels),
        "questions": questions.answers(paired, growth, changed, labels),
        "views": gallery.views(composites or [], isa or [], year),
        "previews": [Picture(_words(path.stem), figures.file_uri(path)) for path in previews or []],
        "examples": [Picture(captions[path.as_posix()], figures.file_uri(path)) for path in examples or []],
        "strips": strips,
        "agreement": figures.AGREEMENT,
        "accuracy": report_tables.accuracy_tables(table, labels),
        "matrices": report_tables.confusion_tables(table, labels),
        "domains": report_tables.domain_tables(parts, labels),
        "other_years": [f"{entry['title']} ({shown})" for entry, shown in dated if shown != year],
        "paired": report_tables.paired_rows(paired, labels),
        "quality": report_tables.quality_rows(qualities or []),
        "quality_figures": [Picture(path.stem, figures.file_uri(path)) for path in sorted(quality_figures or [])],
        "growth": report_growth.by_year(growth),
        "between": report_growth.between(changed),
        "zones": report_growth.by_zone(zones),
        "rapid_percent": f"{RAPID_PERCENT:g}",
        "saturating_percent": f"{100 * SATURATING_RATIO:g}",
        "growth_figure": figures.file_uri(growth_figure) if growth_figure else "",
        "compared": comparison.rows(compared or [], labels),
        "beside": comparison.strips(maps or [], labels),
        "panels": [Picture(_panel_caption(path), figures.file_uri(path)) for path in panels or []],
        "learning": figures.learning_curves({_panel_caption(path): pd.read_csv(path) for path in histories})
        if histories
        else "",
        "dataset": report_tables.dataset_rows(index, samples, study_area, records),
        "sources": report_tables.source_rows(agreements or []),
        "flow": workflow_graph.svg(records),
        "weights": provenance.weights(records),
        "provenance": provenance.provenance(records, manifests or [], html),
        "files": provenance.files(tables, records, manifests or [], html),
    }
    with atomic_write(numbers) as part:
        part.write_text(json.dumps(_numbers(tables), indent=1) + "\n", encoding="utf-8")
    with atomic_write(html) as part:
        part.write_text(templates.render(PAGE, context), encoding="utf-8")


def _numbers(tables: dict[str, list[Path]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables by name; what is no number is null. Tables of cities or years follow each other."""
    out: dict[str, list[dict[str, Any]]] = {}
    for name, paths in tables.items():
        for path in paths:
            if path.read_text().strip():
                frame = pd.read_csv(path)
                rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
                out.setdefault(name, []).extend(
                    rows if name != "composites" else [{"year": path.stem, **row} for row in rows]
                )
    return out


def _method_label(name: str) -> str:
    known = {"superres": "Super-resolution + segmentation", "bilinear": "Bilinear + segmentation"}
    return known.get(name, name)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _panel_caption(path: Path) -> str:
    return f"{path.parent.name}: {_words(path.stem)}"
