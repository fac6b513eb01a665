"""The inference benchmark: its record, and its page with one record per key."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from support.inference_scene import LATTICE, composites, networks, with_neighbours

from jointseg.area.grid import parse_tile
from jointseg.config.load import read_config
from jointseg.inference import benchmark, benchmark_page, lattice, roofline, stage_times
from jointseg.runtime.errors import DataError

TILE = "50N_E0663_N3541"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    paths = composites(folder, 1)
    fixed: dict[str, Any] = {"year": "2021", "tile": TILE, "tile_km": 1, "batch": 2, "threads": 2, "precision": "fp32"}
    job = benchmark.BenchmarkJob(
        composites=with_neighbours(paths, TILE, 1), merged=[], **networks(folder), **LATTICE, **fixed
    )
    messages: list[str] = []
    record = benchmark.measure(job, 2, messages.append)
    assert messages[0].endswith("windows of 480 m, on cpu") and "roofline" in messages
    return record | {"name": "tiny", "trained": True, "date": "2021-01-01"}


def test_record_is_complete(record: dict[str, Any]) -> None:
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
        "store rows",
        "encode and write",
    }
    assert record["memory_mb"]["host"] > 50
    assert 0 < record["roofline_fraction"] < 1
    fp32, bf16 = record["differences"].values()
    assert fp32["changed"] < 0.02 and bf16["mean"] < 0.1
    json.dumps(record)


def test_page_has_one_record_per_key(tmp_path: Path, record: dict[str, Any]) -> None:
    page = tmp_path / "inference.md"
    benchmark_page.add_record(record, page)
    benchmark_page.add_record(record | {"km2_per_hour": 123.0}, page)
    benchmark_page.add_record(record | {"precision": "bf16", "trained": False}, page)
    records = benchmark_page.read_records(tmp_path / "inference.json")
    assert [(each["precision"], each["km2_per_hour"]) for each in records][1] == ("fp32", 123.0)
    assert len(records) == 2
    text = page.read_text()
    assert "## tiny, fp32" in text and "## tiny, bf16" in text and "17,886" in text  # 2.2e6 km2 at 123 km2 per hour
    assert text.count("pixels of another class") == 1, "differences of random weights are meaningless"


def test_stages_are_summed_over_threads_only_while_collecting() -> None:
    def work(name: str) -> None:
        with stage_times.stage(name):
            time.sleep(0.02)

    work("a")
    with stage_times.collect_times() as seconds, ThreadPoolExecutor(2) as pool:
        list(pool.map(work, "bbbc"))
    work("d")
    assert set(seconds) == {"b", "c"} and seconds["b"] >= 0.06 > seconds["c"] >= 0.02


def test_demand_counts_operations_and_traffic() -> None:
    a, b = torch.zeros(30, 40), torch.zeros(40, 50)
    demand = roofline.count_demand(lambda: a @ b)
    assert demand.flops == 2 * 30 * 40 * 50
    assert demand.bytes == 4 * (30 * 40 + 40 * 50 + 30 * 50)
    assert demand.seconds(roofline.DevicePeaks(flops=1e5, bytes=1e9)) == pytest.approx(1.2)
    assert demand.seconds(roofline.DevicePeaks(flops=1e12, bytes=100)) == pytest.approx(demand.bytes / 100)


def test_preset_has_random_weights(tmp_path: Path) -> None:
    config = read_config(Path(__file__).parents[2] / "examples/synthetic/config.yaml")
    checkpoints = benchmark.select_checkpoints(config, "small", config, tmp_path)
    assert not checkpoints.trained and checkpoints.superres.is_file() and checkpoints.segmentation.is_file()
    with pytest.raises(DataError, match=r"preset 'huge' is not one of \['small'\]"):
        benchmark.select_checkpoints(config, "huge", config, tmp_path)
    empty = config.model_copy(update={"results": str(tmp_path / "none")})
    with pytest.raises(DataError, match="run the config first, or measure random weights with --preset"):
        benchmark.select_checkpoints(empty, None, config, tmp_path)
    with pytest.raises(DataError, match="contains no composite of 50N_E0660_N3540"):
        benchmark.tile_job(empty, checkpoints, "50N_E0660_N3540", 2, "fp32")
