"""Markdown page of the ablation: setup, results and tables."""

import math
from collections.abc import Sequence

import pandas as pd

from jointseg.ablation.variants import BASELINE, UPPER_BOUND, VARIANTS
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.zones import ZONES

# Score -> column heading, factor, digits.
_SCORES = {
    "psnr": ("PSNR, dB", 1, 2),
    "ssim": ("SSIM", 1, 3),
    "perceptual": ("perceptual distance", 1, 3),
    "reflectance": ("reflectance error at 10 m", 1, 4),
    "spectral": ("spectral angle at 10 m, degrees", 1, 2),
    "colour": ("mean colour error at 10 m, %", 100, 2),
    "improvement": ("improvement, %", 100, 1),
    "omission": ("omission, %", 100, 1),
    "hallucination": ("hallucination, %", 100, 1),
}


def page(title: str, about: str, table: pd.DataFrame, scores: pd.DataFrame, setup: Sequence[str]) -> str:
    """Return the page from `tables.accuracy_table`, whose last reference is the most reliable one, and
    `tables.image_table`.

    `about` describes the data, `setup` has sentences on the trainings and the statistics.
    """
    reference = table["reference"].iloc[-1]
    main = table[table["reference"] == reference]
    lines = [f"# {title}", "", about, "", *[f"- {line}" for line in setup], ""]
    lines += ["![F1 by reach and variant](ablation.png)", "", "## Results", "", *conclusions(main), ""]
    lines += [f"## F1 against {reference}, by reach", "", *_by_reach(main), ""]
    lines += [f"## Accuracy against {reference}, by zone", "", *_by_zone(main), ""]
    for name in table["reference"].unique():
        if name != reference:
            lines += [f"## F1 against {name}, by reach", "", *_by_reach(table[table["reference"] == name]), ""]
    if not scores.empty:
        lines += ["## Image quality", "", *_image_quality(scores), ""]
    return "\n".join(lines)


def conclusions(table: pd.DataFrame) -> list[str]:
    """Return one sentence per variant on its difference to the bilinear baseline over the total area."""
    rows = table[(table["reach"] == ALL) & (table["zone"] == "all")].set_index("variant")
    sentences = []
    for variant, row in rows.drop(index=BASELINE, errors="ignore").iterrows():
        value, lower, upper = (100 * row[f"difference_to_baseline{end}"] for end in ("", "_lower", "_upper"))
        verdict = "no significant difference from"
        if lower > 0 or upper < 0:
            verdict = "significantly better than" if lower > 0 else "significantly worse than"
        closed = ""
        if math.isfinite(row["gap_closed"]):
            gap, low, high = (100 * row[f"gap_closed{end}"] for end in ("", "_lower", "_upper"))
            closed = f"; gap to the true image closed: {gap:.0f} % ({low:.0f} to {high:.0f})"
        sentences.append(
            f"- {VARIANTS[variant].title}: {verdict} the bilinear image, F1 {value:+.1f} pp "
            f"(95 % CI {lower:+.1f} to {upper:+.1f}){closed}."
        )
    return sentences


def _interval(row: pd.Series, name: str, pattern: str = "{:.1f}") -> str:
    values = [100 * row[f"{name}{end}"] for end in ("", "_lower", "_upper")]
    if not all(map(math.isfinite, values)):
        return ""
    value, lower, upper = map(pattern.format, values)
    return f"{value} [{lower}, {upper}]"


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (headings, ["---"] + ["---:"] * (len(headings) - 1), *rows)]


def _by_reach(table: pd.DataFrame) -> list[str]:
    table = table[table["zone"] == "all"]
    total = table[table["reach"] == ALL].set_index("variant")
    reaches = {reach: part.set_index("variant") for reach, part in table.groupby("reach", sort=False) if reach != ALL}
    rows = []
    for variant, row in total.iterrows():
        cells = [VARIANTS[variant].title, _interval(row, "value"), _interval(row, "difference_to_baseline", "{:+.1f}")]
        cells += [_interval(row, "gap_closed", "{:.0f}"), str(row["seeds"])]
        rows.append(cells + [_interval(part.loc[variant], "value") for part in reaches.values()])
    headings = ["variant", "F1, %", "difference to the bilinear image, pp", "gap closed, %", "seeds", *reaches]
    return _markdown_table(headings, rows)


def _by_zone(table: pd.DataFrame) -> list[str]:
    table = table[table["reach"] == ALL]
    zones = [zone for zone in table["zone"].unique() if zone != "all"]
    metric = table.drop_duplicates("zone").set_index("zone")["metric"]
    headings = ["variant", *[f"{ZONES[zone]}: {metric[zone].replace('f1', 'F1')}, %" for zone in zones]]
    rows = []
    for variant in table["variant"].unique():
        values = table[table["variant"] == variant].set_index("zone")
        rows.append([VARIANTS[variant].title, *[_interval(values.loc[zone], "value") for zone in zones]])
    return _markdown_table(headings, rows)


def _image_quality(scores: pd.DataFrame) -> list[str]:
    shown = {name: spec for name, spec in _SCORES.items() if name in scores}
    rows = [
        [row["title"], *[f"{factor * row[name]:.{digits}f}" for name, (_, factor, digits) in shown.items()]]
        for _, row in scores.iterrows()
        if row["variant"] != UPPER_BOUND
    ]
    return _markdown_table(["image", *[heading for heading, _, _ in shown.values()]], rows)
