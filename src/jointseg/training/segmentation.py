"""Training of the segmenter on 1 m images of the chips, super-resolved or bilinear, with one and the same recipe."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.models import checkpoint as checkpoints
from jointseg.models.mask2former import Segmenter, build
from jointseg.models.mask_loss import UNLABELLED, LossWeights
from jointseg.raster import io as raster_io
from jointseg.runtime import distributed
from jointseg.runtime.errors import DataError
from jointseg.training.augmentation import dihedral, random_gains
from jointseg.training.compute import autocast_dtype, device
from jointseg.training.determinism import make_deterministic
from jointseg.training.history import History
from jointseg.training.optimiser import Optimiser
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.prefetch import Batch
from jointseg.training.resume import TrainingState
from jointseg.training.trainer import Trainer

CACHED_CHIPS = 2048  # image + label of a 320 m chip are 0.7 MB
THRESHOLDS = 99  # 0.01, 0.02 ... 0.99
PANEL_ROWS = 3
BACKBONE = "network.model.pixel_level_module.encoder."


@dataclass(frozen=True)
class SegmentationSettings:
    """The keys of `training` in the config."""

    steps: int
    batch: int
    crop_px: int
    learning_rate: float
    backbone_factor: float  # learning rate of the backbone, relative to that of the decoders
    weight_decay: float
    warmup: int
    schedule: str
    clip: float
    ema: float
    jitter: float  # largest relative change of a band's gain
    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float
    dense_weight: float
    pixel_weight: float
    points: int
    validate_every: int
    precision: str
    devices: int

    @classmethod
    def read(cls, training: dict[str, Any]) -> "SegmentationSettings":
        wanted = {field.name for field in fields(cls)}
        if wrong := wanted ^ set(training):
            raise DataError(
                f"segmentation.training: {', '.join(sorted(wrong))} missing or unknown; give {sorted(wanted)}"
            )
        return cls(**training)

    @property
    def loss(self) -> LossWeights:
        return LossWeights(**{field.name: getattr(self, field.name) for field in fields(LossWeights)})


class ImageChips:
    """1 m images and labels of the chips of one split, read when first needed.

    Args:
        index, root, split: as for ChipDataset.
        folder: {id}.tif, uint16 1 m image, reflectance x 10000, 0 = unknown.
        normalisation: {"mean", "std"} of reflectance, of which the first are the image's.
        channels: bands of the image.
    """

    def __init__(
        self, index: Path, root: Path, split: str, folder: Path, normalisation: dict[str, list[float]], channels: int
    ) -> None:
        self.chips, self.folder = ChipDataset(index, root, split), folder
        self.ids = self.chips.ids
        self.channels = channels
        self.mean, self.std = (
            np.array(normalisation[key][:channels], np.float32).reshape(channels, 1, 1) for key in ("mean", "std")
        )
        self.read = lru_cache(CACHED_CHIPS)(self._read)

    def _read(self, sample_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(uint16 [channels, h, w], label uint8 [h, w] that is 255 wherever the image is unknown)."""
        image = raster_io.read(self.folder / f"{sample_id}.tif")[0]
        label = raster_io.read(self.chips.root / self.chips.table.loc[sample_id, "label"])[0][0]
        if image.shape != (self.channels, *label.shape):
            raise DataError(
                f"image {self.folder / sample_id}.tif is {image.shape}, expected {self.channels} bands of {label.shape}; "
                "make the images of this index again"
            )
        return image, np.where((image == 0).any(0), UNLABELLED, label)

    def normalise(self, image: np.ndarray, gain: np.ndarray | float = 1.0) -> np.ndarray:
        """uint16 [channels, h, w] -> float32 normalised reflectance, unknown pixels at the mean (0)."""
        scaled = (image.astype(np.float32) * REFLECTANCE_PER_DN * gain - self.mean) / self.std
        return np.where(image == 0, 0, scaled).astype(np.float32)

    def crop(self, rng: np.random.Generator, recipe: SegmentationSettings) -> tuple[np.ndarray, np.ndarray]:
        """A random crop of a random chip, turned and with gains changed: float32 [channels, c, c], uint8 [c, c]."""
        which, size = int(rng.integers(len(self.ids))), recipe.crop_px
        image, label = self.read(self.ids[which])
        if min(label.shape) < size:
            raise DataError(f"chip {self.ids[which]} is {label.shape} px; crop_px is {size}, choose at most that")
        row, column = (int(rng.integers(side - size + 1)) for side in label.shape)
        turned = int(rng.integers(8))
        window = np.s_[..., row : row + size, column : column + size]
        normalised = self.normalise(image[window], random_gains(rng, self.channels, recipe.jitter))
        return dihedral(normalised, turned), dihedral(label[window], turned)

    def batch(self, seed: int, step: int, places: Iterable[int], recipe: SegmentationSettings) -> Batch:
        """The crops at some places of the batch of a step; each depends on seed, step and place alone.

        Returns:
            float32 [places, channels, c, c]; uint8 [places, c, c]; int64 [places], seeds of what the loss draws for each.
        """
        drawn = [np.random.default_rng([seed, step, place]) for place in places]
        images, labels = zip(*(self.crop(rng, recipe) for rng in drawn))
        seeds = torch.tensor([int(rng.integers(2**62)) for rng in drawn])
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels)), seeds

    @torch.inference_mode()
    def predict(self, model: Segmenter, sample_id: str) -> np.ndarray:
        """Probability of ISA of a whole chip, float32 [h, w]."""
        x = torch.from_numpy(self.normalise(self.read(sample_id)[0])[None])
        return model(x.to(device()))[0, 0].cpu().numpy()


def count_by_probability(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """int64 [2, 100]: known pixels of class 0 and 1 by probability of ISA in hundredths; both arrays [h, w]."""
    hundredth = np.minimum((probability * (THRESHOLDS + 1)).astype(np.int64), THRESHOLDS)
    return np.stack([np.bincount(hundredth[label == value], minlength=THRESHOLDS + 1) for value in (0, 1)])


def count_chips(model: Segmenter, images: ImageChips) -> np.ndarray:
    """`count` over all chips, int64 [2, 100]."""
    return sum(
        (count_by_probability(images.read(sample_id)[1], images.predict(model, sample_id)) for sample_id in images.ids),
        np.zeros((2, THRESHOLDS + 1), np.int64),
    )


def f1_iou(counts: np.ndarray, threshold: float) -> tuple[float, float]:
    """F1 and IoU of ISA (probability >= threshold, a multiple of 0.01) from the counts of `count` or `score`."""
    cut = round(threshold * (THRESHOLDS + 1))
    true, false, missed = counts[1, cut:].sum(), counts[0, cut:].sum(), counts[1, :cut].sum()
    wrong = false + missed
    return float(2 * true / max(2 * true + wrong, 1)), float(true / max(true + wrong, 1))


def best_threshold(counts: np.ndarray) -> float:
    """The multiple of 0.01 with the highest F1; of equal ones, the nearest to a half."""
    candidates = [step / (THRESHOLDS + 1) for step in range(1, THRESHOLDS + 1)]
    return max(candidates, key=lambda value: (f1_iou(counts, value)[0], -abs(value - 0.5)))


def train(
    model: Segmenter,
    images: ImageChips,
    validation: ImageChips,
    recipe: SegmentationSettings,
    seed: int,
    threads: int,
    state: TrainingState,
    events: str | None = None,
) -> Trainer[Segmenter]:
    """Runs the recipe; the averaged model and its history (loss, validation F1 and IoU at 0.5) are the trainer's."""
    backbone = [value for name, value in model.named_parameters() if name.startswith(BACKBONE)]
    others = [value for name, value in model.named_parameters() if not name.startswith(BACKBONE)]
    optimizer = torch.optim.AdamW(
        [
            {"params": others, "lr": recipe.learning_rate},
            {"params": backbone, "lr": recipe.learning_rate * recipe.backbone_factor},
        ],
        weight_decay=recipe.weight_decay,
    )
    descent = Optimiser(optimizer, recipe.clip)

    def validate(average: Segmenter) -> dict[str, float]:
        f1, iou = f1_iou(count_chips(average, validation), 0.5)
        return {"validation_f1": f1, "validation_iou": iou}

    trainer = Trainer(
        "segmentation",
        model,
        {"model": descent},
        asdict(recipe),
        seed,
        lambda step, places: images.batch(seed, step, places, recipe),
        validate,
        lambda average, history: segmentation_panel(average, validation, history, 0.5),
        state,
        threads,
        events,
        images=("1 m image",),
    )
    dtype = autocast_dtype(recipe.precision)

    def advance(step: int, batch: Batch) -> dict[str, float] | None:
        x, label, seeds = batch
        generators = [torch.Generator().manual_seed(each) for each in seeds.tolist()]
        loss = model.loss(x, label, recipe.loss, generators, dtype)
        rate = trainer.rate(step)
        return {"loss": float(loss.detach()), "rate": rate} if descent.step(loss, rate, step) else None

    model.train()
    trainer.run(advance)
    return trainer


def _pictures(model: Segmenter, images: ImageChips, threshold: float) -> list[list[np.ndarray]]:
    """Rows of image, label, probability, map of the first, the middle and the last chip."""
    rows = []
    last = len(images.ids) - 1
    for which in dict.fromkeys(round(last * row / (PANEL_ROWS - 1)) for row in range(PANEL_ROWS)):
        image, label = images.read(images.ids[which])
        probability = images.predict(model, images.ids[which])
        shown = np.where(label == UNLABELLED, 0.5, label).astype(np.float32)
        mapped = (probability >= threshold).astype(np.float32)
        rows.append([to_display(image[:3] * REFLECTANCE_PER_DN), shown, probability, mapped])
    return rows


def segmentation_panel(model: Segmenter, images: ImageChips, history: History, threshold: float) -> Figure:
    """Learning curves above the pictures."""
    titles = ["image", "label", "probability", f"ISA at {threshold:.2f}"]
    curves = [["loss"], ["validation_f1", "validation_iou"]]
    return draw_panel(history, curves, _pictures(model, images, threshold), titles)


def segmentation(
    *,
    index: Path,
    statistics: Path,
    images: Path,
    chips: list[Path],
    checkpoint: Path,
    history: Path,
    panel: Path,
    method: str,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    threads: int,
    state: str | None = None,
    events: str | None = None,
) -> dict[str, Any]:
    """Train Mask2Former on {id}.tif of `images` against the labels of the train split of `index`.

    The decision threshold is the one with the best F1 on the validation split; it goes into the checkpoint's header
    ("trained": "threshold") with that F1, and inference reads it from there. `method` says whose images they are, `model` and `training` are the preset
    and the recipe of the config; `state` is the file in which the half-done training is kept until it is whole, `events` the
    folder of what TensorBoard shows.
    Returns the facts for the manifest.
    """
    arguments = dict(locals())
    recipe = SegmentationSettings.read(training)
    if distributed.needs_launch(recipe.devices):
        return distributed.launch(segmentation, recipe.devices, arguments)
    normalisation = checkpoints.normalisation_of(json.loads(Path(statistics).read_text()))
    root = Path(chips[0]).parent
    make_deterministic(seed, threads)
    network = build(**model).to(device())
    trained, validated = (
        ImageChips(index, root, split, images, normalisation, network.channels) for split in ("train", "validation")
    )
    settings = {name: arguments[name] for name in ("method", "model", "training", "seed", "threads")}
    kept = TrainingState(state, __name__, [index, statistics, images, *chips], settings)
    trainer = train(network, trained, validated, recipe, seed, threads, kept, events)
    if not trainer.first:
        return {}
    network = trainer.average.model
    counts = count_chips(network, validated)
    threshold = best_threshold(counts)
    f1, iou = f1_iou(counts, threshold)
    facts = {
        "method": method,
        "chips": {"train": len(trained.ids), "validation": len(validated.ids)},
        "steps": recipe.steps,
        "seed": seed,
        "threads": threads,
        "threshold": threshold,
        "validation_f1": round(f1, 6),
        "validation_iou": round(iou, 6),
    }
    architecture = {"name": "mask2former", "kwargs": model}
    checkpoints.save(checkpoint, network, architecture=architecture, normalisation=normalisation, extra=facts)
    trainer.history.write(history)
    write_panel(panel, segmentation_panel(network, validated, trainer.history, threshold))
    kept.drop()
    return {**facts, "device": device().type}
