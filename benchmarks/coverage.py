"""How often the truth lies in the stated intervals: areas, growth and accuracy of the synthetic scene's cities, sampled many times.

    jointseg run examples/synthetic/config.yaml
    python benchmarks/coverage.py examples/synthetic/config.yaml > benchmarks/coverage.md

For every seed the points of each city are drawn anew (step `change_sample`), told from the truth (step `interpret`), and
estimated from (accuracy/change.py), all as in the flow; the truth is counted on the same ground, pixel by pixel. A 95 % interval
should hold it in 19 of 20 samples.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of a finished synthetic")
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    chosen = read_config(given.config)
    results, years, points = Path(chosen.results), sorted(chosen.years), chosen.accuracy.growth_points
    found: dict[tuple[str, str], list[tuple[Estimate, float]]] = defaultdict(list)
    for city, reach in chosen.study_area.city_reach.items():
        maps = [results / f"mosaics/{year}/{city}.tif" for year in years]
        real = truth(maps, results / "sources/truth", reach, years)
        for seed in track(range(given.seeds), f"samples of {city}", given.seeds, "sample"):
            with tempfile.TemporaryDirectory() as name:
                made = estimates(Path(name), maps, results / "sources/truth", city, reach, years, points, seed)
            for what, estimate in made.items():
                found[reach, what].append((estimate, real[what]))
    tell(found, given, points, list(chosen.study_area.reaches))


def estimates(
    folder: Path, maps: list[Path], real: Path, city: str, reach: str, years: list[int], points: int, seed: int
) -> dict[str, Estimate]:
    """What one sample of a city says."""
    paths = {name: folder / f"{name}.csv" for name in ("strata", "design", "points")}
    change_sample(mosaics=maps, city=city, years=years, number=points, seed=seed, threads=2, **paths)
    label_points(points=paths["points"], truth=real, reference=folder / "told.csv", city=city, reach=reach, years=years)
    told = read_interpreted(paths["strata"], paths["design"], folder / "told.csv", maps, years)
    first, last = years[0], years[-1]
    out = {f"area {year}, km2": told.area(year) for year in years}
    out["growth, km2"] = told.growth(first, last)
    out["growth, % a year"] = told.yearly_percent(first, last)
    scores = {f"of the map of {last}": told.accuracy(last), "of what is new": told.accuracy_of_gain(first, last)}
    for what, each in scores.items():
        out |= {f"{name}'s accuracy {what}": each[f"{name}s"] for name in ("user", "producer")}
    return out


def truth(maps: list[Path], folder: Path, reach: str, years: list[int]) -> dict[str, float]:
    """The same, counted on all ground that every map knows."""
    planes, bounds, transform = [], None, None
    for path in maps:
        values, transform, crs = raster_io.read(path)
        planes.append(values[0])
        rows, cols = values.shape[1:]
        bounds = (transform.c, transform.f - rows, transform.c + cols, transform.f)
    known = np.logical_and.reduce([plane != NODATA for plane in planes])
    mapped = {year: plane[known] == 1 for year, plane in zip(years, planes)}
    real = {year: raster_io.read(folder / f"{year}/{reach}.tif", bounds)[0][0][known] == 1 for year in years}
    y, x = np.nonzero(known)
    scale = grid.area_scale(int(crs.split(":")[1]), transform.c + x.mean(), transform.f - y.mean())
    first, last = years[0], years[-1]
    area = {year: plane.sum() / 1e6 / float(scale) for year, plane in real.items()}
    out = {f"area {year}, km2": area[year] for year in years}
    out["growth, km2"] = area[last] - area[first]
    out["growth, % a year"] = 100 * ((area[last] / area[first]) ** (1 / (last - first)) - 1)
    pairs = {
        f"of the map of {last}": (mapped[last], real[last]),
        "of what is new": (mapped[last] & ~mapped[first], real[last] & ~real[first]),
    }
    for what, (ours, theirs) in pairs.items():
        out[f"user's accuracy {what}"] = float(theirs[ours].mean())
        out[f"producer's accuracy {what}"] = float(ours[theirs].mean())
    return out


def tell(
    found: dict[tuple[str, str], list[tuple[Estimate, float]]],
    given: argparse.Namespace,
    points: int,
    reaches: list[str],
) -> None:
    held = {key: [each.lower <= real <= each.upper for each, real in rows] for key, rows in found.items()}
    every = [inside for rows in held.values() for inside in rows]
    print("# Intervals and the truth\n")
    print(
        f"Made by `python benchmarks/coverage.py {given.config} --seeds {given.seeds}`; {datetime.now(UTC):%Y-%m-%d};"
        f" {machine.processor()}, Python {platform.python_version()}, numpy {version('numpy')}. {given.seeds} samples of"
        f" {points} points in each city; of each quantity: the truth, in how many samples the 95 % interval holds it, the mean"
        " error with the error that as many samples would have by chance (standard errors of the mean), and the mean half-width.\n"
    )
    low, high = stats.binom.interval(0.95, given.seeds, 0.95)
    print(
        f"The truth lies in **{sum(every)} of {len(every)}** intervals ({100 * np.mean(every):.1f} %); by reach "
        + ", ".join(f"{reach} {share(held, reach)}" for reach in reaches)
        + f". Of {given.seeds} samples an interval that keeps its word holds it in {low:.0f} to {high:.0f} (19 times of 20)."
        " Quantities of one sample are not independent of each other.\n"
    )
    print("| reach | quantity | truth | held | mean error (by chance) | half-width |\n|---|---|---:|---:|---:|---:|")
    for (reach, what), rows in found.items():
        real = rows[0][1]
        errors = np.array([each.value - real for each, _ in rows])
        half = float(np.mean([each.upper - each.value for each, _ in rows]))
        chance = errors.std(ddof=1) / len(errors) ** 0.5
        print(
            f"| {reach} | {what} | {real:.3f} | {sum(held[reach, what])} of {len(rows)} |"
            f" {errors.mean():+.4f} ({chance:.4f}) | {half:.3f} |"
        )


def share(held: dict[tuple[str, str], list[bool]], reach: str) -> str:
    every = [inside for (place, _), rows in held.items() if place == reach for inside in rows]
    return f"{sum(every)} of {len(every)}"


if __name__ == "__main__":
    main()
