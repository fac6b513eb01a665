"""Benchmark of the step `composite` against odc-stac with xarray and dask on the same scenes: time, memory, values.

    pip install odc-stac        # or name an interpreter that has it: --odc PYTHON
    python benchmarks/composite.py > benchmarks/composite.md

Creates a static STAC catalogue of local COGs in a temporary folder (about 25 MB per scene) and removes it. Both methods
compute the median of the pixels that the scene classification marks as clear, each in its own process, alternately, in
several rounds, so that other load on the machine affects both. Scenes are neither registered nor normalised. Seconds
exclude imports; memory is the peak of the process.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from composite_scenes import (
    BANDS,
    BOUNDS,
    EPSG,
    MAX_CLOUD,
    OFFSET_DN,
    SIDE_PX,
    START,
    TILE,
    TILE_KM,
    make_scenes,
    write,
)

MASKED_CLASSES = [0, 1, 3, 8, 9, 10]
SEASON = ["04-01", "10-31"]
COUNTS = [12, 24, 48, 96]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each method (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=24, help="scenes of the comparison (default: %(default)s)")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of scenes (default: 12 to 96)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each method (default: %(default)s)")
    parser.add_argument("--chunks", type=int, nargs="+", default=[512, 1000, 2000], help="sides of dask chunks, pixels")
    parser.add_argument("--odc", metavar="PYTHON", default=sys.executable, help="interpreter with odc-stac")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder (default: that of the system)")
    parser.add_argument("--work", nargs=2, metavar=("METHOD", "ARGUMENTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        method, arguments = options.work
        print(json.dumps(METHODS[method](**json.loads(arguments))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_scenes(folder, sorted({options.scenes, *options.counts}))
        print_setup(folder, options)
        compare(folder, options)
        scale(folder, options)


def print_setup(folder: Path, options: argparse.Namespace) -> None:
    from jointseg.provenance.machine import processor

    size = sum(path.stat().st_size for path in folder.glob("scenes/*/*.tif"))
    scenes = len(list(folder.glob("scenes/*")))
    odc = subprocess.check_output([options.odc, __file__, "--work", "versions", "{}"], text=True)
    versions = ", ".join(f"{package} {version}" for package, version in json.loads(odc).items())
    print(f"# Speed and memory of a composite\n\n{__doc__.split(chr(10))[0]}\n")
    print(
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}; Python", end=""
    )
    print(f" {platform.python_version()}, numpy {np.__version__}, rasterio {rasterio.__version__}, GDAL", end="")
    print(f" {rasterio.__gdal_version__}; odc-stac with {versions}; initial load {os.getloadavg()[0]:.1f}.\n")
    print(
        f"Scenes of {SIDE_PX} x {SIDE_PX} px at 10 m, {len(BANDS)} bands of uint16 and SCL at 20 m, COGs with", end=""
    )
    print(
        f" blocks of 512 px, DEFLATE and predictor; {size / scenes / 1e6:.0f} MB per scene, all in the page cache.",
        end="",
    )
    print(f" {options.threads} threads; {options.rounds} rounds; medians, in brackets all rounds.\n", flush=True)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Print the table of both methods."""
    common = {"folder": str(folder), "count": options.scenes, "threads": options.threads}
    methods: dict[str, Callable[[], dict]] = {
        "the step `composite`": lambda: child(sys.executable, "own", common | {"out": str(folder / "own.tif")})
    }
    for chunk in options.chunks:
        arguments = common | {"chunk": chunk, "out": str(folder / f"odc{chunk}.tif")}
        methods[f"odc-stac, xarray, dask, chunks of {chunk} px"] = lambda arguments=arguments: child(
            options.odc, "odc", arguments
        )
    results = measure(methods, options.rounds)
    print(f"## Comparison: {options.scenes} scenes\n")
    print_table(results)
    step, *others = results.values()
    fastest = min(others, key=lambda runs: statistics.median(run["seconds"] for run in runs))
    leanest = min(others, key=lambda runs: statistics.median(run["peak_mb"] for run in runs))
    same = child(sys.executable, "agreement", {"folder": str(folder), "chunks": options.chunks})
    values = f"differ in {same['differ']} of {same['of']}" if same["differ"] else "are equal in every pixel and band"
    print(f"\nThe step takes {ratio(step, fastest, 'seconds'):.2f} of the time of the fastest alternative and", end=" ")
    print(
        f"{ratio(step, fastest, 'cpu_seconds'):.2f} of its CPU time, {ratio(step, fastest, 'peak_mb'):.2f} of", end=" "
    )
    print(
        f"its memory, and {ratio(step, leanest, 'peak_mb'):.2f} of the memory of the one with least memory. The values",
        end=" ",
    )
    print(f"(of the float median, halves rounded up) {values}; {100 * same['valid']:.2f} % of the pixels are valid.\n")


def scale(folder: Path, options: argparse.Namespace) -> None:
    """Print time and memory of the step by number of scenes."""
    methods: dict[str, Callable[[], dict]] = {}
    for count in options.counts:
        arguments = {"folder": str(folder), "count": count, "threads": options.threads, "out": str(folder / "own.tif")}
        methods[f"{count} scenes"] = lambda arguments=arguments: child(sys.executable, "own", arguments)
    results = measure(methods, options.rounds)
    print("## The step with more scenes\n")
    print_table(results)
    least, most = results[f"{options.counts[0]} scenes"], results[f"{options.counts[-1]} scenes"]
    print(
        f"\nFrom {options.counts[0]} to {options.counts[-1]} scenes memory changes by a factor of {ratio(most, least, 'peak_mb'):.2f},",
        end="",
    )
    print(f" time by a factor of {ratio(most, least, 'seconds'):.2f}.")


def child(python: str, method: str, arguments: dict) -> dict:
    """Run a method in a new process and return its measurements."""
    command = [python, __file__, "--work", method, json.dumps(arguments)]
    return json.loads(subprocess.check_output(command, text=True))


def own(folder: str, count: int, threads: int, out: str) -> dict:
    """Time the step `composite`, without the step `scenes`."""
    from jointseg.sentinel2.composite import composite
    from jointseg.sentinel2.scenes import scenes

    common = {"year": START.year, "tile": TILE, "tile_km": TILE_KM, "source": {"kind": "archive"}, "bands": BANDS}
    archive, scene_list = Path(folder, f"catalogue-{count}"), Path(out).with_suffix(".json")
    max_cloud = 100 * MAX_CLOUD + 1
    scenes(scenes=scene_list, archive=archive, level="L2A", season=SEASON, max_cloud_percent=max_cloud, **common)
    return timed(
        lambda: composite(
            scenes=scene_list,
            composite=Path(out),
            archive=archive,
            method="median",
            scl_mask_classes=MASKED_CLASSES,
            mask_dilation_m=0,
            min_clear_observations=1,
            parallel_requests=threads,
            **common,
        )
    )


def odc(folder: str, count: int, threads: int, chunk: int, out: str) -> dict:
    """Time odc-stac: a lazy cube, its median over time by dask chunks, a GeoTIFF."""
    import dask
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    def work() -> None:
        items = list(pystac.Catalog.from_file(str(Path(folder, f"catalogue-{count}", "catalog.json"))).get_items())
        geobox = GeoBox.from_bbox(BOUNDS, f"EPSG:{EPSG}", resolution=10)
        cube = odc.stac.load(items, bands=[*BANDS, "SCL"], geobox=geobox, chunks={"x": chunk, "y": chunk})
        bands = cube[BANDS]
        clear = bands.where((bands > 0) & ~cube["SCL"].isin(MASKED_CLASSES))
        median = (clear + OFFSET_DN).clip(min=1).chunk(time=-1).median(dim="time")
        with dask.config.set(scheduler="threads", num_workers=threads):
            image = median.to_array().to_numpy()
        rounded = np.nan_to_num(np.floor(image + 0.5)).astype(np.uint16)
        write(Path(out), rounded, 10, driver="GTiff", nodata=0, tiled=True, compress="DEFLATE", predictor=2)

    return timed(work)


def versions() -> dict:
    from importlib.metadata import version

    return {package: version(package) for package in ("odc-stac", "odc-loader", "xarray", "dask", "numpy", "rasterio")}


def timed(work: Callable[[], object]) -> dict:
    """Return seconds and peak memory of `work` in this process.

    Linux includes the peak of the parent process, which must therefore be small.
    """
    before, started = os.times(), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - started, os.times()
    cpu = after.user + after.system - before.user - before.system
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak * 1024 / 1e6}


def agreement(folder: str, chunks: list[int]) -> dict:
    """Return how many values differ between the methods, of how many, and the fraction of valid pixels."""
    with rasterio.open(Path(folder, "own.tif")) as source:
        ours = source.read(list(range(1, len(BANDS) + 1)))
    differ = 0
    for chunk in chunks:
        with rasterio.open(Path(folder, f"odc{chunk}.tif")) as source:
            differ += int((ours != source.read()).sum())
    return {"differ": differ, "of": ours.size * len(chunks), "valid": float((ours > 0).all(axis=0).mean())}


METHODS: dict[str, Callable[..., dict]] = {"own": own, "odc": odc, "versions": versions, "agreement": agreement}


def measure(methods: dict[str, Callable[[], dict]], rounds: int) -> dict[str, list[dict]]:
    """Measure every method in turn, round by round."""
    results: dict[str, list[dict]] = {method: [] for method in methods}
    for _ in range(rounds):
        for method, run in methods.items():
            results[method].append(run())
    return results


def print_table(results: dict[str, list[dict]]) -> None:
    print("| | wall, s | CPU, s | peak memory, MB |\n| --- | ---: | ---: | ---: |")
    for method, runs in results.items():
        cells = []
        for fact, digits in (("seconds", 1), ("cpu_seconds", 1), ("peak_mb", 0)):
            values = [run[fact] for run in runs]
            rounds = ", ".join(f"{value:.{digits}f}" for value in values)
            cells.append(f"{statistics.median(values):.{digits}f} ({rounds})")
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


def ratio(runs: list[dict], bases: list[dict], fact: str) -> float:
    """Return the median ratio of measurements of the same round."""
    return statistics.median(run[fact] / base[fact] for run, base in zip(runs, bases))


if __name__ == "__main__":
    main()
