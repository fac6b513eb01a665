"""The report's scripts in headless Chromium, if installed."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import accuracy_sample as sample_data
from support.chromium import chromium_command, needs_chromium

from jointseg.report.page import report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with maps of two years and a table of growth."""
    folder = tmp_path_factory.mktemp("browser")
    rgb = np.random.default_rng(1).integers(300, 3000, (3, 40, 40), dtype=np.uint16)
    sample_data.write(folder / "composites/a.tif", rgb, sample_data.WEST, sample_data.SOUTH + 400, 10)
    for year, width in ((2019, 100), (2021, 200)):
        plane = np.zeros((400, 400), np.uint8)
        plane[:, :width] = 1
        sample_data.write(folder / f"isa/{year}/a.tif", plane, sample_data.WEST, sample_data.SOUTH + 400, nodata=255)
    rows = [
        (city, year, area)
        for city, areas in (("Old", (9, 10.5)), ("New", (1.25, 20)))
        for year, area in zip((2019, 2021), areas)
    ]
    table = pd.DataFrame(rows, columns=["city", "year", "isa_km2"]).assign(
        reach="up",
        nodata_km2=0,
        percent_per_year=[np.nan, 8, np.nan, 300],
        growth="rapid",
        growth_confidence=np.nan,
        drift=np.nan,
    )
    table.to_csv(folder / "growth.csv", index=False)
    isa = sorted(folder.glob("isa/*/a.tif"))
    composites = [folder / "composites/a.tif"]
    report(
        html=folder / "index.html",
        numbers=folder / "numbers.json",
        title="A",
        methods=[],
        year=2021,
        growth=folder / "growth.csv",
        isa=isa,
        composites=composites,
    )
    return folder / "index.html"


def evaluate(page: Path, folder: Path, script: str, width: int = 1200) -> dict:
    """Return the result of a script that runs after the page's own."""
    call = f"<script>document.body.dataset.result = JSON.stringify((() => {{ {script} }})());</script>"
    copy = folder / "page.html"
    copy.write_text(page.read_text().replace("</body>", call + "</body>"))
    command = chromium_command(folder, (width, 900), "--dump-dom", copy.as_uri())
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    result = re.search(r'data-result="([^"]*)"', dom)
    assert result, dom[:500]
    return json.loads(result[1].replace("&quot;", '"'))


def test_divider_between_two_years_can_be_moved(page: Path, tmp_path: Path) -> None:
    result = evaluate(page, tmp_path, """
        const box = document.querySelector(".compare"), range = box.querySelector("input");
        const [over, under] = [...box.querySelectorAll(".stage img")].reverse();
        const [left, right] = box.querySelectorAll("select");
        const before = [over.alt, under.alt, over.style.clipPath, over.src !== under.src];
        range.value = 20; range.dispatchEvent(new Event("input"));
        left.value = 0; left.dispatchEvent(new Event("input"));
        return {before, after: [over.alt, over.style.clipPath, box.querySelector(".stage i").style.left],
                options: [...right.options].map(each => each.text), collapsed: getComputedStyle(document.querySelector(".layers")).display};
    """)  # fmt: skip
    years = ["Impervious surface, 2019", "Impervious surface, 2021"]
    assert result["before"] == [*years, "inset(0px 50% 0px 0px)", True]
    assert result["after"] == ["Sentinel-2 composite, 2021, 10 m", "inset(0px 80% 0px 0px)", "20%"]
    assert result["options"] == ["Sentinel-2 composite, 2021, 10 m", *years] and result["collapsed"] == "none"


def test_tables_sort_by_number_and_text(page: Path, tmp_path: Path) -> None:
    result = evaluate(page, tmp_path, """
        const table = document.querySelector("#growth table");
        const column = index => [...table.rows].slice(1).map(row => row.cells[index].firstChild.textContent.trim());
        const heads = [...table.rows[0].cells], mapped = heads.find(head => head.textContent.startsWith("Mapped, km"));
        const rate = heads.find(head => head.textContent.includes("% per year"));
        const out = {plain: column(3)};
        mapped.click(); out.up = column(3); mapped.click(); out.down = column(3);
        rate.click(); out.rate = column(rate.cellIndex);
        heads[0].click(); out.city = column(0); out.marks = heads.map(head => head.getAttribute("aria-sort")).filter(Boolean);
        return out;
    """)  # fmt: skip
    assert result["plain"] == ["9.000", "10.500", "1.250", "20.000"]
    assert result["up"] == ["1.250", "9.000", "10.500", "20.000"] and result["down"] == result["up"][::-1]
    assert result["rate"] == ["+8.00", "+300.00", "–", "–"]
    assert result["city"] == ["New", "New", "Old", "Old"] and result["marks"] == ["ascending"]


def test_page_fits_a_phone(page: Path, tmp_path: Path) -> None:
    result = evaluate(page, tmp_path, "return [document.documentElement.scrollWidth, innerWidth]", width=500)
    assert result[0] <= result[1]
