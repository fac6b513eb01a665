"""Super-resolution by L1: stage 1 (10 m to 2.5 m), then stage 2 (2.5 m to 1 m)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jointseg.models import public_weights
from jointseg.models.rrdb import RRDBNet
from jointseg.training import generator, losses
from jointseg.training.compute import autocast
from jointseg.training.generator import TrainingData
from jointseg.training.job import NetworkJob, accepts, run_job
from jointseg.training.optimiser import Optimiser
from jointseg.training.prefetch import Batch
from jointseg.training.settings import Stage1Settings, Stage2Settings
from jointseg.training.trainer import Trainer


@accepts(NetworkJob)
def superres_stage1(*, pretrained: Path | None = None, **job: Any) -> dict[str, Any]:
    """Train stage 1 against the 1 m chip averaged to 2.5 m. The checkpoint contains stage 2 untrained.

    `pretrained` are weights of a public ESRGAN generator to start from (`models.public_weights`); `job` are the fields
    of NetworkJob. Returns the validation PSNR and its gain over bilinear upsampling in dB. Raises DataError for invalid
    settings, or if `pretrained` cannot be read or has another size than stage 1.
    """
    return run_job(_stage1, NetworkJob.read(Stage1Settings, job), pretrained=pretrained)


@accepts(NetworkJob)
def superres_stage2(*, stage1: Path, **job: Any) -> dict[str, Any]:
    """Train stage 2 against the 1 m chip, on top of the checkpoint `stage1`.

    Raises DataError for invalid settings, or a stage-1 checkpoint with another architecture, size or normalisation.
    """
    return run_job(_stage2, NetworkJob.read(Stage2Settings, job), stage1=stage1)


@accepts(NetworkJob)
def superres_single(**job: Any) -> dict[str, Any]:
    """Train one network from 10 m to 1 m with L1, the single-stage baseline.

    `model` is that of Prog-ESRGAN: the network is of the kind of its stage 1, with the blocks of both stages.
    """
    return run_job(_single, NetworkJob.read(Stage2Settings, job))


def single_stage_trunk(model: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of one RRDBNet of the kind of stage 1 with the blocks of both stages."""
    return {**model["stage1"], "blocks": model["stage1"]["blocks"] + model["stage2"]["blocks"]}


def _stage1(job: NetworkJob[Stage1Settings], pretrained: Path | None) -> dict[str, Any]:
    data = TrainingData.of_job(job)
    network = generator.build(generator.with_input_bands(job.model, data))
    if pretrained is not None:
        assert isinstance(network.generator1, RRDBNet)
        public_weights.initialise_from_esrgan(network.generator1, pretrained)
    return _train(1, 1.0, network, data, None, job)


def _stage2(job: NetworkJob[Stage2Settings], stage1: Path) -> dict[str, Any]:
    data = TrainingData.of_job(job)
    network = generator.load(stage1, 1, job.model, data)
    return _train(2, job.training.stage1_weight, network, data, stage1, job)


def _single(job: NetworkJob[Stage2Settings]) -> dict[str, Any]:
    data = TrainingData.of_job(job)
    job = replace(job, model={"generator": single_stage_trunk(job.model)})
    return _train(2, 0.0, generator.build(generator.with_input_bands(job.model, data)), data, None, job)


def _train(
    stage: int,
    stage1_weight: float,
    network: generator.Generator,
    data: TrainingData,
    start: Path | None,
    job: NetworkJob[Any],
) -> dict[str, Any]:
    """Minimise the L1 at 1 m (stage 2) plus `stage1_weight` times the L1 at 2.5 m, from the checkpoint `start`."""
    settings: Stage1Settings = job.training
    network.generator1.requires_grad_(stage1_weight > 0)
    network.generator2.requires_grad_(stage == 2)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = Optimiser(torch.optim.Adam(weights, settings.learning_rate, generator.BETAS), settings.clip)
    max_shifts = losses.max_shifts_px(settings.shift_m)
    trained = [*(["l1_1m"] if stage == 2 else []), *(["l1_2.5m"] if stage1_weight > 0 else [])]
    scores = ["psnr_2.5m", "bilinear_2.5m"] if stage == 1 else ["psnr_1m", "bilinear_1m"]
    run = job.run(__name__, [start], model=job.model)
    trainer = Trainer(
        f"super-resolution, stage {stage}",
        network,
        {"generator": optimiser},
        run,
        lambda step, indices: data.train.batch(job.seed, step, indices, settings.patch_px),
        lambda average: generator.validate(average, stage, data.validation, settings.validation_chips),
        generator.panel_drawer(stage, data, [trained, scores]),
        images=generator.IMAGES,
    )

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        low, high, valid = batch
        with autocast(settings.precision):
            image_25m = network.stage1(low)
            image_1m = network.stage2(low, image_25m) if stage == 2 else None
        terms = {}
        if image_1m is not None:
            terms["l1_1m"] = losses.l1(image_1m.float(), high, valid, max_shifts["l1_1m"])
        if stage1_weight > 0:
            target = losses.degrade_to_stage1(high, valid)
            terms["l1_2.5m"] = losses.l1(image_25m.float(), *target, max_shifts["l1_2.5m"])
        weighted = [(stage1_weight if name == "l1_2.5m" else 1.0) * term for name, term in terms.items()]
        changed = optimiser.step(torch.stack(weighted).sum(), trainer.rate(step), step)
        return {name: float(term.detach()) for name, term in terms.items()} if changed else None

    trainer.run(advance)
    if not trainer.first:
        return {}
    facts = generator.write_results(trainer, stage, job, data)
    run.state.remove()
    return facts
