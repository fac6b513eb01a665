"""Chips of high-resolution images: mosaics and labels are read as they are, the simulated Sentinel-2 lies where it should."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.dataset.contract import FRACTION_NODATA, ISA_KINDS, UNLABELLED
from jointseg.raster import io as raster_io
from jointseg.raster.bands import MERGED_BANDS, RGB
from jointseg.runtime.errors import DataError
from jointseg.textures import simulated_dates, source_images
from jointseg.textures.chips import split_chips, textures

COLOURS = {"FF0000": "building", "00FF00": "road", "0000FF": "none", "000000": "unknown"}
ENTRY: dict[str, Any] = {"images": "i*.png", "labels": "l*.png", "columns": 2}
SPLITS = {"train": 0.5, "validation": 0.25, "test": 0.25}


def put(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def place(folder: Path, height: int = 200, width: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four tiles of a place of some roughness, and the place itself: picture and label."""
    rng = np.random.default_rng(seed)
    soft = gaussian_filter(rng.normal(size=(height, width)), 8)
    rgb = np.clip(128 + 400 * soft, 20, 235)[..., None] + np.array([0, 5, 10])
    label = np.zeros((height, width, 3)) + np.array([0, 0, 255])
    label[20:60, 30:90] = [255, 0, 0]
    label[100:110] = [0, 255, 0]
    label[:5, :7] = 0
    for row in range(2):
        for col in range(2):
            at = np.s_[row * height // 2 : (row + 1) * height // 2, col * width // 2 : (col + 1) * width // 2]
            put(folder / f"i{row}{col}.png", rgb[at])
            put(folder / f"l{row}{col}.png", label[at])
    return np.clip(rgb, 0, 255).astype(np.uint8), label.astype(np.uint8)


def test_tiles_are_joined_and_labels_told_by_colour(tmp_path):
    rgb, label = place(tmp_path)
    area = source_images.read_area(tmp_path, ENTRY, COLOURS)
    assert np.array_equal(np.rint(255 * np.sqrt(area.image / source_images.MAX_REFLECTANCE)), np.moveaxis(rgb, 2, 0))
    unknown = (label == 0).all(-1)
    assert np.array_equal(area.label == UNLABELLED, unknown)
    assert np.array_equal(area.label == 1, (label[..., 0] == 255) | (label[..., 1] == 255))
    bands = dict(zip(("isa", *ISA_KINDS), area.fraction))
    assert (bands["building"] == 10_000).sum() == 40 * 60 and (bands["road"] == 10_000).sum() == 10 * 200
    assert (area.fraction[:, unknown] == FRACTION_NODATA).all()


@pytest.mark.parametrize(
    ("change", "colours", "message"),
    [
        ({"images": "x*.png"}, COLOURS, r"x\*\.png matches no image"),
        ({"labels": "l0*.png"}, COLOURS, "matches 2 labels of 4 images"),
        ({"columns": 3}, COLOURS, "4 tiles do not fill rows of 3"),
        ({}, {"FF0000": "building"}, "has the colour 000000; tell in textures.colours"),
    ],
)
def test_what_cannot_be_read_is_named(change, colours, message, tmp_path):
    place(tmp_path)
    with pytest.raises(DataError, match=message):
        source_images.read_area(tmp_path, ENTRY | change, colours)


def test_a_label_of_another_size_and_a_damaged_image_are_named(tmp_path):
    place(tmp_path)
    put(tmp_path / "l01.png", np.zeros((10, 10, 3)))
    with pytest.raises(DataError, match=r"l01\.png is \(10, 10\) px"):
        source_images.read_area(tmp_path, ENTRY, COLOURS)
    (tmp_path / "i11.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"i11\.png cannot be read"):
        source_images.read_area(tmp_path, ENTRY, COLOURS)


def ground(size: int = 400) -> np.ndarray:
    """Smooth enough for 10 m pixels to tell it: nothing finer than some 60 m."""
    rng = np.random.default_rng(3)
    fine = gaussian_filter(rng.normal(size=(3, size, size)), (0, 15, 15), mode="reflect")
    return (0.12 + 0.02 * fine / fine.std()).astype(np.float32)


def test_composite_and_merged_dates_lie_where_the_ground_is(monkeypatch):
    for name in ("NOISE_SD", "RELATIVE_NOISE_SD", "GAIN_SD", "REGISTRATION_ERROR_M"):
        monkeypatch.setattr(simulated_dates, name, 0.0)
    monkeypatch.setattr(simulated_dates, "RESPONSE", np.eye(3, dtype=np.float32))
    image = ground()
    seen = simulated_dates.simulate(image, 6, np.random.default_rng(1))
    soft = np.stack([gaussian_filter(band, simulated_dates.SIGMA_M) for band in image])
    inner = np.s_[:, 4:-4, 4:-4]

    def off(made: np.ndarray, wanted: np.ndarray) -> float:
        return float(np.abs(made[inner] * 1e-4 - wanted[inner]).max() / image.std())

    at_10m = soft.reshape(3, 40, 10, 40, 10)[:, :, 4:6, :, 4:6].mean((2, 4))
    assert off(seen.composite, at_10m) < 0.03
    assert off(seen.composite, np.roll(at_10m, 1, axis=2)) > 0.3, "a shift of a pixel would be seen"
    assert seen.merged.shape == (len(MERGED_BANDS), 40, 40)
    sharper = np.stack([gaussian_filter(band, 2.5) for band in image])
    for corner, (down, right) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)]):
        wanted = sharper[:, down + 2 :: 10, right + 2 :: 10]
        assert off(seen.merged[3 * corner : 3 * corner + 3], wanted) < 0.1


def test_noise_and_gains_are_what_they_say():
    image = np.full((3, 300, 300), 0.1, np.float32)
    stack = (
        np.stack([simulated_dates.simulate(image, 1, np.random.default_rng(seed)).composite for seed in range(40)])
        * 1e-4
    )
    gains = stack.mean((2, 3)) / (image[:, 0, 0] * simulated_dates.RESPONSE.sum(1))
    assert 0.7 * simulated_dates.GAIN_SD < gains.std() < 1.3 * simulated_dates.GAIN_SD
    noise = (stack - stack.mean((2, 3), keepdims=True)).std()
    # Moving a date by a part of a pixel averages noise: at half a pixel each way Lanczos-3 keeps about three quarters.
    assert 0.6 < noise / (simulated_dates.NOISE_SD + simulated_dates.RELATIVE_NOISE_SD * 0.1) < 1.0


@pytest.mark.parametrize(
    ("length", "splits", "starts"),
    [
        (1632, (0.6, 0.15, 0.25), {"train": [0, 320], "validation": [740], "test": [1160]}),
        (2046, (0.6, 0.15, 0.25), {"train": [0, 320, 640], "validation": [1060], "test": [1480]}),
        (900, (0.6, 0.15, 0.25), {"train": [0], "test": [520]}),
        (100, (0.6, 0.15, 0.25), {}),
    ],
)
def test_splits_get_whole_chips_by_share_with_a_buffer_between(length, splits, starts):
    found = split_chips(length, dict(zip(SPLITS, splits)), 100, 320)
    assert {split: [at for name, at in found if name == split] for split, _ in found} == starts
    assert all(at + 320 <= length for _, at in found)


def make(folder: Path, out: Path, seed: int = 1, **change: Any) -> dict[str, Any]:
    entries = [{**ENTRY, "name": name, "images": f"{name}/i*.png", "labels": f"{name}/l*.png"} for name in ("wide", "high")]  # fmt: skip
    given: dict[str, Any] = {"areas": entries, "colours": COLOURS, "splits": SPLITS, "buffer_m": 20, "chip_m": 160}
    given |= {"dates": 2, "seed": seed} | change
    chips = [out / "chips" / entry["name"] for entry in given["areas"]]
    return textures(
        folder=folder, index=out / "index.parquet", statistics=out / "statistics.json", chips=chips, **given
    )


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "textures"))
    place(source / "wide", 166, 690)
    place(source / "high", 700, 330, seed=1)
    assert make(source, out)["chips"] == {"train": 2 + 4, "validation": 1 + 2, "test": 1 + 2}
    return source, out


def test_chips_are_read_as_those_of_the_dataset(delivered):
    out = delivered[1]
    table = gpd.read_parquet(out / "index.parquet")
    assert table.crs.to_epsg() == 32650 and table["sample_id"].is_unique and len(set(table["minx"])) == len(table)
    chips = ChipDataset(out / "index.parquet", out / "chips", "train", bands=len(RGB) + len(MERGED_BANDS))
    for row in chips.table.itertuples():
        chip = chips.read(row.sample_id)
        assert chip.lr.shape == (15, 16, 16) and chip.hr.shape == (3, 160, 160)
        assert row.isa_fraction == pytest.approx((chip.label == 1).sum() / (chip.label != UNLABELLED).sum())
    told = json.loads((out / "statistics.json").read_text())
    every = np.concatenate([chips.read(name).hr.reshape(3, -1) for name in chips.ids], axis=1)
    assert told["hr"]["mean"] == pytest.approx(every.mean(1).tolist(), rel=1e-5)
    assert len(told["lr"]["mean"]) == 15


def test_chips_of_a_split_lie_apart_from_those_of_others(delivered):
    source, out = delivered
    area = source_images.read_area(source, {**ENTRY, "images": "high/i*.png", "labels": "high/l*.png"}, COLOURS)
    dn = np.rint(area.image * 10_000)
    rows = {split: [] for split in SPLITS}
    table = gpd.read_parquet(out / "index.parquet")
    for row in table[table["reach"] == "high"].itertuples():
        hr = raster_io.read(out / "chips" / row.hr)[0]
        tops = [top for top in range(0, 541, 10) if np.array_equal(hr[:, :, :10], dn[:, top : top + 160, :10])]
        rows[row.split] += tops  # of chips at the western edge
    assert {split: sorted(tops) for split, tops in rows.items()} == {
        "test": [0],
        "validation": [180],
        "train": [360, 520],
    }


def test_chips_made_again_have_the_same_bytes_and_another_seed_others(delivered, tmp_path):
    source, out = delivered
    make(source, tmp_path / "same")
    make(source, tmp_path / "other", seed=2)
    for path in [path for path in out.rglob("*") if path.is_file()]:
        assert path.read_bytes() == (tmp_path / "same" / path.relative_to(out)).read_bytes(), path.name
    name = "chips/wide/wide-0001_lr.tif"
    assert not np.array_equal(raster_io.read(out / name)[0], raster_io.read(tmp_path / "other" / name)[0])


def test_areas_too_small_and_names_given_twice_are_named(delivered, tmp_path):
    source = delivered[0]
    with pytest.raises(DataError, match="no chip of 640 m for split train"):
        make(source, tmp_path / "b", chip_m=640)
    with pytest.raises(DataError, match="have the same name"):
        make(source, tmp_path / "c", areas=[{**ENTRY, "name": "one"}] * 2)
