"""The report: complete from small inputs, empty without inputs, self-contained, deterministic."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jointseg.report.growth import interval
from jointseg.report.page import report


def render(folder: Path, **inputs: Any) -> str:
    """Return the page of the inputs; the numbers are in `a.json`."""
    report(**inputs, html=folder / "a.html", numbers=folder / "a.json")
    return (folder / "a.html").read_text()


def section_of(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found
    return found[0]


def test_page_is_complete_and_self_contained(inputs: dict[str, Any], tmp_path: Path) -> None:
    page = render(tmp_path, **inputs)
    report(**inputs, html=tmp_path / "b.html", numbers=tmp_path / "b.json")
    assert page == (tmp_path / "b.html").read_text()
    assert "A &lt;valley&gt;" in page and "A real scene. weights of the valley" in page
    assert not re.search(r'src="(?!data:)', page) and "2026" not in page
    assert re.search(r'Data: <a href="[^"]*table.csv">table.csv</a> \(<a href="[^"]*/4.json">manifest</a>\), <a', page)
    # Links refer to the page itself and to local files, never to a URL.
    links = re.findall(r'href="([^"]*)"', page)
    assert links and all(link.startswith("#") or (tmp_path / link).exists() or link == "numbers.json" for link in links)
    assert page.count("A product (2020)") >= 4  # a picture of each chip, and the sentence on other years
    assert "superres_stage1" in page and "external input" in page and "loss 0.5" in page
    assert page.count("Learning curves of all trainings") == 1
    assert "Confusion matrices" in page and "Accuracy by domain" in page and "density class 1" in page


def test_sample_is_listed_by_stratum(inputs: dict[str, Any], tmp_path: Path) -> None:
    section = section_of(render(tmp_path, **inputs), "dataset")
    assert "window of 40 m in each cell of 3040 m" in section and "at least 3010 m apart" in section
    rows = [re.findall("<td[^>]*>([^<]*)<", row) for row in re.findall(r"<tr>(<td.*?)</tr>", section)]
    assert rows[0] == ["upstream/2", "12,346", "123", "60", "50", "25", "0.018"]
    assert [row[:3] for row in rows[1:]] == [
        ["downstream", "test", "3"],
        ["downstream", "train", "1"],
        ["upstream", "test", "3"],
        ["upstream", "train", "1"],
        ["upstream", "2.00", "2.50"],
    ]
    assert rows[-1][3:] == ["1.50", "50.0", "1.23", "0.01", "0.07", "0.00", "0.00"]


def test_sections_without_inputs_are_left_out(tmp_path: Path) -> None:
    page = render(tmp_path, title="Empty", methods=["superres"], year=2021)
    assert "<h1>Empty</h1>" in page and "<section" not in page


def test_composite_quality_is_listed_by_year(inputs: dict[str, Any], tmp_path: Path) -> None:
    page = render(tmp_path, title="A", methods=[], year=2021, quality_tables=inputs["quality_tables"])
    section = section_of(page, "composites")
    rows = re.findall(r"<tr>(<td.*?)</tr>", section)
    cells = [re.findall(">([^<]+)<", row) for row in rows]
    assert cells[0][:8] == ["2019", "L1C", "2", "17", "99.38", "3 / 8", "1.25", "2 / 0.42"]
    assert cells[0][8:] == ["15 / 2", "3.2 / 11.5", "0.40", "-0.12 &plusmn; 0.20", "0.30", "+0.00 &plusmn; 0.10"]
    assert cells[1][:6] == ["2021", "L2A", "1", "14", "100.00", "6 / 10"]
    assert cells[1][6:] == ["–", "0 / –", "– / –", "– / –", "–", "no drift", "–", "no drift"]
    assert "Unregistered scenes of 2019: <code>S2A_x</code>, <code>S2B_y</code>." in section
    assert "Unregistered scenes of 2021" not in section and "<details>" not in section


def test_growth_is_listed_with_intervals(inputs: dict[str, Any], tmp_path: Path) -> None:
    section = section_of(render(tmp_path, **inputs), "growth")
    rows = [re.findall(">([^<]+)<", row) for row in re.findall(r"<tr[^>]*>(<td.*?)</tr>", section)]
    assert rows[0][:7] == ["A", "up", "2019", "1.000", "1.200", "1.100 to 1.300", "300"]
    assert rows[0][7:] == [
        "90.0",
        "80.0 to 100.0",
        "70.0",
        "60.0 to 80.0",
        "0.000",
        "0.40",
        "–",
        "rapid, 93 % of draws",
    ]
    assert rows[2] == ["B", "up", "2019", "1.000", "–", "–", "–", "–", "0.500", "–", "–", "moderate"]
    assert rows[4][:8] == ["A", "2019–2021", "1.100", "0.100", "1.000", "0.900 to 1.100", "0.000", "0.000 to 0.000"]
    assert rows[4][8:12] == ["+1.000", "+0.900 to +1.100", "+35.40", "+30.00 to +41.00"]
    assert rows[6] == ["A", "0-2 km", "2019–2021", "25.0", "0.250", "12.5", "0.000"]
    assert rows[7][:2] == ["A", "North (district)"]


def test_tables_are_saved_as_json(inputs: dict[str, Any], tmp_path: Path) -> None:
    render(tmp_path, **inputs)
    numbers = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert list(numbers) == ["accuracy", "paired", "domains", "growth", "change", "zones", "compared", "composites"]
    assert numbers["growth"][2] | {"estimated_km2": None, "year": 2019, "city": "B"} == numbers["growth"][2]
    assert numbers["accuracy"][0]["f1"] == pd.read_csv(inputs["accuracy"])["f1"][0]
    assert [row["year"] for row in numbers["composites"]] == ["2021"] * 2 + ["2019"] * 3


def test_product_comparison_and_key_findings_are_shown(inputs: dict[str, Any], tmp_path: Path) -> None:
    page = render(tmp_path, **inputs)
    section = page[page.index('id="compared"') : page.index('id="training"')]
    text = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", section, re.DOTALL)]
    assert text[1][:8] == ["Town", "2021", "A", "product,", "2020*", "1.500", "1.250", "0.500"]
    assert "+12.0 +8.0 to +16.0" in " ".join(text[1]) and text[1][-1] == "300"
    assert text[2][2] == "truth" and text[2].count("–") == 9
    assert section.count("<img src=") == 2 and "Town: 2021, map and A product" in section
    findings = page[page.index('id="questions"') : page.index('id="maps"')]
    assert "Does super-resolution help?" in findings and "4. How do the cities grow?" in findings
    assert "A (up) rapid; B (up) moderate." in findings


def test_composite_figures_are_collapsed(inputs: dict[str, Any], tmp_path: Path) -> None:
    page = render(tmp_path, **inputs)
    details = re.search(r"<details><summary>Clear observations.*?</details>", page, re.DOTALL)
    assert details and re.findall(r"<figcaption>(.*?)</figcaption>", details[0]) == [
        "Composites of 2019",
        "Composites of 2021",
    ]


def test_percent_without_interval() -> None:
    def percent(value: float, lower: float, upper: float) -> tuple[str, str]:
        return interval({"f1": value, "f1_lower": lower, "f1_upper": upper}, "f1", ".1f", by=100)

    assert percent(0.712, 0.66, 0.7611) == ("71.2", "66.0 to 76.1")
    assert percent(0.5, float("nan"), float("nan")) == ("50.0", "no interval")
    assert percent(float("nan"), 0, 0) == ("–", "")
