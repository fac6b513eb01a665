"""The ablation as a page of Markdown: what was compared, what came out, and how far it can be claimed."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from jointseg.ablation.variants import BASELINE, UPPER_BOUND, VARIANTS
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.zones import ZONES

_SCORES = {
    "psnr": ("PSNR, dB", 1, 2),
    "ssim": ("SSIM", 1, 3),
    "perceptual": ("perceptual distance", 1, 3),
    "reflectance": ("reflectance at 10 m, off", 1, 4),
    "spectral": ("spectral angle at 10 m, degrees", 1, 2),
    "colour": ("mean colour at 10 m, % off", 100, 2),
    "improvement": ("improvement, %", 100, 1),
    "omission": ("omission, %", 100, 1),
    "hallucination": ("hallucination, %", 100, 1),
}


def page(title: str, about: str, table: pd.DataFrame, scores: pd.DataFrame, facts: Sequence[str]) -> str:
    """Markdown.

    Args:
        title: heading.
        about: what the data is.
        table, scores: of `tables.accuracy` and `tables.likeness`.
        facts: lines on what was trained.
    """
    reference = table["reference"].iloc[-1]  # the truth, where it is known
    part = table[table["reference"] == reference]
    lines = [f"# {title}", "", about, "", *[f"- {fact}" for fact in facts], ""]
    lines += ["![F1 by reach and variant](ablation.png)", "", "## What is shown", "", *claims(part), ""]
    lines += [f"## F1 against {reference}, by reach", "", *_by_reach(part), ""]
    lines += [f"## By kind of ground and object, against {reference}", "", *_by_zone(part), ""]
    for other in [name for name in table["reference"].unique() if name != reference]:
        lines += [f"## F1 against {other}, by reach", "", *_by_reach(table[table["reference"] == other]), ""]
    if not scores.empty:
        lines += ["## The images", "", *_images(scores), ""]
    return "\n".join(lines)


def claims(part: pd.DataFrame) -> list[str]:
    """One sentence an variant: what its difference to the bilinear baseline, all ground, allows to say."""
    rows = part[(part["reach"] == ALL) & (part["zone"] == "all")].set_index("variant")
    told = []
    for variant, row in rows.iterrows():
        if variant == BASELINE:
            continue
        value, lower, upper = (100 * row[f"minus_baseline{end}"] for end in ("", "_lower", "_upper"))
        words = "better than" if lower > 0 else "worse than" if upper < 0 else "not told apart from"
        gap = _interval(row, "gap_closed", "{:.0f}")
        closed = f"; it closes {gap} % of the gap to the true image" if gap else ""
        told.append(
            f"- {VARIANTS[variant].title}: {words} the bilinear image, {value:+.1f} points of F1 "
            f"[{lower:+.1f}, {upper:+.1f}]{closed}."
        )
    return told


def _interval(row: Any, name: str, pattern: str = "{:.1f}") -> str:
    values = [100 * row[f"{name}{end}"] for end in ("", "_lower", "_upper")]
    if not all(map(math.isfinite, values)):
        return ""
    value, lower, upper = (pattern.format(each) for each in values)
    return f"{value} [{lower}, {upper}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] + ["---:"] * (len(heads) - 1), *rows)]


def _by_reach(part: pd.DataFrame) -> list[str]:
    part = part[part["zone"] == "all"]
    whole = part[part["reach"] == ALL].set_index("variant")
    reaches = [reach for reach in part["reach"].unique() if reach != ALL]
    rows = []
    for variant, row in whole.iterrows():
        cells = [VARIANTS[variant].title, _interval(row, "value"), _interval(row, "minus_baseline", "{:+.1f}")]
        cells += [_interval(row, "gap_closed", "{:.0f}"), str(row["seeds"])]
        for reach in reaches:
            cells.append(_interval(part[(part["reach"] == reach) & (part["variant"] == variant)].iloc[0], "value"))
        rows.append(cells)
    return _table(["variant", "F1, %", "minus bilinear, points", "gap closed, %", "seeds", *reaches], rows)


def _by_zone(part: pd.DataFrame) -> list[str]:
    part = part[part["reach"] == ALL]
    zones = [zone for zone in part["zone"].unique() if zone != "all"]
    metric = part.drop_duplicates("zone").set_index("zone")["metric"]
    heads = ["variant", *[f"{ZONES[zone]}: {metric[zone].replace('f1', 'F1')}, %" for zone in zones]]
    rows = []
    for variant in part["variant"].unique():
        found = part[part["variant"] == variant].set_index("zone")
        rows.append([VARIANTS[variant].title, *[_interval(found.loc[zone], "value") for zone in zones]])
    return _table(heads, rows)


def _images(scores: pd.DataFrame) -> list[str]:
    known = {name: how for name, how in _SCORES.items() if name in scores}
    rows = [
        [row["title"], *[f"{factor * row[name]:.{digits}f}" for name, (_, factor, digits) in known.items()]]
        for _, row in scores.iterrows()
        if row["variant"] != UPPER_BOUND
    ]
    return _table(["image", *[head for head, _, _ in known.values()]], rows)
