"""Training of the direct segmenter, which reads the 10 m image and upsamples its features instead of an image."""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from jointseg.ablation.mapping import predict_direct, probability_histogram
from jointseg.models.direct_segmenter import DirectSegmenter
from jointseg.models.mask_loss import UNLABELLED
from jointseg.training import joint
from jointseg.training.compute import autocast_dtype, device
from jointseg.training.generator import BETAS, TrainingData
from jointseg.training.history import History
from jointseg.training.job import TrainingRun
from jointseg.training.optimiser import Optimiser
from jointseg.training.panel import draw_panel, to_display
from jointseg.training.patches import RGB, Patches
from jointseg.training.prefetch import Batch
from jointseg.training.settings import SegmentationSettings
from jointseg.training.threshold import f1_iou
from jointseg.training.trainer import Trainer

PANEL_CHIPS = 3


def build(kwargs: dict[str, Any]) -> DirectSegmenter:
    model = DirectSegmenter(**kwargs).to(device())
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def train(
    model: DirectSegmenter, data: TrainingData, run: TrainingRun[SegmentationSettings]
) -> Trainer[DirectSegmenter]:
    """Train on random crops of the labels, with the cross-entropy and dice losses of the map."""
    settings = run.settings
    optimiser = Optimiser(torch.optim.Adam(model.parameters(), settings.learning_rate, BETAS), settings.clip)
    dtype = autocast_dtype(settings.precision)

    def validate(average: DirectSegmenter) -> dict[str, float]:
        counts = probability_histogram(data.validation, predict_direct(average, data.validation))
        f1, iou = f1_iou(counts, 0.5)
        return {"validation_f1": f1, "validation_iou": iou}

    trainer = Trainer(
        "segmenter of the 10 m image",
        model,
        {"model": optimiser},
        run,
        lambda step, indices: joint.joint_batch(data.train, run.seed, step, indices, settings.crop_px),
        validate,
        lambda average, history: direct_panel(average, data.validation, history),
    )

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        lr, _, _, label, _ = batch
        loss = model.loss(lr, label, settings, [], dtype)
        updated = optimiser.step(loss, trainer.rate(step), step)
        return {"loss": float(loss.detach())} if updated else None

    model.train()
    trainer.run(advance)
    return trainer


def direct_panel(model: DirectSegmenter, chips: Patches, history: History) -> Figure:
    """Plot learning curves above label and probability of some chips."""
    predict, rows = predict_direct(model, chips), []
    for chip_id in chips.evenly_spaced(PANEL_CHIPS):
        chip = chips.dataset.read(chip_id)
        label = np.where(chip.label == UNLABELLED, 0.5, chip.label).astype(np.float32)
        rows.append([to_display(chip.lr[:RGB]), label, predict(chip_id).probability])
    curves = [["loss"], ["validation_f1", "validation_iou"]]
    return draw_panel(history, curves, rows, ["Sentinel-2", "label", "probability"])
