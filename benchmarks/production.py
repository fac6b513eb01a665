"""The production config over a test area with empty files, for checks and measurements of planning."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import yaml
from shapely import box

ROOT = Path(__file__).resolve().parents[1]
REACHES = {"upstream": ["west"], "midstream": ["middle"], "downstream": ["east"]}
RESULTS = "results"
# Creates the outputs of all jobs of a plan as empty files, one millisecond newer than their inputs, and Snakemake's
# records of them. Snakemake's own --touch takes 70 ms per job.
_CREATE_OUTPUTS = """
import asyncio, os, sys, time
from pathlib import Path
from jointseg.audit.dry_run import plan_workflow

async def create(dag):
    start = time.time()
    for level, jobs in enumerate(dag.toposorted()):
        for job in jobs:
            for output in job.output:
                path = file = Path(output)
                if output.is_directory:
                    path.mkdir(parents=True, exist_ok=True)
                    file = path / ".snakemake_timestamp"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                for target in {file, path}:
                    os.utime(target, (start + level / 1000, start + level / 1000))
        dag.workflow.iocache.clear()
        for job in jobs:
            await dag.workflow.persistence.finished(job)

asyncio.run(create(plan_workflow(sys.argv[1:])))
"""


def prepare(folder: Path, tile_km: int, bounds: tuple[float, float, float, float], city_degrees: float) -> int:
    """Write study area, config.yaml and empty source files, and generate the grid.

    Args:
        folder: an empty folder.
        tile_km: side of a tile.
        bounds: west, south, east, north in degrees; each reach is a third of the width.
        city_degrees: side of each of the six cities.

    Returns:
        Number of tiles of the map year.
    """
    west, south, east, north = bounds
    edges = [west + (east - west) * part / 3 for part in range(4)]
    regions = [box(left, south, right, north) for left, right in itertools.pairwise(edges)]
    names = [region for reach in REACHES.values() for region in reach]
    gpd.GeoDataFrame({"name": names}, geometry=regions, crs="EPSG:4326").to_file(folder / "regions.geojson")
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    boxes = {}
    for number, city in enumerate(config["study_area"]["city_reach"]):
        width = edges[1] - edges[0]
        left, bottom = edges[number // 2] + width * (1 + 2 * (number % 2)) / 4, (south + north) / 2
        boxes[city] = [left, bottom, left + city_degrees, bottom + city_degrees]
    config["study_area"] |= {"regions": "regions.geojson", "cities": None, "city_boxes": boxes, "reaches": REACHES}
    config |= {"tile_km": tile_km, "results": RESULTS}
    write_config(folder, config)
    for name in ("jilin1", "corrections", "products", "osm", "footprints"):
        (folder / "data" / name).mkdir(parents=True)
    for path in (config["dataset"]["osm"], config["dataset"]["footprints"]):
        (folder / path).touch()
    tiles = f"{RESULTS}/grid/tiles.geojson"
    run(snakemake_command(tiles), folder)
    return len(json.loads((folder / tiles).read_text())["features"])


def write_config(folder: Path, config: dict) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def create_outputs(folder: Path) -> None:
    """Create all files of the workflow, empty, with Snakemake's records of them."""
    run([sys.executable, "-c", _CREATE_OUTPUTS, *_arguments(), "-n"], folder)


def snakemake_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *_arguments(), *arguments]


def run(command: list[str], folder: Path) -> str:
    """Run a command and return its output; exit if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src")}


def _arguments() -> list[str]:
    profile = ["--workflow-profile", str(ROOT / "profiles/default")]
    return ["--snakefile", str(ROOT / "Snakefile"), *profile, "--configfile", "config.yaml", "--cores", "1"]
