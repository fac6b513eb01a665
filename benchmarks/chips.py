"""The step `chips` against a plain loop over the chips, on one made scene: time, memory, what is read, pixels.

    python benchmarks/chips.py > benchmarks/chips.md

Makes a scene of 20,000 x 20,000 px at 0.75 m (about 1.5 GB), a composite and label polygons in a temporary folder and
removes them. The loop is what one writes with rasterio: for each chip open the files, read the window, warp it to 1 m,
blur it as the composite's sensor does, fit the offset, rasterise the labels, write COGs; the exact fractions of the
labels are of the same function in both. Both ways run in processes of their own, in turn, so that other work on the
machine falls on both. Seconds are of the work alone, without imports in the main process; CPU seconds, over all
processes, hardly depend on what else runs. Memory is the peak of the process and of as many of its largest worker.
"""

import argparse
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import scipy
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.warp import Resampling, reproject
from rasterio.windows import from_bounds
from scipy.ndimage import gaussian_filter

from jointseg.config.dataset import Dataset
from jointseg.dataset.chips import chips
from jointseg.dataset.deliveries import deliveries
from jointseg.dataset.rasterize import rasterize_fractions

EPSG, WEST, NORTH, PIXEL_M = 32650, 660_000, 3_555_000, 0.75
CHIP_M, MARGIN_M, SIGMA_M = 640, 20, 5.3
BANDS = ["B04", "B03", "B02"]
SHIFT_M = (2.37, -1.81)
GAIN = (1.1e-4, 1.2e-4, 1.3e-4)
NAME = "JL1KF01B_PMSR4_20210623104620_200089965_101_0018_001_L3C_PSH"
OURS, LOOP = "`jointseg` chips", "plain loop"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (default: %(default)s)")
    parser.add_argument("--side", type=int, default=20_000, help="of the scene, px (default: %(default)s)")
    parser.add_argument("--chips", type=int, default=300, help="at most so many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the step (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the files (default: that for temporary files)")
    parser.add_argument("--work", nargs=3, metavar=("WAY", "FOLDER", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        way, folder, workers = given.work
        print(json.dumps(measure({"ours": ours, "loop": loop}[way], Path(folder), int(workers))))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        number = make(folder, given.side, given.chips)
        ways = {OURS: ("ours", given.workers), "the same, one process": ("ours", 1), LOOP: ("loop", 1)}
        found: dict[str, list[dict[str, float]]] = {title: [] for title in ways}
        for _ in range(given.rounds):
            for title, (way, workers) in ways.items():
                command = [sys.executable, __file__, "--work", way, str(folder), str(workers)]
                environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                found[title].append(json.loads(done.stdout.splitlines()[-1]))
        print(page(found, agreement(folder), number, given))


def page(found: dict[str, list[dict[str, float]]], agree: list[str], number: int, given: argparse.Namespace) -> str:
    """The Markdown page of the measurements."""
    slow = [one["seconds"] for one in found[LOOP]]
    lines = [
        "# Building chips beside a plain loop",
        "",
        f"Made by `python benchmarks/chips.py --rounds {given.rounds}`; {datetime.now(UTC):%Y-%m-%d}. {number} chips of "
        f"{CHIP_M} m from one scene of {given.side:,} x {given.side:,} px at {PIXEL_M} m (uint16, three bands, deflated "
        f"blocks of 512 px). {machine()}. Medians over rounds in which the ways took turns; the ratio is the median of "
        f"each round's own, with its range.",
        "",
        "| way | seconds | times as fast | CPU seconds | times less CPU | peak memory | scene decoded |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for title, measured in found.items():
        seconds = [one["seconds"] for one in measured]
        ratios = [theirs / own for theirs, own in zip(slow, seconds)]
        told = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})" if title != LOOP else "1"
        memory, decoded = (max(one[key] for one in measured) for key in ("memory_mb", "decoded"))
        cpu, theirs = (statistics.median(one["cpu"] for one in some) for some in (measured, found[LOOP]))
        lines.append(
            f"| {title} | {statistics.median(seconds):.1f} | {told} | {cpu:.1f} | {theirs / cpu:.1f} | {memory:,.0f} MB "
            f"| {decoded:.2f} times |"
        )
    versions = (
        f"Python {platform.python_version()}, rasterio {rasterio.__version__}, GDAL {rasterio.__gdal_version__}, "
    )
    versions += f"numpy {np.__version__}, scipy {scipy.__version__}"
    lines += [
        "",
        "The chips agree:",
        "",
        *agree,
        "",
        f"{versions}. The loop's decoded pixels are counted as whole blocks.",
    ]
    return "\n".join(lines)


def machine() -> str:
    model = next(line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    return f"{len(os.sched_getaffinity(0))} cores of {model.strip()}, load {os.getloadavg()[2]:.1f}"


def make(folder: Path, side: int, most: int) -> int:
    """The inputs of both ways; how many chips."""
    rng = np.random.default_rng(0)
    home = folder / "jilin1" / NAME
    home.mkdir(parents=True)
    options = {"compress": "deflate", "zlevel": 1, "predictor": 2, "tiled": True, "blockxsize": 512, "blockysize": 512}
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint16", "nodata": 0}
    transform = Affine(PIXEL_M, 0, WEST, 0, -PIXEL_M, NORTH)
    tile = np.kron(rng.integers(400, 2400, (3, 64, 64)), np.ones((1, 32, 32))).astype(np.float32)
    with rasterio.open(
        home / f"{NAME}.tif", "w", crs=f"EPSG:{EPSG}", transform=transform, interleave="pixel", **profile, **options
    ) as to:
        for top in range(0, side, 2048):
            for left in range(0, side, 2048):
                rows, cols = min(2048, side - top), min(2048, side - left)
                image = tile[:, :rows, :cols] * rng.uniform(0.7, 1.3) + rng.normal(0, 12, (3, rows, cols))
                to.write(
                    np.clip(np.rint(image), 1, 4095).astype(np.uint16), window=((top, top + rows), (left, left + cols))
                )
    extent_m = side * PIXEL_M
    per_side = min(math.isqrt(most - 1) + 1, int((extent_m - 200) // (CHIP_M + 40)))
    step = (extent_m - 100 - CHIP_M - 60) / max(per_side - 1, 1)
    corners = [
        (WEST + 60 + round(i * step / 10) * 10, NORTH - extent_m + 60 + round(j * step / 10) * 10)
        for i in range(per_side)
        for j in range(per_side)
    ][:most]
    height = math.ceil(extent_m / 10)
    coarse = rng.integers(500, 2500, (4, height, height)).astype(np.uint16)
    coarse[3] = 5
    profile = {"driver": "GTiff", "width": height, "height": height, "count": 4, "dtype": "uint16"}
    with rasterio.open(
        folder / "composite.tif", "w", crs=f"EPSG:{EPSG}", transform=Affine(10, 0, WEST, 0, -10, NORTH), **profile,
        tiled=True, compress="deflate",
    ) as to:  # fmt: skip
        to.write(coarse)
        to.descriptions = (*BANDS, "clear")
    ids = [f"up-{number:04d}" for number in range(1, len(corners) + 1)]
    samples = gpd.GeoDataFrame(
        {
            "sample_id": ids,
            "reach": "up",
            "stratum": "up",
            "rank": np.arange(1, len(ids) + 1),
            "replacement": False,
            "epsg": EPSG,
            "minx": [float(x) for x, _ in corners],
            "miny": [float(y) for _, y in corners],
        },
        geometry=gpd.points_from_xy(*np.array(corners).T + CHIP_M / 2, crs=EPSG).to_crs(4326),
    )
    samples.to_parquet(folder / "samples.parquet")
    pairs = pd.DataFrame({"sample_id": ids, "status": "ok", "scene_id": NAME, "path": f"{NAME}/{NAME}.tif"})
    pairs[["date", "rejected", "shift_x_m", "shift_y_m"]] = ["2021-06-23T02:46:20Z", "", *SHIFT_M]
    pairs[[f"gain_{band}" for band in BANDS]] = GAIN
    pairs.to_parquet(folder / "pairs.parquet")
    shapes = []
    for sample_id, (x, y) in zip(ids, corners):
        boxes = rng.uniform(0, CHIP_M - 40, (60, 2))
        squares = [shapely.box(x + a, y + b, x + a + 12 + a % 20, y + b + 9 + b % 15) for a, b in boxes]
        shapes += [(sample_id, "add", square) for square in squares]
    names, actions, squares = zip(*shapes)
    labels = gpd.GeoDataFrame(
        {"sample_id": names, "action": actions, "kind": "building"}, geometry=list(squares), crs=EPSG
    ).to_crs(4326)
    labels.to_parquet(folder / "labels.parquet")
    entries = {
        name: entry.model_dump()
        for name, entry in Dataset(jilin1="", osm="", footprints="", corrections="").providers.items()
    }
    deliveries(
        jilin1=folder / "jilin1", deliveries=folder / "deliveries.parquet", providers=entries, metadata_elements={}
    )
    return len(ids)


def measure(way: Callable[[Path, int], float], folder: Path, workers: int) -> dict[str, float]:
    started, used = time.perf_counter(), time.process_time()
    decoded = way(folder, workers)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": seconds,
        "cpu": used + children.ru_utime + children.ru_stime,
        "memory_mb": (own.ru_maxrss + workers * children.ru_maxrss) / 1024,
        "decoded": decoded,
    }


def ours(folder: Path, workers: int) -> float:
    facts = chips(
        samples=folder / "samples.parquet",
        pairs=folder / "pairs.parquet",
        labels=folder / "labels.parquet",
        composites=[folder / "composite.tif"],
        jilin1=folder / "jilin1",
        deliveries=folder / "deliveries.parquet",
        chips=folder / f"ours{workers}",
        index=folder / "index.parquet",
        reach="up",
        chip_m=CHIP_M,
        bands=BANDS,
        workers=workers,
    )
    return facts["read"][NAME]


def loop(folder: Path, workers: int) -> float:
    """One chip after another; how often the scene's pixels were decoded on the average."""
    out = folder / "loop"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    table = gpd.read_parquet(folder / "samples.parquet").merge(pd.read_parquet(folder / "pairs.parquet"))
    labels = gpd.read_parquet(folder / "labels.parquet")
    decoded = size = 0
    for row in table.itertuples():
        west, south, east, north = row.minx, row.miny, row.minx + CHIP_M, row.miny + CHIP_M
        with rasterio.open(folder / "composite.tif") as source:
            lr = source.read([1, 2, 3], window=from_bounds(west, south, east, north, source.transform))
        x, y = row.shift_x_m, row.shift_y_m
        wide = CHIP_M + 2 * MARGIN_M
        with rasterio.open(folder / "jilin1" / row.path) as source:
            around = (
                west - MARGIN_M - x - 4,
                south - MARGIN_M - y - 4,
                east + MARGIN_M - x + 4,
                north + MARGIN_M - y + 4,
            )
            window = from_bounds(*around, source.transform).round_offsets().round_lengths(op="ceil")
            values = source.read([3, 2, 1], window=window).astype(np.float32)
            values[:, ~values.any(axis=0)] = np.nan
            moved = np.full((3, wide, wide), np.nan, dtype=np.float32)
            reproject(
                values,
                moved,
                src_transform=source.window_transform(window),
                src_crs=source.crs,
                src_nodata=np.nan,
                dst_transform=Affine(1, 0, west - MARGIN_M - x, 0, -1, north + MARGIN_M - y),
                dst_crs=source.crs,
                dst_nodata=np.nan,
                resampling=Resampling.cubic,
            )
            first, last = (int(v) // 512 for v in (window.row_off, window.row_off + window.height - 1))
            left, right = (int(v) // 512 for v in (window.col_off, window.col_off + window.width - 1))
            decoded += (last - first + 1) * (right - left + 1) * 512**2
            size = source.width * source.height
        blurred = np.stack([gaussian_filter(band, SIGMA_M) for band in moved])
        # The centre of a 10 m pixel is the corner that four 1 m pixels share.
        quad = (blurred[:, :-1, :-1] + blurred[:, 1:, :-1] + blurred[:, :-1, 1:] + blurred[:, 1:, 1:]) / 4
        at = MARGIN_M + 4 + 10 * np.arange(CHIP_M // 10)
        degraded = quad[:, at[:, None], at]
        gain = np.array(GAIN)[:, None, None]
        offset = np.median(lr / 1e4 - gain * degraded, axis=(1, 2))[:, None, None]
        inner = moved[:, MARGIN_M:-MARGIN_M, MARGIN_M:-MARGIN_M]
        hr = np.clip(np.rint((gain * inner + offset) * 1e4), 1, 65535).astype(np.uint16)
        fine, coarse = (Affine(pixel, 0, west, 0, -pixel, north) for pixel in (1, 10))
        shapes = labels[labels["sample_id"] == row.sample_id].to_crs(EPSG)
        label = rasterize([(shape, 1) for shape in shapes.geometry], (CHIP_M, CHIP_M), transform=fine, dtype=np.uint8)
        parts = rasterize_fractions(shapes, EPSG, (west, north), CHIP_M)
        pictures = {"lr": (lr, coarse), "hr": (hr, fine), "label": (label[None], fine), "fraction": (parts, fine)}
        for kind, (array, transform) in pictures.items():
            profile = {
                "count": len(array),
                "height": array.shape[1],
                "width": array.shape[2],
                "dtype": array.dtype.name,
            }
            path = out / f"{row.sample_id}_{kind}.tif"
            with rasterio.open(
                path, "w", driver="COG", crs=f"EPSG:{EPSG}", transform=transform, compress="deflate", predictor="yes",
                **profile,
            ) as to:  # fmt: skip
                to.write(array)
    return round(decoded / size, 2)


def agreement(folder: Path) -> list[str]:
    """How the pixels of both ways differ, and whether the number of processes changes a byte; raises when they do not agree."""
    apart: dict[str, list[float]] = {"hr": [], "lr": [], "label": [], "fraction": []}
    same = True
    made = sorted(path for path in folder.glob("ours*") if path.is_dir())
    for path in sorted((folder / "loop").glob("*.tif")):
        contents = {(ours_at / path.name).read_bytes() for ours_at in made}
        same = same and len(contents) == 1
        with rasterio.open(path) as one, rasterio.open(made[0] / path.name) as other:
            if one.transform != other.transform or one.crs != other.crs:
                raise SystemExit(f"{path.name} lies elsewhere")
            difference = np.abs(one.read().astype(np.int64) - other.read().astype(np.int64))
        apart[path.stem.rsplit("_", 1)[1]].append(float(difference.max()))
    if not same or max(max(apart[kind]) for kind in ("lr", "label", "fraction")) > 0 or max(apart["hr"]) > 5:
        raise SystemExit(
            f"the chips do not agree: { ({kind: max(some) for kind, some in apart.items()}) }, same {same}"
        )
    return [
        f"- `lr`, `label` and `fraction` are the same; `hr` differs by at most {max(apart['hr']):.0f} (reflectance x 10000).",
        f"- With {' and '.join(path.name.removeprefix('ours') for path in made)} processes the files are the same, byte by byte.",
    ]


if __name__ == "__main__":
    main()
