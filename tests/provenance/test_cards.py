"""The cards of a release: every figure in them is one of the manifests, the maps or the tables."""

import re
from pathlib import Path

import pytest
from support.provenance_release import CITY, TILE, make, publish, save

from jointseg.area import grid
from jointseg.models import checkpoint
from jointseg.provenance import model_facts
from jointseg.provenance.digest import file_digest
from jointseg.provenance.release_contents import load_run


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make()


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table rows that begin with a cell, as often as there are such rows."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line] for line in lines]


def test_the_data_card_tells_the_ground_of_each_year(results):
    text = (publish(results) / "README.md").read_text()
    coverage, looks = rows(text, "2021")
    # Four pixels of 1 m: two impervious, one not, one unknown.
    assert coverage == ["2021", "1", "0.000", "0.000", "0.000", "66.67", "25.00"]
    assert looks == ["2021", "L2A", "3", "2.5 to 2.5"]
    assert "25.00 % of the ground of the tiles is unknown" in text
    assert [row[1:] for row in rows(text, CITY)] == [
        ["2021", "1.500", "1.250 (1.000 to 1.500)", "0.250"],
        ["2023", "2.500", "–", "0.125"],
    ]


def test_ground_is_corrected_for_the_scale_of_utm(results):
    manifests, isa = sorted((results / "manifests").rglob("*.json")), sorted((results / "isa").rglob("*.tif"))
    run = load_run(manifests, {"isa": isa}, results / "report/index.html", results, {})
    scale = float(grid.area_scale(32650, 660001, 3543999))
    assert abs(scale - 1) > 1e-4
    assert run.covers[f"isa/2021/{TILE}.tif"].km2 == pytest.approx(
        {0: 1e-6 / scale, 1: 2e-6 / scale, 255: 1e-6 / scale}
    )


def test_the_data_card_tells_accuracy_with_its_interval(results):
    text = (publish(results) / "README.md").read_text()
    ((*_, unknown, f1, iou, _, _, _),) = rows(text, "superres")
    assert (unknown, f1, iou) == ("12.50%", "75.0 (50.0 to 87.5)", "60.0 (no interval)")
    assert "99.0" not in text, "a row of one reach is not one of all"
    assert "of 4 test chips" in text


def test_the_data_card_names_what_came_from_outside(results, tmp_path):
    text = (publish(results) / "README.md").read_text()
    assert file_digest(tmp_path / "given/superres.safetensors") in text
    assert "earthengine" in text and "CC BY 4.0" in text


def test_a_card_of_a_network_that_was_trained_here(results):
    text = (publish(results) / "models/segmentation-superres.md").read_text()
    assert rows(text, "in all") == [["in all", "3"]]
    assert file_digest(results / "segmentation/superres.safetensors") in text
    assert rows(text, "threshold") == [["threshold", "0.25"]]
    assert rows(text, "train") == [["train", "20", "25.0"]] and rows(text, "test") == [["test", "4", "–"]]
    assert rows(text, "seed")[1] == ["seed", "7"], "the setting of the job, after that of the header"
    assert rows(text, "labels")[0][1:3] == ["4", "75.0 (50.0 to 87.5)"]


def test_a_card_of_a_network_that_was_given(results):
    text = (publish(results) / "models/given-superres.md").read_text()
    assert "Not known to this run: the network was given to it." in text
    assert "No test of its own in this run." in text
    assert rows(text, "stage") == [["stage", "3"]]


def test_every_link_of_a_card_leads_to_a_file(results):
    folder = publish(results)
    links = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text())
    assert len(links) == 2
    for link in links:
        assert (folder / link).is_file()


def test_the_header_is_the_one_that_checkpoints_have():
    assert model_facts.HEADER == checkpoint.HEADER


def test_two_networks_of_one_name_have_two_cards(results):
    Path("elsewhere/given").mkdir(parents=True)
    save(Path("elsewhere/given/superres.safetensors"), {"stage": 3, "seed": 6})
    both = [Path("given/superres.safetensors"), Path("elsewhere/given/superres.safetensors")]
    assert len(list((publish(results, checkpoints=both) / "models").iterdir())) == 2
