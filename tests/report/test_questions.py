"""Key findings from small tables."""

from pathlib import Path

import pandas as pd
import pytest

from jointseg.report.questions import NO, NOT_SIGNIFICANT, YES, key_findings

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
        row("bilinear", "dense", "area_bias", "all", 0.5, 0.1),
        row("cover", "all", "f1", "all", -0.2, 0.1),
        row("cover", "dense", "area_bias", "all", -0.3, 0.1),
        row("cover", "dense", "f1", "all", 0.3, 0.1),
        row("cover", "rural roads", "recall", "all", 0.4, 0.1),
        row("cover", "rural roads", "recall", "up", 0.4, 0.1),
        row("cover", "patches below 200 m2", "recall", "all", 0.1, 0.2),
    ]
    pd.DataFrame(paired).to_csv(tmp_path / "paired.csv", index=False)
    cities = [("A", "up", year, "rapid", 0.93) for year in (2017, 2021)] + [("B", "low", 2021, "moderate", None)]
    growth = pd.DataFrame(cities, columns=["city", "reach", "year", "growth", "growth_confidence"])
    growth.to_csv(tmp_path / "growth.csv", index=False)
    rates = {"city": "A", "first": 2017, "last": 2021, "points": 300, "yearly_percent": 8.0}
    rates |= {"yearly_percent_lower": 7.0, "yearly_percent_upper": 9.0}
    pd.DataFrame([rates]).to_csv(tmp_path / "change.csv", index=False)
    return {
        name: tmp_path / f"{file}.csv"
        for name, file in (("paired", "paired"), ("growth", "growth"), ("changes", "change"))
    }


def test_findings_have_answers_and_evidence(tables: dict[str, Path]) -> None:
    super_resolution, products, dense_and_small, growth = key_findings(**tables, labels=LABELS)
    assert (
        super_resolution.answer == "Ours minus bilinear upsampling: against labels yes, +3.0 pp (95 % CI +2.0 to +4.0)."
    )
    assert [(line.label, line.conclusion) for line in super_resolution.evidence] == [
        ("against labels, all reaches", YES),
        ("against labels, up", NOT_SIGNIFICANT),
    ]
    assert (
        products.answer
        == "F1 at 1 m of this map is higher in 0, lower in 1, not significantly different in 0 of 1 comparisons."
        and products.evidence[0].value == "-20.0"
    )
    # A lower area bias is better; a higher recall is better.
    assert [line.conclusion for line in dense_and_small.evidence] == [YES, YES, NOT_SIGNIFICANT]
    assert dense_and_small.answer.startswith(
        "Area bias in dense areas is lower in 1, higher in 0, not significantly different in 0 of 1 comparisons"
    )
    assert growth.answer == "A (up) rapid; B (low) moderate."
    assert [(line.value, line.interval, line.sample) for line in growth.evidence] == [
        ("+8.0", "+7.0 to +9.0", "300 points"),
        ("–", "–", ""),
    ]
    assert growth.evidence[1].conclusion == "moderate, mapped areas only"


def test_findings_without_estimates_are_left_out(tables: dict[str, Path], tmp_path: Path) -> None:
    assert key_findings(None, None, None, {}) == []
    only = pd.read_csv(tables["paired"]).query("minus == 'bilinear'")
    only.to_csv(tmp_path / "few.csv", index=False)
    (tmp_path / "empty.csv").write_text("\n")
    findings = key_findings(tmp_path / "few.csv", tables["growth"], tmp_path / "empty.csv", LABELS)
    assert [each.question for each in findings] == ["Does super-resolution help?", "How do the cities grow?"]
    worse = only.assign(difference=-0.03, lower=-0.04, upper=-0.02)
    worse.to_csv(tmp_path / "few.csv", index=False)
    assert key_findings(tmp_path / "few.csv", None, None, LABELS)[0].evidence[0].conclusion == NO
