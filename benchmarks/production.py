"""The production config over an area of one's own, and its files without their content: for what is asked of plans alone."""

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
# Makes the files of every job of a plan, as empty as they may be and a millisecond younger than what they are made from, with
# Snakemake's record of each: its own --touch takes 70 ms a job.
_FILL = """
import asyncio, os, sys, time
from pathlib import Path
from jointseg.audit.dry_run import plan_workflow

async def fill(dag):
    then = time.time()
    for level, jobs in enumerate(dag.toposorted()):
        for job in jobs:
            for output in job.output:
                path = file = Path(output)
                if output.is_directory:
                    path.mkdir(parents=True, exist_ok=True)
                    file = path / ".snakemake_timestamp"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                for each in {file, path}:
                    os.utime(each, (then + level / 1000, then + level / 1000))
        dag.workflow.iocache.clear()
        for job in jobs:
            await dag.workflow.persistence.finished(job)

asyncio.run(fill(plan_workflow(sys.argv[1:])))
"""


def prepare(folder: Path, tile_km: int, bounds: tuple[float, float, float, float], city_degrees: float) -> int:
    """Outlines, config, the inputs that must be there, and the grid; the number of tiles of the map year.

    Args:
        folder: an empty folder; its config.yaml is the production's.
        tile_km: side of a tile.
        bounds: west, south, east, north, degrees; a third of it is a reach.
        city_degrees: side of each of the six cities.
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
    write(folder, config)
    for place in ("jilin1", "corrections", "products", "osm", "footprints"):
        (folder / "data" / place).mkdir(parents=True)
    for place in (config["dataset"]["osm"], config["dataset"]["footprints"]):
        (folder / place).touch()
    tiles = f"{RESULTS}/grid/tiles.geojson"
    check(snakemake(tiles), folder)
    return len(json.loads((folder / tiles).read_text())["features"])


def write(folder: Path, config: dict) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def fill(folder: Path) -> None:
    """Every file of the flow, empty, with Snakemake's own records of them."""
    check([sys.executable, "-c", _FILL, *_arguments(), "-n"], folder)


def snakemake(*more: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *_arguments(), *more]


def check(command: list[str], folder: Path) -> str:
    """What a command says. Exits where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src")}


def _arguments() -> list[str]:
    profile = ["--workflow-profile", str(ROOT / "profiles/default")]
    return ["--snakefile", str(ROOT / "Snakefile"), *profile, "--configfile", "config.yaml", "--cores", "1"]
