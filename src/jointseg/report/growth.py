"""Tables of the report's section on the growth of the cities."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DASH = "–"


def by_year(growth: Path | None) -> list[dict[str, Any]]:
    """Return one row per city and year: mapped area, estimate from points, accuracy of the map, drift of its composites."""
    if growth is None:
        return []
    rows = []
    for row in pd.read_csv(growth).fillna({"growth": "", "growth_truth": ""}).to_dict("records"):
        confidence = row["growth_confidence"]
        rows.append(
            {
                "city": row["city"],
                "reach": row["reach"],
                "year": row["year"],
                "mapped": f"{row['isa_km2']:.3f}",
                "estimated": interval(row, "estimated_km2", ".3f"),
                "points": number(row.get("points"), ".0f"),
                "users": interval(row, "users", ".1f", percent=True),
                "producers": interval(row, "producers", ".1f", percent=True),
                "nodata": f"{row['nodata_km2']:.3f}",
                "drift": number(row["drift"], ".2f", 100),
                "rate": number(row["percent_per_year"], "+.2f"),
                "growth": row["growth"] + (f", {100 * confidence:.0f} % of draws" if np.isfinite(confidence) else ""),
                "truth": number(row.get("truth_km2"), ".3f", missing=""),
                "growth_truth": row.get("growth_truth", ""),
                "filtered": number(row.get("filtered_km2"), ".3f", missing=""),
            }
        )
    return rows


def by_year_pair(changes: Path | None) -> list[dict[str, Any]]:
    """Return one row per city and pair of years: mapped and estimated gain and loss, growth rate, accuracy of the gain."""
    return [
        {
            "city": row["city"],
            "years": f"{row['first']}–{row['last']}",
            "mapped_gain": f"{row['mapped_gain_km2']:.3f}",
            "mapped_loss": f"{row['mapped_loss_km2']:.3f}",
            "gain": interval(row, "gain_km2", ".3f"),
            "loss": interval(row, "loss_km2", ".3f"),
            "growth": interval(row, "growth_km2", "+.3f"),
            "rate": interval(row, "yearly_percent", "+.2f"),
            "users": interval(row, "gain_users", ".1f", percent=True),
            "producers": interval(row, "gain_producers", ".1f", percent=True),
            "points": number(row.get("points"), ".0f"),
            "truth": number(row.get("truth_growth_km2"), "+.3f", missing=""),
            "filtered": _filtered(row),
            "truth_rate": number(row.get("truth_percent"), "+.2f", missing=""),
        }
        for row in _read(changes)
    ]


def by_zone(zones: Path | None) -> list[dict[str, Any]]:
    """Return one row per city and ring or district, for the longest pair of years."""
    table = pd.DataFrame(_read(zones))
    if table.empty:
        return []
    table["years"] = table["last"] - table["first"]
    longest = table[table["years"] == table.groupby("city")["years"].transform("max")]
    return [
        {
            "city": row["city"],
            "zone": row["name"] if row["zone"] == "ring" else f"{row['name']} (district)",
            "years": f"{row['first']}–{row['last']}",
            "before": number(row["isa_km2"] / row["valid_km2"], ".1f", 100),
            "gain": f"{row['gain_km2']:.3f}",
            "gain_percent": number(row["gain_km2"] / row["valid_km2"], ".1f", 100),
            "loss": f"{row['loss_km2']:.3f}",
        }
        for row in longest.to_dict("records")
    ]


def _filtered(row: dict[str, Any]) -> str:
    """Return gain and loss on the temporally filtered maps, if there are any."""
    gain, loss = (row.get(f"filtered_{kind}_km2", np.nan) for kind in ("gain", "loss"))
    return f"{gain:.3f} / {loss:.3f}" if np.isfinite(gain) else ""


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.read_text().strip():
        return []
    return pd.read_csv(path).to_dict("records")


def number(value: float | None, spec: str, by: float = 1, missing: str = DASH) -> str:
    """Return a number times `by` as text, or `missing`."""
    return f"{by * value:{spec}}" if value is not None and np.isfinite(value) else missing


def interval(row: dict[str, Any], name: str, spec: str, by: float = 1, percent: bool = False) -> tuple[str, str]:
    """Return an estimate and its interval times `by` as text, such as ("71.2", "66.0 to 76.1").

    With `percent`, a fraction is returned in percent and its interval is clipped to 0..100.
    """
    value, lower, upper = (by * row.get(key, np.nan) for key in (name, f"{name}_lower", f"{name}_upper"))
    if not np.isfinite(value):
        return DASH, ""
    if percent:
        value, lower, upper = 100 * value, 100 * max(lower, 0), 100 * min(upper, 1)
    return f"{value:{spec}}", f"{lower:{spec}} to {upper:{spec}}" if np.isfinite(lower) else "no interval"
