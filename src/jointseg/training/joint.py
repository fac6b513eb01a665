"""Super-resolution and segmentation trained together: the loss of the map goes back through the image."""

import json
import logging
from collections.abc import Iterable
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
from jointseg.runtime import distributed
from jointseg.runtime.errors import DataError
from jointseg.training import generator as generators
from jointseg.training import losses
from jointseg.training.compute import autocast, autocast_dtype, device
from jointseg.training.determinism import make_deterministic
from jointseg.training.history import History
from jointseg.training.optimiser import Optimiser
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.patches import SCALE, Patches, stack_pairs
from jointseg.training.prefetch import Batch
from jointseg.training.resume import TrainingState
from jointseg.training.segmentation import best_threshold, count_by_probability, f1_iou
from jointseg.training.trainer import Trainer

log = logging.getLogger(__name__)

STAGE = 4  # of a generator in its checkpoint's header: trained with the segmenter
WEIGHT_DECAY = 0.05  # of the segmenter, as Mask2Former was published
PANEL_CHIPS = 3
TINT = np.array([1.0, 0.1, 0.1])  # red, of impervious ground over an image


class JointNetwork(nn.Module):
    """A generator and the segmenter that reads its images."""

    def __init__(self, generator: nn.Module, segmenter: nn.Module) -> None:
        super().__init__()
        self.generator, self.segmenter = generator, segmenter

    def forward(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised [n, bands, h, w] at 10 m -> at 1 m: normalised RGB [n, 3, 10h, 10w], probability [n, 1, ...]."""
        image = self.generator(low)[1]
        return image, self.segmenter(self.read(image, low))

    def read(self, image: Tensor, low: Tensor) -> Tensor:
        """What the segmenter reads of an image and the 10 m bands that it was made from."""
        return segmenter_input(image, low, self.segmenter.channels)  # type: ignore[arg-type]


def mask_unobserved(low: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The label [10h, 10w], 255 also where the 10 m image [bands, h, w] is unknown (NaN)."""
    unknown = np.isnan(low).any(axis=0).repeat(SCALE, 0).repeat(SCALE, 1)
    return np.where(unknown, np.uint8(UNLABELLED), label)


def joint_batch(chips: Patches, seed: int, step: int, places: Iterable[int], crop_px: int) -> Batch:
    """The places of a step's batch; each depends on seed, step and place alone.

    Returns:
        low [places, bands, h, w], unknown pixels at the mean (0); high [places, 3, 10h, 10w]; valid [places, 1, 10h, 10w],
        1 where `high` is known; label uint8 [places, 10h, 10w], 255 unknown; int64 [places], seeds of what the loss draws.
    """
    drawn = [np.random.default_rng([seed, step, place]) for place in places]
    patches = [chips.patch(rng, crop_px // SCALE) for rng in drawn]
    labels = np.stack([mask_unobserved(low, label) for low, _, label in patches])
    seeds = torch.tensor([int(rng.integers(2**62)) for rng in drawn])
    return *stack_pairs([(low, high) for low, high, _ in patches]), torch.from_numpy(labels), seeds


def loss_terms(pair: JointNetwork, given: Batch, weights: LossWeights, precision: str) -> dict[str, Tensor]:
    """The unweighted losses of a batch (see `batch`): of the map, of the image, and of the image seen at 10 m again."""
    low, high, valid, label, seeds = given
    with autocast(precision):
        image = pair.generator(low)[1]
    image = image.float()
    seen, known = simulate_sentinel2(image, valid)
    drawn = [torch.Generator().manual_seed(each) for each in seeds.tolist()]
    return {
        "segmentation": pair.segmenter.loss(  # type: ignore[operator]
            pair.read(image, low), label, weights, drawn, autocast_dtype(precision)
        ),
        "l1_1m": losses.l1(image, high, valid),
        "l1_10m": losses.l1(seen, low[:, :RGB], known),
    }


@torch.inference_mode()
def evaluate(pair: JointNetwork, chips: Patches) -> tuple[np.ndarray, float]:
    """Over all chips: pixels by class and probability, int64 [2, 100] (see segmentation.count), and PSNR in dB."""
    counts, errors = np.zeros((2, 100), np.int64), np.zeros(2)
    std = torch.from_numpy(chips.std[:RGB]).to(device())
    for chip_id in chips.ids:
        low, high, valid = (image.to(device()) for image in chips.whole(chip_id))
        image, probability = pair(low)
        chip = chips.dataset.read(chip_id)
        counts += count_by_probability(mask_unobserved(chip.lr, chip.label), probability[0, 0].cpu().numpy())
        errors += losses.squared_error(image * std, high * std, valid)
    return counts, losses.psnr(*errors)


def train(
    pair: JointNetwork,
    data: generators.TrainingData,
    training: dict[str, Any],
    weights: LossWeights,
    seed: int,
    threads: int,
    state: TrainingState,
    events: str | None,
) -> Trainer[JointNetwork]:
    """Runs the steps; the history begins with the figures of the pair as it was given."""
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
    descent = Optimiser(torch.optim.AdamW(groups), training["clip"])
    fastest = max("learning_rate", "generator_learning_rate", key=lambda name: training[name])

    def validate(average: JointNetwork) -> dict[str, float]:
        counts, psnr = evaluate(average, data.validation)
        f1, iou = f1_iou(counts, 0.5)
        return {"validation_f1": f1, "validation_iou": iou, "psnr_1m": psnr}

    trainer = Trainer(
        "super-resolution and segmentation",
        pair,
        {"pair": descent},
        training,
        seed,
        lambda step, places: joint_batch(data.train, seed, step, places, training["crop_px"]),
        validate,
        lambda average, history: joint_panel(average, data.validation, history, 0.5),
        state,
        threads,
        events,
    )

    def advance(step: int, given: Batch) -> dict[str, float] | None:
        found = loss_terms(pair, given, weights, training["precision"])
        loss = found["segmentation"] + training["image"] * found["l1_1m"] + training["consistency"] * found["l1_10m"]
        done = descent.step(loss, trainer.rate(step, fastest), step)
        return {name: float(term.detach()) for name, term in found.items()} if done else None

    if trainer.first and not trainer.history.rows:
        trainer.history.add(0, **validate(trainer.average.model))
    pair.train()
    trainer.run(advance)
    return trainer


@torch.inference_mode()
def _pictures(pair: JointNetwork, chips: Patches, threshold: float) -> list[list[np.ndarray]]:
    """Rows of the images bilinear, at 2.5 m, at 1 m and true, of the label over the true one, and of the map over the 1 m."""
    rows = []
    for chip_id in chips.spread(PANEL_CHIPS):
        low, high, valid = (image.to(device()) for image in chips.whole(chip_id))
        middle, image = pair.generator(low)
        found = pair.segmenter(pair.read(image, low))[0, 0].cpu().numpy()
        images = [upsample(low[:, :RGB], SCALE), middle, image, torch.where(valid > 0, high, torch.nan)]
        std, mean = chips.std[:RGB], chips.mean[:RGB]
        shown = [to_display(each[0].cpu().numpy() * std + mean) for each in images]
        chip = chips.dataset.read(chip_id)
        label = mask_unobserved(chip.lr, chip.label)
        rows.append([*shown, _tinted(shown[3], label == 1), _tinted(shown[2], found >= threshold)])
    return rows


def _tinted(image: np.ndarray, isa: np.ndarray) -> np.ndarray:
    """[h, w, 3] in 0..1 with the pixels of isa, bool [h, w], half red."""
    return np.where(isa[..., None], (image + TINT) / 2, image)


def joint_panel(pair: JointNetwork, chips: Patches, history: History, threshold: float) -> Figure:
    """Learning curves above the pictures."""
    titles = ["Sentinel-2, bilinear", "2.5 m", "1 m", "Jilin-1", "label", f"ISA at {threshold:.2f}"]
    curves = [["segmentation"], ["l1_1m", "l1_10m"], ["validation_f1", "validation_iou"], ["psnr_1m"]]
    return draw_panel(history, curves, _pictures(pair, chips, threshold), titles)


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
    state: str | None = None,
    events: str | None = None,
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
        state: file in which the half-done training is kept until it is whole.
        events: folder of what TensorBoard shows.

    Returns:
        Facts for the manifest.

    Raises:
        DataError: a checkpoint of another kind, normalisation or method, or a generator not trained to 1 m.
    """
    arguments = dict(locals())
    if distributed.needs_launch(training["devices"]):
        return distributed.launch(joint, training["devices"], arguments)
    make_deterministic(seed, threads)
    normalisation = checkpoints.normalisation_of(json.loads(Path(statistics).read_text()))
    made, of_generator = checkpoints.load(superres, generators.ARCHITECTURES, normalisation)
    if of_generator["trained"]["stage"] < 2:
        raise DataError(f"checkpoint {superres} is trained to 2.5 m only; give that of stage 2 or the adversarial step")
    read, of_segmenter = checkpoints.load(segmentation, "mask2former", normalisation)
    if of_segmenter["trained"]["method"] != "superres":
        raise DataError(
            f"checkpoint {segmentation} was trained on {of_segmenter['trained']['method']} images; "
            "give that of super-resolved ones"
        )
    data = generators.TrainingData(index, statistics, chips, training["jitter"])
    made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pair = JointNetwork(made, read).requires_grad_(True).to(device())
    settings = {name: arguments[name] for name in ("training", "loss", "seed", "threads")}
    kept = TrainingState(state, __name__, [index, statistics, superres, segmentation, *chips], settings)
    weights = LossWeights(**loss)  # type: ignore[arg-type]
    trainer = train(pair, data, training, weights, seed, threads, kept, events)
    if not trainer.first:
        return {}
    pair, figures = trainer.average.model, trainer.history
    counts, psnr = evaluate(pair, data.validation)
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
    write_panel(panel, joint_panel(pair, data.validation, figures, threshold))
    kept.drop()
    return {**facts, "psnr_1m": psnr, "psnr_before": first["psnr_1m"], "device": device().type}
