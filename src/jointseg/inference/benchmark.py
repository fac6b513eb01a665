"""Benchmark of the inference engine on a tile: wall time, stages, memory, roofline and differences of options."""

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

import torch

from jointseg.area import grid
from jointseg.config.schema import Settings
from jointseg.inference import lattice, predict, roofline, stage_times
from jointseg.inference.composite_reader import CompositeReader, read_strips
from jointseg.inference.precision_differences import measure_differences
from jointseg.inference.predict import Pixels
from jointseg.inference.predictor import Precision, Predictor
from jointseg.models import checkpoint
from jointseg.provenance import machine
from jointseg.raster.bands import band_names
from jointseg.runtime.errors import DataError

COMPARED_WINDOWS = 24  # windows on which options that change pixels are compared


@dataclass(frozen=True)
class BenchmarkJob:
    """Arguments of `predict.predict` that are constant during a measurement."""

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
        return predict.predict(
            **{name: getattr(self, name) for name in self.__annotations__}, method="superres", isa=isa
        )


@dataclass(frozen=True)
class Checkpoints:
    """The two checkpoints, and whether they are trained."""

    superres: Path
    segmentation: Path
    trained: bool


def select_checkpoints(config: Settings, preset: str | None, presets: Settings, folder: Path) -> Checkpoints:
    """Return the checkpoints of a config or, for a preset, random weights of its architecture, which take equally long.

    `preset` is one of the sections superres and segmentation of `presets`; its weights are written to `folder`. Raises
    DataError for an undefined preset or missing checkpoints.
    """
    if preset is None:
        configured = configured_checkpoints(config)
        for path in (configured.superres, configured.segmentation):
            if not path.is_file():
                raise DataError(f"{path} does not exist; run the config first, or measure random weights with --preset")
        return configured
    if presets.superres is None or presets.segmentation is None:
        raise DataError(f"a config with `weights` has no preset {preset!r}; use --of with a config that has presets")
    for section in (presets.superres, presets.segmentation):
        if preset not in section.presets:
            raise DataError(f"preset {preset!r} is not one of {sorted(section.presets)}")
    bands = band_names(len(config.sentinel2.bands))
    normalisation = {"mean": [0.1] * len(bands), "std": [0.05] * len(bands)}
    torch.manual_seed(config.seed)
    architectures: dict[str, tuple[str, dict[str, Any]]] = {
        "superres": ("prog_esrgan", presets.superres.presets[preset].model.model_dump() | {"in_channels": len(bands)}),
        "segmentation": ("mask2former", presets.segmentation.presets[preset].model.model_dump()),
    }
    for part, (name, kwargs) in architectures.items():
        checkpoint.save(
            folder / f"{part}.safetensors",
            checkpoint.build(name, **kwargs),
            architecture={"name": name, "kwargs": kwargs},
            normalisation=normalisation,
            extra={},
        )
    return Checkpoints(folder / "superres.safetensors", folder / "segmentation.safetensors", trained=False)


def configured_checkpoints(config: Settings) -> Checkpoints:
    """Return the checkpoints that the config uses for maps, whether they exist or not."""
    if config.weights is not None:
        return Checkpoints(Path(config.weights.superres), Path(config.weights.segmentation), trained=True)
    assert config.superres is not None
    final, results = config.superres.final, Path(config.results)
    segmenter = "joint" if final == "joint" else "superres"
    return Checkpoints(
        results / f"superres/{final}.safetensors", results / f"segmentation/{segmenter}.safetensors", trained=True
    )


def tile_job(
    config: Settings, checkpoints: Checkpoints, tile: str | None, threads: int, precision: Precision
) -> BenchmarkJob:
    """Return the job of one tile of the map year, by default the first; raises DataError if there is no composite."""
    folder = Path(config.results) / f"sentinel2/composites/{config.map_year}"
    composite_of = {path.stem: path for path in sorted(folder.glob("*.tif"))}
    if not composite_of or (tile is not None and tile not in composite_of):
        raise DataError(f"{folder} contains no composite{f' of {tile}' if tile else ''}; run the config first")
    extent = grid.parse_tile(tile or next(iter(composite_of)), config.tile_km)
    neighbours = [each.id for each in grid.neighbours(extent) if each.id in composite_of]
    composites = [composite_of[name] for name in (extent.id, *neighbours)]
    merged = [Path(config.results) / f"sentinel2/merged/{config.map_year}/{path.name}" for path in composites]
    return BenchmarkJob(
        composites=composites,
        merged=[path for path in merged if path.is_file()],
        superres=checkpoints.superres,
        segmentation=checkpoints.segmentation,
        year=str(config.map_year),
        tile=extent.id,
        tile_km=config.tile_km,
        window_m=config.inference.window_m,
        stride_m=config.inference.stride_m,
        batch=max(config.inference.batch, threads),
        threads=threads,
        precision=precision,
    )


def measure(job: BenchmarkJob, rounds: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure a job in alternating runs of engine and networks; return a record, see `benchmark_page.render`."""
    with tempfile.TemporaryDirectory(prefix="jointseg-bench-") as name:
        out = Path(name) / f"{job.tile}.tif"
        predictor = Predictor.load("superres", job.segmentation, job.superres, job.precision)
        windows = _windows(job, predictor)
        report(f"{len(windows)} windows of {job.window_m} m, on {predictor.device.type}")
        engines, networks = _alternate(job, predictor, windows, out, rounds, report)
        report("stages")
        with stage_times.collect_times() as seconds:
            job.run(out)
        report("memory")
        memory = _peak_memory(job, out)
        report("roofline")
        dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
        peaks = roofline.measure_peaks(predictor.device, dtype, job.threads)
        demand = roofline.count_demand(lambda: predictor.predict_window(*windows[0]))
        report("differences")
        differences = measure_differences(job.segmentation, job.superres, windows[:COMPARED_WINDOWS])
        area_km2, median_s = job.tile_km**2, statistics.median(engines)
        return {
            "tile": job.tile,
            "km2": area_km2,
            "windows": len(windows),
            "lattice": [job.window_m, job.stride_m],
            "threads": job.threads,
            "precision": job.precision,
            "device": _device_name(predictor.device),
            "kind": predictor.device.type,
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
            "parameters": {
                "super-resolution": roofline.parameters(predictor.generator),
                "segmentation": roofline.parameters(predictor.segmenter),
            },
            "engine_s": engines,
            "networks_s": networks,
            "ratio": [engine_s / network_s for engine_s, network_s in zip(engines, networks)],
            "stages_s": dict(seconds),
            "memory_mb": memory,
            "demand": asdict(demand),
            "peaks": asdict(peaks),
            "roofline_fraction": demand.seconds(peaks) * len(windows) / median_s,
            "km2_per_hour": area_km2 / (median_s / 3600),
            "map_bytes_per_km2": out.stat().st_size / area_km2,
            "composite_bytes_per_km2": job.composites[0].stat().st_size / area_km2,
            "differences": differences,
        }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor() or "unknown processor"


def _windows(job: BenchmarkJob, predictor: Predictor) -> list[Pixels]:
    """Return dn and validity of the windows that have valid pixels."""
    source = CompositeReader(job.composites, predictor.bands, job.merged)
    rows = lattice.rows(grid.parse_tile(job.tile, job.tile_km).bounds, job.window_m, job.stride_m)
    windows = [strip.crop(window.bounds) for row, strip in read_strips(source, rows) for window in row]
    windows = [(dn, valid) for dn, valid in windows if valid.any()]
    if not windows:
        raise DataError(f"tile {job.tile} has no valid pixel; measure another one")
    return windows


def _alternate(
    job: BenchmarkJob,
    predictor: Predictor,
    windows: list[Pixels],
    out: Path,
    rounds: int,
    report: Callable[[str], None],
) -> tuple[list[float], list[float]]:
    """Return the seconds of each run of the engine and of the networks, in alternating order after a warm-up."""
    predictor.predict_window(*windows[0])
    engines: list[float] = []
    networks: list[float] = []
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}")
        runs = [(engines, lambda: job.run(out)), (networks, lambda: _run_networks(predictor, windows, job.threads))]
        for times, run in runs if number % 2 == 0 else reversed(runs):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return engines, networks


def _run_networks(predictor: Predictor, windows: list[Pixels], threads: int) -> None:
    """Run only the networks, on the engine's windows and with its number of threads."""

    def compute(pixels: Pixels) -> None:
        predictor.predict_window(*pixels)

    with predictor.workers(threads) as pool:
        for _ in pool.map(compute, windows):
            pass
    if predictor.device.type == "cuda":
        torch.cuda.synchronize(predictor.device)


def _peak_memory(job: BenchmarkJob, out: Path) -> dict[str, float]:
    """Return the peak memory, MB, of a run in a separate process."""
    arguments = out.with_suffix(".pickle")
    arguments.write_bytes(pickle.dumps((job, out)))
    done = subprocess.run([sys.executable, "-m", __name__, str(arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the run in a separate process failed: {done.stderr.strip().splitlines()[-1]}")
    host, device = map(float, done.stdout.split())
    return {"host": host, **({"device": device} if device else {})}


def _main(arguments: Path) -> None:
    """Run a job and print the peak memory of host and GPU in MB."""
    job, out = pickle.loads(arguments.read_bytes())
    job.run(out)
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
    print(host, device)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
