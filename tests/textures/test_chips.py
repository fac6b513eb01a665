"""Chips from high-resolution images: mosaics, labels, geometry and noise of the simulated Sentinel-2 dates, splits."""

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

COLOURS = {"FF0000": "building", "00FF00": "road", "0000FF": "none", "000000": "unlabelled"}
ENTRY: dict[str, Any] = {"images": "i*.png", "labels": "l*.png", "columns": 2}
SPLITS = {"train": 0.5, "validation": 0.25, "test": 0.25}


def save_rgb(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def write_tiles(folder: Path, height: int = 200, width: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Write four tiles of a textured area and their labels; return the image and the label of the area."""
    rng = np.random.default_rng(seed)
    soft = gaussian_filter(rng.normal(size=(height, width)), 8)
    rgb = np.clip(128 + 400 * soft, 20, 235)[..., None] + np.array([0, 5, 10])
    label = np.zeros((height, width, 3)) + np.array([0, 0, 255])
    label[20:60, 30:90] = [255, 0, 0]
    label[100:110] = [0, 255, 0]
    label[:5, :7] = 0
    for row in range(2):
        for col in range(2):
            tile = np.s_[row * height // 2 : (row + 1) * height // 2, col * width // 2 : (col + 1) * width // 2]
            save_rgb(folder / f"i{row}{col}.png", rgb[tile])
            save_rgb(folder / f"l{row}{col}.png", label[tile])
    return np.clip(rgb, 0, 255).astype(np.uint8), label.astype(np.uint8)


def test_tiles_are_joined_and_colours_become_labels(tmp_path):
    rgb, label = write_tiles(tmp_path)
    area = source_images.read_area(tmp_path, ENTRY, COLOURS)
    assert np.array_equal(np.rint(255 * np.sqrt(area.image / source_images.MAX_REFLECTANCE)), np.moveaxis(rgb, 2, 0))
    unlabelled = (label == 0).all(-1)
    assert np.array_equal(area.label == UNLABELLED, unlabelled)
    assert np.array_equal(area.label == 1, (label[..., 0] == 255) | (label[..., 1] == 255))
    bands = dict(zip(("isa", *ISA_KINDS), area.fraction))
    assert (bands["building"] == 10_000).sum() == 40 * 60 and (bands["road"] == 10_000).sum() == 10 * 200
    assert (area.fraction[:, unlabelled] == FRACTION_NODATA).all()


@pytest.mark.parametrize(
    ("change", "colours", "message"),
    [
        ({"images": "x*.png"}, COLOURS, r"x\*\.png matches no image"),
        ({"labels": "l0*.png"}, COLOURS, "matches 2 labels for 4 images"),
        ({"columns": 3}, COLOURS, "4 tiles do not fill rows of 3"),
        ({}, {"FF0000": "building"}, "has the undefined colour 000000; add it to"),
    ],
)
def test_error_names_inconsistent_input(change, colours, message, tmp_path):
    write_tiles(tmp_path)
    with pytest.raises(DataError, match=message):
        source_images.read_area(tmp_path, ENTRY | change, colours)


def test_error_names_label_of_another_size_and_damaged_image(tmp_path):
    write_tiles(tmp_path)
    save_rgb(tmp_path / "l01.png", np.zeros((10, 10, 3)))
    with pytest.raises(DataError, match=r"l01\.png is \(10, 10\) px"):
        source_images.read_area(tmp_path, ENTRY, COLOURS)
    (tmp_path / "i11.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"i11\.png cannot be read"):
        source_images.read_area(tmp_path, ENTRY, COLOURS)


def smooth_image(size: int = 400) -> np.ndarray:
    """Return an image that 10 m pixels resolve: no detail finer than about 60 m."""
    rng = np.random.default_rng(3)
    fine = gaussian_filter(rng.normal(size=(3, size, size)), (0, 15, 15), mode="reflect")
    return (0.12 + 0.02 * fine / fine.std()).astype(np.float32)


def test_composite_and_merged_dates_are_aligned_with_the_image(monkeypatch):
    for name in ("NOISE_SD", "RELATIVE_NOISE_SD", "GAIN_SD", "REGISTRATION_ERROR_M"):
        monkeypatch.setattr(simulated_dates, name, 0.0)
    monkeypatch.setattr(simulated_dates, "RESPONSE", np.eye(3, dtype=np.float32))
    image = smooth_image()
    images = simulated_dates.simulate(image, 6, np.random.default_rng(1))
    blurred = np.stack([gaussian_filter(band, simulated_dates.SIGMA_M) for band in image])
    inner = np.s_[:, 4:-4, 4:-4]

    def error(simulated: np.ndarray, expected: np.ndarray) -> float:
        return float(np.abs(simulated[inner] * 1e-4 - expected[inner]).max() / image.std())

    at_10m = blurred.reshape(3, 40, 10, 40, 10)[:, :, 4:6, :, 4:6].mean((2, 4))
    assert error(images.composite, at_10m) < 0.03
    assert error(images.composite, np.roll(at_10m, 1, axis=2)) > 0.3, "a shift of one pixel must be detected"
    assert images.merged.shape == (len(MERGED_BANDS), 40, 40)
    sharper = np.stack([gaussian_filter(band, 2.5) for band in image])
    for corner, (down, right) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)]):
        expected = sharper[:, down + 2 :: 10, right + 2 :: 10]
        assert error(images.merged[3 * corner : 3 * corner + 3], expected) < 0.1


def test_noise_and_gains_have_the_specified_standard_deviation():
    image = np.full((3, 300, 300), 0.1, np.float32)
    stack = (
        np.stack([simulated_dates.simulate(image, 1, np.random.default_rng(seed)).composite for seed in range(40)])
        * 1e-4
    )
    gains = stack.mean((2, 3)) / (image[:, 0, 0] * simulated_dates.RESPONSE.sum(1))
    assert 0.7 * simulated_dates.GAIN_SD < gains.std() < 1.3 * simulated_dates.GAIN_SD
    noise = (stack - stack.mean((2, 3), keepdims=True)).std()
    # A subpixel shift averages noise: at half a pixel along both axes Lanczos-3 keeps about three quarters.
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
def test_splits_get_chips_by_fraction_with_a_buffer_in_between(length, splits, starts):
    chips = split_chips(length, dict(zip(SPLITS, splits)), 100, 320)
    assert {split: [at for name, at in chips if name == split] for split, _ in chips} == starts
    assert all(at + 320 <= length for _, at in chips)


def run_textures(folder: Path, out: Path, seed: int = 1, **change: Any) -> dict[str, Any]:
    entries = [{**ENTRY, "name": name, "images": f"{name}/i*.png", "labels": f"{name}/l*.png"} for name in ("wide", "high")]  # fmt: skip
    settings: dict[str, Any] = {"areas": entries, "colours": COLOURS, "splits": SPLITS, "buffer_m": 20, "chip_m": 160}
    settings |= {"dates": 2, "seed": seed} | change
    chips = [out / "chips" / entry["name"] for entry in settings["areas"]]
    return textures(
        folder=folder, index=out / "index.parquet", statistics=out / "statistics.json", chips=chips, **settings
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "textures"))
    write_tiles(source / "wide", 166, 690)
    write_tiles(source / "high", 700, 330, seed=1)
    assert run_textures(source, out)["chips"] == {"train": 2 + 4, "validation": 1 + 2, "test": 1 + 2}
    return source, out


def test_chips_have_the_format_of_the_dataset(finished):
    out = finished[1]
    table = gpd.read_parquet(out / "index.parquet")
    assert table.crs.to_epsg() == 32650 and table["sample_id"].is_unique and len(set(table["minx"])) == len(table)
    chips = ChipDataset(out / "index.parquet", out / "chips", "train", bands=len(RGB) + len(MERGED_BANDS))
    for row in chips.table.itertuples():
        chip = chips.read(row.sample_id)
        assert chip.lr.shape == (15, 16, 16) and chip.hr.shape == (3, 160, 160)
        assert row.isa_fraction == pytest.approx((chip.label == 1).sum() / (chip.label != UNLABELLED).sum())
    statistics = json.loads((out / "statistics.json").read_text())
    pixels = np.concatenate([chips.read(name).hr.reshape(3, -1) for name in chips.ids], axis=1)
    assert statistics["hr"]["mean"] == pytest.approx(pixels.mean(1).tolist(), rel=1e-5)
    assert len(statistics["lr"]["mean"]) == 15


def test_splits_are_separated_by_the_buffer(finished):
    source, out = finished
    area = source_images.read_area(source, {**ENTRY, "images": "high/i*.png", "labels": "high/l*.png"}, COLOURS)
    dn = np.rint(area.image * 10_000)
    rows = {split: [] for split in SPLITS}
    table = gpd.read_parquet(out / "index.parquet")
    for row in table[table["reach"] == "high"].itertuples():
        hr = raster_io.read(out / "chips" / row.hr)[0]
        tops = [top for top in range(0, 541, 10) if np.array_equal(hr[:, :, :10], dn[:, top : top + 160, :10])]
        rows[row.split] += tops  # chips at the western edge
    assert {split: sorted(tops) for split, tops in rows.items()} == {
        "test": [0],
        "validation": [180],
        "train": [360, 520],
    }


def test_equal_seeds_give_equal_bytes(finished, tmp_path):
    source, out = finished
    run_textures(source, tmp_path / "same")
    run_textures(source, tmp_path / "other", seed=2)
    for path in [path for path in out.rglob("*") if path.is_file()]:
        assert path.read_bytes() == (tmp_path / "same" / path.relative_to(out)).read_bytes(), path.name
    name = "chips/wide/wide-0001_lr.tif"
    assert not np.array_equal(raster_io.read(out / name)[0], raster_io.read(tmp_path / "other" / name)[0])


def test_error_names_split_without_chips_and_duplicate_area_name(finished, tmp_path):
    source = finished[0]
    with pytest.raises(DataError, match="no chip of 640 m for split train"):
        run_textures(source, tmp_path / "b", chip_m=640)
    with pytest.raises(DataError, match="have the same name"):
        run_textures(source, tmp_path / "c", areas=[{**ENTRY, "name": "one"}] * 2)
