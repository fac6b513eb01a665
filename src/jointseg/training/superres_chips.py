"""1 m images of the chips, on which the segmenter is trained: super-resolved, or bilinear as the baseline."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from affine import Affine
from torch import nn

from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.models import checkpoint as checkpoints
from jointseg.models.prog_esrgan import segmenter_input, upsample
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.bands import COMPOSITE_BANDS, fill_merged
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track
from jointseg.training.generator import load_complete
from jointseg.training.patches import RGB, SCALE

MAX_DN = np.iinfo(np.uint16).max


def superres_chips(
    index: Path,
    statistics: Path,
    chips: list[Path],
    images: Path,
    method: str,
    threads: int,
    superres: Path | None = None,
    channels: int = RGB,
) -> dict[str, int]:
    """Write {id}.tif for every chip of every split: uint16 reflectance x 10000 at 1 m, nodata 0.

    The network reads the mean at nodata of the 10 m image, as in inference; the 1 m image is nodata there. The method
    is "superres" (generator of the checkpoint `superres`) or "bilinear" (no checkpoint); `channels` as in
    `super_resolve`. Raises DataError if the method is unknown or does not match `superres`, or the checkpoint is not
    trained to 1 m or has another normalisation.
    """
    torch.set_num_threads(threads)
    normalisation = checkpoints.read_normalisation(statistics)
    network = _generator(method, superres, normalisation)
    mean, std = (np.asarray(normalisation[key], dtype=np.float32)[:, None, None] for key in ("mean", "std"))
    table = pd.read_parquet(index, columns=["sample_id", "lr"]).sort_values("sample_id")
    root = Path(chips[0]).parent
    with atomic_write(images) as folder:
        folder.mkdir()
        for chip in track(list(table.itertuples()), f"chips at 1 m, {method}", unit="chip"):
            dn, transform, crs = raster_io.read(root / chip.lr)
            cog.write(
                folder / f"{chip.sample_id}.tif",
                super_resolve(dn, network, mean, std, channels),
                crs=crs,
                transform=transform @ Affine.scale(1 / SCALE),
                nodata=0,
                descriptions=COMPOSITE_BANDS[:channels],
            )
    return {"chips": len(table)}


@torch.inference_mode()
def super_resolve(
    dn: np.ndarray, network: nn.Module | None, mean: np.ndarray, std: np.ndarray, channels: int = RGB
) -> np.ndarray:
    """Convert uint16 [bands, h, w] at 10 m to uint16 [channels, 10 h, 10 w] at 1 m, reflectance x 10000, nodata 0.

    Args:
        dn: nodata 0; bands as in `bands.band_names`, at least those of `mean`.
        network: generator; None for bilinear upsampling of the first three bands.
        mean, std: float32 [bands, 1, 1] in reflectance.
        channels: 3 for RGB, 4 with upsampled near infrared.
    """
    dn = fill_merged(dn, len(mean))
    valid = (dn > 0).all(axis=0)
    low = np.where(valid, (dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN) - mean) / std, np.float32(0))
    x = torch.from_numpy(low)[None].contiguous(memory_format=torch.channels_last)
    rgb = upsample(x[:, :RGB], SCALE) if network is None else network(x)[1]
    reflectance = segmenter_input(rgb, x, channels)[0].numpy() * std[:channels] + mean[:channels]
    # At least 1, because 0 is nodata.
    image = np.clip(np.rint(reflectance / REFLECTANCE_PER_DN), 1, MAX_DN).astype(np.uint16)
    image[:, ~valid.repeat(SCALE, 0).repeat(SCALE, 1)] = 0
    return image


def _generator(method: str, path: Path | None, normalisation: dict[str, list[float]]) -> nn.Module | None:
    if method == "bilinear" and path is None:
        return None
    if method != "superres" or path is None:
        raise DataError(
            f"method {method!r} with the super-resolution checkpoint {path} is invalid; "
            "use 'superres' with a checkpoint or 'bilinear' without one"
        )
    return load_complete(path, normalisation)[0]
