"""What `explain` tells of 100 random pixels of a run is what the delivered files and the synthetic scene's truth tell."""

import functools
import http.client
import json
import math
import threading
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from pyproj import Transformer
from scipy.ndimage import maximum_filter
from shapely import Point

from jointseg.audit.explain.explainer import Explainer
from jointseg.config.load import read_config
from jointseg.synthetic import acquisitions, sentinel2_archive
from jointseg.synthetic.terrain import EPSG, ORIGIN_M, Frame
from jointseg.viewer.server import create_server

PIXELS, SECONDS = 100, 60
BUFFER_PX = 4  # 40 m


@pytest.fixture(scope="module")
def run(flow):
    """The run, its config, and the explanations of random pixels of both years by (x, y, year)."""
    config = read_config(flow.config)
    explainer = Explainer(flow.results)
    rng = np.random.default_rng(20260731)
    width_m, height_m = 3 * config.synthetic.reach_km * 1000, config.synthetic.reach_km * 1000
    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    places = [
        (
            ORIGIN_M[0] + int(rng.integers(width_m)),
            ORIGIN_M[1] + int(rng.integers(height_m)),
            int(rng.choice(config.years)),
        )
        for _ in range(PIXELS)
    ]
    started = time.monotonic()
    told = {(x, y, year): explainer.at(*to_degrees.transform(x + 0.5, y + 0.5), year) for x, y, year in places}
    return config, flow.results, told, time.monotonic() - started


def test_a_hundred_pixels_are_quick_and_agree(run):
    _, _, told, seconds = run
    assert seconds < SECONDS
    assert len({year for _, _, year in told}) == 2 and len(told) == PIXELS
    for each in told.values():
        assert each.disagreements == [] and each.notes == [] and each.composite.reproduced is True


def test_tile_pixel_and_value(run):
    config, results, told, _ = run
    side = config.tile_km
    for (x, y, year), each in told.items():
        e_km, n_km = x // (1000 * side) * side, y // (1000 * side) * side
        name = f"50N_E{e_km:04d}_N{n_km:04d}"
        row, col = (n_km + side) * 1000 - 1 - y, x - e_km * 1000
        pixel = each.pixel
        assert (pixel.tile, pixel.row, pixel.col) == (name, row, col)
        assert (pixel.row_10m, pixel.col_10m, pixel.epsg) == (row // 10, col // 10, EPSG)
        with rasterio.open(results / f"isa/{year}/{name}.tif") as source:
            assert pixel.isa == next(source.sample([(x + 0.5, y + 0.5)]))[0]
        assert pixel.value == {0: "not impervious", 1: "impervious", 255: "unknown"}[pixel.isa]


def test_reaches_and_cities(run):
    config, results, told, _ = run
    regions = gpd.read_file(results / "sources/study_area.gpkg", layer="regions").set_index("name").geometry
    cities = gpd.read_file(results / "sources/study_area.gpkg", layer="cities").set_index("name").geometry
    within = 0
    for each in told.values():
        here = Point(each.pixel.lon, each.pixel.lat)
        reaches = [reach for reach, names in config.study_area.reaches.items() if any(regions[names].contains(here))]
        assert each.pixel.reaches == reaches
        # Ground between a reach's straight edge and its tile's is explained by the reaches of the tile.
        assert [part.reach for part in each.reaches] == (reaches or each.pixel.tile_reaches)
        assert each.pixel.cities == [city for city in config.study_area.city_reach if cities[city].contains(here)]
        within += bool(each.pixel.cities)
    assert 0 < within < PIXELS


def test_windows(run):
    """From the definition alone: windows start at every stride from the zone's origin; a raised cosine blends them."""
    config, _, told, _ = run
    size, stride = config.inference.window_m, config.inference.stride_m
    overlap, several = size - stride, 0

    def ramp(inside: int) -> float:
        from_edge = min(inside, size - 1 - inside)
        if from_edge >= overlap:
            return 1.0
        return 1e-3 + (1 - 1e-3) * math.sin(math.pi / 2 * (from_edge + 0.5) / overlap) ** 2

    def shares(place: int) -> dict[int, float]:
        found = {
            k: ramp(place - k * stride) for k in range(place // stride + 1) if k * stride <= place < k * stride + size
        }
        return {k: value / sum(found.values()) for k, value in found.items()}

    for (x, y, _), each in told.items():
        expected = {(row, col): a * b for row, a in shares(y).items() for col, b in shares(x).items()}
        assert {(window.row, window.col): window.weight for window in each.windows} == pytest.approx(expected, abs=1e-6)
        for window in each.windows:
            west, south = window.col * stride, window.row * stride
            assert window.bounds == (west, south, west + size, south + size)
            corners = {(e, n) for e in (west, west + size - 1) for n in (south, south + size - 1)}
            assert each.pixel.tile in window.tiles and len(window.tiles) <= len(corners)
        several += len(expected) > 1
    assert several > 0


def test_split_and_distance_of_the_chips(run):
    config, results, told, _ = run
    chips = pd.read_parquet(results / "dataset/index.parquet")
    side, covered = config.dataset.chip_m, set()
    for (x, y, _), each in told.items():
        (dataset,) = each.datasets
        assert dataset.splits == {split: int((chips.split == split).sum()) for split in ("train", "validation", "test")}
        holding = chips[(chips.minx <= x) & (x < chips.minx + side) & (chips.miny <= y) & (y < chips.miny + side)]
        found = {(chip.sample_id, chip.split) for chip in dataset.covering}
        assert found == set(zip(holding.sample_id, holding.split))
        covered |= {split for _, split in found}
        train = chips[chips.split == "train"]
        away = [
            math.dist((x + 0.5, y + 0.5), (np.clip(x + 0.5, west, west + side), np.clip(y + 0.5, south, south + side)))
            for west, south in zip(train.minx, train.miny)
        ]
        assert dataset.nearest["train"][0].distance_m == pytest.approx(min(away), abs=0.06)
    assert "train" in covered and len(covered) > 1


def test_networks_chain_and_jobs(run):
    _, results, told, _ = run
    each = next(iter(told.values()))
    assert [checkpoint.producer for checkpoint in each.checkpoints] == ["superres_adversarial", "segmentation/superres"]
    assert [training.rule for training in each.checkpoints[0].trainings] == [
        *("superres_adversarial", "superres_stage2", "superres_stage1")
    ]
    assert {job.rule for job in each.jobs} == {
        *("predict", "composite", "scenes", "synthetic", "superres_adversarial", "superres_stage2", "superres_stage1"),
        *("superres_chips", "segmentation", "dataset", "chips", "labels", "pairing", "deliveries", "samples"),
        *("prior_density", "product_mosaic", "reach_grid", "reaches"),
    }
    for job in each.jobs:
        written = json.loads((results / f"manifests/{job.name}.json").read_text())
        assert (job.code, job.finished) == (written["code"], written["finished"])


def test_the_viewer_explains_as_the_audit_does(run):
    _, results, told, _ = run
    (x, y, year), each = next(iter(told.items()))
    server = create_server(results, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
        connection.request("GET", f"/explain?epsg={EPSG}&x={x + 0.5}&y={y + 0.5}&year={year}")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200
        assert f"row {each.pixel.row}, col {each.pixel.col}" in text and each.composite.sha256 in text
        connection.request("GET", "/")
        page = connection.getresponse().read().decode()
    finally:
        server.shutdown()
        server.server_close()
    for title in ("Sentinel-2 composite, 10 m, 2017", "Truth, 2021", "GISA 1.0, 2017", "consistent years, 2021"):
        assert title in page


@functools.cache
def delivered(path: Path) -> tuple[np.ndarray, rasterio.Affine]:
    with rasterio.open(path) as source:
        return source.read(), source.transform


def at(path: Path, x: float, y: float) -> list[int]:
    """Values of a delivered raster at a place; 0 outside it."""
    array, transform = delivered(path)
    col, row = (math.floor(value) for value in ~transform @ (x, y))
    inside = 0 <= row < array.shape[1] and 0 <= col < array.shape[2]
    return array[:, row, col].tolist() if inside else [0] * len(array)


def dropped(folder: Path, x: float, y: float, drop: list[int]) -> tuple[bool, bool]:
    """(whether the class at a place is dropped, and is more than no data), as docs/sentinel2.md defines the masks."""
    if (folder / "SCL.tif").exists():
        value = at(folder / "SCL.tif", x, y)[0]
    else:
        opaque, cirrus, snow = at(folder / "MSK_CLASSI.tif", x, y)
        value = 9 if opaque else 10 if cirrus else 11 if snow else 7
    return value in drop, value in drop and value != 0


def is_clear(folder: Path, x: float, y: float, drop: list[int]) -> bool:
    """Whether a scene is clear at the centre of a 10 m pixel."""
    values = [at(folder / f"{band}.tif", x, y)[0] for band in ("B04", "B03", "B02")]
    if not all(0 < value < 65535 for value in values) or dropped(folder, x, y, drop)[0]:
        return False
    near = range(-BUFFER_PX, BUFFER_PX + 1)
    around = [(dx, dy) for dx in near for dy in near if math.hypot(dx, dy) <= BUFFER_PX]
    return not any(dropped(folder, x + 10 * dx, y + 10 * dy, drop)[1] for dx, dy in around)


def products(results: Path, year: int, level: str, max_cloud: float) -> dict[str, tuple[Path, dict]]:
    """Folder and metadata of the delivered products that may be used in a year, by id."""
    found = {}
    for path in sorted((results / f"sources/sentinel2/sentinel-2-{level.lower()}").glob("*/*.json")):
        metadata = json.loads(path.read_text())
        about = metadata["properties"]
        if about["datetime"].startswith(str(year)) and about["eo:cloud_cover"] <= max_cloud:
            found[metadata["id"]] = path.parent, metadata
    return found


def test_scenes_and_what_was_clear(run):
    config, results, told, _ = run
    sentinel2 = config.sentinel2
    assert sentinel2.mask_dilation_m == 10 * BUFFER_PX
    count, compared = {True: 0, False: 0}, 0
    for (x, y, year), each in told.items():
        level = sentinel2.level_by_year.get(year, sentinel2.level)
        listed = products(results, year, level, sentinel2.max_cloud_percent)
        middle = x // 10 * 10 + 5, y // 10 * 10 + 5
        clear = {name: is_clear(folder, *middle, sentinel2.scl_mask_classes) for name, (folder, _) in listed.items()}
        assert {look.id: look.clear for look in each.composite.observations} == clear
        assert [look.datetime for look in each.composite.observations] == sorted(
            look.datetime for look in each.composite.observations
        )
        for look in each.composite.observations:
            about = listed[look.id][1]["properties"]
            assert (look.level, look.relative_orbit) == (level, about["sat:relative_orbit"])
            assert (look.platform, look.baseline) == (about["platform"], about["s2:processing_baseline"])
            assert (look.reason is None) == look.clear
            count[look.clear] += 1
        assert each.composite.clear == sum(clear.values())
        if year == config.map_year:  # other years are brought to this one's radiometry
            shifts = {look.id: look.shift for look in each.composite.observations}
            assert sum(shift["usable"] for shift in shifts.values()) >= 2
            expected = medians({name: listed[name] for name in clear if clear[name]}, shifts, *middle)
            if not math.isnan(sum(expected.values())):
                # Rounded twice: the shifted values, and halves.
                assert each.composite.values == pytest.approx(expected, abs=1)
                compared += 1
    assert min(count.values()) > 50 and compared > 20


def medians(clear: dict[str, tuple[Path, dict]], shifts: dict[str, dict], x: float, y: float) -> dict[str, float]:
    """The median reflectance x 10000 of the clear looks, each shifted to its place."""
    found = {}
    for band, key in (("B04", "red"), ("B03", "green"), ("B02", "blue")):
        values = []
        for name, (folder, metadata) in clear.items():
            offset = metadata["assets"][key]["raster:bands"][0]["offset"] * 10_000
            place = x - shifts[name]["x_m"], y - shifts[name]["y_m"]
            values.append(np.maximum(lanczos(folder / f"{band}.tif", *place) + offset, 1))
        found[band] = float(np.median(values))
    return found


def lanczos(path: Path, x: float, y: float) -> float:
    """A raster of 10 m pixels at a point, by Lanczos' kernel of three lobes; nan where a pixel holds no data."""
    array, t = delivered(path)
    col, row = (x - t.c) / t.a - 0.5, (y - t.f) / t.e - 0.5
    top, left = math.floor(row) - 2, math.floor(col) - 2
    near = array[0, max(top, 0) : top + 6, max(left, 0) : left + 6].astype(float)
    if near.shape != (6, 6) or not near.all():
        return math.nan  # GDAL takes fewer pixels there
    weights = [np.sinc(d) * np.sinc(d / 3) for d in (row - top - np.arange(6), col - left - np.arange(6))]
    down, across = (each / each.sum() for each in weights)
    return float(down @ near @ across)


def test_no_look_is_clear_under_a_true_cloud_and_every_one_far_from_clouds_is(run):
    """The skies that the synthetic scene drew. Between the two relations lie thin edges, and the mask's coarser pixels.

    - What the swath does not hold, and clouds thicker than 0.12 (0.05 in an L1C product), are never clear; nor is a
      shadow deeper than 0.12 in an L2A product. L1C masks tell no shadows.
    - Where nothing is in the sky within 110 m, and all of that is in the swath, a look is clear: a 60 m pixel of the
      coarsest mask and the buffer of 40 m reach no further.
    """
    config, results, told, _ = run
    written = json.loads((results / "manifests/synthetic.json").read_text())["params"]
    frame = Frame(written["settings"]["reach_km"] * 1000, written["seed"])
    skies = {}
    for year in config.years:
        looks = acquisitions.sentinel2_acquisitions(frame, year, written["settings"]["dates_per_year"])
        for look, sky in zip(looks, sentinel2_archive.visibilities(frame, year, looks)):
            far = maximum_filter((sky.opacity > 0) | (sky.shadow > 0) | ~sky.in_swath, 23)
            thick = _halves(sky.opacity) > 0.12 if look.level == "L2A" else sky.opacity > 0.05
            dark = _halves(sky.shadow) > 0.12 if look.level == "L2A" else np.zeros_like(thick)
            skies[look.id] = thick | dark | ~sky.in_swath, ~far
    checked = {"hidden": 0, "free": 0}
    for (x, y, _), each in told.items():
        row, col = (ORIGIN_M[1] + frame.reach_m - 1 - y) // 10, (x - ORIGIN_M[0]) // 10
        for look in each.composite.observations:
            hidden, free = (layer[row, col] for layer in skies[look.id])
            assert not (hidden and look.clear), (look.id, x, y)
            assert look.clear or not free, (look.id, x, y)
            checked["hidden"] += bool(hidden)
            checked["free"] += bool(free)
    assert min(checked.values()) > 30, checked


def _halves(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, on the pixels: the scene classification has 20 m."""
    mean = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))
    return mean.repeat(2, axis=0).repeat(2, axis=1)
