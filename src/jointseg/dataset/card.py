"""The dataset card: a one-page description of the dataset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from jointseg.dataset.contract import CHIP_RASTERS, SPLITS
from jointseg.dataset.index_schema import COLUMNS
from jointseg.runtime import templates

_TEMPLATE = Path(__file__).with_name("card.md.j2")
_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def render(table: gpd.GeoDataFrame, facts: dict[str, Any], pairs: Sequence[Path]) -> str:
    """Return the Markdown card, with the metadata header of Hugging Face, of an index, its statistics and one table per
    reach.
    """
    return templates.render(
        _TEMPLATE,
        {
            "table": table,
            "facts": facts,
            "size": next((name for limit, name in _SIZES if len(table) < limit), "n>100K"),
            "years": ", ".join(map(str, sorted(table["s2_year"].unique()))),
            "rasters": CHIP_RASTERS,
            "columns": {name: column.meaning for name, column in COLUMNS.items() if name in table},
            "splits": SPLITS,
            "rows": _rows(facts),
            "outcomes": list(_outcomes(pairs)),
            "scenes": list(_scenes(table)),
            "reflectance": {title: _cells(facts, kind) for kind, title in (("lr", "10 m"), ("hr", "1 m"))},
        },
    )


def _rows(facts: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    empty = {"chips": 0, "isa_fraction": None}
    rows = {reach: [by_split.get(split, empty) for split in SPLITS] for reach, by_split in facts["reaches"].items()}
    total = [
        {"chips": facts["chips"].get(split, 0), "isa_fraction": facts["isa_fraction"].get(split)} for split in SPLITS
    ]
    return rows | {"all": total}


def _outcomes(pairs: Sequence[Path]) -> Iterator[tuple[str, str, int]]:
    for path in sorted(Path(path) for path in pairs):
        statuses = pd.read_parquet(path, columns=["status"])["status"].value_counts().sort_index()
        yield from ((path.stem, str(status), int(number)) for status, number in statuses.items())


def _scenes(table: gpd.GeoDataFrame) -> Iterator[dict[str, Any]]:
    for scene_id, rows in table.groupby("scene_id", sort=True):
        yield {
            "id": scene_id,
            "chips": len(rows),
            "date": rows["hr_date"].iloc[0],
            "east": rows["shift_x_m"].median(),
            "north": rows["shift_y_m"].median(),
            "correlation": rows["registration_correlation"].median(),
        }


def _cells(facts: dict[str, Any], kind: str) -> list[str]:
    """Return mean and standard deviation per band of the 10 m images; empty for bands that the image lacks."""
    cells = [
        f"{mean:.4f} +- {std:.4f}" if mean is not None else "-"
        for mean, std in zip(facts[kind]["mean"], facts[kind]["std"])
    ]
    return cells + [""] * (len(facts["bands"]) - len(cells))
