"""Training: what the loader feeds against what a step consumes, and a step against a plain loop.

    python benchmarks/training.py > benchmarks/training.md

Makes chips of 640 m in a temporary folder and removes them. Every measurement is a process of its own; they take turns,
so that other work on the machine falls on all. The step of `jointseg` is the whole loop of its trainer: batches drawn
and turned while it runs, finite check, clipping, average. The plain loop is what public super-resolution trainers do:
a generator in the contiguous layout, zero_grad, forward, losses, backward, step, average. It is measured twice: with
batches from torch's DataLoader in two processes, as such trainers have them, and with one batch that lies ready in
memory, so that its data costs nothing. For `base` stage 1 its generator is written plainly after the ESRGAN
paper; elsewhere it has the same layers as ours. The adversarial step has one L1, perceptual and adversarial loss a scale
and one step of the discriminators, in both.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import torch
import yaml
from affine import Affine
from shapely.geometry import box
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.models import discriminator
from jointseg.models.prog_esrgan import ProgESRGAN, upsample
from jointseg.raster import cog
from jointseg.training import adversarial, generator, losses, superres
from jointseg.training import backbone as backbones
from jointseg.training.patches import Patches
from jointseg.training.prefetch import prefetch
from jointseg.training.trainer import Trainer

PRESETS = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text())["superres"]["presets"]
CHIP_PX, CHIPS, SEED = 64, 12, 0
BANDS = {"mean": [0.165] * 3, "std": [0.078] * 3}
# Kind, preset, changes that make a step short enough for two cores, steps measured after two to warm up.
CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "stage 1, `small`": ("stage1", "small", {}, 24),
    "stage 1, `base`, batch 4, 24 px": ("stage1", "base", {"batch": 4, "patch_px": 24}, 4),
    "stage 2, `small`": ("stage2", "small", {}, 12),
    "adversarial, `small`": ("adversarial", "small", {}, 4),
}
OURS, LOOP = "`jointseg`", "plain loop"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch and of the loader (default: %(default)s)")
    parser.add_argument("--preset", choices=["small", "base"], help="measure this one alone (default: both)")
    parser.add_argument("--work", nargs=3, metavar=("WAY", "CASE", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.work:
        way, case, folder = given.work
        ways: dict[str, Callable[[str, Path, int], Any]] = {"ours": ours, "plain": plain, "free": free, "load": load}
        print(json.dumps(ways[way](case, Path(folder), given.threads)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)

        def work(way: str, case: str) -> Any:
            command = [sys.executable, __file__, "--threads", str(given.threads), "--work", way, case, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            return json.loads(done.stdout.splitlines()[-1])

        cases = [case for case, (_, preset, _, _) in CASES.items() if given.preset in (None, preset)]
        steps: dict[str, list[tuple[Any, ...]]] = {case: [] for case in cases}
        loads: dict[str, list[Any]] = {case: [] for case in cases}
        for _ in range(given.rounds):
            for case in cases:
                steps[case].append(tuple(work(way, case) for way in ("ours", "plain", "free")))
                loads[case].append(work("load", case))
        print(page(steps, loads, given))


def page(steps: dict[str, list[tuple[Any, ...]]], loads: dict[str, list[Any]], given: argparse.Namespace) -> str:
    """The Markdown page of the measurements."""
    lines = [
        "# Training: loader and step",
        "",
        f"Made by `python benchmarks/training.py --rounds {given.rounds} --threads {given.threads}"
        f"{f' --preset {given.preset}' if given.preset else ''}`; "
        f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. fp32. Medians over rounds in which the ways took turns; ratios are "
        "medians of each round's own, with their range.",
        "",
        "## Samples a second: what the loader feeds, what a step takes",
        "",
        "Chips lie in memory, as after the first pass; the loader runs alone. The target is three times what is taken.",
        "",
        "| training | batch | one thread | two threads | DataLoader, two processes | taken by a step | times as many |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case, measured in loads.items():
        taken = [ways[0]["batch"] / ways[0]["seconds"] for ways in steps[case]]
        fed = {name: [each[name] for each in measured] for name in ("one", "two", "processes")}
        ratios = [most / took for most, took in zip(fed["two"], taken)]
        middle = [f"{statistics.median(values):,.0f}" for values in fed.values()]
        lines.append(
            f"| {case} | {steps[case][0][0]['batch']} | {' | '.join(middle)} | {statistics.median(taken):.1f} | {told(ratios)} |"
        )
    lines += [
        "",
        "Reading a chip from its files the first time takes "
        f"{1000 * statistics.median(each['read'] for some in loads.values() for each in some):.0f} ms.",
        "",
        "## A step beside a plain loop",
        "",
        "| training | `jointseg`, s | plain loop, s | times as fast | plain loop without data, s | times as fast |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case, measured in steps.items():
        seconds = [[each["seconds"] for each in ways] for ways in measured]
        own, plainly, freely = (statistics.median(ways[which] for ways in seconds) for which in range(3))
        ratios = [told([ways[which] / ways[0] for ways in seconds]) for which in (1, 2)]
        lines.append(f"| {case} | {own:.3f} | {plainly:.3f} | {ratios[0]} | {freely:.3f} | {ratios[1]} |")
    lines += ["", f"Python {platform.python_version()}, torch {torch.__version__}."]
    return "\n".join(lines)


def told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def machine() -> str:
    model = next(line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    return f"{len(os.sched_getaffinity(0))} cores of {model.strip()}, load {os.getloadavg()[2]:.1f}"


def make(folder: Path) -> None:
    """Chips of random blocks and noise, index and statistics."""
    rng, rows = np.random.default_rng(0), []
    fine, coarse = (Affine(pixel, 0, 660000, 0, -pixel, 3540000) for pixel in (1, 10))
    side = 10 * CHIP_PX
    for number in range(CHIPS):
        blocks = rng.integers(300, 3000, (3, side // 20, side // 20)).repeat(20, 1).repeat(20, 2)
        high = np.clip(blocks + rng.normal(0, 60, blocks.shape), 1, 9999).astype(np.uint16)
        low = high.reshape(3, CHIP_PX, 10, CHIP_PX, 10).mean((2, 4)).astype(np.uint16)
        label = (high.mean(0, keepdims=True) > 1650).astype(np.uint8)
        for kind, array, transform in (("lr", low, coarse), ("hr", high, fine), ("label", label, fine)):
            path = folder / f"chips/reach/c{number}_{kind}.tif"
            cog.write(path, array, crs="EPSG:32650", transform=transform, nodata=255 if kind == "label" else 0)
        files = {kind: f"reach/c{number}_{kind}.tif" for kind in ("lr", "hr", "label")}
        split = "validation" if number == 0 else "train"
        rows.append({"sample_id": f"c{number}", "split": split, "geometry": box(0, 0, 1, 1), **files})
    gpd.GeoDataFrame(rows, crs="EPSG:4326").to_parquet(folder / "index.parquet")
    (folder / "statistics.json").write_text(json.dumps({"lr": BANDS, "hr": BANDS}))


def settings(case: str) -> tuple[str, dict[str, Any], dict[str, Any], int]:
    kind, preset, changes, steps = CASES[case]
    chosen = PRESETS[preset]
    defaults = {"devices": 1, "jitter": 0.0, "shift_m": 0.0, "perceptual_backbone": "efficientnet_lite0"}
    training = defaults | chosen[kind] | changes | {"steps": steps + 2, "validate_every": 10**9, "validation_chips": 1}
    return kind, chosen["model"], training, steps


class Clock:
    """Seconds of the steps after two to warm up."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def told(self, batch: int) -> dict[str, float]:
        return {"seconds": (self.marks[-1] - self.marks[2]) / (len(self.marks) - 3), "batch": batch}


class MeasuredError(Exception):
    """Everything measured."""


def ours(case: str, folder: Path, threads: int) -> dict[str, float]:
    """The step function itself, until it validates."""
    kind, model, training, _ = settings(case)
    clock = Clock()

    def advance(self: Trainer, run: Callable[..., Any]) -> None:
        clock.mark()
        rest = iter(prefetch(self._batch, range(training["steps"]), self.threads))
        for step, made in enumerate(rest):
            run(step, made)
            self.average.update(self.network)
            clock.mark()
        raise MeasuredError

    Trainer.run = advance  # type: ignore[method-assign,assignment]
    given: dict[str, Any] = {"index": folder / "index.parquet", "statistics": folder / "statistics.json"}
    given |= {"chips": [folder / "chips/reach"], "model": model, "training": training, "seed": SEED, "threads": threads}
    given |= dict.fromkeys(("checkpoint", "history", "panel"), folder / "none")
    generator.load = lambda path, stage, model, data: generator.build(model).train()  # type: ignore[assignment]
    step: Callable[..., Any] = superres.superres_stage1
    if kind == "stage2":
        step, given["stage1"] = superres.superres_stage2, None
    if kind == "adversarial":
        step, given["stage2"], given["discriminators"] = adversarial.superres_adversarial, None, folder / "none"
    try:
        step(**given)
    except MeasuredError:
        return clock.told(training["batch"])
    raise AssertionError("the training ended before it was measured")


class PlainBlock(nn.Module):
    """A dense block, written as the ESRGAN paper draws it."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        widths = [features + growth * number for number in range(5)]
        outputs = [growth] * 4 + [features]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip(widths, outputs))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in self.convs[:4]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2, inplace=True))
        return self.convs[4](torch.cat(seen, 1)) * 0.2 + x


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


def plain(case: str, folder: Path, threads: int) -> dict[str, float]:
    """Batches from torch's own loader."""
    _, _, training, steps = settings(case)
    patches, size = _patches(folder), training["batch"]
    samples = Samples(patches, training["patch_px"], (steps + 2) * size)
    return _loop(case, iter(torch.utils.data.DataLoader(samples, size, num_workers=2)))


def free(case: str, folder: Path, threads: int) -> dict[str, float]:
    """One batch from memory again and again."""
    _, _, training, _ = settings(case)
    return _loop(case, repeat(_patches(folder).batch(SEED, 0, range(training["batch"]), training["patch_px"])))


def _patches(folder: Path) -> Patches:
    """All chips of the train split, read."""
    patches = Patches(folder / "index.parquet", folder / "chips", "train", BANDS)
    for name in patches.ids:
        patches.dataset.size(name)
    return patches


def _loop(case: str, batches: Iterator[Any]) -> dict[str, float]:
    """Everything contiguous."""
    kind, model, training, steps = settings(case)
    torch.manual_seed(SEED)
    published = kind == "stage1" and set(model["stage1"]) == {"features", "growth", "blocks"}
    network: nn.Module = PlainGenerator(**model["stage1"]) if published else ProgESRGAN(**model)
    if kind == "stage1" and not published:
        network.generator2.requires_grad_(False)
    if kind == "stage2" and training["stage1_weight"] == 0:
        network.generator1.requires_grad_(False)
    average = [weight.detach().clone() for weight in network.parameters()]
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, training["learning_rate"], (0.9, 0.99))
    critics = discriminator.pair(["2_5m", "1m"], features=training.get("discriminator_features", 1))
    critic_optimizer = torch.optim.Adam(critics.parameters(), 1e-4, (0.9, 0.99))
    backbone = backbones.load("efficientnet_lite0")

    def update() -> None:
        with torch.no_grad():
            for kept, weight in zip(average, network.parameters()):
                kept.mul_(training["ema"]).add_(weight, alpha=1 - training["ema"])

    clock = Clock()
    clock.mark()
    for _ in range(steps + 2):
        low, high, valid = (part.contiguous() for part in next(batches))
        optimizer.zero_grad()
        if kind == "adversarial":
            _adversarial(network, critics, backbone, critic_optimizer, optimizer, (low, high, valid), training)
        else:
            wanted = losses.degrade_to_stage1(high, valid)[0] if kind == "stage1" else high
            if published:
                made = network(low)
            else:
                middle = network.stage1(low)
                made = middle if kind == "stage1" else network.stage2(low, middle)
            F.l1_loss(made, wanted).backward()
            optimizer.step()
        update()
        clock.mark()
    return clock.told(training["batch"])


def _adversarial(
    network: nn.Module,
    critics: nn.ModuleDict,
    backbone: nn.Module,
    critic_optimizer: torch.optim.Optimizer,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, ...],
    training: dict[str, Any],
) -> None:
    low, high, valid = batch
    for weight in critics.parameters():
        weight.requires_grad = False
    images = network(low)
    truths = (losses.degrade_to_stage1(high, valid)[0], high)
    total = torch.zeros(())
    for made, true, critic in zip(images, truths, critics.values()):
        features, wanted = backbone(made), backbone(true.detach())
        total = total + F.l1_loss(made, true) + 0.1 * sum(F.l1_loss(a, b) for a, b in zip(features, wanted))
        score = critic(made)
        total = total + 0.05 * F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
    total.backward()
    optimizer.step()
    for weight in critics.parameters():
        weight.requires_grad = True
    critic_optimizer.zero_grad()
    for made, true, critic in zip(images, truths, critics.values()):
        for image, real in ((true, 1.0), (made.detach().clone(), 0.0)):
            score = critic(image)
            F.binary_cross_entropy_with_logits(score, torch.full_like(score, real)).backward()
    critic_optimizer.step()


class Samples(torch.utils.data.Dataset):
    """The same samples for torch's own loader."""

    def __init__(self, patches: Patches, patch_px: int, number: int) -> None:
        self.patches, self.patch_px, self.number = patches, patch_px, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, at: int) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.patches.batch(SEED, 0, [at], self.patch_px))


def load(case: str, folder: Path, threads: int) -> dict[str, float]:
    """Samples a second of the loader alone, by how they are made."""
    torch.set_num_threads(1)
    _, _, training, _ = settings(case)
    started = time.perf_counter()
    patches = _patches(folder)
    read = (time.perf_counter() - started) / len(patches.ids)
    size, px = training["batch"], training["patch_px"]
    batches = max(480 // size, 10)

    def rate(made: Iterator[Any]) -> float:
        next(made)
        began = time.perf_counter()
        number = sum(1 for _ in made)
        return number * size / (time.perf_counter() - began)

    found = {"read": read}
    for name, workers in (("one", 1), ("two", 2)):
        found[name] = rate(prefetch(lambda step: patches.batch(SEED, step, range(size), px), range(batches), workers))
    samples = Samples(patches, px, batches * size)
    found["processes"] = rate(iter(torch.utils.data.DataLoader(samples, size, num_workers=2)))
    return found


if __name__ == "__main__":
    main()
