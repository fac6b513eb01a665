"""Adversarial fine-tuning of both stages: L1 + perceptual + adversarial loss, one U-Net discriminator a stage."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jointseg.models import checkpoint as checkpoints
from jointseg.models import discriminator
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.runtime import distributed
from jointseg.training import backbone as backbones
from jointseg.training import generator, losses
from jointseg.training.backbone import Backbone
from jointseg.training.compute import autocast, device
from jointseg.training.determinism import make_deterministic
from jointseg.training.optimiser import Optimiser
from jointseg.training.prefetch import Batch
from jointseg.training.trainer import Trainer

DISCRIMINATORS = "unet_discriminators"
SCALES = ("2.5m", "1m")


def superres_adversarial(
    index: Path,
    statistics: Path,
    chips: list[Path],
    stage2: Path,
    checkpoint: Path,
    discriminators: Path,
    history: Path,
    panel: Path,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    threads: int,
    perceptual_weights: Path | None = None,
    state: str | None = None,
    events: str | None = None,
) -> dict[str, Any]:
    """Fine-tunes the stage-2 checkpoint against two discriminators that start from nothing.

    The losses are those of Real-ESRGAN (Wang et al. 2021): L1, feature differences of a frozen ImageNet trunk, and
    the non-saturating adversarial loss per pixel, at 1 m and, times `stage1_weight`, at 2.5 m.

    Args:
        training: the keys of `AdversarialTraining` in the config; patch_px is a multiple of 4.
        perceptual_weights: file of the perceptual backbone, where it needs one.

    Returns:
        The validation PSNR, its gain over bilinear upsampling in dB and the discriminators' last accuracy.

    Raises:
        DataError: the stage-2 checkpoint is of another model, normalisation or kind, or is trained to stage 1 only.
    """
    arguments = dict(locals())
    if distributed.needs_launch(training["devices"]):
        return distributed.launch(superres_adversarial, training["devices"], arguments)
    make_deterministic(seed, threads)
    data = generator.TrainingData(index, statistics, chips, training["jitter"])
    network = generator.load(stage2, 2, model, data)
    kwargs = {"scales": [scale.replace(".", "_") for scale in SCALES], "features": training["discriminator_features"]}
    critics = discriminator.pair(**kwargs).to(device())
    backbone = backbones.load(training["perceptual_backbone"], perceptual_weights).to(device())
    for module in (critics, backbone):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    descent = Optimiser(
        torch.optim.Adam(network.parameters(), training["learning_rate"], generator.BETAS), training["clip"]
    )
    critic_descent = Optimiser(
        torch.optim.Adam(critics.parameters(), training["discriminator_learning_rate"], generator.BETAS),
        training["clip"],
    )
    accuracies = [f"accuracy_{scale}" for scale in SCALES]
    curves = [[f"l1_{SCALES[1]}", f"perceptual_{SCALES[1]}"], ["psnr_1m", "bilinear_1m"], accuracies]
    kept = generator.state(__name__, arguments, [stage2, perceptual_weights])
    trainer: Trainer[ProgESRGAN] = Trainer(
        "super-resolution, adversarial",
        network,
        {"generator": descent, "discriminators": critic_descent},
        training,
        seed,
        lambda step, places: data.train.batch(seed, step, places, training["patch_px"]),
        lambda average: generator.validate(average, 3, data.validation, training["validation_chips"]),
        generator.panel_drawer(3, data, curves),
        kept,
        threads,
        events,
        images=generator.IMAGES,
        others={"discriminators": critics},
    )

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        low, high, valid = batch
        with autocast(training["precision"]):
            images = network(low)
        pairs = paired([image.float() for image in images], high, valid)
        critics.requires_grad_(False)  # no gradients of theirs in the generator's step
        terms = generator_terms(pairs, list(critics.values()), backbone, training)
        done = descent.step(total(terms, training), trainer.rate(step), step)
        critics.requires_grad_(True)
        critic_loss, figures = critic_terms(pairs, list(critics.values()), training["precision"])
        critic_descent.step(critic_loss, trainer.rate(step, "discriminator_learning_rate"), step)
        return {name: float(term.detach()) for name, term in terms.items()} | figures if done else None

    trainer.run(advance)
    if not trainer.first:
        return {}
    last = trainer.history.rows[-1]
    checkpoints.save(
        discriminators,
        critics,
        architecture={"name": DISCRIMINATORS, "kwargs": kwargs},
        normalisation=data.normalisation,
        extra={"stage": 3, "train_chips": len(data.train.ids), "seed": seed, "figures": last},
    )
    facts = generator.write_results(trainer, 3, model, data, checkpoint, history, panel)
    kept.drop()
    return facts | {name: last[name] for name in accuracies}


def paired(images: list[Tensor], high: Tensor, valid: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(generated, true, known) at 2.5 m and 1 m; where the truth is unknown it is the generated image itself."""
    wanted = [losses.degrade_to_stage1(high, valid), (high, valid)]
    return [(made, torch.where(known > 0, true, made.detach()), known) for made, (true, known) in zip(images, wanted)]


def generator_terms(
    pairs: list[tuple[Tensor, Tensor, Tensor]], critics: list[nn.Module], backbone: Backbone, training: dict[str, Any]
) -> dict[str, Tensor]:
    """The unweighted losses of the generator by name, such as l1_2.5m."""
    terms, reach = {}, losses.max_shifts_px(training["shift_m"])
    for scale, (made, true, known), critic in zip(SCALES, pairs, critics):
        with torch.no_grad():
            wanted = backbone(true)
        terms[f"l1_{scale}"] = losses.l1(made, true, known, reach[f"l1_{scale}"])
        with autocast(training["precision"]):
            features, scores = backbone(made), critic(made)
        terms[f"perceptual_{scale}"] = losses.perceptual(features, wanted, training["perceptual_layers"])
        terms[f"adversarial_{scale}"] = losses.generator_adversarial(scores.float(), known)
    return terms


def total(terms: dict[str, Tensor], training: dict[str, Any]) -> Tensor:
    """The weighted sum of the generator's losses."""
    weighted = []
    for name, term in terms.items():
        kind, scale = name.split("_")
        weighted.append(training[kind] * (training["stage1_weight"] if scale == SCALES[0] else 1.0) * term)
    return torch.stack(weighted).sum()


def critic_terms(
    pairs: list[tuple[Tensor, Tensor, Tensor]], critics: list[nn.Module], precision: str
) -> tuple[Tensor, dict[str, float]]:
    """The discriminators' summed loss, and the accuracy of each."""
    parts, figures = [], {}
    for scale, (made, true, known), critic in zip(SCALES, pairs, critics):
        with autocast(precision):
            real, fake = critic(true).float(), critic(made.detach()).float()
        parts.append(losses.discriminator_adversarial(real, fake, known))
        figures[f"accuracy_{scale}"] = losses.discriminator_accuracy(real.detach(), fake.detach(), known)
    return torch.stack(parts).sum(), figures
