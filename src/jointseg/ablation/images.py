"""The 1 m images that the segmenter of a variant reads."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from affine import Affine

from jointseg.ablation.variants import BAND_SETS, VARIANTS
from jointseg.models.prog_esrgan import bilinear_rgb
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.bands import RGB, fill_merged
from jointseg.runtime.files import atomic_write
from jointseg.training.patches import SCALE
from jointseg.training.superres_chips import superres_chips


def write_images(
    variant: str, folder: Path, index: Path, statistics: Path, chips: list[Path], start: Path | None
) -> None:
    """Write {id}.tif of each chip for a variant with 1 m images: uint16 reflectance x 10000, nodata 0."""
    spec, root = VARIANTS[variant], Path(chips[0]).parent
    if spec.image == "generator":
        superres_chips(index, statistics, chips, folder, "superres", torch.get_num_threads(), start, spec.channels)
    elif spec.image == "bilinear" and spec.bands != "dates":
        superres_chips(index, statistics, chips, folder, "bilinear", torch.get_num_threads(), None, spec.channels)
    else:
        table = pd.read_parquet(index, columns=["sample_id", "lr", "hr"])
        with atomic_write(folder) as part:
            part.mkdir()
            for chip in table.itertuples():
                path = part / f"{chip.sample_id}.tif"
                if spec.image == "hr":
                    shutil.copyfile(root / chip.hr, path)
                else:
                    dn, transform, crs = raster_io.read(root / chip.lr)
                    grid: dict[str, Any] = {"transform": transform @ Affine.scale(0.1), "crs": crs}
                    image = interleave_and_upsample(fill_merged(dn, len(BAND_SETS["dates"])))
                    cog.write(path, image, nodata=0, descriptions=RGB, **grid)


def interleave_and_upsample(dn: np.ndarray) -> np.ndarray:
    """Arrange RGB and merged bands, uint16 [15, h, w], as 5 m pixels and upsample them to 1 m: uint16 [3, 10 h, 10 w]."""
    upsampled = bilinear_rgb(torch.from_numpy(dn[None].astype(np.float32)), SCALE)
    image = upsampled[0].round().clamp(1, np.iinfo(np.uint16).max).numpy().astype(np.uint16)
    image[:, ~(dn > 0).all(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)] = 0
    return image
