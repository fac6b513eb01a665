"""Super-resolution and segmentation trained together: the loss of the map goes back through the image."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jointseg.errors import DataError
from jointseg.models import checkpoint as checkpoints
from jointseg.models.mask_loss import UNKNOWN, LossWeights
from jointseg.models.prog_esrgan import RGB, upsample
from jointseg.progress import track
from jointseg.training import generator as generators
from jointseg.training import loop, losses
from jointseg.training.patches import SCALE, Patches, tensors
from jointseg.training.scores import seen_at_10m
from jointseg.training.segmentation import best_threshold, count, f1_iou

log = logging.getLogger(__name__)

STAGE = 4  # of a generator in its checkpoint's header: trained with the segmenter
WEIGHT_DECAY = 0.05  # of the segmenter, as Mask2Former was published
PANEL_CHIPS = 3


class Pair(nn.Module):
    """A generator and the segmenter that reads its images."""

    def __init__(self, generator: nn.Module, segmenter: nn.Module) -> None:
        super().__init__()
        self.generator, self.segmenter = generator, segmenter

    def forward(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised [n, bands, h, w] at 10 m -> at 1 m: normalised RGB [n, 3, 10h, 10w], probability [n, 1, ...]."""
        image = self.generator(low)[1]
        return image, self.segmenter.semantic(image)  # type: ignore[operator]


def patch(chips: Patches, rng: np.random.Generator, crop_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random place of a random chip, turned: 10 m image and 1 m image, NaN where unknown, and label (255 unknown).

    Returns:
        float32 [bands, crop_px / 10, crop_px / 10], float32 [3, crop_px, crop_px], uint8 [crop_px, crop_px].

    Raises:
        DataError: the chip is smaller than the crop.
    """
    chip_id, side = chips.ids[int(rng.integers(len(chips.ids)))], crop_px // SCALE
    chip = chips.dataset.read(chip_id)
    rows, cols = chip.lr.shape[1:]
    if min(rows, cols) < side:
        raise DataError(f"chip {chip_id} is {SCALE * rows} x {SCALE * cols} px; crop_px {crop_px} must not exceed it")
    row, col = int(rng.integers(rows - side + 1)), int(rng.integers(cols - side + 1))
    fine = np.s_[..., SCALE * row : SCALE * (row + side), SCALE * col : SCALE * (col + side)]
    low, high = chips._normalised(chip.lr[:, row : row + side, col : col + side], chip.hr[fine])
    label, which = labelled(low, chip.label[fine]), int(rng.integers(8))
    return loop.turn(low, which), loop.turn(high, which), loop.turn(label, which)


def labelled(low: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The label [10h, 10w], 255 also where the 10 m image [bands, h, w] is unknown (NaN)."""
    unknown = np.isnan(low).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
    return np.where(unknown, np.uint8(UNKNOWN), label)


def batch(chips: Patches, seed: int, step: int, size: int, crop_px: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batch of a step; each of its places depends on seed, step and place alone.

    Returns:
        low [size, bands, h, w], unknown pixels at the mean (0); high [size, 3, 10h, 10w]; valid [size, 1, 10h, 10w], 1
        where `high` is known; label uint8 [size, 10h, 10w], 255 unknown.
    """
    drawn = [patch(chips, np.random.default_rng([seed, step, place]), crop_px) for place in range(size)]
    lows, highs, labels = (list(part) for part in zip(*drawn))
    return *tensors(lows, highs), torch.from_numpy(np.stack(labels))


def terms(
    pair: Pair, low: Tensor, high: Tensor, valid: Tensor, label: Tensor, weights: LossWeights, rng: torch.Generator
) -> dict[str, Tensor]:
    """The unweighted losses of a batch (see `batch`): of the map, of the image, and of the image seen at 10 m again."""
    image = pair.generator(low)[1]
    seen, known = seen_at_10m(image, valid)
    return {
        "segmentation": pair.segmenter.loss(image, label, weights, rng),  # type: ignore[operator]
        "l1_1m": losses.l1(image, high, valid),
        "l1_10m": losses.l1(seen, low[:, :RGB], known),
    }


@torch.inference_mode()
def judge(pair: Pair, chips: Patches) -> tuple[np.ndarray, float]:
    """Over all chips: pixels by class and probability, int64 [2, 100] (see segmentation.count), and PSNR in dB."""
    counts, errors = np.zeros((2, 100), np.int64), np.zeros(2)
    std = torch.from_numpy(chips.std).to(loop.device())
    for chip_id in chips.ids:
        low, high, valid = generators.on_device(chips.whole(chip_id))
        image, probability = pair(low)
        chip = chips.dataset.read(chip_id)
        counts += count(labelled(chip.lr, chip.label), probability[0, 0].cpu().numpy())
        errors += losses.squared_error(image * std, high * std, valid)
    return counts, losses.psnr(*errors)


def train(
    pair: Pair, data: generators.Data, training: dict[str, Any], weights: LossWeights, seed: int
) -> tuple[Pair, loop.History]:
    """The averaged pair and its history, which begins with the figures of the pair as it was given."""
    groups = [
        {
            "params": list(pair.generator.parameters()),
            "lr": training["generator_learning_rate"],
            "betas": generators.BETAS,
            "weight_decay": 0.0,
        },
        {
            "params": list(pair.segmenter.parameters()),
            "lr": training["learning_rate"],
            "weight_decay": WEIGHT_DECAY,
        },
    ]
    descent, average = loop.Descent(torch.optim.AdamW(groups), training["clip"]), loop.Average(pair, training["ema"])
    base = max(training["learning_rate"], training["generator_learning_rate"])
    history, sums = loop.History(), dict[str, list[float]]()

    def validate(step: int) -> None:
        counts, psnr = judge(average.model, data.validation)
        f1, iou = f1_iou(counts, 0.5)
        means = {name: float(np.mean(values)) for name, values in sums.items()}
        sums.clear()
        history.add(step, **means, validation_f1=f1, validation_iou=iou, psnr_1m=psnr)
        log.info("step %d: validation F1 %.3f, IoU %.3f, PSNR %.2f dB", step, f1, iou, psnr)

    validate(0)
    pair.train()
    for step in track(range(training["steps"]), "super-resolution and segmentation", unit="step"):
        given = batch(data.train, seed, step, training["batch"], training["crop_px"])
        low, high, valid, label = (part.to(loop.device()) for part in given)
        drawn = torch.Generator().manual_seed(int(np.random.default_rng([seed, step]).integers(2**62)))
        found = terms(pair, low, high, valid, label, weights, drawn)
        loss = found["segmentation"] + training["image"] * found["l1_1m"] + training["consistency"] * found["l1_10m"]
        rate = loop.learning_rate(step, training["steps"], base, training["warmup"], training["schedule"])
        if descent.step(loss, rate, step):
            average.update(pair)
            for name, term in found.items():
                sums.setdefault(name, []).append(float(term.detach()))
        if (step + 1) % training["validate_every"] == 0 or step + 1 == training["steps"]:
            validate(step + 1)
    return average.model, history


@torch.inference_mode()
def _pictures(pair: Pair, chips: Patches, threshold: float) -> list[list[np.ndarray]]:
    """Rows of bilinear, super-resolved and true image, label, probability and map."""
    rows = []
    for chip_id in chips.spread(PANEL_CHIPS):
        low, high, valid = generators.on_device(chips.whole(chip_id))
        image, probability = pair(low)
        chip, found = chips.dataset.read(chip_id), probability[0, 0].cpu().numpy()
        images = [upsample(low[:, :RGB], SCALE), image, torch.where(valid > 0, high, torch.nan)]
        shown = [loop.to_display(each[0].cpu().numpy() * chips.std + chips.mean) for each in images]
        label = labelled(chip.lr, chip.label)
        grey = np.where(label == UNKNOWN, 0.5, label).astype(np.float32)
        rows.append([*shown, grey, found, (found >= threshold).astype(np.float32)])
    return rows


def joint(
    *,
    index: Path,
    statistics: Path,
    chips: list[Path],
    superres: Path,
    segmentation: Path,
    generator: Path,
    segmenter: Path,
    history: Path,
    panel: Path,
    training: dict[str, Any],
    loss: dict[str, float],
    seed: int,
    threads: int,
) -> dict[str, Any]:
    """Fine-tunes a generator and the segmenter trained on its images as one network from 10 m to the map.

    The loss is that of the segmenter, plus the L1 of the image at 1 m and of the image seen at 10 m again, which keep
    the generator from drawing what suits the segmenter alone. The threshold is found anew, as in `segmentation`.

    Args:
        index, statistics, chips: of the dataset.
        superres, segmentation: the checkpoints to start from.
        generator, segmenter, history, panel: what to write (safetensors twice, CSV, PNG).
        training: the section `joint` of the config.
        loss: the weights of the segmenter's loss, keys of LossWeights.

    Returns:
        Facts for the manifest.

    Raises:
        DataError: a checkpoint of another kind, normalisation or method, or a generator not trained to 1 m.
    """
    loop.prepare(seed, threads)
    normalisation = checkpoints.normalisation_of(json.loads(Path(statistics).read_text()))
    made, of_generator = checkpoints.load(superres, generators.ARCHITECTURE, normalisation)
    if of_generator["trained"]["stage"] < 2:
        raise DataError(f"checkpoint {superres} is trained to 2.5 m only; give that of stage 2 or the adversarial step")
    read, of_segmenter = checkpoints.load(segmentation, "mask2former", normalisation)
    if of_segmenter["trained"]["method"] != "superres":
        raise DataError(
            f"checkpoint {segmentation} was trained on {of_segmenter['trained']['method']} images; "
            "give that of super-resolved ones"
        )
    data = generators.Data(index, statistics, chips)
    made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pair = Pair(made, read).requires_grad_(True).to(loop.device())
    pair, figures = train(pair, data, training, LossWeights(**loss), seed)  # type: ignore[arg-type]
    counts, psnr = judge(pair, data.validation)
    threshold = best_threshold(counts)
    f1, iou = f1_iou(counts, threshold)
    first, last = figures.rows[0], figures.rows[-1]
    if last["validation_f1"] <= first["validation_f1"]:
        log.warning(
            "joint training gained nothing: validation F1 %.4f before and %.4f after it, at threshold 0.5",
            first["validation_f1"],
            last["validation_f1"],
        )
    common = {"steps": training["steps"], "seed": seed, "threads": threads, "joint": True}
    facts = {
        "method": "superres",
        "chips": {"train": len(data.train.ids), "validation": len(data.validation.ids)},
        **common,
        "threshold": threshold,
        "validation_f1": round(f1, 6),
        "validation_iou": round(iou, 6),
    }
    trained = {**common, "stage": STAGE, "train_chips": len(data.train.ids), "figures": last}
    for path, network, header, extra in (
        (generator, pair.generator, of_generator, trained),
        (segmenter, pair.segmenter, of_segmenter, facts),
    ):
        checkpoints.save(path, network, architecture=header["architecture"], normalisation=normalisation, extra=extra)
    figures.write(history)
    titles = ["Sentinel-2, bilinear", "1 m", "Jilin-1", "label", "probability", f"ISA at {threshold:.2f}"]
    curves = [["segmentation"], ["l1_1m", "l1_10m"], ["validation_f1", "validation_iou"], ["psnr_1m"]]
    loop.draw_panel(panel, figures, curves, _pictures(pair, data.validation, threshold), titles)
    return {**facts, "psnr_1m": psnr, "psnr_before": first["psnr_1m"], "device": loop.device().type}
