"""Confusion matrix of two maps of a large city: streaming by `accuracy.block_counts` against a plain loop over blocks.

    python benchmarks/confusion.py > benchmarks/confusion.md                  # 70 km x 70 km, 4.9e9 pixels, 2 GB of disk
    python benchmarks/confusion.py --km 20 > benchmarks/confusion.md

The maps are simulated (towns, roads and speckle) in the format of the products: COG, blocks of 512 px, DEFLATE. Each
method runs in its own process, in alternating order; all read the same two files, which are in the page cache after the
first round.

- `jointseg`: `block_counts.confusion` in threads;
- reading only: the same blocks read in the same threads without counting, the limit set by disk and DEFLATE;
- plain loop: rasterio, block by block, with numpy's bincount.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

from jointseg.accuracy import block_counts
from jointseg.provenance import machine

PATCH = 2560  # px; the maps repeat one patch, rotated and mirrored
METHODS = ("`jointseg`", "reading only", "plain loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--km", type=int, default=70, help="side of the city (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of the first two methods (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each method (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="folder for the maps (default: a temporary folder)")
    parser.add_argument("--work", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(measure(arguments.work[0], Path(arguments.work[1]), arguments.threads)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="jointseg-confusion-") as name:
        folder = Path(name)
        sizes = [
            write_map(folder / f"{kind}.tif", arguments.km, seed) for seed, kind in enumerate(("map", "reference"))
        ]
        results: dict[str, list[dict]] = {method: [] for method in METHODS}
        for number in range(arguments.rounds):
            for method in METHODS if number % 2 == 0 else reversed(METHODS):
                print(f"round {number + 1}: {method}", file=sys.stderr)
                command = [sys.executable, __file__, "--threads", str(arguments.threads), "--work", method, str(folder)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                results[method].append(json.loads(done.stdout.splitlines()[-1]))
    tables = {str(result["table"]) for method in ("`jointseg`", "plain loop") for result in results[method]}
    assert len(tables) == 1, tables
    print_report(results, sizes, arguments)


def write_map(path: Path, km: int, seed: int) -> int:
    """Write a map and return its size in bytes."""
    rng = np.random.default_rng(7)  # both maps have the same towns and roads
    towns = ndimage.zoom(rng.normal(size=(20, 20)), PATCH / 20, order=1) > 1.1
    roads = np.zeros((PATCH, PATCH), bool)
    for start in rng.integers(0, PATCH - 8, 12):
        roads[start : start + 7], roads[:, start : start + 6] = True, True
    truth = towns & (ndimage.zoom(rng.random((256, 256)), PATCH / 256, order=0) > 0.3) | roads
    rng = np.random.default_rng(seed)
    # Errors of a few metres give the files as many bytes per pixel as the maps of the synthetic scene.
    errors = ndimage.zoom(rng.random((PATCH // 2, PATCH // 2)), 2, order=0) < 0.01
    patch = (truth ^ errors).astype(np.uint8)
    patch[:40, :300] = 255
    side = km * 1000
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "nodata": 255}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    profile |= {"crs": "EPSG:32650", "transform": from_origin(600_000, 3_600_000, 1, 1)}
    variants = [np.rot90(mirrored, turn) for mirrored in (patch, patch[:, ::-1]) for turn in range(4)]
    with rasterio.open(path, "w", **profile, num_threads=os.cpu_count()) as to:
        for row in range(0, side, PATCH):
            for col in range(0, side, PATCH):
                window = rasterio.windows.Window(col, row, min(PATCH, side - col), min(PATCH, side - row))
                part = variants[(row // PATCH * 3 + col // PATCH * 5) % 8]
                to.write(part[: window.height, : window.width], 1, window=window)
    return path.stat().st_size


def measure(method: str, folder: Path, threads: int) -> dict[str, object]:
    """Run one method and return seconds, peak memory in MB and the matrix."""
    mapped, reference = paths = [folder / "map.tif", folder / "reference.tif"]
    started = time.perf_counter()
    table: list[list[int]] = []
    if method == "`jointseg`":
        table = block_counts.confusion(mapped, reference, threads).tolist()
    elif method == "reading only":
        for _ in block_counts.map_blocks(paths, lambda block: None, threads, "reading"):
            pass
    else:
        table = plain_confusion(mapped, reference)
    seconds = time.perf_counter() - started
    return {"s": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "table": table}


def plain_confusion(mapped: Path, reference: Path) -> list[list[int]]:
    """Count the pairs of classes block by block."""
    counts = np.zeros(9, np.int64)
    index = np.full(256, 2, np.uint8)
    index[:2] = 0, 1
    with rasterio.open(mapped) as first, rasterio.open(reference) as second:
        for _, window in first.block_windows(1):
            pair = 3 * index[first.read(1, window=window)] + index[second.read(1, window=window)]
            counts += np.bincount(pair.ravel(), minlength=9)
    return counts.reshape(3, 3).tolist()


def print_report(results: dict[str, list[dict]], sizes: list[int], arguments: argparse.Namespace) -> None:
    pixels = (arguments.km * 1000) ** 2
    print("# Confusion matrix of two maps\n")
    print(
        f"Generated by `python benchmarks/confusion.py --km {arguments.km}`; {datetime.now(UTC):%Y-%m-%d}; "
        f"{machine.processor()}, {arguments.threads} threads (plain loop: one), Python {platform.python_version()}, "
        f"numpy {version('numpy')}, rasterio {version('rasterio')}, GDAL {rasterio.__gdal_version__}. "
        f"{pixels / 1e9:.2f}e9 pixels, files of {sizes[0] / 2**20:.0f} and {sizes[1] / 2**20:.0f} MB; medians of "
        f"{arguments.rounds} rounds with alternating order, speedups within each round with their range. All matrices are "
        "equal.\n"
    )
    print("| method | s | million pixels per second | speedup over the plain loop | peak memory of the process, MB |")
    print("|---|---:|---:|---:|---:|")
    for method, rounds in results.items():
        speedups = [loop["s"] / result["s"] for result, loop in zip(rounds, results["plain loop"])]
        seconds = statistics.median(result["s"] for result in rounds)
        print(
            f"| {method} | {seconds:.1f} | {pixels / seconds / 1e6:,.0f} | {statistics.median(speedups):.2f} "
            f"({min(speedups):.2f} to {max(speedups):.2f}) | {statistics.median(result['mb'] for result in rounds):,.0f} |"
        )


if __name__ == "__main__":
    main()
