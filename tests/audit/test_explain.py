"""The explanation of a pixel: observations, windows, chips and networks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.explained_run import JUNE, MAY, RESULTS, make
from support.tiny_sentinel2 import NORTH, TILE, WEST, item, rgb, scl

from jointseg.area.grid import transformer
from jointseg.audit.explain.chips import distances
from jointseg.audit.explain.explainer import Explainer


def observed(explanation) -> list[tuple[str, bool, str | None, int | None, float | None]]:
    return [
        (each.id, each.clear, each.reason, each.scene_class, each.distance_m)
        for each in explanation.composite.observations
    ]


def test_reasons_of_observations_that_are_not_clear(tiny):
    explainer = Explainer(tiny)
    clear = [(name, True, None, 4, None) for name in "abcd"]
    cases = {
        (5, 5): clear,
        (22, 25): [clear[0], ("b", False, "masked", 9, None), *clear[2:]],
        (32, 25): [clear[0], ("b", False, "buffer", 9, 30.0), *clear[2:]],
        (33, 25): clear,
        (31, 31): [clear[0], ("b", False, "buffer", 9, 28.3), *clear[2:]],
        (5, 95): [*clear[:2], ("c", False, "no data", None, None), clear[3]],
        (50, 50): [*clear[:2], ("c", False, "saturated", None, None), clear[3]],
    }
    for (row, col), expected in cases.items():
        explanation = explainer.pixel(TILE, 10 * row + 3, 10 * col + 7, 2021)
        assert observed(explanation) == expected
        assert explanation.composite.clear == sum(each[1] for each in expected)
        assert explanation.composite.reproduced is True and explanation.disagreements == [] and explanation.notes == []


def test_medoid_names_the_selected_scene(tiny):
    explanation = Explainer(tiny).pixel(TILE, 55, 55, 2021).composite
    # 1000: 10 + 100 + 2000; 1010: 10 + 90 + 1990; 1100: 100 + 90 + 1900; 3000: 2000 + 1990 + 1900. A tie of 1010 and
    # 1100 goes to the earlier.
    assert explanation.selected == "b" and [each.selected for each in explanation.observations] == [
        False,
        True,
        False,
        False,
    ]
    assert explanation.values == {"B04": 1010, "B03": 1110, "B02": 1210} == explanation.observations[1].values
    under_cloud = Explainer(tiny).pixel(TILE, 225, 225, 2021).composite
    assert under_cloud.selected == "c" and under_cloud.values["B04"] == 1100


def test_pixel_by_degrees_equals_pixel_by_row_and_column(tiny):
    explainer = Explainer(tiny)
    explanation = explainer.pixel(TILE, 123, 456, 2021)
    assert (explanation.pixel.x, explanation.pixel.y) == (WEST + 456.5, NORTH - 123.5)
    assert (explanation.pixel.row_10m, explanation.pixel.col_10m) == (12, 45)
    assert explainer.at(explanation.pixel.lon, explanation.pixel.lat, 2021).as_json() == explanation.as_json()
    assert explanation.pixel.value == "impervious" and explanation.pixel.zone == "50N"
    assert explanation.pixel.reaches == ["upper"] and explanation.pixel.cities == ["Cheng"]
    south = explainer.pixel(TILE, 900, 456, 2021).pixel
    assert south.value == "not impervious" and south.cities == [] and south.tile_cities == ["Cheng"]


def test_chips_at_and_near_the_pixel(tiny):
    explanation = Explainer(tiny).pixel(TILE, 100, 250, 2021)  # y = NORTH - 100.5, inside the first chip
    (dataset,) = explanation.datasets
    assert [(each.sample_id, each.split) for each in dataset.covering] == [("upper-1", "train")]
    assert dataset.splits == {"train": 2, "validation": 0, "test": 1} and dataset.chip_m == 320
    assert [each.sample_id for each in dataset.nearest["train"]] == ["upper-1", "upper-3"]
    assert dataset.nearest["train"][1].distance_m == 5000 - 250.5
    assert dataset.nearest["test"][0].distance_m == pytest.approx(np.hypot(600 - 250.5, 580 - 100.5), abs=0.06)
    outside = Explainer(tiny).pixel(TILE, 100, 199, 2021).datasets[0]
    assert outside.covering == [] and outside.nearest["train"][0].distance_m == 0.5


def test_distance_of_far_chips_is_geodesic():
    """Virginia to Anhui: UTM coordinates are invalid on the other side of the globe."""
    squares = pd.DataFrame([{"epsg": 32650, "minx": 660_000.0, "miny": 3_540_000.0}])
    lon, lat = -75.7, 37.7
    chip = np.radians(transformer("EPSG:32650", "EPSG:4326").transform(660_000, 3_540_000))
    point = np.radians((lon, lat))
    cosine = np.sin(point[1]) * np.sin(chip[1]) + np.cos(point[1]) * np.cos(chip[1]) * np.cos(point[0] - chip[0])
    assert distances(squares, 320, lon, lat)[0] == pytest.approx(6_371_000 * np.arccos(cosine), rel=0.005)


def test_networks_list_their_training_jobs(tiny):
    explanation = Explainer(tiny).pixel(TILE, 0, 0, 2021)
    assert [(each.name, each.producer, each.matches) for each in explanation.checkpoints] == [
        ("superres", "superres_adversarial", True),
        ("segmentation", "segmentation", True),
    ]
    (training,) = explanation.checkpoints[1].trainings
    assert (training.job, training.steps, training.seed, training.threads) == ("segmentation", 7, 3, 1)
    assert {each.rule for each in explanation.jobs} == {
        *("predict", "composite", "scenes", "dataset", "superres_adversarial", "segmentation")
    }
    assert explanation.jobs[0].name == f"predict/2021/{TILE}"
    assert explanation.jobs[0].versions["numpy"] == np.__version__


def test_weights_of_windows_add_up_to_one(tiny):
    explainer = Explainer(tiny)
    for row, col in ((0, 0), (40, 300), (500, 640), (999, 999)):
        explanation = explainer.pixel(TILE, row, col, 2021)
        for window in explanation.windows:
            west, south, east, north = window.bounds
            assert west < explanation.pixel.x < east and south < explanation.pixel.y < north
            assert west % 280 == south % 280 == 0
            assert window.weight > 0 and window.tiles == [TILE]
        assert sum(window.weight for window in explanation.windows) == pytest.approx(1, abs=1e-6)


def test_l1c_mask_and_scene_without_mask(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = np.zeros((3, 17, 17), dtype=np.uint8)
    flags[0, 5, 5] = flags[1, 5, 8] = flags[2, 8, 8] = 1  # opaque, cirrus, snow; 30 to 35, 48 to 53 at 10 m
    item(Path("archive"), "masked", rgb(800) | {"classi": (flags, {"res_m": 60})}, level="L1C", when=MAY)
    item(Path("archive"), "bare", rgb(800), level="L1C", when=JUNE)
    make(Path("archive"), level="L1C", mask_dilation_m=20)
    explainer = Explainer(Path(RESULTS))
    pixels = [(33, 33), (37, 33), (33, 50), (50, 50), (10, 10)]
    explanations = [explainer.pixel(TILE, 10 * row, 10 * col, 2021) for row, col in pixels]
    assert [observed(explanation)[0][1:] for explanation in explanations] == [
        (False, "masked", 9, None),
        (False, "buffer", 9, 20.0),
        (False, "masked", 10, None),
        (True, None, 11, None),
        (True, None, 7, None),
    ]
    assert all(observed(explanation)[1] == ("bare", True, None, None, None) for explanation in explanations)
    assert "no cloud mask" in explanations[0].composite.observations[1].detail
    assert [explanation.composite.clear for explanation in explanations] == [1, 1, 1, 2, 2]


def test_nodata_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item(Path("archive"), "a", rgb(1000) | {"SCL": scl(9)}, when=MAY)
    make(Path("archive"))
    explanation = Explainer(Path(RESULTS)).pixel(TILE, 4, 4, 2021)
    assert (explanation.pixel.isa, explanation.pixel.value) == (255, "nodata")
    assert explanation.pixel.nodata_reason == "none of the 1 observations is clear"
    assert explanation.composite.values == {"B04": 0, "B03": 0, "B02": 0} and explanation.composite.reproduced is True


def test_dark_object_subtraction_is_reproduced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dark = rgb(900)
    dark["B04"][:30] = 1300
    item(Path("archive"), "a", dark, level="L1C", when=MAY)
    make(Path("archive"), level="L1C", dark_object_subtraction=True)
    explanation = Explainer(Path(RESULTS)).pixel(TILE, 4, 4, 2021).composite
    assert explanation.reproduced is True and explanation.observations[0].lines[0]["kind"] == "dark object"
    assert (
        explanation.observations[0].values == explanation.values and explanation.values["B04"] == 100
    )  # (1300 - 1000) less 200
    assert explanation.reference is None
