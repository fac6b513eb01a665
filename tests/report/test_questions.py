"""The four questions, answered from tables whose answers are known."""

from pathlib import Path

import pandas as pd
import pytest

from jointseg.report.questions import NO, OPEN, YES, answers

LABELS = {"superres": "Ours", "bilinear": "Bilinear", "cover": "Cover 2021"}


def row(minus: str, domain: str, metric: str, reach: str, difference: float, half: float) -> dict:
    key = {
        "name": "superres",
        "minus": minus,
        "reference": "labels",
        "domain": domain,
        "reach": reach,
        "metric": metric,
    }
    return key | {"difference": difference, "lower": difference - half, "upper": difference + half, "chips": 9}


@pytest.fixture()
def tables(tmp_path: Path) -> dict[str, Path]:
    paired = [
        row("bilinear", "all", "f1", "all", 0.03, 0.01),
        row("bilinear", "all", "f1", "up", 0.01, 0.02),
        row("bilinear", "all", "recall", "all", -0.5, 0.1),
        row("bilinear", "dense", "over", "all", 0.5, 0.1),
        row("cover", "all", "f1", "all", -0.2, 0.1),
        row("cover", "dense", "over", "all", -0.3, 0.1),
        row("cover", "dense", "f1", "all", 0.3, 0.1),
        row("cover", "rural roads", "recall", "all", 0.4, 0.1),
        row("cover", "rural roads", "recall", "up", 0.4, 0.1),
        row("cover", "patches below 200 m2", "recall", "all", 0.1, 0.2),
    ]
    pd.DataFrame(paired).to_csv(tmp_path / "paired.csv", index=False)
    cities = [("A", "up", year, "rapid", 0.93) for year in (2017, 2021)] + [("B", "low", 2021, "moderate", None)]
    growth = pd.DataFrame(cities, columns=["city", "reach", "year", "growth", "growth_share"])
    growth.to_csv(tmp_path / "growth.csv", index=False)
    rates = {"city": "A", "first": 2017, "last": 2021, "points": 300, "yearly_percent": 8.0}
    rates |= {"yearly_percent_lower": 7.0, "yearly_percent_upper": 9.0}
    pd.DataFrame([rates]).to_csv(tmp_path / "change.csv", index=False)
    return {
        name: tmp_path / f"{file}.csv"
        for name, file in (("paired", "paired"), ("growth", "growth"), ("changed", "change"))
    }


def test_each_question_has_its_answer_and_evidence(tables: dict[str, Path]) -> None:
    helps, beats, where, grows = answers(**tables, labels=LABELS)
    assert helps.answer == "Ours minus bilinear upsampling: against labels yes, +3.0 points (+2.0 to +4.0)."
    assert [(line.what, line.verdict) for line in helps.lines] == [
        ("against labels, all reaches", YES),
        ("against labels, up", OPEN),
    ]
    assert (
        beats.answer == "By F1 at 1 m our map is above in 0, below in 1, not told apart in 0 of 1 comparisons."
        and beats.lines[0].value == "-20.0"
    )
    # Less that is mapped too much is better; more that is found is.
    assert [line.verdict for line in where.lines] == [YES, YES, OPEN]
    assert where.answer.startswith(
        "Too much on dense ground is less in 1, more in 0, not told apart in 0 of 1 comparisons"
    )
    assert grows.answer == "A (up) rapid; B (low) moderate."
    assert [(line.value, line.interval, line.units) for line in grows.lines] == [
        ("+8.0", "+7.0 to +9.0", "300 points"),
        ("–", "–", ""),
    ]
    assert grows.lines[1].verdict == "moderate, by the maps alone"


def test_what_cannot_be_told_is_left_out(tables: dict[str, Path], tmp_path: Path) -> None:
    assert answers(None, None, None, {}) == []
    only = pd.read_csv(tables["paired"]).query("minus == 'bilinear'")
    only.to_csv(tmp_path / "few.csv", index=False)
    (tmp_path / "empty.csv").write_text("\n")
    made = answers(tmp_path / "few.csv", tables["growth"], tmp_path / "empty.csv", LABELS)
    assert [each.question for each in made] == ["Does super-resolution help?", "How do the cities grow?"]
    worse = only.assign(difference=-0.03, lower=-0.04, upper=-0.02)
    worse.to_csv(tmp_path / "few.csv", index=False)
    assert answers(tmp_path / "few.csv", None, None, LABELS)[0].lines[0].verdict == NO
