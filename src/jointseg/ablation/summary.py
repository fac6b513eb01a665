"""The ablation's end: every variant and seed in one table, one page and two pictures."""

from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.ablation import figures, tables
from jointseg.ablation.page import page
from jointseg.accuracy.assess import ALL, design, save
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.training.panel import write_panel


def ablation(
    *,
    index: Path,
    chips: list[Path],
    counts: list[Path],
    likeness: list[Path],
    pictures: list[Path],
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
    facts: list[str],
) -> dict[str, Any]:
    """Joins the scores of all variants and seeds.

    Args:
        index, chips: of the dataset.
        counts, likeness: the tables of each of `runs`.
        pictures: the pictures of each of `variants`, of one seed.
        table: CSV to write, see `tables.accuracy`.
        scores: CSV to write, see `tables.likeness`.
        document: Markdown to write.
        figure, panels: PNG to write.
        data: what was trained on, for the manifest.
        runs: variant and seed of each file.
        title, about, facts: for the page.

    Returns:
        F1 of every variant over all ground, in the manifest.

    Raises:
        DataError: the numbers of files and runs differ.
    """
    if not len(runs) == len(counts) == len(likeness) or len(variants) != len(pictures):
        raise DataError(f"{len(counts)} and {len(likeness)} tables were given for the {len(runs)} runs {runs}")
    tested, reaches = design(index)
    found = tables.accuracy(tables.Counts(_by_run(runs, counts), tested, reaches))
    likenesses = tables.image_scores(_by_run(runs, likeness), tested)
    save(found, table)
    save(likenesses, scores)
    with atomic_write(document) as part:
        part.write_text(page(title, about, found, likenesses, facts))
    write_panel(figure, figures.plot_by_reach(found))
    kept = {path.name.removesuffix("_isa.tif") for path in Path(pictures[0]).glob("*_isa.tif")}
    shown: pd.DataFrame = tested[tested["sample_id"].isin(kept)]
    write_panel(panels, figures.plot_panels(dict(zip(variants, map(Path, pictures))), shown, Path(chips[0]).parent))
    whole = found[(found["reach"] == ALL) & (found["zone"] == "all")]
    return {"data": data, "f1": {f"{row.variant}, {row.reference}": round(row.value, 6) for row in whole.itertuples()}}


def _by_run(runs: list[tuple[str, int]], paths: list[Path]) -> dict[tables.Run, Path]:
    return {(variant, int(seed)): Path(path) for (variant, seed), path in zip(runs, paths)}
