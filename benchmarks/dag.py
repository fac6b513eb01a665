"""What planning costs as the number of tiles grows: the production config over one area, cut into ever smaller tiles.

    python benchmarks/dag.py > benchmarks/dag.md
    python benchmarks/dag.py --tile-km 30 --results results/synthetic > benchmarks/dag.md

Study area and grid are made in earnest; then Snakemake plans all of it, from nothing and, once every file is there (empty,
with Snakemake's own records), with nothing to do. Beside it the same Snakemake plans as many jobs of one bare rule: what is
above that is this workflow's. With --results the overhead of a job is told from a run that was made: what a job takes more than its
step, by Snakemake's measurement and the manifests.
"""

import argparse
import csv
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

import production

from jointseg.provenance.machine import processor

BELT = (97.5, 24.5, 122.5, 32.7)  # degrees: about as much ground as the belt's eleven provinces
CITY_DEGREES = 0.9
TILE_KM = (100, 50, 30, 20, 11)
BARE = """
rule all:
    input: expand("made/{{n}}.txt", n=range({count})),

rule one:
    output: "made/{{n}}.txt"
    shell: "touch {{output}}"
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
    tiles = production.prepare(folder, tile_km, BELT, CITY_DEGREES)
    fresh = _measure(production.snakemake("-n"), folder)
    production.fill(folder)
    still = _measure(production.snakemake("-n"), folder)
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


def _measure(command: list[str], folder: Path) -> Planned:
    with open(folder / "said.txt", "wb") as said:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=production.environment())
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    text = (folder / "said.txt").read_text(errors="replace")
    if status:
        sys.exit(f"{' '.join(command)}\n{text[-3000:]}")
    jobs = re.findall(r"^total\s+(\d+)", text, re.M)
    return Planned(seconds, used.ru_maxrss / 1024, int(jobs[-1]) if jobs else 0)


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
