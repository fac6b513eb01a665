"""The report builds from tiny inputs and from nothing, is one file, and has the same bytes each time."""

import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from shapely.geometry import box
from support import accuracy_world as world

from jointseg.accuracy import figures
from jointseg.accuracy.assess import assess
from jointseg.report import gallery, graph_layout, workflow_graph
from jointseg.report.page import report
from jointseg.report.tables import percent


def manifest(rule: str, step: str, inputs: dict[str, str], outputs: dict[str, str], **more: Any) -> dict[str, Any]:
    """A manifest with files given as path -> hash."""
    return {
        "rule": rule,
        "wildcards": {},
        "step": f"jointseg.{step}:{rule}",
        "inputs": [{"name": "taken", "path": path, "sha256": sha, "size": 1} for path, sha in inputs.items()],
        "outputs": [{"name": "made", "path": path, "sha256": sha, "size": 1000} for path, sha in outputs.items()],
        "code": "c0de" * 16,
        "commit": "abc" * 13,
        "dirty": False,
        "versions": {"torch": "2.13.0", "python": "3.11.7", "other": "1"},
        "device": {"processor": "A processor"},
        "started": "2026-01-01T00:00:00Z",
        **more,
    }


SAMPLED = {
    "gap_m": 3010,
    "window_m": 40,
    "pitch_m": 3040,
    "strata": [
        {
            "stratum": "upstream/2",
            "reach": "upstream",
            "area_km2": 12345.6,
            "candidates": 123,
            "wanted": 60,
            "allocated": 50,
            "replacements": 25,
            "replacements_wanted": 30,
            "inclusion_probability": 0.0180123,
        }
    ],
}
HISTORIES = {
    "superres/stage1.csv": ["step,l1_2.5m,psnr_2.5m,bilinear_2.5m", "10,0.4,30,30.5", "20,0.3,31,30.5"],
    "superres/stage2.csv": [
        "step,l1_1m,l1_2.5m,psnr_2.5m,bilinear_2.5m,psnr_1m,bilinear_1m",
        "10,,0.4,30,30,28,27",
        "20,0.3,0.3,31,30,29,27",
    ],
    "segmentation/bilinear.csv": [
        "step,loss,rate,validation_f1,validation_iou",
        "10,40,0.1,0.5,0.4",
        "20,30,0.1,0.6,0.5",
    ],
}
RECORDS = [
    manifest("samples", "dataset.sampling", {"area.gpkg": "a"}, {"r/samples": "b"}, facts=SAMPLED),
    manifest("chips", "dataset.chips", {"r/samples": "b"}, {"r/chips": "d"}),
    manifest("superres_stage1", "training.superres", {"r/chips": "d"}, {"r/s1.safetensors": "e"}, facts={"loss": 0.5}),
    manifest("isa", "inference.engine", {"r/s1.safetensors": "e", "w/seg.safetensors": "f"}, {"r/isa": "g"}),
]
# As step growth writes them: city A has points, B has not.
GROWTH = {
    "growth": [
        "city,reach,year,isa_km2,other_km2,unknown_km2,percent_a_year,growth,growth_share,drift,estimated_km2,"
        "estimated_km2_lower,estimated_km2_upper,points,users,users_lower,users_upper,producers,producers_lower,producers_upper",
        "A,up,2019,1,2,0,,rapid,0.93,0.004,1.2,1.1,1.3,300,0.9,0.8,1.02,0.7,0.6,0.8",
        "A,up,2021,2,1,0,40,rapid,0.93,,2.2,2.1,2.3,300,0.9,0.8,1,0.7,0.6,0.8",
        "B,up,2019,1,2,0.5,,moderate,,,,,,,,,,,,",
        "B,up,2021,1,2,0,0,moderate,,,,,,,,,,,,",
    ],
    "changed": [
        "city,first,last,mapped_new_km2,mapped_gone_km2,gained_km2,gained_km2_lower,gained_km2_upper,lost_km2,lost_km2_lower,"
        "lost_km2_upper,growth_km2,growth_km2_lower,growth_km2_upper,yearly_percent,yearly_percent_lower,yearly_percent_upper,"
        "gain_users,gain_users_lower,gain_users_upper,gain_producers,gain_producers_lower,gain_producers_upper,points",
        "A,2019,2021,1.1,0.1,1,0.9,1.1,0,0,0,1,0.9,1.1,35.4,30,41,0.5,0.4,0.6,,,,300",
        "B,2019,2021,0.2,0.2,,,,,,,,,,,,,,,,,,,",
    ],
    "zones": [
        "zone,name,first,last,known_km2,isa_km2,new_km2,gone_km2,city",
        "ring,0-2 km,2019,2021,2,0.5,0.25,0,A",
        "district,North,2019,2021,4,0.5,0.25,0.1,A",
    ],
}
# As step compare writes them: the truth has no pixels of its own and is not scored at points.
COMPARED = [
    "city,reach,year,name,product_year,both_km2,only_ours_km2,only_theirs_km2,neither_km2,untold_km2,agreement_f1,pixels,"
    "share_mae,share_bias,share_r,pixel_f1,points,users,users_lower,users_upper,producers,producers_lower,producers_upper,f1,"
    "f1_lower,f1_upper,f1_of_ours_minus,f1_of_ours_minus_lower,f1_of_ours_minus_upper",
    "Town,up,2021,cover,2020,1,0.5,0.25,3,0.1,0.7,900,0.1,-0.02,0.8,0.9,300,0.9,0.8,1,0.7,0.6,0.8,0.8,0.7,0.9,0.12,0.08,0.16",
    "Town,up,2021,truth,2021,1,0.5,0.25,3,0,0.7,,,,,,,,,,,,,,,,,,",
]
# As step quality writes them: the map year has nothing to be compared with.
QUALITY_COLUMNS = (
    *(
        "tile",
        "level",
        "pixels",
        "valid_fraction",
        "padded_fraction",
        "clear_p10",
        "clear_median",
        "clear_max",
        "nodata_areas",
    ),
    *(
        "largest_nodata_km2",
        "scenes",
        "registered",
        "unregistered",
        "unregistered_scenes",
        "shift_median_m",
        "shift_max_m",
    ),
    *("compared_pixels", "residual_B04", "residual_B03", "drift_B04", "drift_B03", "spread_B04", "spread_B03"),
)
QUALITY = {
    2019: [
        "50N_E0660_N3540,L1C,900,0.9876,0.025,3,7,12,2,0.42,9,7,2,S2A_x S2B_y,4.25,11.5,880,0.004,0.003,-0.0012,0,0.002,0.001",
        "50N_E0690_N3540,L1C,900,1.0,,4,9,12,0,,8,8,0,,1.0,2.0,880,0.004,0.003,-0.0012,0,0.002,0.001",
        "all,L1C,1800,0.9938,0.0125,3,8,12,2,0.42,17,15,2,S2A_x S2B_y,3.25,11.5,1760,0.004,0.003,-0.0012,0,0.002,0.001",
    ],
    2021: [
        "50N_E0660_N3540,L2A,900,1.0,,6,10,12,0,,14,,,,,,,,,,,,",
        "all,L2A,900,1.0,,6,10,12,0,,14,,,,,,,,,,,,",
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("report")
    made = world.make_with_product(folder)
    shared = {
        "index": made["index"],
        "chips": [made["chips"] / "upstream", made["chips"] / "downstream"],
        "predictions": [folder / "predictions" / name for name in ("superres", "bilinear")],
        "products": [folder / "cover"],
        "methods": ["superres", "bilinear"],
        "product_table": {"cover": world.ENTRY},
        "table": folder / "table.csv",
        "paired": folder / "paired.csv",
        "parts": folder / "domains.csv",
    }
    assess(**shared, study_area=made["study_area"], confusion=folder / "confusion.csv", year=2021)
    plane = np.zeros((400, 400), dtype=np.uint8)
    plane[:200, :100], plane[300:] = 1, 255
    rgb = np.random.default_rng(1).integers(300, 3000, (3, 40, 40), dtype=np.uint16)
    for i, tile in enumerate(("a", "b")):
        world.write(folder / "composites" / "2021" / f"{tile}.tif", rgb, world.WEST + 400 * i, world.SOUTH + 400, 10)
        world.write(folder / "isa" / "2021" / f"{tile}.tif", plane, world.WEST + 400 * i, world.SOUTH + 400, nodata=255)
    centres = gpd.read_parquet(made["index"]).assign(replacement=[False] * 6 + [True] * 2)
    centres.set_geometry(centres.geometry.representative_point()).to_parquet(folder / "samples.parquet")
    reach = gpd.GeoDataFrame({"name": ["upstream"]}, geometry=[box(118.6, 31.9, 118.8, 32.1)], crs=4326)
    reach.to_file(folder / "area.gpkg", layer="reaches")
    Figure((1, 1)).savefig(folder / "panel.png")
    (folder / "scene.png").write_bytes((folder / "panel.png").read_bytes())
    for name, lines in HISTORIES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n")
    for name, lines in {**GROWTH, "Town": COMPARED}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "Town").mkdir()
    for name in ("cover", "truth"):
        (folder / "Town" / f"2021_{name}.png").write_bytes((folder / "panel.png").read_bytes())
    (folder / "upstream.csv").write_text(
        "sample_id,osm_m2,footprints_m2,both_m2,open_m2,road_on_building_m2,added_m2,removed_m2,unknown_m2,iou\n"
        "all,20000,25000.4,15000,12345,60,700,0,0,0.5\nupstream-0001,20000,25000.4,15000,12345,60,700,0,0,0.5\n"
    )
    for year, lines in QUALITY.items():
        (folder / "quality").mkdir(exist_ok=True)
        (folder / "quality" / f"{year}.csv").write_text("\n".join([",".join(QUALITY_COLUMNS), *lines]) + "\n")
        (folder / "quality" / f"{year}.png").write_bytes((folder / "panel.png").read_bytes())
    tables = {str(shared[name]): name for name in ("table", "paired")}
    records = [*RECORDS, manifest("assess", "accuracy.assess", {"r/chips": "d"}, tables)]
    for i, record in enumerate(records):
        (folder / f"{i}.json").write_text(json.dumps(record))
    return {
        **shared,
        "samples": folder / "samples.parquet",
        "study_area": folder / "area.gpkg",
        "agreements": [folder / "upstream.csv"],
        "title": "A <valley>",
        "year": 2021,
        "notes": "Made up.",
        "images": [folder / "images" / name for name in ("superres", "bilinear")],
        "composites": sorted((folder / "composites" / "2021").glob("*.tif")),
        "isa": sorted((folder / "isa" / "2021").glob("*.tif")),
        "panels": [folder / "panel.png"],
        "histories": [folder / name for name in HISTORIES],
        "examples": [folder / "scene.png"],
        "captions": {(folder / "scene.png").as_posix(): "A real scene. weights of the valley"},
        "qualities": sorted((folder / "quality").glob("*.csv"), reverse=True),
        "quality_figures": sorted((folder / "quality").glob("*.png"), reverse=True),
        **{name: folder / f"{name}.csv" for name in GROWTH},
        "growth_figure": folder / "panel.png",
        **{"compared": [folder / "Town.csv"], "maps": [folder / "Town"]},
        "manifests": [folder / f"{i}.json" for i in range(len(records))],
    }


def test_the_page_shows_everything_and_needs_nothing_else(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(**inputs, html=tmp_path / "a.html", numbers=tmp_path / "a.json")
    report(**inputs, html=tmp_path / "b.html", numbers=tmp_path / "b.json")
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert "A &lt;valley&gt;" in page and "A real scene. weights of the valley" in page
    assert not re.search(r'src="(?!data:)', page) and "2026" not in page
    assert re.search(
        r'Numbers: <a href="[^"]*table.csv">table.csv</a> \(<a href="[^"]*/4.json">manifest</a>\), <a', page
    )
    # Links lead to the page itself and to files beside it, never to an address.
    links = re.findall(r'href="([^"]*)"', page)
    assert links and all(link.startswith("#") or (tmp_path / link).exists() or link == "numbers.json" for link in links)
    assert page.count("A product (2020)") >= 4  # a chip picture each, and the sentence on other years
    assert "superres_stage1" in page and "given to this run" in page and "loss 0.5" in page
    assert page.count("Learning curves of all trainings") == 1
    assert "Confusion matrices" in page and "Where a map is right" in page and "density class 1" in page


def test_learning_curves_are_losses_and_scores_of_every_training(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_png", lambda figure, path: drawn.append(figure))
    tables = {name: pd.read_csv(io.StringIO("\n".join(lines))) for name, lines in HISTORIES.items()}
    figures.learning_curves(tables)
    losses, scores = drawn[0].axes[:3], drawn[0].axes[3:]
    assert [axes.get_title(loc="left") for axes in losses] == list(HISTORIES)
    assert [[line.get_label() for line in axes.lines] for axes in losses] == [
        ["l1 2.5 m"],
        ["l1 1 m"],
        ["loss"],
    ]
    assert losses[0].lines[0].get_ydata().tolist() == [1.0, pytest.approx(0.75)]
    assert losses[1].lines[0].get_xdata().tolist() == [20]  # a loss that began later
    assert [axes.lines[0].get_ydata().tolist() for axes in scores] == [[-0.5, 0.5], [1.0, 2.0], [0.5, 0.6]]


def test_the_sample_is_told_by_stratum(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(**inputs, html=tmp_path / "a.html", numbers=tmp_path / "a.json")
    section = re.search(r'<section id="dataset">.*?</section>', (tmp_path / "a.html").read_text(), re.DOTALL)
    assert section and "window of 40 m in each cell of 3040 m" in section[0] and "at least 3010 m apart" in section[0]
    rows = [re.findall("<td[^>]*>([^<]*)<", row) for row in re.findall(r"<tr>(<td.*?)</tr>", section[0])]
    assert rows[0] == ["upstream/2", "12,346", "123", "60", "50", "25", "0.018"]
    assert [row[:3] for row in rows[1:]] == [
        ["downstream", "test", "3"],
        ["downstream", "train", "1"],
        ["upstream", "test", "3"],
        ["upstream", "train", "1"],
        ["upstream", "2.00", "2.50"],
    ]
    assert rows[-1][3:] == ["1.50", "50.0", "1.23", "0.01", "0.07", "0.00", "0.00"]


def test_what_is_not_given_is_left_out(tmp_path: Path) -> None:
    report(html=tmp_path / "a.html", numbers=tmp_path / "a.json", title="Empty", methods=["superres"], year=2021)
    page = (tmp_path / "a.html").read_text()
    assert "<h1>Empty</h1>" in page and "<section" not in page


def test_composites_are_told_by_year(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(
        html=tmp_path / "a.html",
        numbers=tmp_path / "a.json",
        title="A",
        methods=[],
        year=2021,
        qualities=inputs["qualities"],
    )
    section = re.search(r'<section id="composites">.*?</section>', (tmp_path / "a.html").read_text(), re.DOTALL)
    assert section
    rows = re.findall(r"<tr>(<td.*?)</tr>", section[0])
    cells = [re.findall(">([^<]+)<", row) for row in rows]
    assert cells[0][:8] == ["2019", "L1C", "2", "17", "99.38", "3 / 8", "1.25", "2 / 0.42"]
    assert cells[0][8:] == ["15 / 2", "3.2 / 11.5", "0.40", "-0.12 &plusmn; 0.20", "0.30", "+0.00 &plusmn; 0.10"]
    assert cells[1][:6] == ["2021", "L2A", "1", "14", "100.00", "6 / 10"]
    assert cells[1][6:] == ["–", "0 / –", "– / –", "– / –", "–", "no drift told", "–", "no drift told"]
    assert "Not registered in 2019: <code>S2A_x</code>, <code>S2B_y</code>." in section[0]
    assert "Not registered in 2021" not in section[0] and "<details>" not in section[0]


def test_growth_is_told_with_its_intervals(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(**inputs, html=tmp_path / "a.html", numbers=tmp_path / "a.json")
    section = re.search(r'<section id="growth">.*?</section>', (tmp_path / "a.html").read_text(), re.DOTALL)
    assert section
    rows = [re.findall(">([^<]+)<", row) for row in re.findall(r"<tr[^>]*>(<td.*?)</tr>", section[0])]
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


def test_numbers_of_the_page_are_there_as_json(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(**inputs, html=tmp_path / "a.html", numbers=tmp_path / "a.json")
    numbers = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert list(numbers) == ["accuracy", "paired", "domains", "growth", "change", "zones", "compared", "composites"]
    assert numbers["growth"][2] | {"estimated_km2": None, "year": 2019, "city": "B"} == numbers["growth"][2]
    assert numbers["accuracy"][0]["f1"] == pd.read_csv(inputs["table"])["f1"][0]
    assert [row["year"] for row in numbers["composites"]] == ["2021"] * 2 + ["2019"] * 3


def test_cities_are_shown_beside_products_and_questions_answered(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(**inputs, html=tmp_path / "a.html", numbers=tmp_path / "a.json")
    page = (tmp_path / "a.html").read_text()
    beside = page[page.index('id="compared"') : page.index('id="training"')]
    text = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", beside, re.DOTALL)]
    assert text[1][:8] == ["Town", "2021", "A", "product,", "2020*", "1.500", "1.250", "0.500"]
    assert "+12.0 +8.0 to +16.0" in " ".join(text[1]) and text[1][-1] == "300"
    assert text[2][2] == "truth" and text[2].count("–") == 9
    assert beside.count("<img src=") == 2 and "Town: 2021, map and A product" in beside
    asked = page[page.index('id="questions"') : page.index('id="maps"')]
    assert "Does super-resolution help?" in asked and "4. How do the cities grow?" in asked
    assert "A (up) rapid; B (up) moderate." in asked


def test_figures_of_composites_are_folded(inputs: dict[str, Any], tmp_path: Path) -> None:
    report(**inputs, html=tmp_path / "a.html", numbers=tmp_path / "a.json")
    page = (tmp_path / "a.html").read_text()
    folded = re.search(r"<details><summary>Clear looks.*?</details>", page, re.DOTALL)
    assert folded and re.findall(r"<figcaption>(.*?)</figcaption>", folded[0]) == [
        "Composites of 2019",
        "Composites of 2021",
    ]


def test_chips_are_chosen_by_label_alone(inputs: dict[str, Any]) -> None:
    picked = gallery.chosen(inputs["index"])
    assert len(picked) == 4 and picked["sample_id"].is_unique
    assert picked["reach"].tolist() == ["downstream"] * 2 + ["upstream"] * 2


def test_rules_are_linked_by_hash_and_the_path_settles_doubt() -> None:
    twin = manifest("twin", "dataset.chips", {}, {"r/elsewhere": "b"})
    nodes = workflow_graph.graph([*RECORDS, twin])
    assert nodes["chips"].parents == {"samples"}
    assert nodes["isa"].parents == {"superres_stage1", "taken (given)"}
    rows = workflow_graph.levels(workflow_graph.graph(RECORDS))
    assert rows == [["taken (given)"], ["samples"], ["chips"], ["superres_stage1"], ["isa"]]
    drawing = workflow_graph.svg(RECORDS)
    assert drawing.count('class="rule"') == 4 and drawing.count('class="given"') == 1
    assert workflow_graph.svg([]) == ""


def test_long_links_run_beside_the_boxes() -> None:
    rows = [["a"], ["b", "c"], ["d"], ["e"]]
    parents = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b"}, "e": {"a", "c", "d"}}
    at, links = graph_layout.place(rows, parents)
    assert all(lower[1] == upper[1] + 1 for upper, lower in links)
    assert {lane for lane in at if lane[1] == 2} == {("d", 2), ("a", 2), ("c", 2)}
    for row in range(4):
        xs = sorted(
            (x, graph_layout.BOX_W if lane[0] in rows[row] else graph_layout.LANE_W)
            for lane, x in at.items()
            if lane[1] == row
        )
        for (x0, w0), (x1, w1) in itertools.pairwise(xs):
            assert x1 - x0 >= (w0 + w1) / 2 + graph_layout.GAP - 1e-6


def test_a_whole_area_view_keeps_unknown_apart(inputs: dict[str, Any]) -> None:
    shares = figures.share_image(np.repeat(np.array([[0, 1, 255, 1]], dtype=np.uint8), 4, axis=0).repeat(4, axis=1), 4)
    assert shares[0].tolist() == [[244, 243, 239], [196, 64, 45], [196, 202, 206], [196, 64, 45]]
    strips = gallery.views(inputs["composites"], inputs["isa"], 2021)
    assert [picture.caption for picture in strips[0].pictures][1] == "Impervious surface, 2021"


def test_percent_says_when_there_is_no_interval() -> None:
    assert percent(0.712, 0.66, 0.7611) == ("71.2", "66.0 to 76.1")
    assert percent(0.5, float("nan"), float("nan")) == ("50.0", "no interval")
    assert percent(float("nan"), 0, 0) == ("–", "")


def test_colours_are_told_apart_by_the_colour_blind() -> None:
    # Machado, Oliveira and Fernandes (2009): deuteranopia and protanopia as matrices of linear RGB.
    blind = {
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    }
    hexes = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in figures.PALETTE[:6]]
    for colours in (hexes, list(figures.AGREEMENT.values())):
        linear = (np.array(colours) / 255) ** 2.2
        for matrix in blind.values():
            found = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
            for one, other in itertools.combinations(found, 2):
                assert np.abs(one - other).max() > 0.12
