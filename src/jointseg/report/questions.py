"""The report's key findings: four questions, answered from the run's estimates and their confidence intervals.

The questions are those of Deng et al. 2025 (arXiv 2505.05367), on which the method is based: whether super-resolution helps,
whether the map is more accurate than other products, also in dense cities and mountains, and how the cities grow.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.accuracy.assess import ALL
from jointseg.accuracy.object_detection import SMALL_M2
from jointseg.accuracy.slope import STEEP
from jointseg.accuracy.zones import ZONES
from jointseg.report.growth import DASH, number
from jointseg.report.tables import NOT_SIGNIFICANT

BILINEAR = "bilinear"
DENSE = "dense"
SMALL = ("rural roads", "small buildings", f"patches below {SMALL_M2} m2", f"patches below {SMALL_M2} m2, {STEEP}")
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Evidence:
    """A comparison: its label, estimate, interval, conclusion and sample size."""

    label: str
    value: str
    interval: str
    conclusion: str
    sample: str


@dataclass(frozen=True)
class Finding:
    """A question, its answer in one sentence, and the evidence."""

    question: str
    answer: str
    evidence: list[Evidence] = field(default_factory=list)


def key_findings(
    paired: Path | None, growth: Path | None, changes: Path | None, labels: dict[str, str]
) -> list[Finding]:
    """Return the findings for which the run has estimates.

    `paired` is from step `assess`, the first method minus every other map; `growth` and `changes` are from step `growth`.
    """
    findings = []
    if paired is not None:
        table = pd.read_csv(paired)
        method = labels[table["name"].iloc[0]]
        findings += _super_resolution(table[table["minus"] == BILINEAR], method)
        products = table[table["minus"] != BILINEAR]
        findings += [_products(products, labels), _dense_and_small(products, labels)] if not products.empty else []
    if growth is not None:
        findings += _growth(pd.read_csv(growth), changes)
    return findings


def _super_resolution(table: pd.DataFrame, method: str) -> list[Finding]:
    part = table[(table["domain"] == ALL) & (table["metric"] == "f1")]
    if part.empty:
        return []
    evidence = [
        _evidence(row, f"against {row['reference']}, {'all reaches' if row['reach'] == ALL else row['reach']}")
        for row in part.to_dict("records")
    ]
    overall = part[part["reach"] == ALL].to_dict("records")
    answers = "; ".join(
        f"against {row['reference']} {_conclusion(row)}, {100 * row['difference']:+.1f} pp"
        f" (95 % CI {100 * row['lower']:+.1f} to {100 * row['upper']:+.1f})"
        for row in overall
    )
    return [Finding("Does super-resolution help?", f"{method} minus bilinear upsampling: {answers}.", evidence)]


def _products(table: pd.DataFrame, labels: dict[str, str]) -> Finding:
    part = table[(table["domain"] == ALL) & (table["metric"] == "f1") & (table["reach"] == ALL)]
    evidence = [
        _evidence(row, f"minus {labels[row['minus']]}, against {row['reference']}") for row in part.to_dict("records")
    ]
    answer = f"F1 at 1 m of this map is {_count(part, 'higher', 'lower')}."
    return Finding("Is the map more accurate than other products?", answer, evidence)


def _dense_and_small(table: pd.DataFrame, labels: dict[str, str]) -> Finding:
    """Compare the area bias in dense areas (lower is better) and the recall of small objects (higher is better)."""
    overall = table[table["reach"] == ALL]
    dense = overall[(overall["domain"] == DENSE) & (overall["metric"] == "area_bias")]
    small = overall[overall["domain"].isin(SMALL) & (overall["metric"] == "recall")]
    evidence = [
        _evidence(row, f"area bias in dense areas, minus {labels[row['minus']]}, against {row['reference']}", better=-1)
        for row in dense.to_dict("records")
    ]
    for row in small.to_dict("records"):
        domain = ZONES.get(row["domain"], row["domain"])
        evidence.append(_evidence(row, f"recall of {domain}, minus {labels[row['minus']]}, against {row['reference']}"))
    answer = (
        f"Area bias in dense areas is {_count(dense, 'lower', 'higher', better=-1)};"
        f" recall of small objects is {_count(small, 'higher', 'lower')}."
    )
    return Finding("Also in dense cities and mountains?", answer, evidence)


def _growth(growth: pd.DataFrame, changes: Path | None) -> list[Finding]:
    cities = growth.drop_duplicates("city").dropna(subset=["growth"])
    if cities.empty:
        return []
    longest = {}
    if changes is not None and changes.read_text().strip():
        pairs = pd.read_csv(changes)
        pairs["years"] = pairs["last"] - pairs["first"]
        longest = {row["city"]: row for row in pairs.sort_values("years").to_dict("records")}
    evidence, answers = [], []
    for row in cities.to_dict("records"):
        rate, confidence = longest.get(row["city"], {}), row["growth_confidence"]
        basis = f"{100 * confidence:.0f} % of draws" if np.isfinite(confidence) else "mapped areas only"
        value, lower, upper = (rate.get(f"yearly_percent{end}", np.nan) for end in ("", "_lower", "_upper"))
        answers.append(f"{row['city']} ({row['reach']}) {row['growth']}")
        evidence.append(
            Evidence(
                f"{row['city']}, {row['reach']}: growth, % per year",
                number(value, "+.1f"),
                f"{lower:+.1f} to {upper:+.1f}" if np.isfinite(lower) else DASH,
                f"{row['growth']}, {basis}",
                f"{rate['points']:.0f} points" if np.isfinite(rate.get("points", np.nan)) else "",
            )
        )
    return [Finding("How do the cities grow?", "; ".join(answers) + ".", evidence)]


def _evidence(row: dict[str, Any], label: str, better: int = 1) -> Evidence:
    interval = f"{100 * row['lower']:+.1f} to {100 * row['upper']:+.1f}" if np.isfinite(row["lower"]) else DASH
    value = number(row["difference"], "+.1f", 100)
    return Evidence(label, value, interval, _conclusion(row, better), f"{row['chips']} chips")


def _conclusion(row: dict[str, Any], better: int = 1) -> str:
    """Return YES if the difference is significantly positive (negative for better = -1), NO for the opposite."""
    if not np.isfinite(row["lower"]):
        return NOT_SIGNIFICANT
    lower, upper = sorted((better * row["lower"], better * row["upper"]))
    return YES if lower > 0 else NO if upper < 0 else NOT_SIGNIFICANT


def _count(table: pd.DataFrame, better_word: str, worse_word: str, better: int = 1) -> str:
    """Return the number of comparisons with each conclusion."""
    conclusions = [_conclusion(row, better) for row in table.to_dict("records")]
    words = {YES: better_word, NO: worse_word, NOT_SIGNIFICANT: "not significantly different"}
    parts = [f"{word} in {conclusions.count(conclusion)}" for conclusion, word in words.items()]
    return f"{', '.join(parts)} of {len(conclusions)} comparisons"
