"""Joint fine-tuning: reproducible bytes, gradients through the image, checkpoints for inference."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from affine import Affine
from safetensors.torch import load_file
from support.tiny_networks import GENERATOR, SEGMENTER

from jointseg.inference.predictor import Predictor
from jointseg.models import checkpoint
from jointseg.models.mask_loss import LossWeights
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.raster import cog
from jointseg.runtime.errors import DataError
from jointseg.training import generator as generators
from jointseg.training import joint as joints
from jointseg.training import resume as states
from jointseg.training.joint import JointNetwork, joint

SIDE_PX = 200
NORMALISATION = {"mean": [0.15] * 3, "std": [0.09] * 3}
LOSS = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1, "dense_weight": 10.0, "pixel_weight": 0.0, "points": 128}  # fmt: skip
TRAINING: dict[str, Any] = {
    "steps": 2,
    "batch": 2,
    "crop_px": 160,
    "learning_rate": 1e-3,
    "generator_learning_rate": 1e-3,
    "warmup": 1,
    "schedule": "constant",
    "ema": 0.9,
    "clip": 1.0,
    "validate_every": 1,
    "precision": "fp32",
    "devices": 1,
    "jitter": 0.0,
    "image": 1.0,
    "consistency": 1.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chips whose bright part is impervious, one with a 10 m nodata pixel, and the checkpoints to start from."""
    root, rng, rows = tmp_path_factory.mktemp("joint"), np.random.default_rng(0), []
    for number, split in enumerate(("train", "train", "validation")):
        label = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        label[:, : 70 + 40 * number] = 1
        high = (600 + 1800 * label.astype(int) + rng.integers(0, 300, (3, SIDE_PX, SIDE_PX))).astype(np.uint16)
        low = high.reshape(3, SIDE_PX // 10, 10, SIDE_PX // 10, 10).mean((2, 4)).astype(np.uint16)
        if split == "validation":
            low[:, 2, 3] = 0
        name = f"upstream-{number:04d}"
        for kind, image, pixel, nodata in (("lr", low, 10, 0), ("hr", high, 1, 0), ("label", label[None], 1, 255)):
            transform = Affine(pixel, 0, 660000, 0, -pixel, 3540000)
            path = root / "chips/upstream" / f"{name}_{kind}.tif"
            cog.write(path, image, crs="EPSG:32650", transform=transform, nodata=nodata)
        files = {kind: f"upstream/{name}_{kind}.tif" for kind in ("lr", "hr", "label")}
        rows.append({"sample_id": name, "split": split, **files})
    pd.DataFrame(rows).to_parquet(root / "index.parquet")
    (root / "statistics.json").write_text(json.dumps({"lr": NORMALISATION}))
    save(root / "superres.safetensors", "prog_esrgan", GENERATOR, {"stage": 2})
    save(root / "segmentation.safetensors", "mask2former", SEGMENTER, {"method": "superres", "threshold": 0.5})
    return root


def save(path: Path, name: str, kwargs: dict[str, Any], trained: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = checkpoint.build(name, **kwargs)
    checkpoint.save(path, network, architecture={"name": name, "kwargs": kwargs}, normalisation=NORMALISATION, extra=trained)  # fmt: skip


def run(
    folder: Path, out: Path, starts: dict[str, Path] | None = None, state: str | None = None, **training: Any
) -> dict[str, Any]:
    checkpoints = {"superres": folder / "superres.safetensors", "segmentation": folder / "segmentation.safetensors"}
    return joint(
        index=folder / "index.parquet",
        statistics=folder / "statistics.json",
        chips=[folder / "chips/upstream"],
        **(checkpoints | (starts or {})),
        generator=out / "generator.safetensors",
        segmenter=out / "segmenter.safetensors",
        history=out / "joint.csv",
        panel=out / "joint.png",
        training={**TRAINING, **training},
        loss=LOSS,
        seed=7,
        threads=1,
        state=state,
    )


def training_data(folder: Path) -> generators.TrainingData:
    return generators.TrainingData(
        folder / "index.parquet", folder / "statistics.json", [folder / "chips/upstream"], 0.0
    )


def make_network() -> JointNetwork:
    torch.manual_seed(0)
    return JointNetwork(ProgESRGAN(**GENERATOR), checkpoint.build("mask2former", **SEGMENTER))


def test_the_same_seed_gives_the_same_bytes_and_both_networks_learn(folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(folder, tmp_path / name)
    for file in ("generator.safetensors", "segmenter.safetensors", "joint.csv", "joint.png"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    for start, trained in (("superres", "generator"), ("segmentation", "segmenter")):
        before, after = load_file(folder / f"{start}.safetensors"), load_file(tmp_path / f"first/{trained}.safetensors")
        assert before.keys() == after.keys()
        assert sum(not torch.equal(value, after[name]) for name, value in before.items()) > 0.5 * len(before)
    rows = list(csv.DictReader((tmp_path / "first/joint.csv").open()))
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert not rows[0]["segmentation"] and float(rows[0]["psnr_1m"]) > 0 and float(rows[2]["l1_10m"]) > 0


def test_a_resumed_training_ends_with_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "SAVE_INTERVAL_S", 0.0)
    run(folder, tmp_path / "uninterrupted", steps=3)
    steps, loss_terms = [], joints.loss_terms

    def stop(*arguments: Any) -> dict[str, torch.Tensor]:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return loss_terms(*arguments)

    state = str(tmp_path / "state.pt")
    with monkeypatch.context() as patch:
        patch.setattr(joints, "loss_terms", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "resumed", state=state, steps=3)
    assert Path(state).exists()
    with monkeypatch.context() as patch:
        patch.setattr(joints, "loss_terms", lambda *arguments: (steps.append(1), loss_terms(*arguments))[1])
        run(folder, tmp_path / "resumed", state=state, steps=3)
    assert len(steps) == 4 and not Path(state).exists()
    for file in ("generator.safetensors", "segmenter.safetensors", "joint.csv", "joint.png"):
        assert (tmp_path / "uninterrupted" / file).read_bytes() == (tmp_path / "resumed" / file).read_bytes(), file


def test_bf16_trains_both_networks(folder: Path, tmp_path: Path) -> None:
    facts = run(folder, tmp_path, steps=1, precision="bf16")
    assert facts["psnr_1m"] > 0


def test_inference_uses_the_recomputed_threshold(folder: Path, tmp_path: Path) -> None:
    facts = run(folder, tmp_path)
    files = tmp_path / "segmenter.safetensors", tmp_path / "generator.safetensors"
    predictor = Predictor.load("superres", *files)
    assert predictor.threshold == facts["threshold"]
    generator, header = checkpoint.load(files[1], "prog_esrgan", NORMALISATION)
    assert header["trained"]["stage"] == 4 and header["trained"]["joint"]
    segmenter, header = checkpoint.load(files[0], "mask2former", NORMALISATION)
    assert header["trained"]["validation_f1"] == facts["validation_f1"] and header["trained"]["joint"]
    chip = training_data(folder).validation
    low, _, _ = chip.full_chip(chip.ids[0])
    valid = np.isfinite(chip.dataset.read(chip.ids[0]).lr).all(0)
    dn = np.rint(np.nan_to_num(chip.dataset.read(chip.ids[0]).lr) * 1e4).astype(np.uint16)
    with torch.inference_mode():
        expected = JointNetwork(generator, segmenter)(low)[1][0].numpy()
    np.testing.assert_allclose(predictor.probability(dn, valid), expected, atol=1e-4)


def test_bright_pixels_become_impervious(folder: Path, tmp_path: Path) -> None:
    facts = run(
        folder, tmp_path, steps=40, validate_every=40, learning_rate=3e-3, generator_learning_rate=3e-3, image=100.0
    )
    rows = list(csv.DictReader((tmp_path / "joint.csv").open()))
    assert facts["validation_f1"] > 0.9 > float(rows[0]["validation_f1"])
    assert facts["psnr_1m"] > facts["psnr_before"]


def test_all_losses_have_gradients_in_the_first_layer_of_the_generator(folder: Path) -> None:
    network = make_network()
    batch = joints.joint_batch(training_data(folder).train, 7, 0, range(2), 160)
    terms = joints.loss_terms(network, batch, LossWeights(**LOSS), "fp32")  # type: ignore[arg-type]
    first = network.generator.generator1.conv_first.weight
    for name in ("segmentation", "l1_1m", "l1_10m"):
        (gradient,) = torch.autograd.grad(terms[name], first, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_a_batch_depends_only_on_seed_step_and_index(folder: Path) -> None:
    chips = training_data(folder).train
    three, last = joints.joint_batch(chips, 7, 5, range(3), 160), joints.joint_batch(chips, 7, 5, [2], 160)
    assert all(torch.equal(short, long[2:]) for short, long in zip(last, three, strict=True))
    for seed, step in ((7, 6), (8, 5)):
        assert not torch.equal(last[0], joints.joint_batch(chips, seed, step, [2], 160)[0])


def test_image_and_label_are_aligned(folder: Path) -> None:
    low, high, valid, label, seeds = joints.joint_batch(training_data(folder).train, 7, 0, range(8), 160)
    assert len(set(seeds.tolist())) == 8
    assert low.shape == (8, 3, 16, 16) and high.shape == (8, 3, 160, 160) and label.shape == (8, 160, 160)
    assert bool(valid.all()) and label.dtype == torch.uint8
    bright = label.unsqueeze(1).expand_as(high) == 1
    assert high[bright].min() > high[~bright].max()
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(high, 10), low, rtol=0, atol=2e-3)


def test_pixels_without_clear_observation_are_neither_trained_nor_scored(folder: Path) -> None:
    chips = training_data(folder).validation
    chip = chips.dataset.read(chips.ids[0])
    label = joints.mask_unobserved(chip.lr, chip.label)
    assert (label[20:30, 30:40] == 255).all() and (label == 255).sum() == 100
    counts, _ = joints.evaluate(make_network().eval(), chips)
    assert counts.sum() == SIDE_PX**2 - 100


def test_unsuitable_inputs_are_errors(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "stage1.safetensors", "prog_esrgan", GENERATOR, {"stage": 1})
    save(tmp_path / "bilinear.safetensors", "mask2former", SEGMENTER, {"method": "bilinear"})
    with pytest.raises(DataError, match=r"trained to 2\.5 m only"):
        run(folder, tmp_path, {"superres": tmp_path / "stage1.safetensors"})
    with pytest.raises(DataError, match="trained on bilinear images"):
        run(folder, tmp_path, {"segmentation": tmp_path / "bilinear.safetensors"})
    with pytest.raises(DataError, match="is 20 x 20 px at 10 m; patch_px 32"):
        run(folder, tmp_path, crop_px=320)
    assert not list(tmp_path.glob("joint.*"))


def test_warning_if_the_training_does_not_improve_f1(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(folder, tmp_path, steps=1, learning_rate=1e-12, generator_learning_rate=1e-12)
    assert "joint training did not improve the validation F1" in caplog.text
