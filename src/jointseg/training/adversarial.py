"""Adversarial fine-tuning of both stages: L1, perceptual and adversarial losses, one U-Net discriminator per stage."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jointseg.models import checkpoint as checkpoints
from jointseg.models import discriminator
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.training import backbone as backbones
from jointseg.training import generator, losses
from jointseg.training.backbone import Backbone
from jointseg.training.compute import autocast, device
from jointseg.training.generator import TrainingData
from jointseg.training.job import NetworkJob, accepts, run_job
from jointseg.training.optimiser import Optimiser
from jointseg.training.prefetch import Batch
from jointseg.training.settings import AdversarialSettings
from jointseg.training.trainer import Trainer

DISCRIMINATORS = "unet_discriminators"
SCALES = ("2.5m", "1m")
ACCURACIES = [f"accuracy_{scale}" for scale in SCALES]
CURVES = [["l1_1m", "perceptual_1m"], ["psnr_1m", "bilinear_1m"], ACCURACIES]

# Generated image, target and mask at one scale. Where the target is nodata, it equals the generated image.
Pair = tuple[Tensor, Tensor, Tensor]


@accepts(NetworkJob)
def superres_adversarial(
    *, stage2: Path, discriminators: Path, perceptual_weights: Path | None = None, **job: Any
) -> dict[str, Any]:
    """Fine-tune the stage-2 checkpoint with two discriminators that start from random weights.

    The losses are those of Real-ESRGAN (Wang et al. 2021): L1, differences of the features of a frozen network, and the
    non-saturating adversarial loss per pixel, at 1 m and, times `stage1_weight`, at 2.5 m. Returns the validation PSNR,
    its gain over bilinear upsampling in dB and the discriminators' last accuracy. Raises DataError for invalid
    settings, or a stage-2 checkpoint with another architecture, size or normalisation or without stage 2.

    Args:
        stage2: checkpoint to start from.
        discriminators: checkpoint to write.
        perceptual_weights: weights file of the perceptual backbone, for "vgg19" and "segmenter".
        job: fields of NetworkJob; `training` has the keys of AdversarialSettings.
    """
    inputs = {"stage2": stage2, "discriminators": discriminators, "perceptual_weights": perceptual_weights}
    return run_job(_train, NetworkJob.read(AdversarialSettings, job), **inputs)


def _train(
    job: NetworkJob[AdversarialSettings], stage2: Path, discriminators: Path, perceptual_weights: Path | None
) -> dict[str, Any]:
    settings = job.training
    data = TrainingData.of_job(job)
    network = generator.load(stage2, 2, job.model, data)
    kwargs: dict[str, Any] = {
        "scales": [scale.replace(".", "_") for scale in SCALES],
        "features": settings.discriminator_features,
    }
    critics = discriminator.pair(**kwargs).to(device())
    backbone = backbones.load(settings.perceptual_backbone, perceptual_weights).to(device())
    for module in (critics, backbone):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(network, settings.learning_rate, settings.clip)
    critic_optimiser = _optimiser(critics, settings.discriminator_learning_rate, settings.clip)
    run = job.run(__name__, [stage2, perceptual_weights], model=job.model)
    trainer: Trainer[ProgESRGAN] = Trainer(
        "super-resolution, adversarial",
        network,
        {"generator": optimiser, "discriminators": critic_optimiser},
        run,
        lambda step, indices: data.train.batch(job.seed, step, indices, settings.patch_px),
        lambda average: generator.validate(average, 3, data.validation, settings.validation_chips),
        generator.panel_drawer(3, data, CURVES),
        images=generator.IMAGES,
        auxiliary={"discriminators": critics},
    )

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        low, high, valid = batch
        with autocast(settings.precision):
            images = network(low)
        pairs = paired([image.float() for image in images], high, valid)
        critics.requires_grad_(False)  # the generator's step needs no gradients of their weights
        terms = generator_terms(pairs, list(critics.values()), backbone, settings)
        changed = optimiser.step(weighted_sum(terms, settings), trainer.rate(step), step)
        critics.requires_grad_(True)
        critic_loss, accuracies = critic_terms(pairs, list(critics.values()), settings.precision)
        critic_optimiser.step(critic_loss, trainer.rate(step, "discriminator_learning_rate"), step)
        return {name: float(term.detach()) for name, term in terms.items()} | accuracies if changed else None

    trainer.run(advance)
    if not trainer.first:
        return {}
    last = trainer.history.rows[-1]
    checkpoints.save(
        discriminators,
        critics,
        architecture={"name": DISCRIMINATORS, "kwargs": kwargs},
        normalisation=data.normalisation,
        extra={"stage": 3, "train_chips": len(data.train.ids), "seed": job.seed, "figures": last},
    )
    facts = generator.write_results(trainer, 3, job, data)
    run.state.remove()
    return facts | {name: last[name] for name in ACCURACIES}


def _optimiser(network: nn.Module, rate: float, clip: float) -> Optimiser:
    return Optimiser(torch.optim.Adam(network.parameters(), rate, generator.BETAS), clip)


def paired(images: list[Tensor], high: Tensor, valid: Tensor) -> list[Pair]:
    """Return the generated images at 2.5 m and 1 m, each with its target and mask."""
    targets = [losses.degrade_to_stage1(high, valid), (high, valid)]
    return [
        (image, torch.where(mask > 0, target, image.detach()), mask)
        for image, (target, mask) in zip(images, targets, strict=True)
    ]


def generator_terms(
    pairs: list[Pair], critics: list[nn.Module], backbone: Backbone, settings: AdversarialSettings
) -> dict[str, Tensor]:
    """Return the unweighted losses of the generator by name, such as l1_2.5m."""
    terms, max_shifts = {}, losses.max_shifts_px(settings.shift_m)
    for scale, (image, target, mask), critic in zip(SCALES, pairs, critics):
        with torch.no_grad():
            target_features = backbone(target)
        terms[f"l1_{scale}"] = losses.l1(image, target, mask, max_shifts[f"l1_{scale}"])
        with autocast(settings.precision):
            features, scores = backbone(image), critic(image)
        terms[f"perceptual_{scale}"] = losses.perceptual(features, target_features, settings.perceptual_layers)
        terms[f"adversarial_{scale}"] = losses.generator_adversarial(scores.float(), mask)
    return terms


def weighted_sum(terms: dict[str, Tensor], settings: AdversarialSettings) -> Tensor:
    """Return the weighted sum of the generator's losses."""
    weighted = []
    for name, term in terms.items():
        kind, scale = name.split("_")
        weighted.append(getattr(settings, kind) * (settings.stage1_weight if scale == SCALES[0] else 1.0) * term)
    return torch.stack(weighted).sum()


def critic_terms(pairs: list[Pair], critics: list[nn.Module], precision: str) -> tuple[Tensor, dict[str, float]]:
    """Return the summed loss of the discriminators, and the accuracy of each."""
    terms, accuracies = [], {}
    for scale, (image, target, mask), critic in zip(SCALES, pairs, critics):
        with autocast(precision):
            real, fake = critic(target).float(), critic(image.detach()).float()
        terms.append(losses.discriminator_adversarial(real, fake, mask))
        accuracies[f"accuracy_{scale}"] = losses.discriminator_accuracy(real.detach(), fake.detach(), mask)
    return torch.stack(terms).sum(), accuracies
