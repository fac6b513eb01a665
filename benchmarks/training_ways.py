"""Ways to run a training step and to load batches, for `training.py`."""

import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.models import discriminator
from jointseg.models.prog_esrgan import ProgESRGAN, upsample
from jointseg.training import adversarial, generator, losses, superres
from jointseg.training import backbone as backbones
from jointseg.training.patches import Patches
from jointseg.training.prefetch import prefetch
from jointseg.training.settings import AdversarialSettings, Stage1Settings, Stage2Settings
from jointseg.training.trainer import Trainer

PRESETS = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text())["superres"]["presets"]
SEED = 0
NORMALISATION = {"mean": [0.165] * 3, "std": [0.078] * 3}
WARMUP_STEPS = 2
SETTINGS = {"stage1": Stage1Settings, "stage2": Stage2Settings, "adversarial": AdversarialSettings}
STEPS = {
    "stage1": superres.superres_stage1,
    "stage2": superres.superres_stage2,
    "adversarial": adversarial.superres_adversarial,
}


class Case(NamedTuple):
    """A training whose steps are measured."""

    kind: str  # "stage1", "stage2" or "adversarial"
    preset: str  # of the production config
    changes: dict[str, Any]  # of its settings that make a step short enough for two cores
    steps: int  # to measure, after the warm-up

    @property
    def model(self) -> dict[str, Any]:
        return PRESETS[self.preset]["model"]

    @property
    def training(self) -> dict[str, Any]:
        fixed = {"steps": self.steps + WARMUP_STEPS, "validate_every": 10**9, "validation_chips": 1}
        return PRESETS[self.preset][self.kind] | self.changes | fixed

    @property
    def settings(self) -> Any:
        return SETTINGS[self.kind].read(self.training)


class Clock:
    """Times of the steps, without the warm-up."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def result(self, batch: int) -> dict[str, float]:
        seconds = (self.marks[-1] - self.marks[WARMUP_STEPS]) / (len(self.marks) - 1 - WARMUP_STEPS)
        return {"seconds": seconds, "batch": batch}


class MeasuredError(Exception):
    """End of the measurement, raised before validation."""


def measure_jointseg(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """Run the step function until it validates."""
    clock = Clock()

    def run(self: Trainer, advance: Callable[..., Any]) -> None:
        clock.mark()
        for step, batch in enumerate(prefetch(self._batch, range(self.settings.steps), threads)):
            advance(step, batch)
            self.average.update(self.network)
            clock.mark()
        raise MeasuredError

    Trainer.run = run  # type: ignore[method-assign,assignment]
    generator.load = lambda path, stage, model, data: generator.build(model).train()  # type: ignore[assignment]
    arguments: dict[str, Any] = {"index": folder / "index.parquet", "statistics": folder / "statistics.json"}
    arguments |= {"chips": [folder / "chips/reach"], "model": case.model, "training": case.training}
    arguments |= {"seed": SEED, "threads": threads}
    arguments |= dict.fromkeys(("checkpoint", "history", "panel"), folder / "none")
    arguments |= {"stage2": {"stage1": None}, "adversarial": {"stage2": None, "discriminators": None}}.get(
        case.kind, {}
    )
    try:
        STEPS[case.kind](**arguments)
    except MeasuredError:
        return clock.result(case.settings.batch)
    raise AssertionError("the training ended before it was measured")


class PlainBlock(nn.Module):
    """A dense block as described in the ESRGAN paper."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        inputs = [features + growth * number for number in range(5)]
        outputs = [growth] * 4 + [features]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for conv in self.convs[:4]:
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), 0.2, inplace=True))
        return self.convs[4](torch.cat(features, 1)) * 0.2 + x


class PlainGenerator(nn.Module):
    """The x4 network of the ESRGAN paper."""

    def __init__(self, features: int, growth: int, blocks: int) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(
            nn.Sequential(*(PlainBlock(features, growth) for _ in range(3))) for _ in range(blocks)
        )
        self.first, self.last = nn.Conv2d(3, features, 3, 1, 1), nn.Conv2d(features, 3, 3, 1, 1)
        self.after, self.up1, self.up2, self.high = (nn.Conv2d(features, features, 3, 1, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.first(x)
        for block in self.trunk:
            y = block(y) * 0.2 + y
        y = first + self.after(y)
        for conv in (self.up1, self.up2):
            y = F.leaky_relu(conv(F.interpolate(y, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        return self.last(F.leaky_relu(self.high(y), 0.2, inplace=True)) + upsample(x, 4)


def measure_plain_loop(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """Run the plain loop with batches of torch's DataLoader."""
    settings = case.settings
    samples = Samples(read_patches(folder), settings.patch_px, settings.steps * settings.batch)
    return _plain_loop(case, iter(torch.utils.data.DataLoader(samples, settings.batch, num_workers=2)))


def measure_plain_loop_without_data(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """Run the plain loop with one batch in memory."""
    settings = case.settings
    batch = read_patches(folder).batch(SEED, 0, range(settings.batch), settings.patch_px)
    return _plain_loop(case, repeat(batch))


def read_patches(folder: Path) -> Patches:
    """Return the chips of the train split, read into memory."""
    patches = Patches(folder / "index.parquet", folder / "chips", "train", NORMALISATION)
    for chip_id in patches.ids:
        patches.dataset.size(chip_id)
    return patches


def _plain_loop(case: Case, batches: Iterator[Any]) -> dict[str, float]:
    settings, kind = case.settings, case.kind
    torch.manual_seed(SEED)
    published = kind == "stage1" and set(case.model["stage1"]) == {"features", "growth", "blocks"}
    network: nn.Module = PlainGenerator(**case.model["stage1"]) if published else ProgESRGAN(**case.model)
    if kind == "stage1" and not published:
        network.generator2.requires_grad_(False)
    if kind == "stage2" and settings.stage1_weight == 0:
        network.generator1.requires_grad_(False)
    average = [weight.detach().clone() for weight in network.parameters()]
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, settings.learning_rate, (0.9, 0.99))
    step = _adversarial_step(network, settings, optimizer) if kind == "adversarial" else None
    clock = Clock()
    clock.mark()
    for _ in range(settings.steps):
        low, high, valid = (part.contiguous() for part in next(batches))
        optimizer.zero_grad()
        if step is not None:
            step(low, high, valid)
        else:
            target = losses.degrade_to_stage1(high, valid)[0] if kind == "stage1" else high
            image = network(low) if published else network.stage1(low)
            image = network.stage2(low, image) if kind == "stage2" else image
            F.l1_loss(image, target).backward()
            optimizer.step()
        with torch.no_grad():
            for averaged, weight in zip(average, network.parameters()):
                averaged.mul_(settings.ema).add_(weight, alpha=1 - settings.ema)
        clock.mark()
    return clock.result(settings.batch)


def _adversarial_step(
    network: nn.Module, settings: AdversarialSettings, optimizer: torch.optim.Optimizer
) -> Callable[[Tensor, Tensor, Tensor], None]:
    """Return a step of the generator and of the discriminators."""
    critics = discriminator.pair(["2_5m", "1m"], features=settings.discriminator_features)
    critic_optimizer = torch.optim.Adam(critics.parameters(), 1e-4, (0.9, 0.99))
    backbone = backbones.load("efficientnet_lite0")

    def step(low: Tensor, high: Tensor, valid: Tensor) -> None:
        critics.requires_grad_(False)
        images = network(low)
        targets = (losses.degrade_to_stage1(high, valid)[0], high)
        total = torch.zeros(())
        for image, target, critic in zip(images, targets, critics.values()):
            features, expected = backbone(image), backbone(target.detach())
            total = total + F.l1_loss(image, target) + 0.1 * sum(F.l1_loss(a, b) for a, b in zip(features, expected))
            score = critic(image)
            total = total + 0.05 * F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
        total.backward()
        optimizer.step()
        critics.requires_grad_(True)
        critic_optimizer.zero_grad()
        for image, target, critic in zip(images, targets, critics.values()):
            for sample, label in ((target, 1.0), (image.detach().clone(), 0.0)):
                score = critic(sample)
                F.binary_cross_entropy_with_logits(score, torch.full_like(score, label)).backward()
        critic_optimizer.step()

    return step


class Samples(torch.utils.data.Dataset):
    """The same samples for torch's DataLoader."""

    def __init__(self, patches: Patches, patch_px: int, number: int) -> None:
        self.patches, self.patch_px, self.number = patches, patch_px, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.patches.batch(SEED, 0, [index], self.patch_px))


def measure_loader(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """Return samples per second of the loaders, and seconds to read a chip from its files."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    patches = read_patches(folder)
    result = {"read": (time.perf_counter() - started) / len(patches.ids)}
    size, patch_px = case.settings.batch, case.settings.patch_px
    batches = max(480 // size, 10)

    def rate(loader: Iterator[Any]) -> float:
        next(loader)
        started = time.perf_counter()
        number = sum(1 for _ in loader)
        return number * size / (time.perf_counter() - started)

    for name, workers in (("one", 1), ("two", 2)):
        loader = prefetch(lambda step: patches.batch(SEED, step, range(size), patch_px), range(batches), workers)
        result[name] = rate(loader)
    samples = Samples(patches, patch_px, batches * size)
    result["processes"] = rate(iter(torch.utils.data.DataLoader(samples, size, num_workers=2)))
    return result


WAYS: dict[str, Callable[[Case, Path, int], dict[str, float]]] = {
    "jointseg": measure_jointseg,
    "plain": measure_plain_loop,
    "without data": measure_plain_loop_without_data,
    "loader": measure_loader,
}
