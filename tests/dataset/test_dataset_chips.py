"""Chips, labels and statistics of the synthetic dataset, and the reader of its arrays."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from support.dataset_workflow import (
    BANDS,
    CHIP,
    NORTH,
    SCENE,
    SIDE,
    WEST,
    reflectance_and_isa,
    run_chips,
    run_labels,
    run_pairing,
)

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError


def test_chips_do_not_depend_on_workers_and_scenes_are_read_once(
    scene_inputs: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointseg.dataset.chips.CHIPS_PER_WORKER", 6)
    facts = run_chips(scene_inputs, built, chips=tmp_path / "chips/up", index=tmp_path / "index.parquet", workers=2)
    assert facts["chips"] == 12
    assert all(0 < fraction <= 1 for fraction in facts["read"].values())
    files = sorted(path.name for path in (built / "chips/up").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "chips/up").iterdir())
    for name in files:
        assert (built / "chips/up" / name).read_bytes() == (tmp_path / "chips/up" / name).read_bytes(), name
    assert (built / "index/up.parquet").read_bytes() == (tmp_path / "index.parquet").read_bytes()


def test_index_has_the_clear_observations_of_a_chip(built: Path) -> None:
    table = gpd.read_parquet(built / "index/up.parquet")
    assert table["clear_median"].eq(3).all()
    lr_nodata = [(raster_io.read(built / "chips" / path)[0] == 0).any() for path in table["lr"]]
    assert (table["clear_min"] == np.where(lr_nodata, 0, 3)).all()
    assert not {"status", "path", "rank", "rejected", "gain_B04"} & set(table)
    assert {"stratum", "replacement", "shift_sd_m", "cloud_percent"} <= set(table)


def test_labels_match_truth_and_corrections(scene_inputs: Path, built: Path) -> None:
    isa = np.load(scene_inputs / "isa.npy").copy()
    x = np.arange(SIDE) + 0.5
    isa[np.ix_((x > 110) & (x < 250), (x > 400) & (x < 420))] = 1
    isa[:, (x > 500) & (x < 520)] = 0
    isa[:, (x > 760) & (x < 770)] = 255
    table = gpd.read_parquet(built / "index.parquet")
    wrong = total = 0
    for row in table.itertuples():
        label = raster_io.read(built / "chips" / row.label)[0][0]
        top, left = int(NORTH - row.miny - CHIP), int(row.minx - WEST)
        truth = isa[top : top + CHIP, left : left + CHIP]
        wrong, total = wrong + int((label != truth).sum()), total + label.size
        # Corrections are moved by a shift with an error of decimetres: only their edges may differ.
        assert (label != truth).mean() < 0.012
    assert wrong / total < 0.003


def test_chips_share_a_grid_and_match_the_composite(scene_inputs: Path, built: Path) -> None:
    image, _ = reflectance_and_isa()
    table = gpd.read_parquet(built / "index.parquet")
    for row in table.itertuples():
        (lr, coarse, _), (hr, fine, crs) = (raster_io.read(built / "chips" / path) for path in (row.lr, row.hr))
        assert crs == "EPSG:32650"
        assert (lr.dtype, lr.shape, hr.dtype, hr.shape) == ("uint16", (3, 16, 16), "uint16", (3, CHIP, CHIP))
        assert (coarse.c, coarse.f) == (fine.c, fine.f) == (row.minx, row.miny + CHIP)
        top, left = int(NORTH - row.miny - CHIP), int(row.minx - WEST)
        truth = image[:, top : top + CHIP, left : left + CHIP]
        for band in range(3):
            assert np.corrcoef(hr[band].ravel(), truth[band].ravel())[0, 1] > 0.9
        assert np.abs(hr.mean(axis=(1, 2)) / 1e4 - truth.mean(axis=(1, 2))).max() < 0.004


def test_pixels_without_clear_observation_are_nodata(built: Path) -> None:
    data = ChipDataset(built / "index.parquet", built / "chips")
    nodata = {name: int(np.isnan(data.read(name).lr[0]).sum()) for name in data.ids}
    assert sum(nodata.values()) > 0
    assert all(np.isfinite(data.read(name).hr).all() for name in data.ids)


def test_reader_returns_the_chips_of_a_split(built: Path) -> None:
    data = ChipDataset(built / "index.parquet", built / "chips", "test")
    assert data.ids == [f"up-{i:04d}" for i in (4, 8, 12)]
    chip = data.read(data.ids[0])
    assert (chip.lr.dtype, chip.hr.dtype, chip.label.dtype) == (np.float32, np.float32, np.uint8)
    assert (chip.lr.shape, chip.hr.shape, chip.label.shape) == ((3, 16, 16), (3, CHIP, CHIP), (CHIP, CHIP))
    assert np.array_equal(data.read(data.ids[0]).lr, chip.lr, equal_nan=True)
    with pytest.raises(DataError, match="'tests' is not one of"):
        ChipDataset(built / "index.parquet", built / "chips", "tests")


def test_error_for_a_damaged_chip(built: Path, tmp_path: Path) -> None:
    table = gpd.read_parquet(built / "index.parquet")
    (tmp_path / "up").mkdir()
    for kind in ("lr", "hr", "label"):
        content = (built / "chips" / table[kind].iloc[0]).read_bytes()
        (tmp_path / table[kind].iloc[0]).write_bytes(content if kind != "hr" else content[: len(content) // 2])
    with pytest.raises(DataError, match=r"up-0001_hr\.tif"):
        ChipDataset(table, tmp_path).read("up-0001")


def test_statistics_and_card_match_the_files(built: Path) -> None:
    facts = json.loads((built / "statistics.json").read_text())
    data = ChipDataset(built / "index.parquet", built / "chips", "train")
    hr = np.stack([data.read(name).hr for name in data.ids]).astype(np.float64)
    assert facts["hr"]["mean"] == pytest.approx(hr.mean(axis=(0, 2, 3)), abs=1e-6)
    assert facts["hr"]["std"] == pytest.approx(hr.std(axis=(0, 2, 3)), abs=1e-6)
    assert facts["chips"] == {"train": 6, "validation": 3, "test": 3}
    assert facts["bands"] == BANDS
    card = (built / "card.md").read_text()
    assert f"| {SCENE} | 12 | 2022-06-23T02:46:20Z |" in card
    assert "| ok | 12 |" in card


def test_same_inputs_give_the_same_bytes(scene_inputs: Path, built: Path, tmp_path: Path) -> None:
    run_pairing(scene_inputs, tmp_path / "pairs.parquet")
    run_labels(scene_inputs, tmp_path)
    run_chips(scene_inputs, tmp_path)
    for path in ("pairs.parquet", "labels.parquet", "index/up.parquet", "chips/up/up-0003_hr.tif"):
        assert (tmp_path / path).read_bytes() == (built / path).read_bytes(), path


def test_error_for_a_missing_band(scene_inputs: Path, built: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="they lack B08"):
        run_chips(scene_inputs, built, chips=tmp_path / "chips/up", index=tmp_path / "i.parquet", bands=[*BANDS, "B08"])
    assert not (tmp_path / "chips/up").exists()
