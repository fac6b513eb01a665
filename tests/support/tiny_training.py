"""A dataset of a few chips and trainings of every kind with a few steps."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from affine import Affine
from shapely.geometry import box
from support.tiny_networks import GENERATOR, SEGMENTER

from jointseg.raster import cog
from jointseg.training.adversarial import superres_adversarial
from jointseg.training.segmentation import segmentation
from jointseg.training.superres import superres_stage1, superres_stage2

CHIP_PX = 8
COMMON: dict[str, Any] = {"steps": 3, "batch": 2, "warmup": 1, "ema": 0.9, "validate_every": 2}
L1_TRAINING: dict[str, Any] = {**COMMON, "patch_px": 4, "learning_rate": 1e-3, "validation_chips": 2}
STAGE2_TRAINING = {**L1_TRAINING, "stage1_weight": 0.0}
GAN_TRAINING = {
    **L1_TRAINING,
    "stage1_weight": 0.5,
    "perceptual": 0.1,
    "adversarial": 0.05,
    "discriminator_features": 4,
}
SEGMENTATION_TRAINING: dict[str, Any] = {
    **COMMON,
    "crop_px": 64,
    "learning_rate": 3e-3,
    "jitter": 0.05,
    "dense_weight": 10.0,
    "pixel_weight": 10.0,
    "points": 256,
}
KINDS = ("stage1", "stage2", "adversarial", "segmentation")


def write_chip(folder: Path, name: str, fine_dn: np.ndarray, nodata_at_10m: bool = False) -> None:
    """Write a 1 m image, its 10 m average and its bright pixels as label, as the files of a chip."""
    side = fine_dn.shape[-1]
    low = fine_dn.reshape(3, side // 10, 10, side // 10, 10).mean((2, 4)).astype(np.uint16)
    if nodata_at_10m:
        low[:, 0, 0] = 0
    fine, coarse = (Affine(pixel, 0, 660000, 0, -pixel, 3540000) for pixel in (1, 10))
    cog.write(folder / f"{name}_lr.tif", low, transform=coarse, crs="EPSG:32650", nodata=0)
    cog.write(folder / f"{name}_hr.tif", fine_dn, transform=fine, crs="EPSG:32650", nodata=0)
    label = (fine_dn.mean(0, keepdims=True) > 1650).astype(np.uint8)
    cog.write(folder / f"{name}_label.tif", label, transform=fine, crs="EPSG:32650", nodata=255)


def make(root: Path) -> dict[str, Any]:
    """Write five chips of random 20 m blocks, three for training, one for validation, one for test with a nodata pixel.

    Returns:
        The inputs of a step: index, statistics and chips.
    """
    rng = np.random.default_rng(3)
    rows = []
    for number, split in enumerate(("train", "train", "train", "validation", "test")):
        name = f"reach-{number:04d}"
        blocks = rng.integers(300, 3000, (3, CHIP_PX // 2, CHIP_PX // 2))
        fine = blocks.repeat(20, 1).repeat(20, 2).astype(np.uint16)
        write_chip(root / "chips" / "reach", name, fine, split == "test")
        profile = {"crs": "EPSG:32650", "transform": Affine(1, 0, 660000, 0, -1, 3540000), "nodata": 0}
        cog.write(root / "images" / f"{name}.tif", fine, **profile)
        files = {kind: f"reach/{name}_{kind}.tif" for kind in ("lr", "hr", "label")}
        rows.append({"sample_id": name, "split": split, "geometry": box(0, 0, 1, 1), **files})
    gpd.GeoDataFrame(rows, crs="EPSG:4326").to_parquet(root / "index.parquet")
    bands = {"mean": [0.165, 0.165, 0.165], "std": [0.078, 0.078, 0.078]}
    (root / "statistics.json").write_text(json.dumps({"lr": bands, "hr": bands}))
    return {"index": root / "index.parquet", "statistics": root / "statistics.json", "chips": [root / "chips/reach"]}


def outputs(folder: Path) -> dict[str, Path]:
    return {
        "checkpoint": folder / "model.safetensors",
        "history": folder / "history.csv",
        "panel": folder / "panel.png",
    }


def run(kind: str, root: Path, out: Path, start: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Run one training on the dataset in `root` and return its facts.

    Args:
        start: checkpoint from which stage 2 or the adversarial training starts.
        changes: settings of the training, or `state`, `events`, `model`, `seed`, `drop_path`.
    """
    job = {
        "index": root / "index.parquet",
        "statistics": root / "statistics.json",
        "chips": [root / "chips/reach"],
        **outputs(out),
        "seed": changes.pop("seed", 5),
        "threads": 1,
        "state": changes.pop("state", None),
        "events": changes.pop("events", None),
    }
    if kind == "segmentation":
        model = {**SEGMENTER, "drop_path": changes.pop("drop_path", 0.0)}
        training = SEGMENTATION_TRAINING | changes
        return segmentation(**job, images=root / "images", method="superres", model=model, training=training)
    job["model"] = changes.pop("model", GENERATOR)
    if kind == "stage1":
        return superres_stage1(**job, training=L1_TRAINING | changes)
    if kind == "stage2":
        return superres_stage2(**job, training=STAGE2_TRAINING | changes, stage1=start)
    files = {"discriminators": out / "discriminators.safetensors", "stage2": start}
    return superres_adversarial(**job, **files, training=GAN_TRAINING | changes)
