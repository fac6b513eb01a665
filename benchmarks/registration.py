"""What registering the dates gives: shifts found against those drawn, sharpness of the composite, F1 of the same chain.

    python benchmarks/registration.py > benchmarks/registration.md

Runs the synthetic scene of one year with the dates off by up to 3 m and up to 10 m, each with and without
`sentinel2.coregister`, in a temporary folder: four runs, some eight minutes each on two cores. The four draw the same
valley, sample, dates, clouds and noise and train by the same seeds.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
import yaml
from scipy.ndimage import gaussian_filter, map_coordinates

from jointseg.provenance.machine import processor
from jointseg.synthetic import acquisitions
from jointseg.synthetic.terrain import Frame

CONFIG = Path("examples/synthetic/config.yaml")
REACH_PX = 4.0  # the edge response is taken along so many pixels on both sides


@dataclass(frozen=True)
class Result:
    shift_m: float
    registered: bool
    errors_m: list[float]
    refused: int
    sharpness: float
    edges: int
    scores: dict[str, tuple[float, float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shifts", type=float, nargs="+", default=[3.0, 10.0], metavar="M", help="largest shifts, m")
    parser.add_argument("--reach-km", type=int, default=3, help="side of a reach (default: %(default)s)")
    parser.add_argument("--dates", type=int, default=6, help="dates of the year (default: %(default)s)")
    parser.add_argument("--count", type=int, default=110, help="samples (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[20250508], help="one series of runs each")
    given = parser.parse_args()
    print(f"# Registration of dates\n\n{__doc__.split(chr(10))[0]}\n", flush=True)
    print(
        f"{processor()}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, torch {torch.__version__},"
    )
    print(
        f"GDAL {rasterio.__gdal_version__}; {given.dates} dates, three reaches of {given.reach_km} km, {given.count} samples.\n"
    )
    print(
        "| seed | dates off by up to | registered | error of the shifts, median / largest, m | refused | edge response |",
        end="",
    )
    print(" F1 super-resolved | F1 bilinear |\n| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for seed in given.seeds:
        for shift_m in given.shifts:
            for registered in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    show(seed, measure(Path(folder), given, seed, shift_m, registered))
    print(
        "\nEdge response (relative edge response, RER): how much of an edge is climbed within one 10 m pixel, median over",
        end=" ",
    )
    print(
        "the sharpest edges of the red band of the composites; more is sharper. Error of the shifts: found against drawn,",
        end=" ",
    )
    print(
        "after the offset that all dates of a tile share was taken out, which nobody can know. F1 in percent, against the",
        end=" ",
    )
    print("truth, on the test chips of all reaches, with its 95 % interval.")


def measure(folder: Path, given: argparse.Namespace, seed: int, shift_m: float, registered: bool) -> Result:
    """One run of the synthetic scene, and what came out."""
    config = yaml.safe_load(CONFIG.read_text().replace("results/synthetic", str(folder / "run")))
    config |= {"seed": seed, "years": [2021], "tile_km": given.reach_km}
    config["synthetic"] = {"reach_km": given.reach_km, "dates_per_year": given.dates, "date_shift_m": shift_m}
    config["sentinel2"] |= {"coregister": registered, "level_by_year": {}}
    config["dataset"]["count"] = given.count
    config["report"] = {}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    done = subprocess.run(
        [sys.executable, "-m", "jointseg.cli.main", "run", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit((done.stdout + done.stderr)[-3000:])
    results = folder / "run"
    errors, refused = shift_errors(results, given, seed, shift_m) if registered else ([], 0)
    steps = [edge_responses(path) for path in sorted((results / "sentinel2/composites/2021").glob("*.tif"))]
    all_edges = np.concatenate(steps)
    return Result(shift_m, registered, errors, refused, float(np.median(all_edges)), len(all_edges), scores(results))


def shift_errors(results: Path, given: argparse.Namespace, seed: int, shift_m: float) -> tuple[list[float], int]:
    """(distance of each found shift from the one that was drawn, scenes that could not be registered)."""
    looks = acquisitions.sentinel2_acquisitions(Frame(given.reach_km * 1000, seed), 2021, given.dates, shift_m)
    drawn = {look.id: np.array(look.shift_m) for look in looks}
    errors, refused = [], 0
    for path in sorted((results / "manifests/composite/2021").glob("*.json")):
        found = json.loads(path.read_text())["facts"]["registration"]
        usable = {name: np.array([each["x_m"], each["y_m"]]) for name, each in found.items() if each["usable"]}
        refused += len(found) - len(usable)
        off = np.array([shift - drawn[name] for name, shift in usable.items()])
        errors += np.hypot(*(off - np.median(off, axis=0)).T).tolist()
    return errors, refused


def edge_responses(path: Path) -> np.ndarray:
    """Relative edge response of the sharpest edges of a composite's first band.

    Across each edge, along its gradient, the band is sampled (cubic), set to 0 and 1 on the two sides and centred where
    it crosses a half; the response is the climb from half a pixel before to half a pixel behind.
    """
    with rasterio.open(path) as source:
        band = source.read(1).astype(np.float64)
    smooth = gaussian_filter(band, 0.7)
    down, right = np.gradient(smooth)
    steep = np.hypot(down, right)
    rows, cols = np.nonzero(steep > np.quantile(steep, 0.99))
    inside = (rows > 6) & (rows < band.shape[0] - 7) & (cols > 6) & (cols < band.shape[1] - 7)
    rows, cols = rows[inside], cols[inside]
    direction = np.stack([down[rows, cols], right[rows, cols]]) / steep[rows, cols]
    at = np.arange(-REACH_PX, REACH_PX + 0.01, 0.125)
    points = np.stack([rows, cols])[:, :, None] + direction[:, :, None] * at
    profile = map_coordinates(band, points, order=3, mode="nearest")
    low, high = profile[:, at < -2].mean(axis=1, keepdims=True), profile[:, at > 2].mean(axis=1, keepdims=True)
    climb = (profile - low) / np.maximum(high - low, 1e-9)
    # Clean edges alone: flat on both sides, and as high as ordinary roofs and roads stand out.
    flat = np.maximum(climb[:, at < -2].std(axis=1), climb[:, at > 2].std(axis=1)) < 0.1
    climb = climb[flat & ((high - low)[:, 0] > 200)]
    found = []
    for one in climb:
        middle = np.flatnonzero((one[:-1] < 0.5) & (one[1:] >= 0.5) & (np.abs(at[:-1]) < 1))
        if middle.size == 1:
            centre = np.interp(0.5, one[middle[0] : middle[0] + 2], at[middle[0] : middle[0] + 2])
            found.append(np.interp(centre + 0.5, at, one) - np.interp(centre - 0.5, at, one))
    return np.array(found)


def scores(results: Path) -> dict[str, tuple[float, float, float]]:
    """F1 with its interval, percent, by method, against the truth."""
    with open(results / "accuracy/accuracy.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["reach"] == "all" and row["reference"] == "truth"]
    return {
        row["name"]: tuple(100 * float(row[key]) for key in ("f1", "f1_lower", "f1_upper"))  # type: ignore[misc]
        for row in rows
    }


def show(seed: int, result: Result) -> None:
    told = [
        f"{value:.1f} [{low:.1f}, {high:.1f}]"
        for value, low, high in (result.scores[each] for each in ("superres", "bilinear"))
    ]
    errors = f"{np.median(result.errors_m):.2f} / {max(result.errors_m):.2f}" if result.errors_m else "–"
    refused = f"{result.refused}" if result.registered else "–"
    print(
        f"| {seed} | {result.shift_m:g} m | {'yes' if result.registered else 'no'} | {errors} | {refused} | "
        f"{result.sharpness:.3f} ({result.edges} edges) | {told[0]} | {told[1]} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
