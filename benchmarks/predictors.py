"""The inference engine compared with other ways to map a large scene with the same networks: time, memory, seams.

    python benchmarks/predictors.py --config examples/synthetic/config.yaml > benchmarks/predictors.md
    python benchmarks/predictors.py --packages FOLDER ...      # with the two public projects, installed there

The ways run in turn, each in its own process, on one tile of a run with composites and networks:

- the engine, which also compresses the map and writes it as COG with overviews, in fp32 and in bf16;
- a sliding window: super-resolved tiles are written and read, segmented with overlap by the Mask2Former of transformers
  with its post-processing (every query's mask at 1 m), and averaged in float arrays. It runs with the engine's overlap, and
  with an overlap of half a window, a frequent default;
- SEN2SR's `predict_large` (sen2sr 0.8.5) and opensr-utils' `large_file_processing` (2.1.0), with their own windows and
  overlaps, for the image, their purpose. The image is written and segmented as above, with the engine's overlap;
- both public projects with the two networks as one module from 10 m to the probability at 1 m, without the image. Install
  them without their dependencies:

      pip install --no-deps --target FOLDER sen2sr==0.8.5 opensr-utils==2.1.0 pytorch-lightning lightning-utilities torchmetrics einops tqdm \
          omegaconf antlr4-python3-runtime==4.9.3 scikit-image

Seconds exclude imports. Memory is the peak of the process minus its memory after loading the networks. Seams: mean absolute
difference of the probability of neighbouring pixels across window edges, divided by that elsewhere (1: no seams). Memory for
larger tiles is measured with networks replaced by interpolation.
"""

import argparse
import dataclasses
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
import torch
from predictor_ways import PUBLIC, SCALE, WAYS, Task
from rasterio.transform import from_origin

from jointseg.area import grid
from jointseg.config.load import read_config
from jointseg.inference import benchmark

LARGE_KM = 50  # side of the tile for which memory is extrapolated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("examples/synthetic/config.yaml"))
    parser.add_argument("--tile", help="tile id (default: the first with a composite)")
    parser.add_argument("--packages", type=Path, help="folder with the installed public projects")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--km", type=int, nargs=2, default=(4, 12), help="sides of two tiles for the memory measurement"
    )
    parser.add_argument("--work", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(WAYS[options.work[0]](pickle.loads(Path(options.work[1]).read_bytes()))))
        return
    config = read_config(options.config)
    work = benchmark.tile_job(config, benchmark.configured_checkpoints(config), options.tile, options.threads, "fp32")
    ways = [way for way in WAYS if options.packages or way not in PUBLIC]
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="jointseg-predictors-") as name:
        for number in range(options.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                print(f"round {number + 1}: {way}", file=sys.stderr)
                results[way].append(_run_in_process(way, work, False, Path(name), options.packages))
        tiles = [_synthetic(work, km, Path(name)) for km in options.km]
        memory = {
            way: [_run_in_process(way, tile, True, Path(name), options.packages)["mb"] for tile in tiles]
            for way in ways
        }
    print_page(results, memory, work, options)


def _run_in_process(
    way: str, work: benchmark.BenchmarkJob, interpolate: bool, folder: Path, packages: Path | None
) -> dict[str, float]:
    """Run one way in its own process; return seconds, megabytes and seams."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name, "task.pickle")
        path.write_bytes(pickle.dumps(Task(work, Path(name), interpolate)))
        environment = dict(os.environ)
        if packages and way in PUBLIC:
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, [environment.get("PYTHONPATH"), str(packages.resolve())])
            )
        command = [sys.executable, __file__, "--work", way, str(path)]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(process.stdout.strip().splitlines()[-1])


def _synthetic(work: benchmark.BenchmarkJob, km: int, folder: Path) -> benchmark.BenchmarkJob:
    """Return the job with one synthetic tile of this side."""
    parsed = grid.parse_tile("50N_E0600_N3500", km)
    path = folder / f"{km}km" / f"{parsed.id}.tif"
    path.parent.mkdir()
    with rasterio.open(work.composites[0]) as file:
        names, side = file.descriptions, km * 1000 // SCALE
    coarse = np.random.default_rng(km).integers(300, 6000, (len(names), -(-side // 8), -(-side // 8))).astype(np.uint16)
    reflectance = coarse.repeat(8, 1).repeat(8, 2)[:, :side, :side]
    profile = {"driver": "GTiff", "width": side, "height": side, "count": len(names), "dtype": "uint16", "nodata": 0}
    minx, _, _, maxy = parsed.bounds
    georeference = {"crs": parsed.crs, "transform": from_origin(minx, maxy, SCALE, SCALE)}
    with rasterio.open(path, "w", **profile, **georeference, tiled=True, compress="deflate") as file:
        file.descriptions = names
        file.write(reflectance)
    return dataclasses.replace(work, composites=[path], merged=[], tile=parsed.id, tile_km=km)


def print_page(
    results: dict[str, list[dict[str, float]]],
    memory: dict[str, list[float]],
    work: benchmark.BenchmarkJob,
    options: argparse.Namespace,
) -> None:
    small, large = options.km
    print("# The inference engine compared with other ways\n")
    print(
        f"Generated by `python benchmarks/predictors.py`; {datetime.now(UTC):%Y-%m-%d}; {benchmark.machine.processor()}, "
        f"{options.threads} threads, Python {platform.python_version()}, torch {torch.__version__}. Tile {work.tile}, "
        f"{work.tile_km} km, of `{options.config}`, the same networks in fp32 except for one way; medians of {options.rounds} rounds "
        "in which the ways took turns, ratios per round with their range. Memory with networks replaced by interpolation; "
        f"for {LARGE_KM} km it is extrapolated from {small} and {large} km, linearly in the area.\n"
    )
    print(
        "| way | s | time / engine | time / engine in bf16 | seams | memory, MB "
        f"| {small} km | {large} km | {LARGE_KM} km |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for way, rounds in results.items():
        columns = []
        for engine in list(WAYS)[:2]:
            ratios = [one["s"] / own["s"] for one, own in zip(rounds, results[engine])]
            columns.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        first, second = memory[way]
        slope = (second - first) / (large**2 - small**2)
        extrapolated = second + slope * (LARGE_KM**2 - large**2)
        print(
            f"| {way} | {statistics.median(one['s'] for one in rounds):.1f} | {' | '.join(columns)} "
            f"| {statistics.median(one['seams'] for one in rounds):.2f} | {statistics.median(one['mb'] for one in rounds):,.0f} "
            f"| {first:,.0f} | {second:,.0f} | {extrapolated:,.0f} |"
        )


if __name__ == "__main__":
    main()
