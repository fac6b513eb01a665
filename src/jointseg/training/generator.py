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
from jointseg.training import loop, losses
from jointseg.training.loop import History, device, to_display, write_panel
from jointseg.training.patches import RGB, SCALE, Patches
from jointseg.training.resume import State
from jointseg.training.trainer import Trainer

log = logging.getLogger(__name__)

Generator = ProgESRGAN | SingleESRGAN
ARCHITECTURES = ("prog_esrgan", "single_esrgan")
BETAS = (0.9, 0.99)
IMAGES = ("10 m image", "1 m image")  # the first parts of a batch
PANEL_CHIPS, PANEL_PX = 4, 32  # rows of the panel, and 10 m pixels along the side of its pictures
PSNR_1M, PSNR_25M, BILINEAR_1M, BILINEAR_25M = "psnr_1m", "psnr_2.5m", "bilinear_1m", "bilinear_2.5m"


class Data:
    """Training and validation chips with the normalisation of the dataset's statistics."""

    def __init__(self, index: Path, statistics: Path, chips: list[Path], jitter: float) -> None:
        self.normalisation = checkpoints.normalisation_of(json.loads(Path(statistics).read_text()))
        root = Path(chips[0]).parent
        self.train = Patches(index, root, "train", self.normalisation, jitter)
        self.validation = Patches(index, root, "validation", self.normalisation)


def sized(model: dict[str, Any], data: Data) -> dict[str, Any]:
    """The generator's keyword arguments: those of the config, and how many bands the 10 m images have besides RGB."""
    bands = len(data.normalisation["mean"])
    return model if bands == RGB else {**model, "in_channels": bands}


def build(model: dict[str, Any]) -> Generator:
    """The generator with random weights: {"stage1": kwargs, "stage2": kwargs} of Prog-ESRGAN, {"generator": kwargs} of
    the single-stage one."""
    network = SingleESRGAN(**model) if "generator" in model else ProgESRGAN(**model)
    return network.to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load(path: Path, stage: int, model: dict[str, Any], data: Data) -> ProgESRGAN:
    """The trainable generator of a checkpoint.

    Raises:
        DataError: the checkpoint is of another kind, layout or normalisation, or not trained up to `stage`.
    """
    network, header = checkpoints.load(path, "prog_esrgan", data.normalisation)
    if header["architecture"]["kwargs"] != sized(model, data):
        raise DataError(
            f"checkpoint {path} was built with {header['architecture']['kwargs']}, expected {sized(model, data)}; "
            "train the earlier stages again with this model"
        )
    trained = header["trained"]["stage"]
    if trained < stage:
        raise DataError(f"checkpoint {path} is trained up to stage {trained}, expected stage {stage}; train that first")
    assert isinstance(network, ProgESRGAN)
    return network.train().to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def state(module: str, given: dict[str, Any], others: Sequence[Path | None]) -> State:
    """Where a half-done training is kept.

    Args:
        given: the arguments of the step.
        others: what it reads beside the dataset.
    """
    inputs = [given["index"], given["statistics"], *given["chips"], *others]
    settings = {name: given[name] for name in ("model", "training", "seed", "threads")}
    return State(given["state"], module, inputs, settings)


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


def finish(
    trainer: Trainer[Any],
    stage: int,
    model: dict[str, Any],
    data: Data,
    checkpoint: Path,
    history: Path,
    panel: Path,
) -> dict[str, float]:
    """Writes the averaged generator, history and panel; the last figures (`judge`).

    `trained` in the checkpoint's header says up to which stage (3: adversarial).
    """
    network, last = trainer.average.model, trainer.history.rows[-1]
    facts = {"stage": stage, "train_chips": len(data.train.ids), "seed": trainer.seed, "figures": last}
    architecture = {"name": checkpoints.name_of(network), "kwargs": sized(model, data)}
    checkpoints.save(checkpoint, network, architecture=architecture, normalisation=data.normalisation, extra=facts)
    trainer.history.write(history)
    write_panel(panel, trainer.panel(network, trainer.history))
    return judge(last)


def judge(last: dict[str, float]) -> dict[str, float]:
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


def panel(stage: int, data: Data, curves: list[list[str]]) -> Callable[[Generator, History], Figure]:
    """Draws the panel of a training: `curves` of its history above pictures."""
    return lambda network, history: loop.panel(history, curves, *pictures(network, stage, data))


@torch.no_grad()
def pictures(network: Generator, stage: int, data: Data) -> tuple[list[list[np.ndarray]], list[str]]:
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
