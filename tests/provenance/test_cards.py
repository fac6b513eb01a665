"""The data card and the model cards of a release: values from manifests, maps and tables."""

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
    """Cells of all table rows whose first cell is `first`."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line] for line in lines]


def test_data_card_has_area_by_year(results):
    text = (publish(results) / "README.md").read_text()
    coverage, observations = rows(text, "2021")
    # Four pixels of 1 m: two impervious, one not impervious, one nodata.
    assert coverage == ["2021", "1", "0.000", "0.000", "0.000", "66.67", "25.00"]
    assert observations == ["2021", "L2A", "3", "2.5 to 2.5"]
    assert "25.00 % of the tile area is nodata" in text
    assert [row[1:] for row in rows(text, CITY)] == [
        ["2021", "1.500", "1.250 (1.000 to 1.500)", "0.250"],
        ["2023", "2.500", "–", "0.125"],
    ]


def test_area_is_corrected_for_utm_scale(results):
    manifests, isa = sorted((results / "manifests").rglob("*.json")), sorted((results / "isa").rglob("*.tif"))
    run = load_run(manifests, {"isa": isa}, results / "report/index.html", results, {})
    scale = float(grid.area_scale(32650, 660001, 3543999))
    assert abs(scale - 1) > 1e-4
    assert run.coverage[f"isa/2021/{TILE}.tif"].km2 == pytest.approx(
        {0: 1e-6 / scale, 1: 2e-6 / scale, 255: 1e-6 / scale}
    )


def test_data_card_has_scores_with_intervals(results):
    text = (publish(results) / "README.md").read_text()
    ((*_, nodata, f1, iou, _, _, _),) = rows(text, "superres")
    assert (nodata, f1, iou) == ("12.50%", "75.0 (50.0 to 87.5)", "60.0 (no interval)")
    assert "99.0" not in text, "the card contains scores of all reaches only"
    assert "and 4 test chips" in text


def test_data_card_lists_external_inputs(results, tmp_path):
    text = (publish(results) / "README.md").read_text()
    assert file_digest(tmp_path / "pretrained/superres.safetensors") in text
    assert "earthengine" in text and "CC BY 4.0" in text


def test_model_card_of_trained_network(results):
    text = (publish(results) / "models/segmentation-superres.md").read_text()
    assert rows(text, "total") == [["total", "3"]]
    assert file_digest(results / "segmentation/superres.safetensors") in text
    assert rows(text, "threshold") == [["threshold", "0.25"]]
    assert rows(text, "train") == [["train", "20", "25.0"]] and rows(text, "test") == [["test", "4", "–"]]
    assert rows(text, "seed")[1] == ["seed", "7"], "first from the header, then from the job"
    assert rows(text, "labels")[0][1:3] == ["4", "75.0 (50.0 to 87.5)"]


def test_model_card_of_pretrained_network(results):
    text = (publish(results) / "models/pretrained-superres.md").read_text()
    assert "Not recorded: this run did not train the network." in text
    assert "This run did not evaluate this network separately." in text
    assert rows(text, "stage") == [["stage", "3"]]


def test_links_of_data_card_exist(results):
    folder = publish(results)
    links = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text())
    assert len(links) == 2
    for link in links:
        assert (folder / link).is_file()


def test_header_key_equals_that_of_checkpoints():
    assert model_facts.HEADER == checkpoint.HEADER


def test_networks_of_the_same_name_have_separate_cards(results):
    Path("elsewhere/pretrained").mkdir(parents=True)
    save(Path("elsewhere/pretrained/superres.safetensors"), {"stage": 3, "seed": 6})
    both = [Path("pretrained/superres.safetensors"), Path("elsewhere/pretrained/superres.safetensors")]
    assert len(list((publish(results, checkpoints=both) / "models").iterdir())) == 2
