import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from affine import Affine
from support.tiny_networks import SEGMENTER
from support.tiny_training import SEGMENTATION_TRAINING as TRAINING

from jointseg.models.checkpoint import load
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.training.image_chips import ImageChips
from jointseg.training.segmentation import segmentation
from jointseg.training.settings import SegmentationSettings
from jointseg.training.threshold import best_threshold, f1_iou

SIDE_PX = 80


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six chips whose bright part is impervious; the images have a nodata corner."""
    rng, rows = np.random.default_rng(0), []
    profile: dict[str, Any] = {"crs": "EPSG:32650", "transform": Affine(1, 0, 660000, 0, -1, 3540000)}
    for number in range(6):
        label = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        label[:, : 20 + 8 * number] = 1
        image = (600 + 1800 * label.astype(np.int64) + rng.integers(0, 200, (3, SIDE_PX, SIDE_PX))).astype(np.uint16)
        image[:, :4, :4] = 0
        label[-3:] = 255
        name = f"upstream-{number:04d}"
        cog.write(tmp_path / "chips/upstream" / f"{name}_label.tif", label[None], nodata=255, **profile)
        cog.write(tmp_path / "images" / f"{name}.tif", image, nodata=0, **profile)
        split = "train" if number < 4 else "validation"
        rows.append({"sample_id": name, "split": split, "label": f"upstream/{name}_label.tif"})
    pd.DataFrame(rows).to_parquet(tmp_path / "index.parquet")
    (tmp_path / "statistics.json").write_text(json.dumps({"lr": {"mean": [0.15] * 3, "std": [0.09] * 3}}))
    return tmp_path


def run(folder: Path, out: Path, **training: Any) -> dict[str, Any]:
    return segmentation(
        index=folder / "index.parquet",
        statistics=folder / "statistics.json",
        images=folder / "images",
        chips=[folder / "chips/upstream"],
        checkpoint=out / "s.safetensors",
        history=out / "s.csv",
        panel=out / "s.png",
        method="superres",
        model=SEGMENTER,
        training={**TRAINING, **training},
        seed=7,
        threads=1,
    )


def train_chips(folder: Path) -> ImageChips:
    normalisation = {"mean": [0.15] * 3, "std": [0.09] * 3}
    return ImageChips(folder / "index.parquet", folder / "chips", "train", folder / "images", normalisation, 3)


def test_the_same_seed_gives_the_same_bytes(folder: Path) -> None:
    for name in ("first", "second"):
        run(folder, folder / name)
    for name in ("s.safetensors", "s.csv", "s.png"):
        assert (folder / "first" / name).read_bytes() == (folder / "second" / name).read_bytes(), name


def test_bright_pixels_become_impervious(folder: Path) -> None:
    facts = run(folder, folder / "out", steps=40, validate_every=20)
    assert facts["validation_f1"] > 0.9
    model, header = load(folder / "out/s.safetensors", "mask2former", {"mean": [0.15] * 3, "std": [0.09] * 3})
    assert header["trained"]["threshold"] == facts["threshold"]
    assert header["trained"]["chips"] == {"train": 4, "validation": 2}
    x = torch.full((1, 3, 64, 64), -1.0)
    x[:, :, :24] = 1.0
    with torch.inference_mode():
        probability = model(x)[0, 0]
    assert probability[:20].mean() > facts["threshold"] > probability[28:].mean()
    history = pd.read_csv(folder / "out/s.csv")
    assert history["step"].tolist() == [20, 40]
    assert history["loss"][1] < history["loss"][0]


def test_nodata_is_at_the_mean_and_unlabelled(folder: Path) -> None:
    chips = train_chips(folder)
    image, label = chips.read("upstream-0000")
    normalised = chips.normalise(image, 1.1)
    assert (label[:4, :4] == 255).all() and (label[-3:] == 255).all() and (label[4:-3] != 255).all()
    assert (normalised[:, :4, :4] == 0).all()
    expected = (image[:, 10, 10].astype(float) * 1e-4 * 1.1 - 0.15) / 0.09
    assert normalised[:, 10, 10] == pytest.approx(expected, abs=1e-5)


def test_image_and_label_of_a_crop_are_aligned(folder: Path) -> None:
    settings = SegmentationSettings.read({**TRAINING, "jitter": 0.0})
    x, label, _ = train_chips(folder).batch(1, 0, range(16), settings)
    assert x.shape == (16, 3, 64, 64) and x.dtype == torch.float32 and label.dtype == torch.uint8
    labelled = (label != 255).unsqueeze(1).expand_as(x)
    bright = (label == 1).unsqueeze(1).expand_as(x)
    assert (x[labelled & bright] > 0.5).all() and (x[labelled & ~bright] < 0).all()


def test_a_chip_smaller_than_the_crop_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"upstream-000\d is \(80, 80\) px; crop_px 96"):
        run(folder, folder / "out", crop_px=96)


def test_an_image_of_another_size_is_an_error(folder: Path) -> None:
    path = folder / "images/upstream-0001.tif"
    image, transform, crs = raster_io.read(path)
    cog.write(path, image[:, :64], crs=crs, transform=transform, nodata=0)
    with pytest.raises(DataError, match=r"upstream-0001\.tif is \(3, 64, 80\), expected 3 bands of \(80, 80\)"):
        train_chips(folder).read("upstream-0001")


@pytest.mark.parametrize("change", [{"step": 3}, {"steps": None}])
def test_unknown_and_missing_settings_are_errors(change: dict[str, Any]) -> None:
    training = {key: value for key, value in {**TRAINING, **change}.items() if value is not None}
    with pytest.raises(DataError, match=next(iter(change))):
        SegmentationSettings.read(training)


def test_f1_and_iou_of_counts() -> None:
    counts = np.zeros((2, 100), np.int64)
    counts[1, 80], counts[1, 30], counts[0, 60], counts[0, 10] = 6, 2, 4, 100
    assert f1_iou(counts, 0.5) == pytest.approx((12 / (12 + 4 + 2), 6 / 12))
    assert f1_iou(counts, 0.7) == pytest.approx((12 / (12 + 2), 6 / 8))
    assert best_threshold(counts) == pytest.approx(0.61)  # F1 is equal from 0.61 to 0.80; the nearest to 0.5 wins


def test_f1_and_iou_without_impervious_pixels_are_zero() -> None:
    assert f1_iou(np.zeros((2, 100), np.int64), 0.5) == (0, 0)
