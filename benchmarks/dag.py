"""What planning costs as the number of tiles grows: the production config over one area, cut into ever smaller tiles.

    python benchmarks/dag.py > benchmarks/dag.md
    python benchmarks/dag.py --tile-km 30 --results results/rehearsal > benchmarks/dag.md

Study area and grid are made in earnest; then Snakemake plans all of it, from nothing and, once every file is there (empty,
with Snakemake's own records), with nothing to do. Beside it the same Snakemake plans as many jobs of one bare rule: what is
above that is this workflow's. With --results the overhead of a job is told from a run that was made: what a job takes more than its
step, by Snakemake's measurement and the manifests.
"""

import argparse
import csv
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import geopandas as gpd
import yaml
from shapely import box

from jointseg.provenance.machine import processor

ROOT = Path(__file__).resolve().parents[1]
BELT = (97.5, 24.5, 122.5, 32.7)  # degrees: about as much ground as the belt's eleven provinces
REACHES = {"upstream": ["west"], "midstream": ["middle"], "downstream": ["east"]}
CITY_DEGREES = 0.9
TILE_KM = (100, 50, 30, 20, 10)
BARE = """
rule all:
    input: expand("made/{{n}}.txt", n=range({count})),

rule one:
    output: "made/{{n}}.txt"
    shell: "touch {{output}}"
"""
# Makes the files of every job of a plan, as empty as they may be, in the order in which jobs need them.
FILL = """
import sys
from pathlib import Path
from jointseg.audit.dry_run import planned

for job in planned(sys.argv[1:]).needrun_jobs(exclude_finished=False):
    for path in map(Path, job.output):
        path.parent.mkdir(parents=True, exist_ok=True)
        if str(path) in {str(each) for each in job.output if each.is_directory}:
            path.mkdir(exist_ok=True)
        else:
            path.touch()
"""


@dataclass(frozen=True)
class Planned:
    """One call of Snakemake: seconds, peak memory in MB, jobs that it would run."""

    seconds: float
    memory_mb: float
    jobs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile-km", type=int, nargs="+", default=TILE_KM, metavar="KM", help="default: %(default)s")
    parser.add_argument("--results", type=Path, help="results folder of a run, for the overhead of a job")
    given = parser.parse_args()
    print(f"# Planning by the number of tiles\n\n{__doc__.partition(chr(10))[0]}\n")
    print(
        f"Made by `python benchmarks/dag.py`; {time.strftime('%Y-%m-%d')}; {processor()}, {len(os.sched_getaffinity(0))} CPUs, "
        f"Python {platform.python_version()}, snakemake {version('snakemake')}. The production config over "
        f"{BELT[2] - BELT[0]:g} x {BELT[3] - BELT[1]:g} degrees with six cities in four years; s and MB of one process.\n"
    )
    print(
        "| tile, km | tiles of the map year | jobs | from nothing, s | MB | nothing to do, s | MB | as many bare jobs, s | MB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for tile_km in given.tile_km:
        with tempfile.TemporaryDirectory(prefix="jointseg-dag-") as folder:
            print(_row(tile_km, Path(folder)), flush=True)
    if given.results:
        print(f"\n## Overhead of a job\n\n{_overhead(given.results)}")


def _row(tile_km: int, folder: Path) -> str:
    tiles = _prepare(tile_km, folder)
    fresh = _plan(folder, "-n")
    _check([sys.executable, "-c", FILL, *_arguments(), "-n"], folder)
    _check([sys.executable, "-m", "snakemake", *_arguments(), "--touch"], folder)
    still = _plan(folder, "-n")
    if still.jobs:
        sys.exit(f"{still.jobs} jobs would run although every file is there")
    bare = folder / "bare"
    bare.mkdir()
    (bare / "Snakefile").write_text(BARE.format(count=fresh.jobs))
    alone = _measure([sys.executable, "-m", "snakemake", "--cores", "1", "-n"], bare)
    cells = [tile_km, tiles, fresh.jobs]
    for each in (fresh, still, alone):
        cells += [f"{each.seconds:.1f}", f"{each.memory_mb:,.0f}"]
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells) + " |"


def _prepare(tile_km: int, folder: Path) -> int:
    """Outlines, config, the inputs that must be there, and the grid; the number of tiles of the map year."""
    west, south, east, north = BELT
    edges = [west + (east - west) * part / 3 for part in range(4)]
    regions = [box(left, south, right, north) for left, right in itertools.pairwise(edges)]
    names = [region for reach in REACHES.values() for region in reach]
    gpd.GeoDataFrame({"name": names}, geometry=regions, crs="EPSG:4326").to_file(folder / "regions.geojson")
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    boxes = {}
    for number, city in enumerate(config["study_area"]["city_reach"]):
        left = edges[number // 2] + 2 + 3 * (number % 2)
        boxes[city] = [left, 29.0, left + CITY_DEGREES, 29.0 + CITY_DEGREES]
    config["study_area"] |= {"regions": "regions.geojson", "cities": None, "city_boxes": boxes, "reaches": REACHES}
    config |= {"tile_km": tile_km, "results": "results"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    for place in ("jilin1", "corrections", "products", "osm", "footprints"):
        (folder / "data" / place).mkdir(parents=True)
    for place in (config["dataset"]["osm"], config["dataset"]["footprints"]):
        (folder / place).touch()
    _check([sys.executable, "-m", "snakemake", *_arguments(), "results/grid/tiles.geojson"], folder)
    return len(json.loads((folder / "results/grid/tiles.geojson").read_text())["features"])


def _arguments() -> list[str]:
    profile = ["--workflow-profile", str(ROOT / "profiles/default")]
    return ["--snakefile", str(ROOT / "Snakefile"), *profile, "--configfile", "config.yaml", "--cores", "1"]


def _plan(folder: Path, *more: str) -> Planned:
    return _measure([sys.executable, "-m", "snakemake", *_arguments(), *more], folder)


def _measure(command: list[str], folder: Path) -> Planned:
    with open(folder / "said.txt", "wb") as said:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=_environment())
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    text = (folder / "said.txt").read_text(errors="replace")
    if status:
        sys.exit(f"{' '.join(command)}\n{text[-3000:]}")
    jobs = re.findall(r"^total\s+(\d+)", text, re.M)
    return Planned(seconds, used.ru_maxrss / 1024, int(jobs[-1]) if jobs else 0)


def _check(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src")}


def _overhead(results: Path) -> str:
    """What jobs take more than their steps: starting Python, importing, hashing, writing the manifest."""
    more = []
    for path in sorted(results.glob("manifests/**/*.json")):
        table = results / "benchmarks" / path.relative_to(results / "manifests").with_suffix(".tsv")
        if table.exists():
            row = next(csv.DictReader(table.open(), delimiter="\t"))
            more.append(float(row["s"]) - json.loads(path.read_text())["seconds"])
    low, middle, high = statistics.quantiles(more, n=4)
    return (
        f"{len(more)} jobs of a run of `{results}`: median {middle:.1f} s (quartiles {low:.1f} to {high:.1f}) more than the step "
        "itself. A tile and year has three jobs: scenes, composite, map."
    )


if __name__ == "__main__":
    main()
