"""Scores of a trained variant on the test chips: pixel counts by zone, and image quality."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from affine import Affine
from torch import Tensor

from jointseg.ablation.mapping import ChipPrediction, Predictor
from jointseg.accuracy.assess import reference_rasters
from jointseg.accuracy.cluster_estimators import NODATA, named_counts
from jointseg.accuracy.zones import zone_masks
from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.bands import RGB
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track
from jointseg.training import backbone as backbones
from jointseg.training import scores
from jointseg.training.compute import device
from jointseg.training.patches import SCALE, Patches

EXAMPLE_CHIPS = 4  # test chips whose image and map are saved for the panels


def score(
    chips: Patches,
    predict: Predictor,
    threshold: float,
    normalisation: dict[str, list[float]],
    chip_folders: list[Path],
    truth: Path | None,
    year: int,
    examples: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict and score all test chips.

    Return the pixel counts, one row per chip, reference and zone, and the image scores, one row per chip (none without
    image).

    Args:
        chips: test split.
        threshold: probability from which a pixel is ISA.
        normalisation: of the bands of `chips`.
        truth, year: folder of {year}/{reach}.tif, if there is a true map.
        examples: folder to write, {id}_image.tif and {id}_isa.tif of some chips.
    """
    backbone = backbones.load("efficientnet_lite0").to(device())
    example_ids, counts, image_scores = chips.evenly_spaced(EXAMPLE_CHIPS), [], []
    with atomic_write(examples) as folder:
        folder.mkdir()
        for row in track(list(chips.dataset.table.itertuples()), "score test chips", unit="chip"):
            chip, predicted = chips.dataset.read(row.sample_id), predict(row.sample_id)
            nodata = np.isnan(chip.lr).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
            isa = np.where(nodata, NODATA, predicted.probability >= threshold).astype(np.uint8)
            fraction, transform, crs = raster_io.read(chips.dataset.root / row.fraction)
            masks = zone_masks(chip.label, fraction)
            for reference, expected in reference_rasters(row, chip_folders, truth, year).items():
                counts += [
                    {"sample_id": row.sample_id, "reference": reference, "zone": zone}
                    | named_counts(np.where(inside, isa, NODATA), expected)
                    for zone, inside in masks.items()
                ]
            if predicted.image is not None:
                found = _image_scores(predicted.image, chip.hr, chip.lr, backbone, normalisation)
                image_scores.append({"sample_id": row.sample_id, **found})
            if row.sample_id in example_ids:
                _write_example(folder, row.sample_id, predicted, isa, transform, crs)
    return pd.DataFrame(counts), pd.DataFrame(image_scores)


def _image_scores(
    image: np.ndarray,
    hr: np.ndarray,
    lr: np.ndarray,
    backbone: backbones.Backbone,
    normalisation: dict[str, list[float]],
) -> dict[str, float]:
    """Score an image [3, 10h, 10w] against the true one and the 10 m bands [bands, h, w], all reflectance."""
    observed = np.isfinite(lr[: len(RGB)]).all(0).repeat(SCALE, 0).repeat(SCALE, 1)
    valid = np.isfinite(hr).all(0) & np.isfinite(image).all(0) & observed
    sr, true, low, mask = (_batch(np.nan_to_num(array)) for array in (image, hr, lr[: len(RGB)], valid[None]))
    return scores.score(sr, true, low, mask, backbone=backbone, normalisation=normalisation)


def _batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float32))[None].to(device())


def _write_example(
    folder: Path, chip_id: str, predicted: ChipPrediction, isa: np.ndarray, transform: Affine, crs: str
) -> None:
    grid: dict[str, Any] = {"transform": transform, "crs": crs}
    cog.write(folder / f"{chip_id}_isa.tif", isa[None], nodata=NODATA, **grid)
    if predicted.image is not None:
        dn = np.clip(np.rint(predicted.image / REFLECTANCE_PER_DN), 1, np.iinfo(np.uint16).max)
        image = np.where(np.isfinite(predicted.image), dn, 0).astype(np.uint16)
        cog.write(folder / f"{chip_id}_image.tif", image, nodata=0, descriptions=RGB, **grid)
