"""The step `composite` against the usual way, odc-stac with xarray and dask, on the same scenes: time, memory, values.

    pip install odc-stac        # or give an interpreter that has it: --odc PYTHON
    python benchmarks/composite.py > benchmarks/composite.md

Makes a static STAC catalogue of local COGs in a temporary folder (about 25 MB a scene) and removes it. Both ways take
the median of the pixels that the scene classification calls clear, each in a process of its own, in turn, several
times, so that other work on the machine falls on both. Scenes are neither registered nor normalised. Seconds are of
the work alone, without imports; memory is the peak of the whole process.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIDE_PX, TILE_KM, TILE, EPSG = 2000, 20, "50N_E0660_N3540", 32650
BOUNDS = (660_000, 3_540_000, 680_000, 3_560_000)
BANDS = ["B04", "B03", "B02", "B08"]
OFFSET_DN = -1000
DROPPED = [0, 1, 3, 8, 9, 10]
START, EVERY_DAYS = datetime(2023, 4, 2, 2, 50, tzinfo=UTC), 2
SEASON = ["04-01", "10-31"]
WORST_CLOUD = 0.6
COUNTS = [12, 24, 48, 96]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=24, help="scenes of the comparison (default: %(default)s)")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=COUNTS, help="scenes of the growth (default: 12 to 96)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of either way (default: %(default)s)")
    parser.add_argument(
        "--chunks", type=int, nargs="+", default=[512, 1000, 2000], help="of dask, pixels wide and high"
    )
    parser.add_argument("--odc", metavar="PYTHON", default=sys.executable, help="an interpreter that has odc-stac")
    parser.add_argument(
        "--folder", type=Path, help="where to make the scenes (default: the folder for temporary files)"
    )
    parser.add_argument("--work", nargs=2, metavar=("WAY", "ARGUMENTS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        way, arguments = given.work
        print(json.dumps(WAYS[way](**json.loads(arguments))))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        make_scenes(folder, sorted({given.scenes, *given.counts}))
        introduce(folder, given)
        compare(folder, given)
        grow(folder, given)


def introduce(folder: Path, given: argparse.Namespace) -> None:
    from jointseg.provenance.machine import processor

    size = sum(path.stat().st_size for path in folder.glob("scenes/*/*.tif"))
    scenes = len(list(folder.glob("scenes/*")))
    odc = subprocess.check_output([given.odc, __file__, "--work", "versions", "{}"], text=True)
    versions = ", ".join(f"{package} {version}" for package, version in json.loads(odc).items())
    print(f"# Speed and memory of a composite\n\n{__doc__.split(chr(10))[0]}\n")
    print(
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}; Python", end=""
    )
    print(f" {platform.python_version()}, numpy {np.__version__}, rasterio {rasterio.__version__}, GDAL", end="")
    print(f" {rasterio.__gdal_version__}; the usual way with {versions}; load at the start {os.getloadavg()[0]:.1f}.\n")
    print(
        f"Scenes of {SIDE_PX} x {SIDE_PX} px at 10 m, {len(BANDS)} bands of uint16 and SCL at 20 m, COGs with", end=""
    )
    print(
        f" blocks of 512 px, DEFLATE and predictor; {size / scenes / 1e6:.0f} MB a scene, all in the page cache.",
        end="",
    )
    print(f" {given.threads} threads; {given.rounds} rounds, each of all; medians, in brackets all.\n", flush=True)


def compare(folder: Path, given: argparse.Namespace) -> None:
    """Prints the table of both ways."""
    common = {"folder": str(folder), "count": given.scenes, "threads": given.threads}
    ways: dict[str, Callable[[], dict]] = {
        "the step `composite`": lambda: child(sys.executable, "own", common | {"out": str(folder / "own.tif")})
    }
    for chunk in given.chunks:
        arguments = common | {"chunk": chunk, "out": str(folder / f"odc{chunk}.tif")}
        ways[f"odc-stac, xarray, dask, chunks of {chunk} px"] = lambda arguments=arguments: child(
            given.odc, "odc", arguments
        )
    found = measured(ways, given.rounds)
    print(f"## Both ways: {given.scenes} scenes\n")
    show(found)
    step, *others = found.values()
    fastest = min(others, key=lambda runs: statistics.median(run["seconds"] for run in runs))
    leanest = min(others, key=lambda runs: statistics.median(run["peak_mb"] for run in runs))
    same = child(sys.executable, "agreement", {"folder": str(folder), "chunks": given.chunks})
    told = f"differ in {same['differ']} of {same['of']}" if same["differ"] else "are the same in every pixel and band"
    print(f"\nThe step takes {ratio(step, fastest, 'seconds'):.2f} of the time of the fastest other and", end=" ")
    print(
        f"{ratio(step, fastest, 'cpu_seconds'):.2f} of its CPU time, {ratio(step, fastest, 'peak_mb'):.2f} of", end=" "
    )
    print(f"its memory, and {ratio(step, leanest, 'peak_mb'):.2f} of the memory of the leanest. The values", end=" ")
    print(f"(of the float median, halves rounded up) {told}; {100 * same['known']:.2f} % of the pixels are known.\n")


def grow(folder: Path, given: argparse.Namespace) -> None:
    """Prints what the step takes for more and more scenes."""
    ways: dict[str, Callable[[], dict]] = {}
    for count in given.counts:
        arguments = {"folder": str(folder), "count": count, "threads": given.threads, "out": str(folder / "own.tif")}
        ways[f"{count} scenes"] = lambda arguments=arguments: child(sys.executable, "own", arguments)
    found = measured(ways, given.rounds)
    print("## The step with more scenes\n")
    show(found)
    few, many = found[f"{given.counts[0]} scenes"], found[f"{given.counts[-1]} scenes"]
    print(
        f"\nFrom {given.counts[0]} to {given.counts[-1]} scenes memory goes to {ratio(many, few, 'peak_mb'):.2f} times,",
        end="",
    )
    print(f" time to {ratio(many, few, 'seconds'):.2f} times what it was.")


def child(python: str, way: str, arguments: dict) -> dict:
    """What one run in a process of its own took."""
    command = [python, __file__, "--work", way, json.dumps(arguments)]
    return json.loads(subprocess.check_output(command, text=True))


def own(folder: str, count: int, threads: int, out: str) -> dict:
    """The step `composite` on the list that the step `scenes` makes, which is not timed."""
    from jointseg.sentinel2.composite import composite
    from jointseg.sentinel2.scenes import scenes

    place = {"year": START.year, "tile": TILE, "tile_km": TILE_KM, "source": {"kind": "archive"}, "bands": BANDS}
    archive, listed = Path(folder, f"looks-{count}"), Path(out).with_suffix(".json")
    cloudy = 100 * WORST_CLOUD + 1
    scenes(scenes=listed, archive=archive, level="L2A", season=SEASON, max_cloud_percent=cloudy, **place)
    return taken(
        lambda: composite(
            scenes=listed,
            composite=Path(out),
            archive=archive,
            method="median",
            scl_mask_classes=DROPPED,
            mask_dilation_m=0,
            min_clear_observations=1,
            parallel_requests=threads,
            **place,
        )
    )


def odc(folder: str, count: int, threads: int, chunk: int, out: str) -> dict:
    """The usual way: a lazy cube, its median over time by blocks of dask, a GeoTIFF."""
    import dask
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    def work() -> None:
        items = list(pystac.Catalog.from_file(str(Path(folder, f"looks-{count}", "catalog.json"))).get_items())
        ground = GeoBox.from_bbox(BOUNDS, f"EPSG:{EPSG}", resolution=10)
        cube = odc.stac.load(items, bands=[*BANDS, "SCL"], geobox=ground, chunks={"x": chunk, "y": chunk})
        bands = cube[BANDS]
        clear = bands.where((bands > 0) & ~cube["SCL"].isin(DROPPED))
        middle = (clear + OFFSET_DN).clip(min=1).chunk(time=-1).median(dim="time")
        with dask.config.set(scheduler="threads", num_workers=threads):
            image = middle.to_array().to_numpy()
        whole = np.nan_to_num(np.floor(image + 0.5)).astype(np.uint16)
        write(Path(out), whole, 10, driver="GTiff", nodata=0, tiled=True, compress="DEFLATE", predictor=2)

    return taken(work)


def versions() -> dict:
    from importlib.metadata import version

    return {package: version(package) for package in ("odc-stac", "odc-loader", "xarray", "dask", "numpy", "rasterio")}


def taken(work: Callable[[], object]) -> dict:
    """Seconds and peak memory of a piece of work in this process.

    Linux counts the peak of the process that started this one as its own: that one has to stay small.
    """
    before, started = os.times(), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - started, os.times()
    cpu = after.user + after.system - before.user - before.system
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak * 1024 / 1e6}


def agreement(folder: str, chunks: list[int]) -> dict:
    """In how many places the values of both ways differ, of how many; the share of known pixels."""
    with rasterio.open(Path(folder, "own.tif")) as source:
        ours = source.read(list(range(1, len(BANDS) + 1)))
    differ = 0
    for chunk in chunks:
        with rasterio.open(Path(folder, f"odc{chunk}.tif")) as source:
            differ += int((ours != source.read()).sum())
    return {"differ": differ, "of": ours.size * len(chunks), "known": float((ours > 0).all(axis=0).mean())}


WAYS: dict[str, Callable[..., dict]] = {"own": own, "odc": odc, "versions": versions, "agreement": agreement}


def measured(ways: dict[str, Callable[[], dict]], rounds: int) -> dict[str, list[dict]]:
    """Measures every way in turn, round after round."""
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            found[way].append(measure())
    return found


def show(found: dict[str, list[dict]]) -> None:
    print("| | wall, s | CPU, s | peak memory, MB |\n| --- | ---: | ---: | ---: |")
    for way, runs in found.items():
        cells = []
        for fact, digits in (("seconds", 1), ("cpu_seconds", 1), ("peak_mb", 0)):
            each = [run[fact] for run in runs]
            told = ", ".join(f"{value:.{digits}f}" for value in each)
            cells.append(f"{statistics.median(each):.{digits}f} ({told})")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


def ratio(runs: list[dict], bases: list[dict], fact: str) -> float:
    """Median of the ratios of measurements of the same round."""
    return statistics.median(run[fact] / base[fact] for run, base in zip(runs, bases))


def make_scenes(folder: Path, counts: list[int]) -> None:
    """Scenes, and a catalogue of the first so many for every count; by processes, so that this one stays small."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = list(pool.map(make_scene, [folder] * counts[-1], range(counts[-1])))
    for count in counts:
        links = [{"rel": "item", "href": f"../scenes/{name}/{name}.json"} for name in names[:count]]
        content = {"type": "Catalog", "stac_version": "1.0.0", "id": "looks", "description": "made up", "links": links}
        (folder / f"looks-{count}").mkdir()
        (folder / f"looks-{count}/catalog.json").write_text(json.dumps(content))


def make_scene(folder: Path, number: int) -> str:
    """One scene: fields and their texture, another light on every date, noise of the sensor, clouds in drifts."""
    rng = np.random.default_rng([1, number])
    when = START + timedelta(days=EVERY_DAYS * number)
    name = f"S2A_50SKA_{when:%Y%m%d}_0_L2A"
    home = folder / "scenes" / name
    home.mkdir(parents=True)
    share = rng.uniform(0.02, WORST_CLOUD)
    cloud = np.repeat(np.repeat(drifts(rng, SIDE_PX // 2, share), 2, axis=0), 2, axis=1)
    ground = np.random.default_rng(0)
    fields = np.kron(ground.uniform(300, 2500, (len(BANDS), 50, 50)), np.ones((SIDE_PX // 50, SIDE_PX // 50)))
    texture = ground.normal(0, 60, fields.shape)
    lit = (fields + texture) * rng.normal(1, 0.03, (len(BANDS), 1, 1)) + rng.normal(0, 40, fields.shape)
    stored = np.clip(np.where(cloud, lit + 4000, lit) - OFFSET_DN, 1, 20_000).astype(np.uint16)
    classes = np.where(cloud[::2, ::2], 9, np.where(fields[0, ::2, ::2] > 1400, 5, 4)).astype(np.uint8)
    if number % 5 == 4:  # the swath's edge leans like the orbit
        rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX] // 2
        outside = cols * 2 < 700 - 0.21 * rows * 2
        stored[:, outside] = 0
        classes[outside[::2, ::2]] = 0
    assets = {}
    for band, array, res_m in [*((band, layer, 10) for band, layer in zip(BANDS, stored)), ("SCL", classes, 20)]:
        options = {"driver": "COG", "blocksize": 512, "compress": "DEFLATE", "predictor": 2, "overviews": "NONE"}
        write(home / f"{band}.tif", array[None], res_m, **options)
        assets[band] = {
            "href": f"./{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "raster:bands": [{"data_type": array.dtype.name, "nodata": 0, "spatial_resolution": res_m}],
        }
    (home / f"{name}.json").write_text(json.dumps(item(name, when, 100 * share, assets)))
    return name


def drifts(rng: np.random.Generator, side_px: int, share: float) -> np.ndarray:
    """Bool [rows, columns]: clouds of many sizes that cover a share of the ground (noise of a steep spectrum)."""
    rows, cols = np.meshgrid(np.fft.fftfreq(side_px), np.fft.rfftfreq(side_px), indexing="ij")
    steep = (rows**2 + cols**2 + 1e-5) ** -0.9
    field = np.fft.irfft2(steep * np.exp(2j * np.pi * rng.random(steep.shape)), s=(side_px, side_px))
    return field > np.quantile(field, 1 - share)


def write(path: Path, array: np.ndarray, res_m: int, **options: object) -> None:
    count, height, width = array.shape
    profile = {"count": count, "height": height, "width": width, "dtype": array.dtype, "crs": f"EPSG:{EPSG}"}
    with rasterio.open(
        path, "w", **profile, transform=Affine(res_m, 0, BOUNDS[0], 0, -res_m, BOUNDS[3]), **options
    ) as to:
        to.write(array)


def item(name: str, when: datetime, cloud_percent: float, assets: dict) -> dict:
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(f"EPSG:{EPSG}", "EPSG:4326", *BOUNDS)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "sentinel-2a",
            "sat:relative_orbit": 75,
            "s2:processing_baseline": "05.09",
            "s2:product_type": "S2MSI2A",
            "eo:cloud_cover": round(cloud_percent, 2),
            "proj:code": f"EPSG:{EPSG}",
        },
        "assets": assets,
        "links": [],
    }


if __name__ == "__main__":
    main()
