"""Tables of the report on the growth of the cities."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DASH = "–"


def by_year(growth: Path | None) -> list[dict[str, Any]]:
    """A row by city and year: mapped area, estimate from points, accuracy of the map, drift of its composites."""
    if growth is None:
        return []
    rows = []
    for row in pd.read_csv(growth).fillna({"growth": "", "growth_truth": ""}).to_dict("records"):
        share = row["growth_share"]
        rows.append(
            {
                "city": row["city"],
                "reach": row["reach"],
                "year": row["year"],
                "mapped": f"{row['isa_km2']:.3f}",
                "estimated": interval(row, "estimated_km2", ".3f"),
                "points": number(row.get("points"), ".0f"),
                "users": interval(row, "users", ".1f", share=True),
                "producers": interval(row, "producers", ".1f", share=True),
                "unknown": f"{row['unknown_km2']:.3f}",
                "drift": number(row["drift"], ".2f", 100),
                "rate": number(row["percent_a_year"], "+.2f"),
                "growth": row["growth"] + (f", {100 * share:.0f} % of draws" if np.isfinite(share) else ""),
                "truth": number(row.get("truth_km2"), ".3f", missing=""),
                "growth_truth": row.get("growth_truth", ""),
                "consistent": number(row.get("consistent_km2"), ".3f", missing=""),
            }
        )
    return rows


def between(changed: Path | None) -> list[dict[str, Any]]:
    """A row by city and pair of years: what is new and gone on the map and by the points, rate, accuracy of the gain."""
    every = _read(changed)
    return [
        {
            "city": row["city"],
            "span": f"{row['first']}–{row['last']}",
            "new": f"{row['mapped_new_km2']:.3f}",
            "gone": f"{row['mapped_gone_km2']:.3f}",
            "gained": interval(row, "gained_km2", ".3f"),
            "lost": interval(row, "lost_km2", ".3f"),
            "growth": interval(row, "growth_km2", "+.3f"),
            "rate": interval(row, "yearly_percent", "+.2f"),
            "users": interval(row, "gain_users", ".1f", share=True),
            "producers": interval(row, "gain_producers", ".1f", share=True),
            "points": number(row.get("points"), ".0f"),
            "truth": number(row.get("truth_growth_km2"), "+.3f", missing=""),
            "filtered": _filtered(row),
            "truth_rate": number(row.get("truth_percent"), "+.2f", missing=""),
        }
        for row in every
    ]


def by_zone(zones: Path | None) -> list[dict[str, Any]]:
    """A row by city and ring or district, over the longest pair of years."""
    every = pd.DataFrame(_read(zones))
    if every.empty:
        return []
    every["years"] = every["last"] - every["first"]
    whole = every[every["years"] == every.groupby("city")["years"].transform("max")]
    return [
        {
            "city": row["city"],
            "zone": row["name"] if row["zone"] == "ring" else f"{row['name']} (district)",
            "span": f"{row['first']}–{row['last']}",
            "before": number(row["isa_km2"] / row["known_km2"], ".1f", 100),
            "new": f"{row['new_km2']:.3f}",
            "share": number(row["new_km2"] / row["known_km2"], ".1f", 100),
            "gone": f"{row['gone_km2']:.3f}",
        }
        for row in whole.to_dict("records")
    ]


def _filtered(row: dict[str, Any]) -> str:
    """New and gone ISA of the filtered maps, where there are any."""
    new, gone = (row.get(f"consistent_{kind}_km2", np.nan) for kind in ("new", "gone"))
    return f"{new:.3f} / {gone:.3f}" if np.isfinite(new) else ""


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.read_text().strip():
        return []
    return pd.read_csv(path).to_dict("records")


def number(value: float | None, form: str, by: float = 1, missing: str = DASH) -> str:
    """A number as text, `missing` where there is none."""
    return f"{by * value:{form}}" if value is not None and np.isfinite(value) else missing


def interval(row: dict[str, Any], name: str, form: str, share: bool = False) -> tuple[str, str]:
    """An estimate and its interval as text; a share in percent, its interval cut to what shares can be."""
    value, lower, upper = (row.get(key, np.nan) for key in (name, f"{name}_lower", f"{name}_upper"))
    if not np.isfinite(value):
        return DASH, ""
    if share:
        value, lower, upper = 100 * value, 100 * max(lower, 0), 100 * min(upper, 1)
    return f"{value:{form}}", f"{lower:{form}} to {upper:{form}}" if np.isfinite(lower) else "no interval"
