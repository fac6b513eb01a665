"""Stage 2 on a grid of 5 m against one of 2.5 m: what each costs, and what its images are worth.

    python benchmarks/stage2_grid.py examples/synthetic/config.yaml > benchmarks/stage2_grid.md

The 2.5 m image of stage 1 enters stage 2 as it is, and its trunk's features are upsampled x2.5 bilinearly (`unshuffle: 1,
upsampling: bilinear`); or four of its pixels become one of 5 m with four times the channels, and features are shuffled x5
(`unshuffle: 2, upsampling: shuffle`). Both stages 2 are trained for the same steps on the same chips, from the stage 1 of
a run that is finished, and score the same test chips, which no training saw. Seconds are of a window of the engine, one
after the other on one CPU thread, in rounds in which the grids took turns.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jointseg.config.load import read_config
from jointseg.config.schema import Settings
from jointseg.inference import roofline
from jointseg.inference.predictor import REFLECTANCE_PER_DN, Predictor
from jointseg.models import checkpoint
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.provenance import machine
from jointseg.training import backbone, scores
from jointseg.training.generator import TrainingData, with_input_bands
from jointseg.training.patches import RGB, SCALE, Patches
from jointseg.training.superres import superres_stage2

GRIDS: dict[str, dict[str, Any]] = {
    "5 m": {"unshuffle": 2, "upsampling": "shuffle"},
    "2.5 m": {"unshuffle": 1, "upsampling": "bilinear"},
}
SCORES = {"psnr": "PSNR, dB", "ssim": "SSIM", "perceptual": "perceptual distance", "improvement": "improvement"}
WINDOW_PX = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of a run that has its dataset and stage 1")
    parser.add_argument("--presets", type=Path, default=Path("config.yaml"), help="config whose presets are timed")
    parser.add_argument("--timed", nargs="+", default=["small", "base", "paper"], help="presets (default: all three)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each grid (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of each training (default: those of the config's preset)")
    parser.add_argument("--rounds", type=int, default=3, help="of the timing (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the trainings (default: %(default)s)")
    given = parser.parse_args()
    config = read_config(given.config)
    assert config.superres is not None
    print(
        f"# Stage 2 on a grid of 5 m and of 2.5 m\n\nMade by `python benchmarks/stage2_grid.py {given.config}`; ",
        end="",
    )
    print(f"{datetime.now(UTC):%Y-%m-%d}; {machine.processor()}, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, fp32.\n\n## Cost\n")
    timed(read_config(given.presets), given)
    steps = schedule(config, given)["steps"]
    print(f"\n## Worth\n\n`{config.results}`, preset `{config.superres.preset}`, {steps} steps each; ", end="")
    print(f"means over {given.seeds} seeds, and the 5 m grid minus the other, paired by seed, with its range.\n")
    worth(config, given)


def schedule(config: Settings, given: argparse.Namespace) -> dict[str, Any]:
    assert config.superres is not None
    own = config.superres.presets[config.superres.preset].stage2.model_dump() | {"devices": 1}
    return own | ({"steps": given.steps, "validate_every": given.steps} if given.steps else {})


def timed(config: Settings, given: argparse.Namespace) -> None:
    assert config.superres is not None
    print("| preset | grid | GFLOP of stage 2 | s | of both stages | both stages on 2.5 m / on 5 m |")
    print("|---|---:|---:|---:|---:|---:|")
    for preset in given.timed:
        model = config.superres.presets[preset].model.model_dump()
        taken: dict[str, list[tuple[float, float]]] = {grid: [] for grid in GRIDS}
        networks = {grid: ProgESRGAN(**with_grid(model, grid)).eval() for grid in GRIDS}
        for number in range(given.rounds):
            for grid in GRIDS if number % 2 == 0 else reversed(GRIDS):
                taken[grid].append(seconds(networks[grid]))
        ratios = [sum(other) / sum(own) for own, other in zip(taken["5 m"], taken["2.5 m"])]
        for grid, each in taken.items():
            flops = roofline.count_demand(partial(networks[grid].stage2, *ground())).flops
            second, both = statistics.median(b for _, b in each), statistics.median(a + b for a, b in each)
            last = (
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if grid == "2.5 m" else ""
            )
            print(f"| {preset} | {grid} | {flops / 1e9:,.1f} | {second:.2f} | {both:.2f} | {last} |", flush=True)


def with_grid(model: dict[str, Any], grid: str) -> dict[str, Any]:
    return {**model, "stage2": {**model["stage2"], **GRIDS[grid]}}


def ground() -> tuple[torch.Tensor, torch.Tensor]:
    side = WINDOW_PX
    low, middle = torch.randn(1, RGB, side, side), torch.randn(1, RGB, 4 * side, 4 * side)
    return low.contiguous(memory_format=torch.channels_last), middle.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def seconds(network: ProgESRGAN) -> tuple[float, float]:
    """Of stage 1 and of stage 2 on one window."""
    torch.set_num_threads(1)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    low, middle = ground()
    network.stage1(low[..., :8, :8])
    started = time.perf_counter()
    network.stage1(low)
    between = time.perf_counter()
    network.stage2(low, middle)
    return between - started, time.perf_counter() - between


def worth(config: Settings, given: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, float]]] = {grid: [] for grid in GRIDS}
    with tempfile.TemporaryDirectory(prefix="jointseg-stage2-") as name:
        for seed in range(1, given.seeds + 1):
            for grid in GRIDS:
                print(f"grid {grid}, seed {seed}", file=sys.stderr)
                found[grid].append(trained(config, schedule(config, given), grid, seed, given.threads, Path(name)))
    print("| score of the 1 m image | 5 m | 2.5 m | difference |\n|---|---:|---:|---:|")
    for score, title in SCORES.items():
        fine, coarse = ([each[score] for each in found[grid]] for grid in GRIDS)
        apart = [a - b for a, b in zip(fine, coarse)]
        print(
            f"| {title} | {statistics.mean(fine):.3f} | {statistics.mean(coarse):.3f} "
            f"| {statistics.mean(apart):+.3f} ({min(apart):+.3f} to {max(apart):+.3f}) |"
        )
    spent = {grid: statistics.median(each["training_s"] for each in found[grid]) for grid in GRIDS}
    print(f"| s of a training, {given.threads} threads | {spent['5 m']:.0f} | {spent['2.5 m']:.0f} | |")


def trained(
    config: Settings, training: dict[str, Any], grid: str, seed: int, threads: int, folder: Path
) -> dict[str, float]:
    """Scores of the test chips by a stage 2 that is trained here, and the seconds that this took."""
    assert config.superres is not None
    preset, results = config.superres.presets[config.superres.preset], Path(config.results)
    index, norms = results / "dataset/index.parquet", results / "dataset/statistics.json"
    chips = sorted(path for path in (results / "dataset/chips").iterdir() if path.is_dir())
    model = with_grid(preset.model.model_dump(), grid)
    torch.manual_seed(seed)
    data = TrainingData(index, norms, chips, training["jitter"])
    start = transplanted(results / "superres/stage1.safetensors", model, data, folder)
    made = folder / f"{grid}-{seed}.safetensors"
    started = time.perf_counter()
    superres_stage2(
        index=index, statistics=norms, chips=chips, stage1=start, checkpoint=made, history=folder / "h.csv",
        panel=folder / "p.png", model=model, training=training, seed=seed,
        threads=threads,
    )  # fmt: skip
    spent = time.perf_counter() - started
    predictor = Predictor.load("superres", None, made)
    tested = Patches(index, results / "dataset/chips", "test", data.normalisation)
    eyes = backbone.load("efficientnet_lite0")
    each = [likeness(predictor, tested, chip_id, eyes, data.normalisation) for chip_id in tested.ids]
    return {name: float(np.nanmean([one[name] for one in each])) for name in SCORES} | {"training_s": spent}


def transplanted(stage1: Path, model: dict[str, Any], data: TrainingData, folder: Path) -> Path:
    """A checkpoint with the run's stage 1 and a stage 2 of another form with random weights."""
    source, header = checkpoint.load(stage1, "prog_esrgan", data.normalisation)
    network = ProgESRGAN(**with_input_bands(model, data))
    network.generator1.load_state_dict(source.generator1.state_dict())  # type: ignore[union-attr]
    path = folder / "start.safetensors"
    architecture = {"name": "prog_esrgan", "kwargs": with_input_bands(model, data)}
    checkpoint.save(path, network, architecture=architecture, normalisation=data.normalisation, extra=header["trained"])
    return path


def likeness(
    predictor: Predictor, tested: Patches, chip_id: str, eyes: backbone.Backbone, normalisation: dict[str, list[float]]
) -> dict[str, float]:
    """Scores of one chip's image beside the true one."""
    chip = tested.dataset.read(chip_id)
    known = np.isfinite(chip.lr).all(0)
    image = predictor.reflectance(np.rint(np.nan_to_num(chip.lr) / REFLECTANCE_PER_DN), known)[None]
    valid = np.isfinite(chip.hr).all(0) & known.repeat(SCALE, 0).repeat(SCALE, 1)
    high, low = (torch.from_numpy(np.nan_to_num(each).astype(np.float32))[None] for each in (chip.hr, chip.lr[:RGB]))
    where = torch.from_numpy(valid[None, None].astype(np.float32))
    return scores.score(image, high, low, where, backbone=eyes, normalisation=normalisation)


if __name__ == "__main__":
    main()
