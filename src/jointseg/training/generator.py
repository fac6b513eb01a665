"""What the three trainings of the generator share: data, checkpoints, validation and panel."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jointseg.models import checkpoint as checkpoints
from jointseg.models.prog_esrgan import STAGE1_SCALE, ProgESRGAN, upsample
from jointseg.models.single_esrgan import SingleESRGAN
from jointseg.runtime.errors import DataError
from jointseg.training import losses
from jointseg.training.compute import device
from jointseg.training.history import History
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.patches import RGB, SCALE, Patches
from jointseg.training.resume import TrainingState
from jointseg.training.trainer import Trainer

log = logging.getLogger(__name__)

Generator = ProgESRGAN | SingleESRGAN
ARCHITECTURES = ("prog_esrgan", "single_esrgan")
BETAS = (0.9, 0.99)
IMAGES = ("10 m image", "1 m image")  # the first parts of a batch
PANEL_CHIPS, PANEL_PX = 4, 32  # rows of the panel, and 10 m pixels along the side of its pictures
PSNR_1M, PSNR_25M, BILINEAR_1M, BILINEAR_25M = "psnr_1m", "psnr_2.5m", "bilinear_1m", "bilinear_2.5m"


class TrainingData:
    """Training and validation chips with the normalisation of the dataset's statistics."""

    def __init__(self, index: Path, statistics: Path, chips: list[Path], jitter: float) -> None:
        self.normalisation = checkpoints.normalisation_of(json.loads(Path(statistics).read_text()))
        root = Path(chips[0]).parent
        self.train = Patches(index, root, "train", self.normalisation, jitter)
        self.validation = Patches(index, root, "validation", self.normalisation)


def with_input_bands(model: dict[str, Any], data: TrainingData) -> dict[str, Any]:
    """The generator's keyword arguments: those of the config, and how many bands the 10 m images have besides RGB."""
    bands = len(data.normalisation["mean"])
    return model if bands == RGB else {**model, "in_channels": bands}


def build(model: dict[str, Any]) -> Generator:
    """The generator with random weights: {"stage1": kwargs, "stage2": kwargs} of Prog-ESRGAN, {"generator": kwargs} of
    the single-stage one."""
    network = SingleESRGAN(**model) if "generator" in model else ProgESRGAN(**model)
    return network.to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load(path: Path, stage: int, model: dict[str, Any], data: TrainingData) -> ProgESRGAN:
    """The trainable generator of a checkpoint.

    Raises:
        DataError: the checkpoint is of another kind, layout or normalisation, or not trained up to `stage`.
    """
    network, header = checkpoints.load(path, "prog_esrgan", data.normalisation)
    if header["architecture"]["kwargs"] != with_input_bands(model, data):
        raise DataError(
            f"checkpoint {path} was built with {header['architecture']['kwargs']}, expected {with_input_bands(model, data)}; "
            "train the earlier stages again with this model"
        )
    trained = header["trained"]["stage"]
    if trained < stage:
        raise DataError(f"checkpoint {path} is trained up to stage {trained}, expected stage {stage}; train that first")
    assert isinstance(network, ProgESRGAN)
    return network.train().to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def state(module: str, given: dict[str, Any], others: Sequence[Path | None]) -> TrainingState:
    """Where a half-done training is kept.

    Args:
        given: the arguments of the step.
        others: what it reads beside the dataset.
    """
    inputs = [given["index"], given["statistics"], *given["chips"], *others]
    settings = {name: given[name] for name in ("model", "training", "seed", "threads")}
    return TrainingState(given["state"], module, inputs, settings)


@torch.no_grad()
def validate(network: Generator, stage: int, chips: Patches, count: int) -> dict[str, float]:
    """PSNR of reflectance in dB over at most `count` whole chips, beside that of bilinear upsampling.

    Returns:
        psnr_2.5m and bilinear_2.5m, from stage 2 on also psnr_1m and bilinear_1m.
    """
    names = (PSNR_25M, BILINEAR_25M) if stage == 1 else (PSNR_25M, BILINEAR_25M, PSNR_1M, BILINEAR_1M)
    sums = {name: np.zeros(2) for name in names}
    std = torch.from_numpy(chips.std[:RGB]).to(device())
    for chip_id in chips.spread(count):
        low, high, valid = (image.to(device()) for image in chips.whole(chip_id))
        middle, middle_valid = losses.degrade_to_stage1(high, valid)
        made_middle = network.stage1(low)
        pairs: dict[str, tuple[Tensor, Tensor]] = {
            PSNR_25M: (made_middle, middle),
            BILINEAR_25M: (upsample(low[:, :RGB], STAGE1_SCALE), middle),
        }
        if stage > 1:
            pairs |= {
                PSNR_1M: (network.stage2(low, made_middle), high),
                BILINEAR_1M: (upsample(low[:, :RGB], SCALE), high),
            }
        for name, (made, wanted) in pairs.items():
            known = middle_valid if wanted is middle else valid
            sums[name] += losses.squared_error(made * std, wanted * std, known)
    return {name: losses.psnr(total, number) for name, (total, number) in sums.items()}


def write_results(
    trainer: Trainer[Any],
    stage: int,
    model: dict[str, Any],
    data: TrainingData,
    checkpoint: Path,
    history: Path,
    panel: Path,
) -> dict[str, float]:
    """Writes the averaged generator, history and panel; the last figures (`judge`).

    `trained` in the checkpoint's header says up to which stage (3: adversarial).
    """
    network, last = trainer.average.model, trainer.history.rows[-1]
    facts = {"stage": stage, "train_chips": len(data.train.ids), "seed": trainer.seed, "figures": last}
    architecture = {"name": checkpoints.architecture_name(network), "kwargs": with_input_bands(model, data)}
    checkpoints.save(checkpoint, network, architecture=architecture, normalisation=data.normalisation, extra=facts)
    trainer.history.write(history)
    write_panel(panel, trainer.panel(network, trainer.history))
    return validation_gain(last)


def validation_gain(last: dict[str, float]) -> dict[str, float]:
    """The gain over bilinear upsampling in dB at the finest scale validated; a warning when there is none."""
    made, base = (PSNR_1M, BILINEAR_1M) if PSNR_1M in last else (PSNR_25M, BILINEAR_25M)
    gain = last[made] - last[base]
    if not gain > 0:
        log.warning(
            "the network does not beat bilinear upsampling on the validation chips: %.2f dB against %.2f dB (%s)",
            last[made],
            last[base],
            made,
        )
    return {made: last[made], base: last[base], "gain_db": gain}


def panel_drawer(stage: int, data: TrainingData, curves: list[list[str]]) -> Callable[[Generator, History], Figure]:
    """Draws the panel of a training: `curves` of its history above pictures."""
    return lambda network, history: draw_panel(history, curves, *panel_images(network, stage, data))


@torch.no_grad()
def panel_images(network: Generator, stage: int, data: TrainingData) -> tuple[list[list[np.ndarray]], list[str]]:
    """Rows of fixed validation chips, and what their columns show: bilinear, 2.5 m, 1 m (from stage 2 on), the truth."""
    chips = data.validation
    rows = []
    for chip_id in chips.spread(PANEL_CHIPS):
        low, high, valid = (image.to(device()) for image in chips.whole(chip_id))
        side = min(PANEL_PX, *low.shape[-2:])
        low, high, valid = low[..., :side, :side], high[..., : side * SCALE, : side * SCALE], valid[..., : side * SCALE, : side * SCALE]  # fmt: skip
        middle = network.stage1(low)
        last = network.stage2(low, middle) if stage > 1 else losses.degrade_to_stage1(high, valid)[0]
        images = [upsample(low[:, :RGB], SCALE), middle, last, torch.where(valid > 0, high, torch.nan)]
        rows.append([to_display(_reflectance(image, chips)) for image in images])
    return rows, ["Sentinel-2, bilinear", "2.5 m", "1 m" if stage > 1 else "Jilin-1 at 2.5 m", "Jilin-1"]


def _reflectance(image: Tensor, chips: Patches) -> np.ndarray:
    return image[0].cpu().numpy() * chips.std[:RGB] + chips.mean[:RGB]
