"""Coverage of the 95 % intervals of areas, growth and accuracy, from many samples of the cities of the synthetic scene.

    jointseg run examples/synthetic/config.yaml
    python benchmarks/coverage.py examples/synthetic/config.yaml > benchmarks/coverage.md

For each seed the points of each city are drawn (step `change_sample`), labelled from the truth (step `label_points`) and
estimates computed (accuracy/change.py), all as in the workflow. The truth is counted pixel by pixel over the same area. A
95 % interval should contain it in 19 of 20 samples.
"""

import argparse
import platform
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats

from jointseg.accuracy.change import read_interpreted
from jointseg.accuracy.change_sample import change_sample
from jointseg.accuracy.cluster_estimators import NODATA, Estimate
from jointseg.area import grid
from jointseg.config.load import read_config
from jointseg.provenance import machine
from jointseg.raster import io as raster_io
from jointseg.runtime.progress import track
from jointseg.synthetic.label_points import label_points

Samples = dict[tuple[str, str], list[tuple[Estimate, float]]]  # reach, quantity -> estimate and truth of each sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config of a finished run of the synthetic scene")
    parser.add_argument("--seeds", type=int, default=20, help="samples of each city (default: %(default)s)")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    results, years, points = Path(config.results), sorted(config.years), config.accuracy.growth_points
    truth_folder = results / "sources/truth"
    samples: Samples = defaultdict(list)
    for city, reach in config.study_area.city_reach.items():
        maps = [results / f"mosaics/{year}/{city}.tif" for year in years]
        truth = true_values(maps, truth_folder, reach, years)
        for seed in track(range(arguments.seeds), f"samples of {city}", arguments.seeds, "sample"):
            with tempfile.TemporaryDirectory() as folder:
                estimates = sample_estimates(Path(folder), maps, truth_folder, city, reach, years, points, seed)
            for quantity, estimate in estimates.items():
                samples[reach, quantity].append((estimate, truth[quantity]))
    print_report(samples, arguments, points, list(config.study_area.reaches))


def sample_estimates(
    folder: Path, maps: list[Path], truth: Path, city: str, reach: str, years: list[int], points: int, seed: int
) -> dict[str, Estimate]:
    """Draw and label one sample of a city, and return the estimate of each quantity."""
    paths = {name: folder / f"{name}.csv" for name in ("strata", "design", "points")}
    labels = folder / "labels.csv"
    change_sample(mosaics=maps, city=city, years=years, number=points, seed=seed, threads=2, **paths)
    label_points(points=paths["points"], truth=truth, reference=labels, city=city, reach=reach, years=years)
    sample = read_interpreted(paths["strata"], paths["design"], labels, maps, years)
    first, last = years[0], years[-1]
    out = {f"area {year}, km2": sample.area(year) for year in years}
    out["growth, km2"] = sample.growth(first, last)
    out["growth, % per year"] = sample.yearly_percent(first, last)
    scores = {f"of the map of {last}": sample.accuracy(last), "of ISA gain": sample.accuracy_of_gain(first, last)}
    for quantity, score in scores.items():
        out |= {f"{name}'s accuracy {quantity}": score[f"{name}s"] for name in ("user", "producer")}
    return out


def true_values(maps: list[Path], folder: Path, reach: str, years: list[int]) -> dict[str, float]:
    """Return the true value of each quantity over the pixels that are valid in all maps."""
    planes, bounds, transform = [], None, None
    for path in maps:
        values, transform, crs = raster_io.read(path)
        planes.append(values[0])
        rows, cols = values.shape[1:]
        bounds = (transform.c, transform.f - rows, transform.c + cols, transform.f)
    valid = np.logical_and.reduce([plane != NODATA for plane in planes])
    mapped = {year: plane[valid] == 1 for year, plane in zip(years, planes)}
    true = {year: raster_io.read(folder / f"{year}/{reach}.tif", bounds)[0][0][valid] == 1 for year in years}
    y, x = np.nonzero(valid)
    scale = grid.area_scale(int(crs.split(":")[1]), transform.c + x.mean(), transform.f - y.mean())
    first, last = years[0], years[-1]
    area = {year: plane.sum() / 1e6 / float(scale) for year, plane in true.items()}
    out = {f"area {year}, km2": area[year] for year in years}
    out["growth, km2"] = area[last] - area[first]
    out["growth, % per year"] = 100 * ((area[last] / area[first]) ** (1 / (last - first)) - 1)
    pairs = {
        f"of the map of {last}": (mapped[last], true[last]),
        "of ISA gain": (mapped[last] & ~mapped[first], true[last] & ~true[first]),
    }
    for quantity, (on_map, in_truth) in pairs.items():
        out[f"user's accuracy {quantity}"] = float(in_truth[on_map].mean())
        out[f"producer's accuracy {quantity}"] = float(on_map[in_truth].mean())
    return out


def print_report(samples: Samples, arguments: argparse.Namespace, points: int, reaches: list[str]) -> None:
    covered = {key: [each.lower <= truth <= each.upper for each, truth in rows] for key, rows in samples.items()}
    total = [inside for rows in covered.values() for inside in rows]
    print("# Coverage of the intervals\n")
    print(
        f"Generated by `python benchmarks/coverage.py {arguments.config} --seeds {arguments.seeds}`; "
        f"{datetime.now(UTC):%Y-%m-%d}; {machine.processor()}, Python {platform.python_version()}, numpy {version('numpy')}. "
        f"{arguments.seeds} samples of {points} points in each city. For each quantity: the truth, the number of samples whose "
        "95 % interval contains it, the mean error with its standard error, and the mean half-width of the intervals.\n"
    )
    low, high = stats.binom.interval(0.95, arguments.seeds, 0.95)
    print(
        f"**{sum(total)} of {len(total)}** intervals contain the truth ({100 * np.mean(total):.1f} %); by reach "
        + ", ".join(f"{reach} {count_covered(covered, reach)}" for reach in reaches)
        + f". With nominal coverage {low:.0f} to {high:.0f} of {arguments.seeds} samples contain it (95 % range)."
        " The quantities of one sample are not independent.\n"
    )
    print("| reach | quantity | truth | covered | mean error (SE) | half-width |\n|---|---|---:|---:|---:|---:|")
    for (reach, quantity), rows in samples.items():
        truth = rows[0][1]
        errors = np.array([each.value - truth for each, _ in rows])
        half = float(np.mean([each.upper - each.value for each, _ in rows]))
        standard_error = errors.std(ddof=1) / len(errors) ** 0.5
        print(
            f"| {reach} | {quantity} | {truth:.3f} | {sum(covered[reach, quantity])} of {len(rows)} |"
            f" {errors.mean():+.4f} ({standard_error:.4f}) | {half:.3f} |"
        )


def count_covered(covered: dict[tuple[str, str], list[bool]], reach: str) -> str:
    of_reach = [inside for (name, _), rows in covered.items() if name == reach for inside in rows]
    return f"{sum(of_reach)} of {len(of_reach)}"


if __name__ == "__main__":
    main()
