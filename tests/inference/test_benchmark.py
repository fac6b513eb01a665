"""The engine's benchmark: what it counts is what was done, and its page keeps one measurement of a kind."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from support.inference_ground import LATTICE, around, composites, networks

from jointseg.area.grid import parse_tile
from jointseg.config.load import read_config
from jointseg.inference import benchmark, benchmark_page, lattice, roofline, stage_times
from jointseg.runtime.errors import DataError

TILE = "50N_E0663_N3541"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    made = composites(folder, 1)
    fixed: dict[str, Any] = {"year": "2021", "tile": TILE, "tile_km": 1, "batch": 2, "threads": 2, "precision": "fp32"}
    work = benchmark.Job(composites=around(made, TILE, 1), merged=[], **networks(folder), **LATTICE, **fixed)
    told: list[str] = []
    found = benchmark.measure(work, 2, told.append)
    assert told[0].endswith("windows of 480 m, on cpu") and "roofs" in told
    return found | {"name": "tiny", "trained": True, "date": "2021-01-01"}


def test_a_record_holds_what_was_done(record: dict[str, Any]) -> None:
    windows = sum(1 for _ in lattice.windows(parse_tile(TILE, 1).bounds, *LATTICE.values()))
    assert record["windows"] == windows and record["km2"] == 1 and record["threads"] == 2
    assert len(record["engine_s"]) == len(record["networks_s"]) == 2
    assert record["ratio"] == [a / b for a, b in zip(record["engine_s"], record["networks_s"])]
    assert set(record["stages_s"]) == {
        "read",
        "preprocess",
        "super-resolution",
        "segmentation",
        "blend",
        "finish",
        "keep rows",
        "encode and write",
    }
    assert record["memory_mb"]["host"] > 50
    assert 0 < record["share_of_roof"] < 1
    exact, rough = record["differences"].values()
    assert exact["changed"] < 0.02 and rough["mean"] < 0.1
    json.dumps(record)


def test_the_page_keeps_one_measurement_of_a_kind(tmp_path: Path, record: dict[str, Any]) -> None:
    page = tmp_path / "inference.md"
    benchmark_page.keep(record, page)
    benchmark_page.keep(record | {"km2_per_hour": 123.0}, page)
    benchmark_page.keep(record | {"precision": "bf16", "trained": False}, page)
    records = benchmark_page.read(tmp_path / "inference.json")
    assert [(each["precision"], each["km2_per_hour"]) for each in records][1] == ("fp32", 123.0)
    assert len(records) == 2
    text = page.read_text()
    assert "## tiny, fp32" in text and "## tiny, bf16" in text and "17,886" in text  # 2.2e6 km2 at 123 km2 an hour
    assert text.count("pixels of another class") == 1, "random weights tell nothing of differences"


def test_stages_are_counted_over_threads_and_only_where_asked() -> None:
    def work(name: str) -> None:
        with stage_times.stage(name):
            time.sleep(0.02)

    work("a")
    with stage_times.counted() as found, ThreadPoolExecutor(2) as pool:
        list(pool.map(work, "bbbc"))
    work("d")
    assert set(found) == {"b", "c"} and found["b"] >= 0.06 > found["c"] >= 0.02


def test_demand_counts_operations_and_traffic() -> None:
    a, b = torch.zeros(30, 40), torch.zeros(40, 50)
    asked = roofline.demand(lambda: a @ b)
    assert asked.flops == 2 * 30 * 40 * 50
    assert asked.bytes == 4 * (30 * 40 + 40 * 50 + 30 * 50)
    assert asked.seconds(roofline.Roofs(flops=1e5, bytes=1e9)) == pytest.approx(1.2)
    assert asked.seconds(roofline.Roofs(flops=1e12, bytes=100)) == pytest.approx(asked.bytes / 100)


def test_a_preset_is_built_with_random_weights(tmp_path: Path) -> None:
    config = read_config(Path(__file__).parents[2] / "examples/synthetic/config.yaml")
    found = benchmark.networks(config, "small", config, tmp_path)
    assert not found.trained and found.superres.is_file() and found.segmentation.is_file()
    with pytest.raises(DataError, match=r"preset 'huge' is none of \['small'\]"):
        benchmark.networks(config, "huge", config, tmp_path)
    elsewhere = config.model_copy(update={"results": str(tmp_path / "none")})
    with pytest.raises(DataError, match="run the config first, or measure random weights with --preset"):
        benchmark.networks(elsewhere, None, config, tmp_path)
    with pytest.raises(DataError, match="holds no composite of 50N_E0660_N3540"):
        benchmark.job(elsewhere, found, "50N_E0660_N3540", 2, "fp32")
