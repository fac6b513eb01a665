"""Measures the engine on a tile of a run: time beside that of the networks alone, stages, memory, roofs, differences."""

import logging
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jointseg.area import grid
from jointseg.config.schema import Settings
from jointseg.inference import lattice, predict, roofline, stage_times
from jointseg.inference.composite_reader import Composites, strips
from jointseg.inference.predictor import Precision, Predictor
from jointseg.models import checkpoint
from jointseg.models.mask2former import CLASSES, EPSILON, Segmenter
from jointseg.provenance import machine
from jointseg.raster.bands import band_names
from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

COMPARED = 24  # windows on which options that change pixels are compared


@dataclass(frozen=True)
class Job:
    """Arguments of `engine.isa` that stay the same over a measurement."""

    composites: list[Path]
    merged: list[Path]
    superres: Path
    segmentation: Path
    year: str
    tile: str
    tile_km: int
    window_m: int
    stride_m: int
    batch: int
    threads: int
    precision: Precision

    def run(self, isa: Path) -> dict[str, Any]:
        """One pass of the engine."""
        return predict.predict(
            **{name: getattr(self, name) for name in self.__annotations__}, method="superres", isa=isa
        )


@dataclass(frozen=True)
class Networks:
    """Two checkpoints, and whether they were trained."""

    superres: Path
    segmentation: Path
    trained: bool


def networks(config: Settings, preset: str | None, presets: Settings, folder: Path) -> Networks:
    """The checkpoints of a config, or for a preset random weights of its form, which take the same time.

    Args:
        config: the run.
        preset: of the sections superres and segmentation of `presets`; None for the checkpoints that map.
        presets: the run itself, or a config that has other presets.
        folder: where random ones are written.

    Raises:
        DataError: the preset is not there, or the checkpoints are not made yet.
    """
    if preset is None:
        found = checkpoints_of(config)
        for path in (found.superres, found.segmentation):
            if not path.is_file():
                raise DataError(
                    f"{path} is not made yet; run the config first, or measure random weights with --preset"
                )
        return found
    if presets.superres is None or presets.segmentation is None:
        raise DataError(f"a config with `weights` has no preset {preset!r}; name one that has with --of")
    for section in (presets.superres, presets.segmentation):
        if preset not in section.presets:
            raise DataError(f"preset {preset!r} is none of {sorted(section.presets)}")
    bands = band_names(len(config.sentinel2.bands))
    normalisation = {"mean": [0.1] * len(bands), "std": [0.05] * len(bands)}
    torch.manual_seed(config.seed)
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "superres": ("prog_esrgan", presets.superres.presets[preset].model.model_dump() | {"in_channels": len(bands)}),
        "segmentation": ("mask2former", presets.segmentation.presets[preset].model.model_dump()),
    }
    for part, (name, kwargs) in forms.items():
        checkpoint.save(
            folder / f"{part}.safetensors",
            checkpoint.build(name, **kwargs),
            architecture={"name": name, "kwargs": kwargs},
            normalisation=normalisation,
            extra={},
        )
    return Networks(folder / "superres.safetensors", folder / "segmentation.safetensors", trained=False)


def checkpoints_of(config: Settings) -> Networks:
    """Those that map, whether they are there or not."""
    if config.weights is not None:
        return Networks(Path(config.weights.superres), Path(config.weights.segmentation), trained=True)
    assert config.superres is not None
    final, results = config.superres.final, Path(config.results)
    segmenter = "joint" if final == "joint" else "superres"
    return Networks(
        results / f"superres/{final}.safetensors", results / f"segmentation/{segmenter}.safetensors", trained=True
    )


def job(config: Settings, found: Networks, tile: str | None, threads: int, precision: Precision) -> Job:
    """The measurement of one tile of the map year.

    Args:
        tile: its id; None for the first that has a composite.

    Raises DataError when no composite is there.
    """
    folder = Path(config.results) / f"sentinel2/composites/{config.map_year}"
    made = {path.stem: path for path in sorted(folder.glob("*.tif"))}
    if not made or (tile is not None and tile not in made):
        raise DataError(f"{folder} holds no composite{f' of {tile}' if tile else ''}; run the config first")
    own = grid.parse_tile(tile or next(iter(made)), config.tile_km)
    around = [made[own.id], *(made[near.id] for near in grid.neighbours(own) if near.id in made)]
    merged = [Path(config.results) / f"sentinel2/merged/{config.map_year}/{path.name}" for path in around]
    how = config.inference
    return Job(
        composites=around,
        merged=[path for path in merged if path.is_file()],
        superres=found.superres,
        segmentation=found.segmentation,
        year=str(config.map_year),
        tile=own.id,
        tile_km=config.tile_km,
        window_m=how.window_m,
        stride_m=how.stride_m,
        batch=max(how.batch, threads),
        threads=threads,
        precision=precision,
    )


def measure(work: Job, rounds: int, told: Callable[[str], None]) -> dict[str, Any]:
    """Everything that is known of a tile's pass.

    Args:
        work: what is measured.
        rounds: how often engine and networks alone take turns.
        told: is given a line on what is done now.

    Returns:
        JSON-able record, see the page that `bench_page.render` makes of it.
    """
    with tempfile.TemporaryDirectory(prefix="jointseg-bench-") as name:
        out = Path(name) / f"{work.tile}.tif"
        predictor = Predictor.load("superres", work.segmentation, work.superres, work.precision)
        windows = _windows(work, predictor)
        told(f"{len(windows)} windows of {work.window_m} m, on {predictor.device.type}")
        predictor.window(*windows[0])
        engines: list[float] = []
        models: list[float] = []
        for number in range(rounds):
            told(f"round {number + 1} of {rounds}")
            turns = [(engines, lambda: work.run(out)), (models, lambda: _alone(predictor, windows, work.threads))]
            for times, call in turns if number % 2 == 0 else reversed(turns):
                started = time.perf_counter()
                call()
                times.append(time.perf_counter() - started)
        told("stages")
        with stage_times.counted() as seconds:
            work.run(out)
        told("memory")
        memory = _memory(work, out)
        told("roofs")
        dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
        roof = roofline.measured(predictor.device, dtype, work.threads)
        asked = roofline.demand(lambda: predictor.window(*windows[0]))
        told("differences")
        differences = _differences(work, windows[:COMPARED])
        area_km2 = work.tile_km**2
        ratios = [engine_s / model_s for engine_s, model_s in zip(engines, models)]
        hours = statistics.median(engines) / 3600
        return {
            "tile": work.tile,
            "km2": area_km2,
            "windows": len(windows),
            "lattice": [work.window_m, work.stride_m],
            "threads": work.threads,
            "precision": work.precision,
            "device": _name(predictor.device),
            "kind": predictor.device.type,
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
            "parameters": {
                "super-resolution": roofline.parameters(predictor.generator),
                "segmentation": roofline.parameters(predictor.segmenter),
            },
            "engine_s": engines,
            "networks_s": models,
            "ratio": ratios,
            "stages_s": dict(seconds),
            "memory_mb": memory,
            "demand": asdict(asked),
            "roofs": asdict(roof),
            "share_of_roof": asked.seconds(roof) * len(windows) / statistics.median(engines),
            "km2_per_hour": area_km2 / hours,
            "map_bytes_per_km2": out.stat().st_size / area_km2,
            "composite_bytes_per_km2": work.composites[0].stat().st_size / area_km2,
            "differences": differences,
        }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor() or "unknown processor"


def _windows(work: Job, predictor: Predictor) -> list[tuple[np.ndarray, np.ndarray]]:
    source = Composites(work.composites, predictor.bands, work.merged)
    rows = lattice.rows(grid.parse_tile(work.tile, work.tile_km).bounds, work.window_m, work.stride_m)
    ground = [strip.of(window.bounds) for row, strip in strips(source, rows) for window in row]
    if not any(known.any() for _, known in ground):
        raise DataError(f"tile {work.tile} has no clear pixel; measure another one")
    return [(dn, known) for dn, known in ground if known.any()]


def _alone(predictor: Predictor, windows: list[tuple[np.ndarray, np.ndarray]], threads: int) -> None:
    """The networks on all windows that the engine computes, with as many threads, and nothing else."""

    def compute(ground: tuple[np.ndarray, np.ndarray]) -> None:
        predictor.window(*ground)

    with predictor.workers(threads) as pool:
        for _ in pool.map(compute, windows):
            pass
    if predictor.device.type == "cuda":
        torch.cuda.synchronize(predictor.device)


def _memory(work: Job, out: Path) -> dict[str, float]:
    """Peak memory of a pass in a process of its own."""
    asked = out.with_suffix(".pickle")
    asked.write_bytes(pickle.dumps((work, out)))
    done = subprocess.run([sys.executable, "-m", __name__, str(asked)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the pass in a process of its own failed: {done.stderr.strip().splitlines()[-1]}")
    host, device = map(float, done.stdout.split())
    return {"host": host, **({"device": device} if device else {})}


def _differences(work: Job, windows: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """What the options that change pixels change, against fp32 with every query's mask at 1 m."""
    exact = Predictor.load("superres", work.segmentation, work.superres, "fp32")
    rough = Predictor.load("superres", work.segmentation, work.superres, "bf16")
    segmenter = exact.segmenter
    assert isinstance(segmenter, Segmenter)
    ways: dict[str, Callable[[np.ndarray, np.ndarray], Tensor]] = {
        "logits contracted on the grid of the masks": exact.probability,
        "the same, bf16": rough.probability,
    }
    found: dict[str, list[Tensor]] = {name: [] for name in ways}
    for dn, known in windows:
        reference = _at_full_size(exact, segmenter, dn, known)
        for name, way in ways.items():
            found[name].append(torch.stack((reference, way(dn, known))).cpu())
    told = {}
    for name, pairs in found.items():
        stacked = torch.stack(pairs)
        apart = (stacked[:, 0] - stacked[:, 1]).abs()
        classes = stacked >= exact.threshold
        told[name] = {
            "mean": float(apart.mean()),
            "p99": float(np.quantile(apart.numpy(), 0.99)),
            "changed": float((classes[:, 0] != classes[:, 1]).float().mean()),
        }
    return told


@torch.inference_mode()
def _at_full_size(predictor: Predictor, segmenter: Segmenter, dn: np.ndarray, known: np.ndarray) -> Tensor:
    """The map as published: every query's mask upsampled to 1 m before the queries are summed; [1, h, w]."""
    given: dict[str, Tensor] = {}

    def read(x: Tensor) -> Tensor:
        given["x"] = x
        return x[:, :1]

    predictor.segmenter = read  # type: ignore[assignment]
    try:
        predictor.window(dn, known)
    finally:
        predictor.segmenter = segmenter
    x = given["x"]
    padded = segmenter.pad(x)
    classes, masks = segmenter.final_layer(padded)
    full = F.interpolate(masks, size=padded.shape[2:], mode="bilinear", align_corners=False).sigmoid()
    shares = torch.einsum("nqc,nqhw->nchw", classes.softmax(2)[..., :CLASSES], full)[..., : x.shape[2], : x.shape[3]]
    logs = (shares + EPSILON).log()
    return (logs[:, 1] - logs[:, 0]).sigmoid()


def _main(asked: Path) -> None:
    """A pass in a process of its own; prints its peak memory in MB, of the host and of the GPU."""
    work, out = pickle.loads(asked.read_bytes())
    work.run(out)
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
    print(host, device)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
