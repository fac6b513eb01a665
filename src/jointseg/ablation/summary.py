"""Step `ablation`: join the scores of all variants and seeds into tables, figures and a page."""

from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.ablation import figures, tables
from jointseg.ablation.page import page
from jointseg.accuracy.assess import ALL, sample_design, write_csv
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.training.panel import write_panel


def ablation(
    *,
    index: Path,
    chips: list[Path],
    counts: list[Path],
    image_scores: list[Path],
    examples: list[Path],
    table: Path,
    scores: Path,
    document: Path,
    figure: Path,
    panels: Path,
    data: str,
    runs: list[tuple[str, int]],
    variants: list[str],
    title: str,
    about: str,
    setup: list[str],
) -> dict[str, Any]:
    """Write tables, page and figures of the ablation. Raises DataError if the numbers of files and runs differ.

    Args:
        index, chips: of the dataset.
        counts, image_scores: CSV files of each of `runs`, see `scoring.score`.
        examples: folder of example chips of each of `variants`.
        table: CSV to write, see `tables.accuracy_table`.
        scores: CSV to write, see `tables.image_table`.
        runs: variant and seed of each run.
        title, about, setup: see `page.page`.
    """
    if not len(runs) == len(counts) == len(image_scores) or len(variants) != len(examples):
        raise DataError(
            f"{len(counts)} tables of counts, {len(image_scores)} of image scores and {len(examples)} folders of examples "
            f"for {len(runs)} runs of {len(variants)} variants; expected one table per run and one folder per variant"
        )
    tested, reaches = sample_design(index)
    accuracies = tables.accuracy_table(tables.Counts(_by_run(runs, counts), tested, reaches))
    image_table = tables.image_table(_by_run(runs, image_scores), tested)
    write_csv(accuracies, table)
    write_csv(image_table, scores)
    with atomic_write(document) as part:
        part.write_text(page(title, about, accuracies, image_table, setup))
    write_panel(figure, figures.plot_by_reach(accuracies))
    saved = {path.name.removesuffix("_isa.tif") for path in Path(examples[0]).glob("*_isa.tif")}
    shown: pd.DataFrame = tested[tested["sample_id"].isin(saved)]
    write_panel(panels, figures.plot_panels(dict(zip(variants, map(Path, examples))), shown, Path(chips[0]).parent))
    total = accuracies[(accuracies["reach"] == ALL) & (accuracies["zone"] == "all")]
    return {"data": data, "f1": {f"{row.variant}, {row.reference}": round(row.value, 6) for row in total.itertuples()}}


def _by_run(runs: list[tuple[str, int]], paths: list[Path]) -> dict[tables.Run, Path]:
    return {(variant, int(seed)): Path(path) for (variant, seed), path in zip(runs, paths)}
