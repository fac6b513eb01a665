"""The engine beside other ways to map a large scene with the same networks: time, memory, seams.

    python benchmarks/predictors.py --config examples/synthetic/config.yaml > benchmarks/predictors.md
    python benchmarks/predictors.py --packages FOLDER ...      # with the two public projects, installed there

Ways, each in a process of its own, in turn, on one tile of a run whose composites and networks are there:

- the engine, which also compresses the map and writes it as COG with overviews, in fp32 and in bf16;
- the straightforward way: super-resolved tiles written and read again, segmented with overlap by transformers' own
  Mask2Former and its post-processing (every query's mask at 1 m), averaged in float arrays. With the engine's overlap, and
  with that of half a window, which many sliding windows have by default;
- SEN2SR's `predict_large` (sen2sr 0.8.5) and opensr-utils' `large_file_processing` (2.1.0), with their own windows and
  overlaps, for what they are made for: the image. It is written and segmented as above, with the engine's overlap;
- both given the two networks, ours, as one module from 10 m to the probability at 1 m, which saves them the image. They are
  installed without their dependencies:

      pip install --no-deps --target FOLDER sen2sr==0.8.5 opensr-utils==2.1.0 pytorch-lightning lightning-utilities torchmetrics einops tqdm \
          omegaconf antlr4-python3-runtime==4.9.3 scikit-image

Seconds are of the work alone, without imports. Memory is the peak of the process, less what it holds once the networks are
loaded. Seams: how much larger the steps of the probability are between neighbouring pixels across the edges of the windows than
elsewhere (1: edges cannot be told). What memory does on larger tiles is measured with networks that only repeat pixels.
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

LARGE_KM = 50  # the tile for which memory is told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("examples/synthetic/config.yaml"))
    parser.add_argument("--tile", help="default: the first with a composite")
    parser.add_argument("--packages", type=Path, help="folder in which the public projects are installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--km", type=int, nargs=2, default=(4, 12), help="sides of two tiles on which memory is measured"
    )
    parser.add_argument("--work", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(WAYS[given.work[0]](pickle.loads(Path(given.work[1]).read_bytes()))))
        return
    config = read_config(given.config)
    work = benchmark.tile_job(config, benchmark.configured_checkpoints(config), given.tile, given.threads, "fp32")
    ways = [way for way in WAYS if given.packages or way not in PUBLIC]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="jointseg-predictors-") as name:
        for number in range(given.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                print(f"round {number + 1}: {way}", file=sys.stderr)
                found[way].append(_apart(way, work, False, Path(name), given.packages))
        places = [_synthetic(work, km, Path(name)) for km in given.km]
        memory = {way: [_apart(way, place, True, Path(name), given.packages)["mb"] for place in places] for way in ways}
    _tell(found, memory, work, given)


def _apart(
    way: str, work: benchmark.BenchmarkJob, repeats: bool, folder: Path, packages: Path | None
) -> dict[str, float]:
    """One way in a process of its own: seconds, megabytes, seams."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        asked = Path(name, "task.pickle")
        asked.write_bytes(pickle.dumps(Task(work, Path(name), repeats)))
        environment = dict(os.environ)
        if packages and way in PUBLIC:
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, [environment.get("PYTHONPATH"), str(packages.resolve())])
            )
        command = [sys.executable, __file__, "--work", way, str(asked)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _synthetic(work: benchmark.BenchmarkJob, km: int, folder: Path) -> benchmark.BenchmarkJob:
    """The job with a tile of made-up ground of that side, alone."""
    place = grid.parse_tile("50N_E0600_N3500", km)
    path = folder / f"{km}km" / f"{place.id}.tif"
    path.parent.mkdir()
    with rasterio.open(work.composites[0]) as file:
        names, side = file.descriptions, km * 1000 // SCALE
    coarse = np.random.default_rng(km).integers(300, 6000, (len(names), -(-side // 8), -(-side // 8))).astype(np.uint16)
    ground = coarse.repeat(8, 1).repeat(8, 2)[:, :side, :side]
    profile = {"driver": "GTiff", "width": side, "height": side, "count": len(names), "dtype": "uint16", "nodata": 0}
    minx, _, _, maxy = place.bounds
    at = {"crs": place.crs, "transform": from_origin(minx, maxy, SCALE, SCALE)}
    with rasterio.open(path, "w", **profile, **at, tiled=True, compress="deflate") as to:
        to.descriptions = names
        to.write(ground)
    return dataclasses.replace(work, composites=[path], merged=[], tile=place.id, tile_km=km)


def _tell(
    found: dict[str, list[dict[str, float]]],
    memory: dict[str, list[float]],
    work: benchmark.BenchmarkJob,
    given: argparse.Namespace,
) -> None:
    small, large = given.km
    print("# The engine beside other predictors\n")
    print(
        f"Made by `python benchmarks/predictors.py`; {datetime.now(UTC):%Y-%m-%d}; {benchmark.machine.processor()}, "
        f"{given.threads} threads, Python {platform.python_version()}, torch {torch.__version__}. Tile {work.tile}, "
        f"{work.tile_km} km, of `{given.config}`, the same networks in fp32 for all but one; medians of {given.rounds} rounds "
        "in which the ways took turns, ratios of each round's own with their range. Memory with networks that repeat pixels; "
        f"for {LARGE_KM} km it is what {small} and {large} km give by a line in the area.\n"
    )
    print(
        "| way | s | times as long as the engine | times as long as it in bf16 | seams | memory of the work, MB "
        f"| {small} km | {large} km | {LARGE_KM} km |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for way, each in found.items():
        columns = []
        for engine in list(WAYS)[:2]:
            ratios = [one["s"] / own["s"] for one, own in zip(each, found[engine])]
            columns.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        first, second = memory[way]
        slope = (second - first) / (large**2 - small**2)
        extrapolated = second + slope * (LARGE_KM**2 - large**2)
        print(
            f"| {way} | {statistics.median(one['s'] for one in each):.1f} | {' | '.join(columns)} "
            f"| {statistics.median(one['seams'] for one in each):.2f} | {statistics.median(one['mb'] for one in each):,.0f} "
            f"| {first:,.0f} | {second:,.0f} | {extrapolated:,.0f} |"
        )


if __name__ == "__main__":
    main()
