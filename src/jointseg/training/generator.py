"""Common parts of the generator's trainings: data, checkpoints, validation and panel."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from jointseg.models import checkpoint as checkpoints
from jointseg.models.prog_esrgan import STAGE1_SCALE, ProgESRGAN, upsample
from jointseg.models.single_esrgan import SingleESRGAN
from jointseg.runtime.errors import DataError
from jointseg.training import losses
from jointseg.training.compute import device
from jointseg.training.history import History
from jointseg.training.job import NetworkJob, TrainingJob
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.patches import RGB, SCALE, Patches
from jointseg.training.trainer import Trainer

log = logging.getLogger(__name__)

Generator = ProgESRGAN | SingleESRGAN
ARCHITECTURES = ("prog_esrgan", "single_esrgan")
BETAS = (0.9, 0.99)
IMAGES = ("10 m image", "1 m image")  # the first elements of a batch
PANEL_CHIPS, PANEL_PX = 4, 32  # rows of the panel, and the side of its images in 10 m pixels
PSNR_1M, PSNR_25M, BILINEAR_1M, BILINEAR_25M = "psnr_1m", "psnr_2.5m", "bilinear_1m", "bilinear_2.5m"


class TrainingData:
    """Training and validation chips, normalised by the statistics of the dataset."""

    def __init__(self, index: Path, statistics: Path, chips: list[Path], jitter: float) -> None:
        self.normalisation = checkpoints.read_normalisation(statistics)
        root = Path(chips[0]).parent
        self.train = Patches(index, root, "train", self.normalisation, jitter)
        self.validation = Patches(index, root, "validation", self.normalisation)

    @classmethod
    def of_job(cls, job: TrainingJob[Any]) -> "TrainingData":
        return cls(job.index, job.statistics, job.chips, job.training.jitter)


def with_input_bands(model: dict[str, Any], data: TrainingData) -> dict[str, Any]:
    """Return the generator's keyword arguments with the number of input bands, unless the input is RGB."""
    bands = len(data.normalisation["mean"])
    return model if bands == RGB else {**model, "in_channels": bands}


def build(model: dict[str, Any]) -> Generator:
    """Return a generator with random weights: SingleESRGAN if `model` has "generator", else ProgESRGAN."""
    network = SingleESRGAN(**model) if "generator" in model else ProgESRGAN(**model)
    return network.to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load(path: Path, stage: int, model: dict[str, Any], data: TrainingData) -> ProgESRGAN:
    """Return the trainable generator of a checkpoint.

    Raises DataError if the checkpoint has another architecture, size or normalisation, or is not trained up to `stage`.
    """
    network, header = checkpoints.load(path, "prog_esrgan", data.normalisation)
    expected = with_input_bands(model, data)
    if header["architecture"]["kwargs"] != expected:
        raise DataError(
            f"checkpoint {path} was built with {header['architecture']['kwargs']}, expected {expected}; "
            "retrain the earlier stages with this model"
        )
    trained = header["trained"]["stage"]
    if trained < stage:
        raise DataError(
            f"checkpoint {path} is trained up to stage {trained}, expected stage {stage}; train that stage first"
        )
    assert isinstance(network, ProgESRGAN)
    return network.train().to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_complete(path: Path, normalisation: dict[str, list[float]]) -> tuple[nn.Module, dict[str, Any]]:
    """Return the generator of a checkpoint and its header. Raises DataError if it is not trained to 1 m."""
    network, header = checkpoints.load(path, ARCHITECTURES, normalisation)
    if header["trained"]["stage"] < 2:
        raise DataError(f"checkpoint {path} is trained to 2.5 m only; use that of stage 2 or of the adversarial step")
    return network.to(memory_format=torch.channels_last), header  # type: ignore[call-overload]


@torch.no_grad()
def validate(network: Generator, stage: int, chips: Patches, count: int) -> dict[str, float]:
    """Return the PSNR of reflectance in dB over at most `count` chips, with that of bilinear upsampling.

    The keys are psnr_2.5m and bilinear_2.5m, from stage 2 on also psnr_1m and bilinear_1m.
    """
    names = (PSNR_25M, BILINEAR_25M) if stage == 1 else (PSNR_25M, BILINEAR_25M, PSNR_1M, BILINEAR_1M)
    sums = {name: np.zeros(2) for name in names}
    std = torch.from_numpy(chips.std[:RGB]).to(device())
    for chip_id in chips.evenly_spaced(count):
        low, high, valid = (image.to(device()) for image in chips.full_chip(chip_id))
        target_25m, valid_25m = losses.degrade_to_stage1(high, valid)
        image_25m = network.stage1(low)
        pairs: dict[str, tuple[Tensor, Tensor, Tensor]] = {
            PSNR_25M: (image_25m, target_25m, valid_25m),
            BILINEAR_25M: (upsample(low[:, :RGB], STAGE1_SCALE), target_25m, valid_25m),
        }
        if stage > 1:
            pairs |= {
                PSNR_1M: (network.stage2(low, image_25m), high, valid),
                BILINEAR_1M: (upsample(low[:, :RGB], SCALE), high, valid),
            }
        for name, (image, target, mask) in pairs.items():
            sums[name] += losses.squared_error(image * std, target * std, mask)
    return {name: losses.psnr(total, number) for name, (total, number) in sums.items()}


def write_results(trainer: Trainer[Any], stage: int, job: NetworkJob[Any], data: TrainingData) -> dict[str, float]:
    """Write the averaged generator, history and panel, and return the last validation (`validation_gain`).

    `stage` is the last trained one, for the checkpoint's header (3: adversarial).
    """
    network, last = trainer.average.model, trainer.history.rows[-1]
    facts = {"stage": stage, "train_chips": len(data.train.ids), "seed": job.seed, "figures": last}
    architecture = {"name": checkpoints.architecture_name(network), "kwargs": with_input_bands(job.model, data)}
    checkpoints.save(job.checkpoint, network, architecture=architecture, normalisation=data.normalisation, extra=facts)
    trainer.history.write(job.history)
    write_panel(job.panel, trainer.panel(network, trainer.history))
    return validation_gain(last)


def validation_gain(metrics: dict[str, float]) -> dict[str, float]:
    """Return the PSNR gain over bilinear upsampling in dB at the finest validated scale; log a warning if it is <= 0."""
    psnr, bilinear = (PSNR_1M, BILINEAR_1M) if PSNR_1M in metrics else (PSNR_25M, BILINEAR_25M)
    gain = metrics[psnr] - metrics[bilinear]
    if not gain > 0:
        log.warning(
            "the network is not better than bilinear upsampling on the validation chips: %.2f dB against %.2f dB (%s); "
            "train for more steps or check the registration of the chips",
            *(metrics[psnr], metrics[bilinear], psnr),
        )
    return {psnr: metrics[psnr], bilinear: metrics[bilinear], "gain_db": gain}


def panel_drawer(stage: int, data: TrainingData, curves: list[list[str]]) -> Callable[[Generator, History], Figure]:
    """Return the function that draws a training's panel: `curves` of its history above images."""
    return lambda network, history: draw_panel(history, curves, *panel_images(network, stage, data))


@torch.no_grad()
def panel_images(network: Generator, stage: int, data: TrainingData) -> tuple[list[list[np.ndarray]], list[str]]:
    """Return rows of images of fixed validation chips, and the titles of their columns."""
    chips = data.validation
    rows = []
    for chip_id in chips.evenly_spaced(PANEL_CHIPS):
        low, high, valid = (image.to(device()) for image in chips.full_chip(chip_id))
        side = min(PANEL_PX, *low.shape[-2:])
        low = low[..., :side, :side]
        high, valid = (image[..., : side * SCALE, : side * SCALE] for image in (high, valid))
        image_25m = network.stage1(low)
        third = network.stage2(low, image_25m) if stage > 1 else losses.degrade_to_stage1(high, valid)[0]
        images = [upsample(low[:, :RGB], SCALE), image_25m, third, torch.where(valid > 0, high, torch.nan)]
        rows.append([to_display(chips.reflectance(image)) for image in images])
    return rows, ["Sentinel-2, bilinear", "2.5 m", "1 m" if stage > 1 else "Jilin-1 at 2.5 m", "Jilin-1"]
