"""The report's part on the cities' maps beside other products."""

from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.accuracy import figures
from jointseg.report.gallery import Picture, Strip
from jointseg.report.growth import interval, number


def rows(tables: list[Path], labels: dict[str, str]) -> list[dict[str, Any]]:
    """A row by city, year and product: areas, agreement at 1 m and in the product's own pixels, accuracy at the points."""
    out = []
    for row in [row for path in tables for row in pd.read_csv(path).to_dict("records")]:
        theirs = row["both_km2"] + row["only_theirs_km2"]
        out.append(
            {
                "city": row["city"],
                "year": row["year"],
                "map": labels.get(row["name"], row["name"]),
                "shown": row["product_year"],
                "late": row["product_year"] != row["year"],
                "ours": f"{row['both_km2'] + row['only_ours_km2']:.3f}",
                "theirs": f"{theirs:.3f}",
                "only_ours": f"{row['only_ours_km2']:.3f}",
                "only_theirs": f"{row['only_theirs_km2']:.3f}",
                "untold": f"{row['untold_km2']:.3f}",
                "agreement": number(row["agreement_f1"], ".1f", 100),
                "pixel": number(row.get("pixel_f1"), ".1f", 100),
                "mae": number(row.get("share_mae"), ".1f", 100),
                "bias": number(row.get("share_bias"), "+.1f", 100),
                "r": number(row.get("share_r"), ".2f"),
                "users": interval(row, "users", ".1f", share=True),
                "producers": interval(row, "producers", ".1f", share=True),
                "f1": interval(row, "f1", ".1f", share=True),
                "minus": interval(
                    {key: 100 * row[key] for key in row if key.startswith("f1_of_ours")}, "f1_of_ours_minus", "+.1f"
                ),
                "points": number(row.get("points"), ".0f"),
            }
        )
    return out


def strips(folders: list[Path], labels: dict[str, str]) -> list[Strip]:
    """The pictures of each city, by year and product, to be laid over each other."""
    out = []
    for folder in folders:
        pictures = []
        for path in sorted(folder.glob("*.png")):
            year, _, name = path.stem.partition("_")
            pictures.append(Picture(f"{year}, map and {labels.get(name, name)}", figures.file_uri(path)))
        out.append(Strip(folder.name, pictures))
    return out
