"""`explain` of 100 random pixels of a run agrees with the input files and the truth of the synthetic scene."""

import http.client
import json
import math
import threading
import time

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from pyproj import Transformer
from scipy.ndimage import maximum_filter
from shapely import Point
from support.input_rasters import BUFFER_PX, is_clear, medians, products

from jointseg.audit.explain.explainer import Explainer
from jointseg.config.load import read_config
from jointseg.synthetic import acquisitions, sentinel2_archive
from jointseg.synthetic.terrain import EPSG, ORIGIN_M, Frame
from jointseg.viewer.server import create_server

PIXELS, MAX_SECONDS = 100, 60


@pytest.fixture(scope="module")
def run(finished):
    """Config, results folder, explanations of random pixels by (x, y, year), and the seconds that they took."""
    config = read_config(finished.config)
    explainer = Explainer(finished.results)
    rng = np.random.default_rng(20260731)
    width_m, height_m = 3 * config.synthetic.reach_km * 1000, config.synthetic.reach_km * 1000
    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    (west, south), pixels = ORIGIN_M, []
    for _ in range(PIXELS):
        x, y = west + int(rng.integers(width_m)), south + int(rng.integers(height_m))
        pixels.append((x, y, int(rng.choice(config.years))))
    started = time.monotonic()
    explanations = {(x, y, year): explainer.at(*to_degrees.transform(x + 0.5, y + 0.5), year) for x, y, year in pixels}
    return config, finished.results, explanations, time.monotonic() - started


def test_time_and_consistency_of_all_pixels(run):
    _, _, explanations, seconds = run
    assert seconds < MAX_SECONDS
    assert len({year for _, _, year in explanations}) == 2 and len(explanations) == PIXELS
    for explanation in explanations.values():
        assert explanation.disagreements == [] and explanation.notes == [] and explanation.composite.reproduced is True


def test_tile_pixel_and_value(run):
    config, results, explanations, _ = run
    side = config.tile_km
    for (x, y, year), explanation in explanations.items():
        e_km, n_km = x // (1000 * side) * side, y // (1000 * side) * side
        name = f"50N_E{e_km:04d}_N{n_km:04d}"
        row, col = (n_km + side) * 1000 - 1 - y, x - e_km * 1000
        pixel = explanation.pixel
        assert (pixel.tile, pixel.row, pixel.col) == (name, row, col)
        assert (pixel.row_10m, pixel.col_10m, pixel.epsg) == (row // 10, col // 10, EPSG)
        with rasterio.open(results / f"isa/{year}/{name}.tif") as source:
            assert pixel.isa == next(source.sample([(x + 0.5, y + 0.5)]))[0]
        assert pixel.value == {0: "not impervious", 1: "impervious", 255: "nodata"}[pixel.isa]


def test_reaches_and_cities(run):
    config, results, explanations, _ = run
    regions = gpd.read_file(results / "sources/study_area.gpkg", layer="regions").set_index("name").geometry
    cities = gpd.read_file(results / "sources/study_area.gpkg", layer="cities").set_index("name").geometry
    within = 0
    for explanation in explanations.values():
        location = Point(explanation.pixel.lon, explanation.pixel.lat)
        reaches = [
            reach for reach, names in config.study_area.reaches.items() if any(regions[names].contains(location))
        ]
        assert explanation.pixel.reaches == reaches
        # A pixel of a tile outside all reaches is explained by the reaches of the tile.
        assert [part.reach for part in explanation.reaches] == (reaches or explanation.pixel.tile_reaches)
        assert explanation.pixel.cities == [
            city for city in config.study_area.city_reach if cities[city].contains(location)
        ]
        within += bool(explanation.pixel.cities)
    assert 0 < within < PIXELS


def test_windows(run):
    """By definition, windows start at every stride from the origin of the zone, and a raised cosine blends them."""
    config, _, explanations, _ = run
    size, stride = config.inference.window_m, config.inference.stride_m
    overlap, blended = size - stride, 0

    def ramp(inside: int) -> float:
        from_edge = min(inside, size - 1 - inside)
        if from_edge >= overlap:
            return 1.0
        return 1e-3 + (1 - 1e-3) * math.sin(math.pi / 2 * (from_edge + 0.5) / overlap) ** 2

    def weights(position: int) -> dict[int, float]:
        found = {
            k: ramp(position - k * stride)
            for k in range(position // stride + 1)
            if k * stride <= position < k * stride + size
        }
        return {k: value / sum(found.values()) for k, value in found.items()}

    for (x, y, _), explanation in explanations.items():
        expected = {(row, col): a * b for row, a in weights(y).items() for col, b in weights(x).items()}
        assert {(window.row, window.col): window.weight for window in explanation.windows} == pytest.approx(
            expected, abs=1e-6
        )
        for window in explanation.windows:
            west, south = window.col * stride, window.row * stride
            assert window.bounds == (west, south, west + size, south + size)
            corners = {(e, n) for e in (west, west + size - 1) for n in (south, south + size - 1)}
            assert explanation.pixel.tile in window.tiles and len(window.tiles) <= len(corners)
        blended += len(expected) > 1
    assert blended > 0


def test_split_and_distance_of_the_chips(run):
    config, results, explanations, _ = run
    chips = pd.read_parquet(results / "dataset/index.parquet")
    side, covered = config.dataset.chip_m, set()
    for (x, y, _), explanation in explanations.items():
        (dataset,) = explanation.datasets
        assert dataset.splits == {split: int((chips.split == split).sum()) for split in ("train", "validation", "test")}
        holding = chips[(chips.minx <= x) & (x < chips.minx + side) & (chips.miny <= y) & (y < chips.miny + side)]
        found = {(chip.sample_id, chip.split) for chip in dataset.covering}
        assert found == set(zip(holding.sample_id, holding.split))
        covered |= {split for _, split in found}
        train = chips[chips.split == "train"]
        distances = [
            math.dist((x + 0.5, y + 0.5), (np.clip(x + 0.5, west, west + side), np.clip(y + 0.5, south, south + side)))
            for west, south in zip(train.minx, train.miny)
        ]
        assert dataset.nearest["train"][0].distance_m == pytest.approx(min(distances), abs=0.06)
    assert "train" in covered and len(covered) > 1


def test_checkpoints_and_jobs(run):
    _, results, explanations, _ = run
    explanation = next(iter(explanations.values()))
    assert [checkpoint.producer for checkpoint in explanation.checkpoints] == [
        "superres_adversarial",
        "segmentation/superres",
    ]
    assert [training.rule for training in explanation.checkpoints[0].trainings] == [
        *("superres_adversarial", "superres_stage2", "superres_stage1")
    ]
    assert {job.rule for job in explanation.jobs} == {
        *("predict", "composite", "scenes", "synthetic", "superres_adversarial", "superres_stage2", "superres_stage1"),
        *("superres_chips", "segmentation", "dataset", "chips", "labels", "pairing", "deliveries", "samples"),
        *("prior_density", "product_mosaic", "reach_grid", "reaches"),
    }
    for job in explanation.jobs:
        manifest = json.loads((results / f"manifests/{job.name}.json").read_text())
        assert (job.code, job.finished) == (manifest["code"], manifest["finished"])


def test_viewer_prints_the_same_explanation(run):
    _, results, explanations, _ = run
    (x, y, year), explanation = next(iter(explanations.items()))
    server = create_server(results, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
        connection.request("GET", f"/explain?epsg={EPSG}&x={x + 0.5}&y={y + 0.5}&year={year}")
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200
        assert f"row {explanation.pixel.row}, col {explanation.pixel.col}" in text
        assert explanation.composite.sha256 in text
        connection.request("GET", "/")
        page = connection.getresponse().read().decode()
    finally:
        server.shutdown()
        server.server_close()
    for title in ("Sentinel-2 composite, 10 m, 2017", "Truth, 2021", "GISA 1.0, 2017", "consistent years, 2021"):
        assert title in page


def test_scenes_and_clear_observations(run):
    config, results, explanations, _ = run
    sentinel2 = config.sentinel2
    assert sentinel2.mask_dilation_m == 10 * BUFFER_PX
    count, compared = {True: 0, False: 0}, 0
    for (x, y, year), explanation in explanations.items():
        level = sentinel2.level_by_year.get(year, sentinel2.level)
        listed = products(results, year, level, sentinel2.max_cloud_percent)
        middle = x // 10 * 10 + 5, y // 10 * 10 + 5
        clear = {name: is_clear(folder, *middle, sentinel2.scl_mask_classes) for name, (folder, _) in listed.items()}
        assert {observation.id: observation.clear for observation in explanation.composite.observations} == clear
        assert [observation.datetime for observation in explanation.composite.observations] == sorted(
            observation.datetime for observation in explanation.composite.observations
        )
        for observation in explanation.composite.observations:
            properties = listed[observation.id][1]["properties"]
            assert (observation.level, observation.relative_orbit) == (level, properties["sat:relative_orbit"])
            assert (observation.platform, observation.baseline) == (
                properties["platform"],
                properties["s2:processing_baseline"],
            )
            assert (observation.reason is None) == observation.clear
            count[observation.clear] += 1
        assert explanation.composite.clear == sum(clear.values())
        if year == config.map_year:  # other years are normalised to it
            shifts = {observation.id: observation.shift for observation in explanation.composite.observations}
            assert sum(shift["usable"] for shift in shifts.values()) >= 2
            expected = medians({name: listed[name] for name in clear if clear[name]}, shifts, *middle)
            if not math.isnan(sum(expected.values())):
                # Shifted values and medians are both rounded.
                assert explanation.composite.values == pytest.approx(expected, abs=1)
                compared += 1
    assert min(count.values()) > 50 and compared > 20


def test_clear_observations_agree_with_the_true_clouds(run):
    """Compare clear observations with the clouds and shadows of the synthetic scene, except at their thin edges.

    - Pixels outside the swath and clouds thicker than 0.12 (0.05 in an L1C product) are never clear, nor are shadows deeper
      than 0.12 in an L2A product. L1C masks have no shadows.
    - A pixel without clouds, shadows or swath edges within 110 m is clear: the distance covers a 60 m pixel of the coarsest
      mask and the mask dilation of 40 m.
    """
    config, results, explanations, _ = run
    params = json.loads((results / "manifests/synthetic.json").read_text())["params"]
    frame = Frame(params["settings"]["reach_km"] * 1000, params["seed"])
    truth = {}
    for year in config.years:
        scenes = acquisitions.sentinel2_acquisitions(frame, year, params["settings"]["dates_per_year"])
        for scene, visibility in zip(scenes, sentinel2_archive.visibilities(frame, year, scenes)):
            opacity, shadow, outside = visibility.opacity, visibility.shadow, ~visibility.in_swath
            near_cloud = maximum_filter((opacity > 0) | (shadow > 0) | outside, 23)
            thick = _mean_20m(opacity) > 0.12 if scene.level == "L2A" else opacity > 0.05
            dark = _mean_20m(shadow) > 0.12 if scene.level == "L2A" else np.zeros_like(thick)
            truth[scene.id] = thick | dark | outside, ~near_cloud
    checked = {"hidden": 0, "free": 0}
    for (x, y, _), explanation in explanations.items():
        row, col = (ORIGIN_M[1] + frame.reach_m - 1 - y) // 10, (x - ORIGIN_M[0]) // 10
        for observation in explanation.composite.observations:
            hidden, free = (mask[row, col] for mask in truth[observation.id])
            assert not (hidden and observation.clear), (observation.id, x, y)
            assert observation.clear or not free, (observation.id, x, y)
            checked["hidden"] += bool(hidden)
            checked["free"] += bool(free)
    assert min(checked.values()) > 30, checked


def _mean_20m(image: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels, the resolution of the scene classification, on the original grid."""
    mean = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))
    return mean.repeat(2, axis=0).repeat(2, axis=1)
