"""Super-resolution by L1: stage 1 (10 m to 2.5 m), then stage 2 (to 1 m)."""

from pathlib import Path
from typing import Any

import torch

from jointseg.models import public_weights
from jointseg.models.rrdb import RRDBNet
from jointseg.runtime import distributed
from jointseg.training import generator, losses
from jointseg.training.compute import autocast
from jointseg.training.determinism import make_deterministic
from jointseg.training.optimiser import Optimiser
from jointseg.training.prefetch import Batch
from jointseg.training.trainer import Trainer


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
    state: str | None = None,
    events: str | None = None,
) -> dict[str, Any]:
    """Trains stage 1 against the 1 m chip averaged to 2.5 m; the checkpoint holds stage 2 still untrained.

    Args:
        index, statistics: of the dataset.
        chips: the chip folders of the reaches.
        checkpoint, history, panel: what to write (safetensors, CSV, PNG).
        model: {"stage1": kwargs, "stage2": kwargs} of ProgESRGAN.
        training: the keys of `StageTraining` in the config.
        pretrained: weights of a public ESRGAN generator to start from; see models.public_weights.
        threads: of torch, and that make batches.
        state: file in which the half-done training is kept until it is whole.
        events: folder of what TensorBoard shows.

    Returns:
        The validation PSNR and its gain over bilinear upsampling in dB.

    Raises:
        DataError: `pretrained` cannot be read or is of another size than stage 1.
    """
    arguments = dict(locals())
    if distributed.needs_launch(training["devices"]):
        return distributed.launch(superres_stage1, training["devices"], arguments)
    make_deterministic(seed, threads)
    data = generator.TrainingData(index, statistics, chips, training["jitter"])
    network = generator.build(generator.with_input_bands(model, data))
    if pretrained is not None:
        assert isinstance(network.generator1, RRDBNet)
        public_weights.initialise_from_esrgan(network.generator1, pretrained)
    return _descend(1, 1.0, network, data, None, arguments)


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
    state: str | None = None,
    events: str | None = None,
) -> dict[str, Any]:
    """Trains stage 2 against the 1 m chip, on top of the stage-1 checkpoint.

    `training` has, beside the keys of stage 1, `stage1_weight`: 0 freezes stage 1, any other value trains both,
    stage 1 keeping its own loss with this weight.

    Raises:
        DataError: the stage-1 checkpoint is of another model, normalisation or kind.
    """
    arguments = dict(locals())
    if distributed.needs_launch(training["devices"]):
        return distributed.launch(superres_stage2, training["devices"], arguments)
    make_deterministic(seed, threads)
    data = generator.TrainingData(index, statistics, chips, training["jitter"])
    return _descend(2, training["stage1_weight"], generator.load(stage1, 1, model, data), data, stage1, arguments)


def superres_single(
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
    state: str | None = None,
    events: str | None = None,
) -> dict[str, Any]:
    """Trains one network from 10 m to 1 m with L1: the rival of two stages.

    `model` is that of Prog-ESRGAN: the network has the kind of its stage 1 and as many blocks as both together.
    """
    arguments = dict(locals())
    if distributed.needs_launch(training["devices"]):
        return distributed.launch(superres_single, training["devices"], arguments)
    make_deterministic(seed, threads)
    data = generator.TrainingData(index, statistics, chips, training["jitter"])
    arguments["model"] = {"generator": single_stage_trunk(model)}
    return _descend(
        2, 0.0, generator.build(generator.with_input_bands(arguments["model"], data)), data, None, arguments
    )


def single_stage_trunk(model: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of one RRDBNet of the kind of stage 1 with the blocks of both stages."""
    return {**model["stage1"], "blocks": model["stage1"]["blocks"] + model["stage2"]["blocks"]}


def _descend(
    stage: int,
    stage1_weight: float,
    network: generator.Generator,
    data: generator.TrainingData,
    start: Path | None,
    given: dict[str, Any],
) -> dict[str, Any]:
    """L1 descent of one stage: loss = [stage 2] L1 at 1 m + stage1_weight x L1 at 2.5 m.

    Args:
        start: checkpoint that the network was loaded from.
        given: arguments of the step.
    """
    training, model, seed = given["training"], given["model"], given["seed"]
    network.generator1.requires_grad_(stage1_weight > 0)
    network.generator2.requires_grad_(stage == 2)
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    descent = Optimiser(torch.optim.Adam(learning, training["learning_rate"], generator.BETAS), training["clip"])
    reach = losses.max_shifts_px(training["shift_m"])
    state = generator.state(__name__, given, [start])
    trained = [*(["l1_1m"] if stage == 2 else []), *(["l1_2.5m"] if stage1_weight > 0 else [])]
    scores = ["psnr_2.5m", "bilinear_2.5m"] if stage == 1 else ["psnr_1m", "bilinear_1m"]
    trainer = Trainer(
        f"super-resolution, stage {stage}",
        network,
        {"generator": descent},
        training,
        seed,
        lambda step, places: data.train.batch(seed, step, places, training["patch_px"]),
        lambda average: generator.validate(average, stage, data.validation, training["validation_chips"]),
        generator.panel_drawer(stage, data, [trained, scores]),
        state,
        given["threads"],
        given["events"],
        images=generator.IMAGES,
    )

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        low, high, valid = batch
        with autocast(training["precision"]):
            middle = network.stage1(low)
            made = network.stage2(low, middle) if stage == 2 else None
        terms = {}
        if made is not None:
            terms["l1_1m"] = losses.l1(made.float(), high, valid, reach["l1_1m"])
        if stage1_weight > 0:
            terms["l1_2.5m"] = losses.l1(middle.float(), *losses.degrade_to_stage1(high, valid), reach["l1_2.5m"])
        loss = torch.stack([(stage1_weight if name == "l1_2.5m" else 1.0) * term for name, term in terms.items()]).sum()
        done = descent.step(loss, trainer.rate(step), step)
        return {name: float(term.detach()) for name, term in terms.items()} if done else None

    trainer.run(advance)
    if not trainer.first:
        return {}
    files = (given["checkpoint"], given["history"], given["panel"])
    facts = generator.write_results(trainer, stage, model, data, *files)
    state.drop()
    return facts
