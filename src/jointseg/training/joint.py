"""Joint fine-tuning of super-resolution and segmentation: the loss of the map trains the generator too."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from jointseg.models import checkpoint as checkpoints
from jointseg.models.mask_loss import UNLABELLED, LossWeights
from jointseg.models.prog_esrgan import RGB, segmenter_input, upsample
from jointseg.models.sentinel2_sensor import simulate_sentinel2
from jointseg.runtime.errors import DataError
from jointseg.training import generator as generators
from jointseg.training import losses
from jointseg.training.compute import autocast, autocast_dtype, device
from jointseg.training.generator import TrainingData
from jointseg.training.history import History
from jointseg.training.job import TrainingJob, TrainingRun, accepts, run_job
from jointseg.training.optimiser import Optimiser
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.patches import SCALE, Patches, stack_pairs
from jointseg.training.prefetch import Batch
from jointseg.training.settings import JointSettings
from jointseg.training.threshold import THRESHOLDS, best_threshold, count_by_probability, f1_iou
from jointseg.training.trainer import Trainer

log = logging.getLogger(__name__)

STAGE = 4  # of a generator in its checkpoint's header: trained with the segmenter
WEIGHT_DECAY = 0.05  # of the segmenter, as Mask2Former was published
PANEL_CHIPS = 3
TINT = np.array([1.0, 0.1, 0.1])  # red, of impervious pixels over an image
CURVES = [["segmentation"], ["l1_1m", "l1_10m"], ["validation_f1", "validation_iou"], ["psnr_1m"]]


@dataclass(frozen=True, kw_only=True)
class JointJob(TrainingJob[JointSettings]):
    """Arguments of the step `joint`."""

    superres: Path  # checkpoint of the generator to start from
    segmentation: Path  # checkpoint of the segmenter to start from
    generator: Path  # checkpoint to write
    segmenter: Path  # checkpoint to write
    loss: dict[str, Any]  # weights of the segmenter's loss, fields of LossWeights


class JointNetwork(nn.Module):
    """A generator followed by the segmenter of its images."""

    def __init__(self, generator: nn.Module, segmenter: nn.Module) -> None:
        super().__init__()
        self.generator, self.segmenter = generator, segmenter

    def forward(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised [n, bands, h, w] at 10 m to 1 m: normalised RGB [n, 3, 10h, 10w], probability [n, 1, ...]."""
        image = self.generator(low)[1]
        return image, self.segmenter(self.segmenter_input(image, low))

    def segmenter_input(self, image: Tensor, low: Tensor) -> Tensor:
        """Return the bands that the segmenter reads: the 1 m image, with near infrared of the 10 m image if needed."""
        return segmenter_input(image, low, self.segmenter.channels)  # type: ignore[arg-type]


@accepts(JointJob)
def joint(**job: Any) -> dict[str, Any]:
    """Fine-tune a generator and the segmenter trained on its images as one network.

    The loss is that of the segmenter, plus the L1 of the 1 m image and the L1 of this image degraded to 10 m. The two
    L1 terms keep the generator from adapting its images to the segmenter only. The decision threshold is recomputed as
    in `segmentation`. `job` are the fields of JointJob. Raises DataError for invalid settings, a checkpoint with
    another architecture, normalisation or method, or a generator that is not trained to 1 m.
    """
    return run_job(_joint, JointJob.read(JointSettings, job))


def _joint(job: JointJob) -> dict[str, Any]:
    data = TrainingData.of_job(job)
    network, headers = _load(job, data.normalisation)
    run = job.run(__name__, [job.superres, job.segmentation], loss=job.loss)
    trainer = train(network, data, LossWeights(**job.loss), run)
    if not trainer.first:
        return {}
    network, history = trainer.average.model, trainer.history
    counts, psnr = evaluate(network, data.validation)
    threshold = best_threshold(counts)
    f1, iou = f1_iou(counts, threshold)
    first, last = history.rows[0], history.rows[-1]
    if last["validation_f1"] <= first["validation_f1"]:
        log.warning(
            "joint training did not improve the validation F1: %.4f before and %.4f after it, at threshold 0.5",
            first["validation_f1"],
            last["validation_f1"],
        )
    common = {"steps": job.training.steps, "seed": job.seed, "threads": job.threads, "joint": True}
    facts = {
        "method": "superres",
        "chips": {"train": len(data.train.ids), "validation": len(data.validation.ids)},
        **common,
        "threshold": threshold,
        "validation_f1": round(f1, 6),
        "validation_iou": round(iou, 6),
    }
    generator_facts = {**common, "stage": STAGE, "train_chips": len(data.train.ids), "figures": last}
    for path, part, header, extra in (
        (job.generator, network.generator, headers[0], generator_facts),
        (job.segmenter, network.segmenter, headers[1], facts),
    ):
        checkpoints.save(path, part, architecture=header["architecture"], normalisation=data.normalisation, extra=extra)
    history.write(job.history)
    write_panel(job.panel, joint_panel(network, data.validation, history, threshold))
    run.state.remove()
    return {**facts, "psnr_1m": psnr, "psnr_before": first["psnr_1m"], "device": device().type}


def _load(job: JointJob, normalisation: dict[str, list[float]]) -> tuple[JointNetwork, list[dict[str, Any]]]:
    """Return the network to start from and the headers of its two checkpoints."""
    generator, header = generators.load_complete(job.superres, normalisation)
    segmenter, segmenter_header = checkpoints.load(job.segmentation, "mask2former", normalisation)
    method = segmenter_header["trained"]["method"]
    if method != "superres":
        raise DataError(
            f"checkpoint {job.segmentation} was trained on {method} images; use that of super-resolved images"
        )
    network = JointNetwork(generator, segmenter).requires_grad_(True).to(device())
    return network, [header, segmenter_header]


def train(
    network: JointNetwork, data: TrainingData, weights: LossWeights, run: TrainingRun[JointSettings]
) -> Trainer[JointNetwork]:
    """Train both networks. The first row of the history has the metrics of the networks before the training."""
    settings = run.settings
    groups = [
        {
            "params": list(network.generator.parameters()),
            "lr": settings.generator_learning_rate,
            "betas": generators.BETAS,
            "weight_decay": 0.0,
        },
        {"params": list(network.segmenter.parameters()), "lr": settings.learning_rate, "weight_decay": WEIGHT_DECAY},
    ]
    optimiser = Optimiser(torch.optim.AdamW(groups), settings.clip)
    fastest = max("learning_rate", "generator_learning_rate", key=lambda name: getattr(settings, name))

    def validate(average: JointNetwork) -> dict[str, float]:
        counts, psnr = evaluate(average, data.validation)
        f1, iou = f1_iou(counts, 0.5)
        return {"validation_f1": f1, "validation_iou": iou, "psnr_1m": psnr}

    trainer = Trainer(
        "super-resolution and segmentation",
        network,
        {"pair": optimiser},
        run,
        lambda step, indices: joint_batch(data.train, run.seed, step, indices, settings.crop_px),
        validate,
        lambda average, history: joint_panel(average, data.validation, history, 0.5),
    )

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        terms = loss_terms(network, batch, weights, settings.precision)
        loss = terms["segmentation"] + settings.image * terms["l1_1m"] + settings.consistency * terms["l1_10m"]
        changed = optimiser.step(loss, trainer.rate(step, fastest), step)
        return {name: float(term.detach()) for name, term in terms.items()} if changed else None

    if trainer.first and not trainer.history.rows:
        trainer.history.add(0, **validate(trainer.average.model))
    network.train()
    trainer.run(advance)
    return trainer


def mask_unobserved(low: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the label [10h, 10w] with 255 also where the 10 m image [bands, h, w] is nodata (NaN)."""
    nodata = np.isnan(low).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
    return np.where(nodata, np.uint8(UNLABELLED), label)


def joint_batch(chips: Patches, seed: int, step: int, indices: Iterable[int], crop_px: int) -> Batch:
    """Return the samples of a step's batch at some indices; each depends only on seed, step and index.

    Returns low, high and valid as in `Patches.batch`; label uint8 [n, 10h, 10w], 255 unlabelled; int64 [n], one seed
    per sample for the loss.
    """
    rngs = [np.random.default_rng([seed, step, index]) for index in indices]
    patches = [chips.patch(rng, crop_px // SCALE) for rng in rngs]
    labels = np.stack([mask_unobserved(low, label) for low, _, label in patches])
    seeds = torch.tensor([int(rng.integers(2**62)) for rng in rngs])
    return *stack_pairs([(low, high) for low, high, _ in patches]), torch.from_numpy(labels), seeds


def loss_terms(network: JointNetwork, batch: Batch, weights: LossWeights, precision: str) -> dict[str, Tensor]:
    """Return the unweighted losses of the map, of the 1 m image, and of this image degraded to 10 m."""
    low, high, valid, label, seeds = batch
    with autocast(precision):
        image = network.generator(low)[1]
    image = image.float()
    degraded, degraded_valid = simulate_sentinel2(image, valid)
    rngs = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    return {
        "segmentation": network.segmenter.loss(  # type: ignore[operator]
            network.segmenter_input(image, low), label, weights, rngs, autocast_dtype(precision)
        ),
        "l1_1m": losses.l1(image, high, valid),
        "l1_10m": losses.l1(degraded, low[:, :RGB], degraded_valid),
    }


@torch.inference_mode()
def evaluate(network: JointNetwork, chips: Patches) -> tuple[np.ndarray, float]:
    """Return, over all chips, the counts of `count_by_probability`, int64 [2, 100], and the PSNR in dB."""
    counts, errors = np.zeros((2, THRESHOLDS + 1), np.int64), np.zeros(2)
    std = torch.from_numpy(chips.std[:RGB]).to(device())
    for chip_id in chips.ids:
        low, high, valid = (image.to(device()) for image in chips.full_chip(chip_id))
        image, probability = network(low)
        chip = chips.dataset.read(chip_id)
        counts += count_by_probability(mask_unobserved(chip.lr, chip.label), probability[0, 0].cpu().numpy())
        errors += losses.squared_error(image * std, high * std, valid)
    return counts, losses.psnr(*errors)


@torch.inference_mode()
def joint_panel(network: JointNetwork, chips: Patches, history: History, threshold: float) -> Figure:
    """Draw learning curves above the images, the label over the Jilin-1 image, and the map over the 1 m image."""
    rows = []
    for chip_id in chips.evenly_spaced(PANEL_CHIPS):
        low, high, valid = (image.to(device()) for image in chips.full_chip(chip_id))
        image_25m, image_1m = network.generator(low)
        probability = network.segmenter(network.segmenter_input(image_1m, low))[0, 0].cpu().numpy()
        images = [upsample(low[:, :RGB], SCALE), image_25m, image_1m, torch.where(valid > 0, high, torch.nan)]
        displayed = [to_display(chips.reflectance(image)) for image in images]
        chip = chips.dataset.read(chip_id)
        label = mask_unobserved(chip.lr, chip.label)
        rows.append([*displayed, _tint(displayed[3], label == 1), _tint(displayed[2], probability >= threshold)])
    titles = ["Sentinel-2, bilinear", "2.5 m", "1 m", "Jilin-1", "label", f"ISA at {threshold:.2f}"]
    return draw_panel(history, CURVES, rows, titles)


def _tint(image: np.ndarray, isa: np.ndarray) -> np.ndarray:
    """Return the image [h, w, 3] in 0..1 with the pixels of isa, bool [h, w], half red."""
    return np.where(isa[..., None], (image + TINT) / 2, image)
