"""Training of the segmenter on 1 m images of the chips, super-resolved or bilinear, with the same settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.models import checkpoint as checkpoints
from jointseg.models.mask2former import Segmenter, build
from jointseg.models.mask_loss import UNLABELLED
from jointseg.training.compute import autocast_dtype, device
from jointseg.training.history import History
from jointseg.training.image_chips import ImageChips
from jointseg.training.job import NetworkJob, TrainingRun, accepts, run_job
from jointseg.training.optimiser import Optimiser
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.prefetch import Batch
from jointseg.training.settings import SegmentationSettings
from jointseg.training.threshold import best_threshold, f1_iou
from jointseg.training.trainer import Trainer

BACKBONE = "network.model.pixel_level_module.encoder."


@dataclass(frozen=True, kw_only=True)
class SegmentationJob(NetworkJob[SegmentationSettings]):
    """Arguments of the step `segmentation`."""

    images: Path  # folder of {id}.tif, the 1 m images of the chips
    method: str  # of the images, "superres" or "bilinear", or the variant of an ablation


@accepts(SegmentationJob)
def segmentation(**job: Any) -> dict[str, Any]:
    """Train Mask2Former on 1 m images against the labels of the train split.

    The decision threshold has the best F1 on the validation split. The checkpoint's header stores both; inference
    reads the threshold from it. `job` are the fields of SegmentationJob.
    """
    return run_job(_segmentation, SegmentationJob.read(SegmentationSettings, job))


def _segmentation(job: SegmentationJob) -> dict[str, Any]:
    normalisation = checkpoints.read_normalisation(job.statistics)
    network = build(**job.model).to(device())
    train_chips, validation_chips = (
        ImageChips(job.index, Path(job.chips[0]).parent, split, job.images, normalisation, network.channels)
        for split in ("train", "validation")
    )
    run = job.run(__name__, [job.images], method=job.method, model=job.model)
    trainer = train(network, train_chips, validation_chips, run)
    if not trainer.first:
        return {}
    network = trainer.average.model
    counts = validation_chips.count(network)
    threshold = best_threshold(counts)
    f1, iou = f1_iou(counts, threshold)
    facts = {
        "method": job.method,
        "chips": {"train": len(train_chips.ids), "validation": len(validation_chips.ids)},
        "steps": job.training.steps,
        "seed": job.seed,
        "threads": job.threads,
        "threshold": threshold,
        "validation_f1": round(f1, 6),
        "validation_iou": round(iou, 6),
    }
    architecture = {"name": "mask2former", "kwargs": job.model}
    checkpoints.save(job.checkpoint, network, architecture=architecture, normalisation=normalisation, extra=facts)
    trainer.history.write(job.history)
    write_panel(job.panel, segmentation_panel(network, validation_chips, trainer.history, threshold))
    run.state.remove()
    return {**facts, "device": device().type}


def train(
    model: Segmenter, chips: ImageChips, validation: ImageChips, run: TrainingRun[SegmentationSettings]
) -> Trainer[Segmenter]:
    """Train the segmenter; return the trainer with the averaged model and its history (loss, F1 and IoU at 0.5)."""
    settings = run.settings
    backbone = [value for name, value in model.named_parameters() if name.startswith(BACKBONE)]
    others = [value for name, value in model.named_parameters() if not name.startswith(BACKBONE)]
    groups = [
        {"params": others, "lr": settings.learning_rate},
        {"params": backbone, "lr": settings.learning_rate * settings.backbone_factor},
    ]
    optimiser = Optimiser(torch.optim.AdamW(groups, weight_decay=settings.weight_decay), settings.clip)

    def validate(average: Segmenter) -> dict[str, float]:
        f1, iou = f1_iou(validation.count(average), 0.5)
        return {"validation_f1": f1, "validation_iou": iou}

    trainer = Trainer(
        "segmentation",
        model,
        {"model": optimiser},
        run,
        lambda step, indices: chips.batch(run.seed, step, indices, settings),
        validate,
        lambda average, history: segmentation_panel(average, validation, history, 0.5),
        images=("1 m image",),
    )
    dtype = autocast_dtype(settings.precision)

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        x, label, seeds = batch
        generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        loss = model.loss(x, label, settings, generators, dtype)
        rate = trainer.rate(step)
        return {"loss": float(loss.detach()), "rate": rate} if optimiser.step(loss, rate, step) else None

    model.train()
    trainer.run(advance)
    return trainer


def segmentation_panel(model: Segmenter, chips: ImageChips, history: History, threshold: float) -> Figure:
    """Draw learning curves above image, label, probability and map of the first, the middle and the last chip."""
    rows = []
    for chip_id in dict.fromkeys((chips.ids[0], chips.ids[round((len(chips.ids) - 1) / 2)], chips.ids[-1])):
        image, label = chips.read(chip_id)
        probability = chips.predict(model, chip_id)
        grey_label = np.where(label == UNLABELLED, 0.5, label).astype(np.float32)
        isa = (probability >= threshold).astype(np.float32)
        rows.append([to_display(image[:3] * REFLECTANCE_PER_DN), grey_label, probability, isa])
    titles = ["image", "label", "probability", f"ISA at {threshold:.2f}"]
    return draw_panel(history, [["loss"], ["validation_f1", "validation_iou"]], rows, titles)
