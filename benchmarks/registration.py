"""Effect of co-registration: errors of the shifts, sharpness of the composite, F1 of the resulting maps.

    python benchmarks/registration.py > benchmarks/registration.md

Runs the synthetic scene of one year with simulated shifts of up to 3 m and up to 10 m, each with and without
`sentinel2.coregister`, in a temporary folder: four runs of about eight minutes each on two cores. The runs have the same
landscape, sample, dates, clouds, noise and training seeds.
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
NOTES = """
Edge response (relative edge response, RER): the rise of an edge within one 10 m pixel, median over the sharpest edges of
the red band of the composites; higher is sharper. Shift error: measured minus simulated shift, after removing the mean
offset of all dates of a tile, which cannot be determined. F1 in percent, against the truth, on the test chips of all
reaches, with its 95 % interval."""
PROFILE_PX = 4.0  # half length of the profile across an edge


@dataclass(frozen=True)
class Result:
    """Metrics of one run; `scores` are (F1, lower, upper) in percent by method."""

    shift_m: float
    registered: bool
    errors_m: list[float]
    unregistered: int
    sharpness: float
    edges: int
    scores: dict[str, tuple[float, float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shifts", type=float, nargs="+", default=[3.0, 10.0], metavar="M", help="maximum shifts, m")
    parser.add_argument("--reach-km", type=int, default=3, help="side of a reach (default: %(default)s)")
    parser.add_argument("--dates", type=int, default=6, help="dates of the year (default: %(default)s)")
    parser.add_argument("--count", type=int, default=110, help="samples (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[20250508], help="seeds; one series of runs per seed")
    options = parser.parse_args()
    print(f"# Registration of dates\n\n{__doc__.split(chr(10))[0]}\n", flush=True)
    print(
        f"{processor()}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, torch {torch.__version__},"
    )
    print(
        f"GDAL {rasterio.__gdal_version__}; {options.dates} dates, three reaches of {options.reach_km} km, {options.count} samples.\n"
    )
    print(
        "| seed | maximum shift | registered | shift error, median / maximum, m | unregistered | edge response |",
        end="",
    )
    print(" F1 super-resolved | F1 bilinear |\n| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for seed in options.seeds:
        for shift_m in options.shifts:
            for registered in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    print_row(seed, measure(Path(folder), options, seed, shift_m, registered))
    print(NOTES)


def measure(folder: Path, options: argparse.Namespace, seed: int, shift_m: float, registered: bool) -> Result:
    """Run the synthetic scene once and return its metrics."""
    config = yaml.safe_load(CONFIG.read_text().replace("results/synthetic", str(folder / "run")))
    config |= {"seed": seed, "years": [2021], "tile_km": options.reach_km}
    config["synthetic"] = {"reach_km": options.reach_km, "dates_per_year": options.dates, "date_shift_m": shift_m}
    config["sentinel2"] |= {"coregister": registered, "level_by_year": {}}
    config["dataset"]["count"] = options.count
    config["report"] = {}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    process = subprocess.run(
        [sys.executable, "-m", "jointseg.cli.main", "run", str(path)], capture_output=True, text=True, check=False
    )
    if process.returncode:
        sys.exit((process.stdout + process.stderr)[-3000:])
    results = folder / "run"
    errors, unregistered = shift_errors(results, options, seed, shift_m) if registered else ([], 0)
    steps = [edge_responses(path) for path in sorted((results / "sentinel2/composites/2021").glob("*.tif"))]
    all_edges = np.concatenate(steps)
    return Result(
        shift_m, registered, errors, unregistered, float(np.median(all_edges)), len(all_edges), scores(results)
    )


def shift_errors(results: Path, options: argparse.Namespace, seed: int, shift_m: float) -> tuple[list[float], int]:
    """Return (error of each measured shift, metres; number of scenes that could not be registered)."""
    dates = acquisitions.sentinel2_acquisitions(Frame(options.reach_km * 1000, seed), 2021, options.dates, shift_m)
    simulated = {date.id: np.array(date.shift_m) for date in dates}
    errors, unregistered = [], 0
    for path in sorted((results / "manifests/composite/2021").glob("*.json")):
        found = json.loads(path.read_text())["facts"]["registration"]
        usable = {name: np.array([each["x_m"], each["y_m"]]) for name, each in found.items() if each["usable"]}
        unregistered += len(found) - len(usable)
        differences = np.array([shift - simulated[name] for name, shift in usable.items()])
        errors += np.hypot(*(differences - np.median(differences, axis=0)).T).tolist()
    return errors, unregistered


def edge_responses(path: Path) -> np.ndarray:
    """Return the relative edge responses of the sharpest edges of a composite's first band.

    The profile across an edge, along its gradient (cubic interpolation), is scaled to 0 and 1 on the two sides and
    centred where it crosses 0.5; the response is its rise from half a pixel before to half a pixel after the centre.
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
    at = np.arange(-PROFILE_PX, PROFILE_PX + 0.01, 0.125)
    points = np.stack([rows, cols])[:, :, None] + direction[:, :, None] * at
    profile = map_coordinates(band, points, order=3, mode="nearest")
    low, high = profile[:, at < -2].mean(axis=1, keepdims=True), profile[:, at > 2].mean(axis=1, keepdims=True)
    rise = (profile - low) / np.maximum(high - low, 1e-9)
    # Only clean edges: flat on both sides, with the contrast of ordinary roofs and roads.
    flat = np.maximum(rise[:, at < -2].std(axis=1), rise[:, at > 2].std(axis=1)) < 0.1
    rise = rise[flat & ((high - low)[:, 0] > 200)]
    responses = []
    for edge in rise:
        middle = np.flatnonzero((edge[:-1] < 0.5) & (edge[1:] >= 0.5) & (np.abs(at[:-1]) < 1))
        if middle.size == 1:
            centre = np.interp(0.5, edge[middle[0] : middle[0] + 2], at[middle[0] : middle[0] + 2])
            responses.append(np.interp(centre + 0.5, at, edge) - np.interp(centre - 0.5, at, edge))
    return np.array(responses)


def scores(results: Path) -> dict[str, tuple[float, float, float]]:
    """Return (F1, lower, upper), percent, against the truth, by method."""
    with open(results / "accuracy/accuracy.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["reach"] == "all" and row["reference"] == "truth"]
    return {
        row["name"]: tuple(100 * float(row[key]) for key in ("f1", "f1_lower", "f1_upper"))  # type: ignore[misc]
        for row in rows
    }


def print_row(seed: int, result: Result) -> None:
    f1 = [
        f"{value:.1f} [{low:.1f}, {high:.1f}]"
        for value, low, high in (result.scores[each] for each in ("superres", "bilinear"))
    ]
    errors = f"{np.median(result.errors_m):.2f} / {max(result.errors_m):.2f}" if result.errors_m else "–"
    unregistered = f"{result.unregistered}" if result.registered else "–"
    print(
        f"| {seed} | {result.shift_m:g} m | {'yes' if result.registered else 'no'} | {errors} | {unregistered} | "
        f"{result.sharpness:.3f} ({result.edges} edges) | {f1[0]} | {f1[1]} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
