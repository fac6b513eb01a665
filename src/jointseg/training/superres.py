"""Super-resolution by L1: stage 1 (10 m to 2.5 m), then stage 2 (to 1 m)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from jointseg.models import public_weights
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.progress import track
from jointseg.training import generator, losses
from jointseg.training.loop import Average, Descent, learning_rate, prepare


def superres_stage1(
    index: Path,
    statistics: Path,
    chips: list[Path],
    checkpoint: Path,
    history: Path,
    panel: Path,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    threads: int,
    pretrained: Path | None = None,
) -> dict[str, Any]:
    """Trains stage 1 against the 1 m chip averaged to 2.5 m; the checkpoint holds stage 2 still untrained.

    Args:
        index, statistics: of the dataset.
        chips: the chip folders of the reaches.
        checkpoint, history, panel: what to write (safetensors, CSV, PNG).
        model: {"stage1": kwargs, "stage2": kwargs} of ProgESRGAN.
        training: steps, batch, patch_px (10 m pixels), learning_rate, warmup (steps), schedule, ema (decay), clip
            (gradient norm), validate_every (steps), validation_chips, precision ("fp32" or "bf16").
        pretrained: weights of a public ESRGAN generator to start from; see models.public_weights.

    Returns:
        The validation PSNR and its gain over bilinear upsampling in dB.

    Raises:
        DataError: `pretrained` cannot be read or is of another size than stage 1.
    """
    rng, _ = prepare(seed, threads)
    data = generator.Data(index, statistics, chips)
    network = generator.build(model)
    if pretrained is not None:
        public_weights.start(network.generator1, pretrained)
    return _descend(1, 1.0, network, data, checkpoint, history, panel, model, training, seed, rng)


def superres_stage2(
    index: Path,
    statistics: Path,
    chips: list[Path],
    stage1: Path,
    checkpoint: Path,
    history: Path,
    panel: Path,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    threads: int,
) -> dict[str, Any]:
    """Trains stage 2 against the 1 m chip, on top of the stage-1 checkpoint.

    `training` has, beside the keys of stage 1, `stage1_weight`: 0 freezes stage 1, any other value trains both,
    stage 1 keeping its own loss with this weight.

    Raises:
        DataError: the stage-1 checkpoint is of another model, normalisation or kind.
    """
    rng, _ = prepare(seed, threads)
    data = generator.Data(index, statistics, chips)
    network = generator.load(stage1, 1, model, data)
    weight = training["stage1_weight"]
    return _descend(2, weight, network, data, checkpoint, history, panel, model, training, seed, rng)


def _descend(
    stage: int,
    stage1_weight: float,
    network: ProgESRGAN,
    data: generator.Data,
    checkpoint: Path,
    history: Path,
    panel: Path,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """L1 descent of one stage: loss = [stage 2] L1 at 1 m + stage1_weight x L1 at 2.5 m."""
    network.generator1.requires_grad_(stage1_weight > 0)
    network.generator2.requires_grad_(stage == 2)
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    descent = Descent(torch.optim.Adam(learning, training["learning_rate"], generator.BETAS), training["clip"])
    average = Average(network, training["ema"])
    recorder = generator.Recorder(stage, data, training)
    for step in track(range(training["steps"]), f"super-resolution, stage {stage}"):
        low, high, valid = generator.on_device(data.train.batch(rng, training["batch"], training["patch_px"]))
        with generator.autocast(training["precision"]):
            middle = network.stage1(low)
            made = network.stage2(low, middle) if stage == 2 else None
        terms = {}
        if made is not None:
            terms["l1_1m"] = losses.l1(made.float(), high, valid)
        if stage1_weight > 0:
            terms["l1_2.5m"] = losses.l1(middle.float(), *losses.degrade_to_stage1(high, valid))
        loss = sum((stage1_weight if name == "l1_2.5m" else 1.0) * term for name, term in terms.items())
        assert isinstance(loss, torch.Tensor)
        rate = learning_rate(
            step, training["steps"], training["learning_rate"], training["warmup"], training["schedule"]
        )
        descent.step(loss, rate, step)
        average.update(network)
        recorder.step(step, average.model, **{name: float(term.detach()) for name, term in terms.items()})
    generator.save(checkpoint, average.model, stage, model, data, seed, recorder.last)
    recorder.history.write(history)
    scores = ["psnr_2.5m", "bilinear_2.5m"] if stage == 1 else ["psnr_1m", "bilinear_1m"]
    generator.draw(panel, average.model, stage, data, recorder, [list(terms), scores])
    return generator.judge(recorder.last)
