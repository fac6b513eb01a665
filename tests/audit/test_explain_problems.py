"""Explanations with missing or changed files and networks of other runs; errors; the command `audit explain`."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.command import run_command
from support.explained_run import RESULTS
from support.tiny_sentinel2 import TILE, plain

from jointseg.audit.explain.explainer import Explainer
from jointseg.cli.commands import FINDINGS, OK
from jointseg.runtime.errors import DataError


def test_missing_scenes_are_noted(tiny):
    shutil.move("archive", "moved")
    explanation = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert [(each.clear, each.values) for each in explanation.composite.observations] == [(None, None)] * 4
    assert explanation.composite.clear == 4 and explanation.composite.selected == "b"
    assert explanation.composite.reproduced is None
    assert explanation.disagreements == [] and "is not a folder of Sentinel-2 scenes" in explanation.notes[0]


def test_replaced_scene_file_is_a_disagreement(tiny):
    with open("archive/c/B02.tif", "ab") as file:
        file.write(b"more")
    explanation = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert explanation.composite.reproduced is None
    assert [(each.job, "B02" in each.detail) for each in explanation.disagreements] == [
        (f"composite/2021/{TILE}", True)
    ]


def test_changed_scene_pixels_are_a_disagreement(tiny):
    path = Path("archive/b/B04.tif")
    content = bytearray(path.read_bytes())
    value = np.uint16(2010).tobytes()
    start = content.index(value * 100)
    content[start : start + 20_000] = np.uint16(2050).tobytes() * 10_000
    path.write_bytes(content)
    explanation = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert explanation.composite.reproduced is False
    assert [(each.path, each.detail.startswith("its scenes give")) for each in explanation.disagreements] == [
        (f"{RESULTS}/sentinel2/composites/2021/{TILE}.tif", True)
    ]


def test_changed_checkpoint_and_rebuilt_input_disagree(tiny):
    (tiny / "seg.safetensors").write_bytes(b"other")
    (tiny / "manifests/superres_adversarial.json").write_text(
        re.sub(r'"sha256": "\w', '"sha256": "x', (tiny / "manifests/superres_adversarial.json").read_text())
    )
    explanation = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert [each.matches for each in explanation.checkpoints] == [False, True]
    found = {(each.job, Path(each.path).name) for each in explanation.disagreements}
    assert found == {
        (f"predict/2021/{TILE}", "seg.safetensors"),
        (f"predict/2021/{TILE}", "superres.safetensors"),
        ("superres_adversarial", "superres_adversarial.json"),
        ("superres_adversarial", "index.parquet"),
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.at(10, 20, 2021), r"longitude 10, latitude 20 is in no tile .* 50N_E0660_N3540, from 118\.69"),
        (lambda e: e.at(200, 20, 2021), "is invalid; expected degrees"),
        (lambda e: e.pixel("50N_E0661_N3540", 0, 0, 2021), "no tile 50N_E0661_N3540; available tiles: 50N_E0660_N3540"),
        (lambda e: e.pixel(TILE, 1000, 0, 2021), "row 1000, col 0 is not in tile .* expected 0 to 999"),
        (lambda e: e.pixel(TILE, 0, -1, 2021), "col -1"),
        (lambda e: e.pixel(TILE, 0, 0, 2017), "no map of tile 50N_E0660_N3540 for 2017; available years: 2021"),
    ],
)
def test_errors_name_what_is_available(tiny, call, message):
    with pytest.raises(DataError, match=message):
        call(Explainer(tiny))


@pytest.mark.parametrize("missing", [f"predict/2021/{TILE}", f"composite/2021/{TILE}", "grid"])
def test_error_names_missing_manifest(tiny, missing):
    (tiny / f"manifests/{missing}.json").unlink()
    with pytest.raises(DataError, match="manifest"):
        Explainer(tiny).pixel(TILE, 0, 0, 2021)


def explain(*arguments: object) -> int:
    return run_command("audit", "explain", *arguments)


def test_command_prints_text_json_and_figure(tiny, capsys):
    assert explain(tiny, "--tile", TILE, "--row", 225, "--col", 225, "--year", 2021, "--figure", "one.png") == OK
    text = capsys.readouterr().out
    expected = ("impervious, 2021", "medoid, 3 of 4 observations clear", "masked: cloud, high probability (SCL 9)")
    assert all(part in text for part in (*expected, "training"))
    assert Path("one.png").read_bytes()[:4] == b"\x89PNG"
    pixel = Explainer(tiny).pixel(TILE, 225, 225, 2021).pixel
    assert explain(tiny, "--lon", pixel.lon, "--lat", pixel.lat, "--year", 2021, "--json") == OK
    explanation = json.loads(capsys.readouterr().out)
    assert list(explanation) == sorted(explanation) and explanation["pixel"]["row"] == 225
    assert len(explanation["composite"]["observations"]) == 4
    (tiny / "seg.safetensors").write_bytes(b"other")
    assert explain(tiny, "--lon", pixel.lon, "--lat", pixel.lat, "--year", 2021) == FINDINGS
    assert "Disagreements: 1" in capsys.readouterr().out


def test_figure_without_scenes_at_the_tile_edge(tiny, capsys):
    shutil.move("archive", "moved")
    assert explain(tiny, "--tile", TILE, "--row", 999, "--col", 999, "--year", 2021, "--figure", "two.png") == OK
    assert "scenes cannot be read" in capsys.readouterr().out and Path("two.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--lon", 1],
        ["--lon", 118.7, "--lat", 31.9, "--row", 0],
        ["--tile", TILE, "--row", 0],
        ["--lon", 118.7, "--lat", 31.9, "--tile", TILE, "--row", 0, "--col", 0],
    ],
)
def test_command_requires_exactly_one_pixel(arguments):
    with pytest.raises(DataError, match="not exactly one pixel"):
        explain("results", "--year", 2021, *arguments)


def test_weights_of_another_run_are_traced_there(tiny):
    """A map whose weights are outputs of another run."""
    shutil.copytree(RESULTS, "results/other")
    for name in ("superres_adversarial", "segmentation", "dataset"):
        (tiny / f"manifests/{name}.json").unlink()
        other = Path(f"results/other/manifests/{name}.json")
        other.write_text(other.read_text().replace(RESULTS, "results/other"))
    mapped = tiny / f"manifests/predict/2021/{TILE}.json"
    text = mapped.read_text()
    for name in ("superres", "seg"):
        text = text.replace(f"{RESULTS}/{name}.safetensors", f"results/other/{name}.safetensors")
    mapped.write_text(text)
    explanation = Explainer(tiny).pixel(TILE, 100, 250, 2021)
    assert [(each.path, each.run, each.matches) for each in explanation.checkpoints] == [
        ("results/other/superres.safetensors", "results/other", True),
        ("results/other/seg.safetensors", "results/other", True),
    ]
    assert explanation.datasets[0].path == "results/other/dataset/index.parquet" and explanation.datasets[0].covering
    assert {each.run for each in explanation.jobs} == {RESULTS, "results/other"}


def test_external_weights_show_their_header(tiny, monkeypatch):
    os.makedirs("elsewhere")
    from safetensors.numpy import save_file

    trained = {"steps": 12, "seed": 1}
    save_file({"x": plain(1)}, "elsewhere/superres.safetensors", {"jointseg": json.dumps({"trained": trained})})
    Path("elsewhere/seg.safetensors").write_bytes(b"nothing")
    mapped = tiny / f"manifests/predict/2021/{TILE}.json"
    text = mapped.read_text()
    for name in ("superres", "seg"):
        text = text.replace(f"{RESULTS}/{name}.safetensors", f"elsewhere/{name}.safetensors")
    mapped.write_text(text)
    explanation = Explainer(tiny).pixel(TILE, 100, 250, 2021)
    assert [(each.producer, each.matches, each.trained) for each in explanation.checkpoints] == [
        (None, None, trained),
        (None, None, None),
    ]
    assert explanation.datasets == []
