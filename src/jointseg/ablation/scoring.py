"""What one trained variant is worth on the test chips: pixel counts by zone, and how like the true image its image is."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from affine import Affine
from torch import Tensor

from jointseg.ablation.mapping import ChipPrediction, Predictor
from jointseg.accuracy.assess import references
from jointseg.accuracy.cluster_estimators import CELLS, UNKNOWN, cells
from jointseg.accuracy.zones import zones
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

SAVED_CHIPS = 4  # test chips whose image and map are kept for the panels


def score(
    chips: Patches,
    mapper: Predictor,
    threshold: float,
    normalisation: dict[str, list[float]],
    root: list[Path],
    truth: Path | None,
    year: int,
    pictures: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Maps every chip and scores it.

    Args:
        chips: of the test split.
        mapper: the variant.
        threshold: probability from which a pixel is ISA.
        normalisation: of the bands of `chips`.
        root: the chip folders.
        truth, year: folder of {year}/{reach}.tif, where the true map is known.
        pictures: folder to make: {id}_image.tif and {id}_isa.tif of some chips.

    Returns:
        Pixel counts, a row by chip, reference and zone; and scores of the image, a row a chip (none without image).
    """
    backbone = backbones.load("efficientnet_lite0").to(device())
    pictured, counted, likeness = chips.evenly_spaced(SAVED_CHIPS), [], []
    with atomic_write(pictures) as folder:
        folder.mkdir()
        for row in track(list(chips.dataset.table.itertuples()), "scores of test chips", unit="chip"):
            chip, mapped = chips.dataset.read(row.sample_id), mapper(row.sample_id)
            unknown = np.isnan(chip.lr).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
            isa = np.where(unknown, UNKNOWN, mapped.probability >= threshold).astype(np.uint8)
            fraction, transform, crs = raster_io.read(chips.dataset.root / row.fraction)
            parts = zones(chip.label, fraction)
            for reference, expected in references(row, root, truth, year).items():
                counted += [
                    {"sample_id": row.sample_id, "reference": reference, "zone": zone}
                    | dict(zip((*CELLS, "unknown"), cells(np.where(inside, isa, UNKNOWN), expected)))
                    for zone, inside in parts.items()
                ]
            if mapped.image is not None:
                found = _image_scores(mapped.image, chip.hr, chip.lr, backbone, normalisation)
                likeness.append({"sample_id": row.sample_id, **found})
            if row.sample_id in pictured:
                _picture(folder, row.sample_id, mapped, isa, transform, crs)
    return pd.DataFrame(counted), pd.DataFrame(likeness)


def _image_scores(
    image: np.ndarray,
    hr: np.ndarray,
    lr: np.ndarray,
    backbone: backbones.Backbone,
    normalisation: dict[str, list[float]],
) -> dict[str, float]:
    """The scores of an image [3, 10h, 10w] beside the true one and the 10 m bands [bands, h, w], reflectance."""
    seen = np.isfinite(lr[: len(RGB)]).all(0).repeat(SCALE, 0).repeat(SCALE, 1)
    valid = np.isfinite(hr).all(0) & np.isfinite(image).all(0) & seen
    made, wanted, low, known = (_batch(np.nan_to_num(each)) for each in (image, hr, lr[: len(RGB)], valid[None]))
    return scores.score(made, wanted, low, known, backbone=backbone, normalisation=normalisation)


def _batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float32))[None].to(device())


def _picture(folder: Path, chip_id: str, mapped: ChipPrediction, isa: np.ndarray, transform: Affine, crs: str) -> None:
    at: dict[str, Any] = {"transform": transform, "crs": crs}
    cog.write(folder / f"{chip_id}_isa.tif", isa[None], nodata=UNKNOWN, **at)
    if mapped.image is not None:
        dn = np.clip(np.rint(mapped.image / REFLECTANCE_PER_DN), 1, np.iinfo(np.uint16).max)
        image = np.where(np.isfinite(mapped.image), dn, 0).astype(np.uint16)
        cog.write(folder / f"{chip_id}_image.tif", image, nodata=0, descriptions=RGB, **at)
