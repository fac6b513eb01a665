"""Confusion of two maps of a large city: streamed by `accuracy.tally`, beside a plain loop over blocks.

    python benchmarks/confusion.py > benchmarks/confusion.md                  # 70 km x 70 km, 4.9e9 pixels, 2 GB of disk
    python benchmarks/confusion.py --km 20 > benchmarks/confusion.md

The maps are made up: towns, roads and specks, in the files' own form (COG, blocks of 512 px, DEFLATE). Each way runs in a
process of its own, in turn; all read the same two files, which lie in the system's cache after the first round.

- `jointseg`: `tally.confusion` in threads;
- reading alone: the same blocks read in the same threads, and nothing counted, which is what the disk and DEFLATE allow;
- a plain loop: rasterio, block by block of the file, numpy's bincount.
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

PATCH = 2560  # px of ground that is drawn and repeated, turned and mirrored
WAYS = ("`jointseg`", "reading alone", "plain loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--km", type=int, default=70, help="side of the city (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the maps are written (default: a temporary folder)")
    parser.add_argument("--work", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(measured(given.work[0], Path(given.work[1]), given.threads)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="jointseg-confusion-") as name:
        folder = Path(name)
        sizes = [made(folder / f"{kind}.tif", given.km, seed) for seed, kind in enumerate(("map", "reference"))]
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for number in range(given.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                print(f"round {number + 1}: {way}", file=sys.stderr)
                command = [sys.executable, __file__, "--threads", str(given.threads), "--work", way, str(folder)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    tables = {str(each["table"]) for way in ("`jointseg`", "plain loop") for each in found[way]}
    assert len(tables) == 1, tables
    tell(found, sizes, given)


def made(path: Path, km: int, seed: int) -> int:
    """Writes a map; its size in bytes."""
    rng = np.random.default_rng(7)  # one ground for both
    towns = ndimage.zoom(rng.normal(size=(20, 20)), PATCH / 20, order=1) > 1.1
    roads = np.zeros((PATCH, PATCH), bool)
    for place in rng.integers(0, PATCH - 8, 12):
        roads[place : place + 7], roads[:, place : place + 6] = True, True
    ground = towns & (ndimage.zoom(rng.random((256, 256)), PATCH / 256, order=0) > 0.3) | roads
    rng = np.random.default_rng(seed)
    # Edges of buildings and specks of a few metres: as many bytes a pixel as the maps of the synthetic scene have.
    flips = ndimage.zoom(rng.random((PATCH // 2, PATCH // 2)), 2, order=0) < 0.01
    patch = (ground ^ flips).astype(np.uint8)
    patch[:40, :300] = 255
    side = km * 1000
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "nodata": 255}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    at = {"crs": "EPSG:32650", "transform": from_origin(600_000, 3_600_000, 1, 1)}
    turned = [np.rot90(each, turn) for each in (patch, patch[:, ::-1]) for turn in range(4)]
    with rasterio.open(path, "w", **profile, **at, num_threads=os.cpu_count()) as to:
        for row in range(0, side, PATCH):
            for col in range(0, side, PATCH):
                window = rasterio.windows.Window(col, row, min(PATCH, side - col), min(PATCH, side - row))
                part = turned[(row // PATCH * 3 + col // PATCH * 5) % 8]
                to.write(part[: window.height, : window.width], 1, window=window)
    return path.stat().st_size


def measured(way: str, folder: Path, threads: int) -> dict[str, object]:
    mapped, reference = paths = [folder / "map.tif", folder / "reference.tif"]
    started = time.perf_counter()
    table: list[list[int]] = []
    if way == "`jointseg`":
        table = block_counts.confusion(mapped, reference, threads).tolist()
    elif way == "reading alone":
        for _ in block_counts.map_blocks(paths, lambda block: None, threads, "reading"):
            pass
    else:
        table = plain(mapped, reference)
    seconds = time.perf_counter() - started
    return {
        "s": seconds,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "table": table,
    }


def plain(mapped: Path, reference: Path) -> list[list[int]]:
    """Block by block of the file."""
    counts = np.zeros(9, np.int64)
    place = np.full(256, 2, np.uint8)
    place[:2] = 0, 1
    with rasterio.open(mapped) as one, rasterio.open(reference) as other:
        for _, window in one.block_windows(1):
            pair = 3 * place[one.read(1, window=window)] + place[other.read(1, window=window)]
            counts += np.bincount(pair.ravel(), minlength=9)
    return counts.reshape(3, 3).tolist()


def tell(found: dict[str, list[dict[str, float]]], sizes: list[int], given: argparse.Namespace) -> None:
    pixels = (given.km * 1000) ** 2
    print("# Confusion of two maps\n")
    print(
        f"Made by `python benchmarks/confusion.py --km {given.km}`; {datetime.now(UTC):%Y-%m-%d}; {machine.processor()}, "
        f"{given.threads} threads (the loop: one), Python {platform.python_version()}, numpy {version('numpy')}, rasterio "
        f"{version('rasterio')}, GDAL {rasterio.__gdal_version__}. {pixels / 1e9:.2f}e9 pixels, files of "
        f"{sizes[0] / 2**20:.0f} and {sizes[1] / 2**20:.0f} MB; medians of {given.rounds} rounds in which the ways took turns, "
        "ratios of each round's own with their range. All ways that count count the same.\n"
    )
    print("| way | s | million pixels a second | times as fast as the loop | peak memory of the process, MB |")
    print("|---|---:|---:|---:|---:|")
    for way, each in found.items():
        ratios = [loop["s"] / one["s"] for one, loop in zip(each, found["plain loop"])]
        seconds = statistics.median(one["s"] for one in each)
        print(
            f"| {way} | {seconds:.1f} | {pixels / seconds / 1e6:,.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(one['mb'] for one in each):,.0f} |"
        )


if __name__ == "__main__":
    main()
