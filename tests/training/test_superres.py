"""Training of the generator: reproducible bytes, decreasing losses, checkpoints, images for the segmenter."""

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
from affine import Affine
from safetensors.torch import load_file
from support.tiny_networks import GENERATOR, STAGE
from support.tiny_training import CHIP_PX, GAN_TRAINING, L1_TRAINING, STAGE2_TRAINING, make, outputs, run

from jointseg.models import checkpoint as checkpoints
from jointseg.models.rrdb import RRDBNet
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.training import adversarial, generator
from jointseg.training.adversarial import superres_adversarial
from jointseg.training.settings import AdversarialSettings
from jointseg.training.superres import superres_stage1, superres_stage2
from jointseg.training.superres_chips import superres_chips


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def trained(dataset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """The outputs of the three steps, run once, one after the other."""
    files = {name: outputs(tmp_path_factory.mktemp(name)) for name in ("stage1", "stage2", "adversarial")}
    files["adversarial"]["discriminators"] = files["adversarial"]["checkpoint"].with_name("discriminators.safetensors")
    common = {**dataset, "model": GENERATOR, "seed": 5, "threads": 1}
    superres_stage1(**common, **files["stage1"], training=L1_TRAINING)
    superres_stage2(**common, **files["stage2"], training=STAGE2_TRAINING, stage1=files["stage1"]["checkpoint"])
    superres_adversarial(**common, **files["adversarial"], training=GAN_TRAINING, stage2=files["stage2"]["checkpoint"])
    return files


def test_steps_write_their_files(trained: dict[str, dict[str, Path]]) -> None:
    for files in trained.values():
        assert all(path.stat().st_size > 0 for path in files.values())
        rows = list(csv.DictReader(files["history"].open()))
        assert [row["step"] for row in rows] == ["2", "3"]
        assert all(math.isfinite(float(value)) for row in rows for value in row.values())


def test_training_is_byte_reproducible(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    common = {**dataset, "model": GENERATOR, "seed": 5, "threads": 1}
    first = outputs(tmp_path / "first")
    superres_stage1(**common, **first, training=L1_TRAINING)
    for name, path in first.items():
        assert path.read_bytes() == trained["stage1"][name].read_bytes(), name
    last = {**outputs(tmp_path / "last"), "discriminators": tmp_path / "last" / "discriminators.safetensors"}
    superres_adversarial(**common, **last, training=GAN_TRAINING, stage2=trained["stage2"]["checkpoint"])
    for name, path in last.items():
        assert path.read_bytes() == trained["adversarial"][name].read_bytes(), name


def test_another_seed_gives_other_weights(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    files = outputs(tmp_path)
    superres_stage1(**dataset, **files, model=GENERATOR, training=L1_TRAINING, seed=6, threads=1)
    assert files["checkpoint"].read_bytes() != trained["stage1"]["checkpoint"].read_bytes()


def test_stage_1_initialised_from_a_public_generator(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    public = RRDBNet(**STAGE, scale=4).state_dict()
    torch.save({"params_ema": public}, tmp_path / "public.pth")
    files = outputs(tmp_path)
    settings = {**L1_TRAINING, "steps": 1, "learning_rate": 1e-9, "warmup": 0}
    common = {**dataset, **files, "model": GENERATOR, "training": settings, "seed": 5, "threads": 1}
    superres_stage1(**common, pretrained=tmp_path / "public.pth")
    weights = load_file(files["checkpoint"])
    assert weights["generator1.trunk_conv.weight"].allclose(public["trunk_conv.weight"], atol=1e-6)
    assert not weights["generator1.conv_last.weight"].allclose(public["conv_last.weight"], atol=1e-3)
    with pytest.raises(DataError, match=r"has conv_first\.weight of shape \(8, 3, 3, 3\), expected \(12, 3, 3, 3\)"):
        superres_stage1(**{**common, "model": {**GENERATOR, "stage1": {**STAGE, "features": 12}}}, pretrained=tmp_path / "public.pth")  # fmt: skip


def test_the_number_of_bands_is_that_of_the_statistics(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    statistics = json.loads(dataset["statistics"].read_text())
    statistics["lr"] = {name: [*values, values[0]] for name, values in statistics["lr"].items()}
    dataset["statistics"].write_text(json.dumps(statistics))
    for path in tmp_path.rglob("*_lr.tif"):
        dn, transform, crs = raster_io.read(path)
        cog.write(path, np.concatenate([dn, dn[:1]]), crs=crs, transform=transform, nodata=0)
    common = {**dataset, "model": GENERATOR, "seed": 5, "threads": 1}
    first, second = outputs(tmp_path / "stage1"), outputs(tmp_path / "stage2")
    superres_stage1(**common, **first, training=L1_TRAINING)
    superres_stage2(**common, **second, training=STAGE2_TRAINING, stage1=first["checkpoint"])
    network, header = checkpoints.load(second["checkpoint"], "prog_esrgan", statistics["lr"])
    assert header["architecture"]["kwargs"] == {**GENERATOR, "in_channels": 4}
    assert network.generator1.conv_first.weight.shape[1] == 4
    superres_chips(**dataset, images=tmp_path / "images", method="superres", threads=1, superres=second["checkpoint"])
    for path in (tmp_path / "images").iterdir():
        assert raster_io.read(path)[0].shape[0] == 3


def test_stage2_changes_only_its_own_weights(trained: dict[str, dict[str, Path]]) -> None:
    before, after = (load_file(trained[name]["checkpoint"]) for name in ("stage1", "stage2"))
    first = [name for name in before if name.startswith("generator1.")]
    assert first and all(torch.equal(before[name], after[name]) for name in first)
    assert not torch.equal(before["generator2.conv_last.weight"], after["generator2.conv_last.weight"])


def test_stage2_trains_stage1_if_its_loss_has_a_weight(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    files = outputs(tmp_path)
    training = {**STAGE2_TRAINING, "stage1_weight": 0.3}
    start = trained["stage1"]["checkpoint"]
    superres_stage2(**dataset, **files, model=GENERATOR, training=training, seed=5, threads=1, stage1=start)
    before, after = load_file(start), load_file(files["checkpoint"])
    assert not torch.equal(before["generator1.conv_last.weight"], after["generator1.conv_last.weight"])


def test_both_stages_overfit_one_chip(dataset: dict[str, Any], tmp_path: Path) -> None:
    index = gpd.read_parquet(dataset["index"]).iloc[:1]
    two = gpd.GeoDataFrame(
        [
            {**index.iloc[0], "sample_id": f"reach-{n}", "split": split}
            for n, split in enumerate(("train", "validation"))
        ],
        crs="EPSG:4326",
    )
    two.to_parquet(tmp_path / "index.parquet")
    data = {**dataset, "index": tmp_path / "index.parquet"}
    model = {stage: {**kwargs, "features": 16, "growth": 8, "tail": 8} for stage, kwargs in GENERATOR.items()}
    training = {**L1_TRAINING, "steps": 60, "batch": 4, "patch_px": CHIP_PX, "learning_rate": 5e-3}
    training |= {"warmup": 10, "validate_every": 10}
    one, two_files = outputs(tmp_path / "one"), outputs(tmp_path / "two")
    facts1 = superres_stage1(**data, **one, model=model, training=training, seed=1, threads=1)
    facts2 = superres_stage2(
        **data,
        **two_files,
        model=model,
        training={**training, "stage1_weight": 0.0},
        seed=1,
        threads=1,
        stage1=one["checkpoint"],
    )
    for files, name in ((one, "l1_2.5m"), (two_files, "l1_1m")):
        series = [float(row[name]) for row in csv.DictReader(files["history"].open())]
        assert series[-1] < 0.7 * series[0]
    assert facts1["gain_db"] > 1 and facts2["gain_db"] > 1


def test_an_unsuitable_checkpoint_is_an_error(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    files = outputs(tmp_path)
    common = {**dataset, **files, "seed": 5, "threads": 1}
    start = trained["stage1"]["checkpoint"]
    other = {**GENERATOR, "stage1": {**STAGE, "features": 12}}
    with pytest.raises(DataError, match="was built with"):
        superres_stage2(**common, model=other, training=STAGE2_TRAINING, stage1=start)
    with pytest.raises(DataError, match="expected a 'prog_esrgan'"):
        superres_stage2(
            **common, model=GENERATOR, training=STAGE2_TRAINING, stage1=trained["adversarial"]["discriminators"]
        )
    with pytest.raises(DataError, match="up to stage 1, expected stage 2"):
        superres_adversarial(
            **common, discriminators=tmp_path / "d.safetensors", model=GENERATOR, training=GAN_TRAINING, stage2=start
        )
    bands = {"mean": [0.2, 0.2, 0.2], "std": [0.04, 0.04, 0.04]}
    (tmp_path / "statistics.json").write_text(json.dumps({"lr": bands}))
    changed = {**common, "statistics": tmp_path / "statistics.json"}
    with pytest.raises(DataError, match="normalisation"):
        superres_stage2(**changed, model=GENERATOR, training=STAGE2_TRAINING, stage1=start)
    assert not any(path.exists() for path in files.values())


def test_a_patch_larger_than_the_chip_and_an_unknown_precision_are_errors(
    dataset: dict[str, Any], tmp_path: Path
) -> None:
    common = {**dataset, **outputs(tmp_path), "model": GENERATOR, "seed": 5, "threads": 1}
    with pytest.raises(DataError, match="patch_px 12"):
        superres_stage1(**common, training={**L1_TRAINING, "patch_px": 12})
    with pytest.raises(DataError, match="precision 'fp16'"):
        superres_stage1(**common, training={**L1_TRAINING, "precision": "fp16"})


def test_bf16_trains_close_to_fp32(dataset: dict[str, Any], tmp_path: Path) -> None:
    common = {**dataset, "model": GENERATOR, "seed": 5, "threads": 1}
    full, half = outputs(tmp_path / "full"), outputs(tmp_path / "half")
    facts = superres_stage1(**common, **full, training=L1_TRAINING)
    facts_half = superres_stage1(**common, **half, training={**L1_TRAINING, "precision": "bf16"})
    assert facts_half["psnr_2.5m"] == pytest.approx(facts["psnr_2.5m"], abs=0.1)
    assert full["checkpoint"].read_bytes() != half["checkpoint"].read_bytes()


@pytest.mark.parametrize("kind", ["stage1", "stage2", "adversarial"])
def test_shifts_lower_the_loss_from_one_pixel_of_the_grid(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path, kind: str
) -> None:
    start = trained["stage2" if kind == "adversarial" else "stage1"]["checkpoint"]
    losses = {}
    for shift_m in (0.0, 0.9, 5.0):
        run(kind, dataset["index"].parent, tmp_path / str(shift_m), start, shift_m=shift_m, steps=1)
        row = next(csv.DictReader((tmp_path / str(shift_m) / "history.csv").open()))
        losses[shift_m] = float(row["l1_2.5m" if kind == "stage1" else "l1_1m"])
    assert losses[0.0] == losses[0.9] != losses[5.0]


def test_warning_if_the_network_is_not_better_than_bilinear(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        generator.validation_gain({"psnr_1m": 31.0, "bilinear_1m": 30.0})
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert generator.validation_gain({"psnr_2.5m": 29.0, "bilinear_2.5m": 30.0})["gain_db"] == -1.0
    assert "not better than bilinear" in caplog.text


def test_both_discriminators_are_in_one_file(trained: dict[str, dict[str, Path]]) -> None:
    names = load_file(trained["adversarial"]["discriminators"])
    assert {name.split(".")[0] for name in names} == {"2_5m", "1m"}


def test_weighted_sum_of_terms_and_scales() -> None:
    names = [f"{kind}_{scale}" for scale in ("2.5m", "1m") for kind in ("l1", "perceptual", "adversarial")]
    terms = {name: torch.tensor(1.0) for name in names}
    weights = {"l1": 1.0, "perceptual": 0.5, "adversarial": 0.25, "stage1_weight": 0.1}
    assert adversarial.weighted_sum(
        terms, AdversarialSettings.read({**GAN_TRAINING, **weights})
    ).item() == pytest.approx(1.1 * 1.75)


@pytest.mark.parametrize("method", ["superres", "bilinear"])
def test_images_are_written_for_every_chip(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path, method: str
) -> None:
    path = trained["adversarial"]["checkpoint"] if method == "superres" else None
    facts = superres_chips(**dataset, images=tmp_path / "images", method=method, threads=1, superres=path)
    names = sorted(file.name for file in (tmp_path / "images").iterdir())
    assert names == [f"reach-{number:04d}.tif" for number in range(5)] and facts == {"chips": 5}
    image, transform, crs = raster_io.read(tmp_path / "images" / "reach-0004.tif")
    assert (image.dtype, image.shape, crs) == (np.uint16, (3, 80, 80), "EPSG:32650")
    assert transform == Affine(1, 0, 660000, 0, -1, 3540000)
    assert not image[:, :10, :10].any() and bool((image[:, 10:, 10:] > 0).all())


def test_bilinear_image_between_two_pixel_centres(dataset: dict[str, Any], tmp_path: Path) -> None:
    superres_chips(**dataset, images=tmp_path / "images", method="bilinear", threads=1)
    low = raster_io.read(dataset["chips"][0] / "reach-0000_lr.tif")[0].astype(float)
    image = raster_io.read(tmp_path / "images" / "reach-0000.tif")[0]
    # The 1 m pixel 9 is 0.45 of a 10 m pixel right of the centre of pixel 0; rows 0-4 are above any centre.
    np.testing.assert_allclose(image[:, 0, 9], 0.55 * low[:, 0, 0] + 0.45 * low[:, 0, 1], atol=0.51)


def test_an_invalid_method_or_checkpoint_of_images_is_an_error(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    common = {**dataset, "images": tmp_path / "images", "threads": 1}
    for method, path in (("superres", None), ("bilinear", trained["stage2"]["checkpoint"]), ("cubic", None)):
        with pytest.raises(DataError, match="use 'superres' with a checkpoint or 'bilinear' without one"):
            superres_chips(**common, method=method, superres=path)
    with pytest.raises(DataError, match=r"2\.5 m only"):
        superres_chips(**common, method="superres", superres=trained["stage1"]["checkpoint"])
    assert not (tmp_path / "images").exists()


def test_checkpoint_header_has_stage_and_chips(trained: dict[str, dict[str, Path]]) -> None:
    for stage, name in enumerate(("stage1", "stage2", "adversarial"), start=1):
        _, header = checkpoints.load(trained[name]["checkpoint"], "prog_esrgan")
        assert header["trained"]["stage"] == stage and header["trained"]["train_chips"] == 3


def test_the_perceptual_backbone_is_read_from_the_settings(
    dataset: dict[str, Any], trained: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    root, start = dataset["index"].parent, trained["stage2"]["checkpoint"]
    with pytest.raises(DataError, match="perceptual backbone 'vgg19'"):
        run("adversarial", root, tmp_path, start, perceptual_backbone="vgg19")
