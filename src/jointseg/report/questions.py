"""The four questions that a map of this kind has to answer, each answered by the run's own numbers and their intervals.

They are those of the paper that the method is from (Deng et al. 2025, arXiv 2505.05367): does super-resolution help, is the
map better than other products, in dense cities and in mountains too, and how do the cities grow.
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

BILINEAR = "bilinear"
DENSE = "dense"
SMALL = ("rural roads", "small buildings", f"patches below {SMALL_M2} m2", f"patches below {SMALL_M2} m2, {STEEP}")
YES, NO, OPEN = "yes", "no", "not told apart"


@dataclass(frozen=True)
class Line:
    """A piece of evidence: what is compared, the number with its interval, what it says."""

    what: str
    value: str
    interval: str
    verdict: str
    units: str


@dataclass(frozen=True)
class Answer:
    """A question with its answer in a sentence and the evidence for it."""

    question: str
    answer: str
    lines: list[Line] = field(default_factory=list)


def answers(paired: Path | None, growth: Path | None, changed: Path | None, labels: dict[str, str]) -> list[Answer]:
    """What can be answered of the four questions; those that the run has no numbers for are left out.

    Args:
        paired: the first method minus every other map, as step assess writes it.
        growth, changed: areas by year and by pair of years, as step growth writes them.
        labels: titles of methods and products.
    """
    out = []
    if paired is not None:
        every = pd.read_csv(paired)
        ours = labels[every["name"].iloc[0]]
        out += _helps(every[every["minus"] == BILINEAR], ours)
        products = every[every["minus"] != BILINEAR]
        out += [_beats(products, labels), _where(products, labels)] if not products.empty else []
    if growth is not None:
        out += _grows(pd.read_csv(growth), changed)
    return out


def _helps(table: pd.DataFrame, ours: str) -> list[Answer]:
    part = table[(table["domain"] == ALL) & (table["metric"] == "f1")]
    if part.empty:
        return []
    lines = [_line(row, f"against {row['reference']}, {_place(row['reach'])}") for row in part.to_dict("records")]
    whole = part[part["reach"] == ALL].to_dict("records")
    told = "; ".join(f"against {row['reference']} {_verdict(row)}, {_points(row)}" for row in whole)
    return [Answer("Does super-resolution help?", f"{ours} minus bilinear upsampling: {told}.", lines)]


def _beats(table: pd.DataFrame, labels: dict[str, str]) -> Answer:
    part = table[(table["domain"] == ALL) & (table["metric"] == "f1") & (table["reach"] == ALL)]
    lines = [_line(row, f"minus {labels[row['minus']]}, against {row['reference']}") for row in part.to_dict("records")]
    return Answer(
        "Is the map better than other products?", f"By F1 at 1 m our map is {_count(part, 'above', 'below')}.", lines
    )


def _where(table: pd.DataFrame, labels: dict[str, str]) -> Answer:
    """Less is better of the area mapped too much in dense ground; more is better of the small things found."""
    whole = table[table["reach"] == ALL]
    dense = whole[(whole["domain"] == DENSE) & (whole["metric"] == "over")]
    small = whole[whole["domain"].isin(SMALL) & (whole["metric"] == "recall")]
    lines = [
        _line(row, f"too much on dense ground, minus {labels[row['minus']]}, against {row['reference']}", good=-1)
        for row in dense.to_dict("records")
    ]
    lines += [
        _line(row, f"recall of {_domain(row['domain'])}, minus {labels[row['minus']]}, against {row['reference']}")
        for row in small.to_dict("records")
    ]
    told = (
        f"Too much on dense ground is {_count(dense, 'less', 'more', good=-1)};"
        f" of small things what is found is {_count(small, 'more', 'less')}."
    )
    return Answer("Is it so in dense cities and in mountains too?", told, lines)


def _grows(growth: pd.DataFrame, changed: Path | None) -> list[Answer]:
    kinds = growth.drop_duplicates("city").dropna(subset=["growth"])
    if kinds.empty:
        return []
    rates = {}
    if changed is not None and changed.read_text().strip():
        between = pd.read_csv(changed)
        between["years"] = between["last"] - between["first"]
        for row in between.sort_values("years").to_dict("records"):
            rates[row["city"]] = row
    lines, told = [], []
    for row in kinds.to_dict("records"):
        rate, share = rates.get(row["city"], {}), row["growth_share"]
        sure = f"{100 * share:.0f} % of draws" if np.isfinite(share) else "by the maps alone"
        value, lower, upper = (rate.get(f"yearly_percent{end}", np.nan) for end in ("", "_lower", "_upper"))
        told.append(f"{row['city']} ({row['reach']}) {row['growth']}")
        lines.append(
            Line(
                f"{row['city']}, {row['reach']}: growth, % a year",
                f"{value:+.1f}" if np.isfinite(value) else "–",
                f"{lower:+.1f} to {upper:+.1f}" if np.isfinite(lower) else "–",
                f"{row['growth']}, {sure}",
                f"{rate['points']:.0f} points" if np.isfinite(rate.get("points", np.nan)) else "",
            )
        )
    return [Answer("How do the cities grow?", "; ".join(told) + ".", lines)]


def _line(row: dict[str, Any], what: str, good: int = 1) -> Line:
    known = np.isfinite(row["lower"])
    value = f"{100 * row['difference']:+.1f}" if np.isfinite(row["difference"]) else "–"
    around = f"{100 * row['lower']:+.1f} to {100 * row['upper']:+.1f}" if known else "–"
    return Line(what, value, around, _verdict(row, good), f"{row['chips']} chips")


def _verdict(row: dict[str, Any], good: int = 1) -> str:
    if not np.isfinite(row["lower"]):
        return OPEN
    low, high = sorted((good * row["lower"], good * row["upper"]))
    return YES if low > 0 else NO if high < 0 else OPEN


def _points(row: dict[str, Any]) -> str:
    return f"{100 * row['difference']:+.1f} points ({100 * row['lower']:+.1f} to {100 * row['upper']:+.1f})"


def _count(table: pd.DataFrame, better: str, worse: str, good: int = 1) -> str:
    """In how many comparisons it is better, worse, or not told."""
    verdicts = [_verdict(row, good) for row in table.to_dict("records")]
    words = {YES: better, NO: worse, OPEN: OPEN}
    parts = [f"{word} in {verdicts.count(verdict)}" for verdict, word in words.items()]
    return f"{', '.join(parts)} of {len(verdicts)} comparisons"


def _place(reach: str) -> str:
    return "all reaches" if reach == ALL else reach


def _domain(name: str) -> str:
    return ZONES.get(name, name)
