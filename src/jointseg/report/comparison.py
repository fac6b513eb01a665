"""The report's section on the cities' maps compared with other products."""

from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.accuracy import figures
from jointseg.report.gallery import Picture, PictureRow
from jointseg.report.growth import interval, number


def rows(tables: list[Path], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return one row per city, year and product: areas, agreement at 1 m and by product pixel, accuracy at the points."""
    out = []
    for row in [row for path in tables for row in pd.read_csv(path).to_dict("records")]:
        out.append(
            {
                "city": row["city"],
                "year": row["year"],
                "product": labels.get(row["name"], row["name"]),
                "product_year": row["product_year"],
                "other_year": row["product_year"] != row["year"],
                "map_isa": f"{row['both_km2'] + row['map_only_km2']:.3f}",
                "product_isa": f"{row['both_km2'] + row['product_only_km2']:.3f}",
                "map_only": f"{row['map_only_km2']:.3f}",
                "product_only": f"{row['product_only_km2']:.3f}",
                "product_nodata": f"{row['product_nodata_km2']:.3f}",
                "agreement": number(row["agreement_f1"], ".1f", 100),
                "pixel_f1": number(row.get("pixel_f1"), ".1f", 100),
                "mae": number(row.get("fraction_mae"), ".1f", 100),
                "bias": number(row.get("fraction_bias"), "+.1f", 100),
                "r": number(row.get("fraction_r"), ".2f"),
                "users": interval(row, "users", ".1f", percent=True),
                "producers": interval(row, "producers", ".1f", percent=True),
                "f1": interval(row, "f1", ".1f", percent=True),
                "f1_difference": interval(row, "f1_difference", "+.1f", by=100),
                "points": number(row.get("points"), ".0f"),
            }
        )
    return out


def picture_rows(folders: list[Path], labels: dict[str, str]) -> list[PictureRow]:
    """Return the pictures of each city, by year and product."""
    out = []
    for folder in folders:
        pictures = []
        for path in sorted(folder.glob("*.png")):
            year, _, name = path.stem.partition("_")
            pictures.append(Picture(f"{year}, map and {labels.get(name, name)}", figures.file_uri(path)))
        out.append(PictureRow(folder.name, pictures))
    return out
